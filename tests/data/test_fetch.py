from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import json
import os
import re
import stat
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.cli import data
from bench.cli.commands import main
from bench.data.download import download, install, members
from bench.data.download.catalogue import ROLES, SETS, Download, PublishedSet
from bench.data.download.checksums import FILE_NAME, add_pins, read_pins
from bench.data.download.install import Permissions
from bench.data.prepared import load_raw
from bench.data.source import DataError
from bench.data.sources import SOURCES
from tests.data.site import Page, Site, ranges, serving, zipped

TRAIN = b"3 9 5\n0,2 0:1 3:0.25\n1 2:2\n 1:4 4:1\n"
TEST = b"2 9 5\n2,3 0:0.5 8:3\n3 3:1\n"
BOTH = {"train.txt": TRAIN, "test.txt": TEST}
MEMBERS = {"Tiny/tiny_train.txt": TRAIN, "Tiny/Tiny_test.txt": TEST, "Tiny/readme": b"hello"}
ZIP = zipped(MEMBERS)
VW_TRAIN = b"1 | 1001:1 1003\n3 |n 1002:0.25\n"
VW_TEST = b"2 | 1004\n"
HTML = b"<!DOCTYPE html><html><body>Sign in</body></html>"

TINY = PublishedSet(
    name="tiny",
    title="Tiny",
    task="multilabel",
    source="xmlrepo",
    downloads=(),
    stem="tiny",
    num_train_points=3,
    num_test_points=2,
    num_features=9,
    num_labels=5,
    terms="none",
    origins=(),
)
TINY_VW = dataclasses.replace(
    TINY,
    name="tiny-vw",
    task="multiclass",
    source="vw",
    stem=None,
    suffix=".vw.gz",
    num_train_points=2,
    num_test_points=1,
    num_features=4,
    num_labels=3,
    unverified=frozenset({"num_train_points"}),
    options={"label_base": 1, "feature_base": 1001, "num_labels": 3, "num_features": 4},
)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(download, "_BACKOFF_SECONDS", 0.0)
    # What has come of a block is lost when a connection ends within it.
    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", 2)
    with serving() as found:
        yield found


@pytest.fixture
def sets(monkeypatch: pytest.MonkeyPatch) -> dict[str, PublishedSet]:
    found = {"tiny": TINY, "tiny-vw": TINY_VW}
    for module in (data, install, members):
        monkeypatch.setattr(module, "SETS", found)
    return found


def tiny(*addresses: str, **changes: object) -> PublishedSet:
    item = Download(file_name="tiny.zip", addresses=addresses)
    return dataclasses.replace(TINY, downloads=(item,), **changes)  # type: ignore[arg-type]


def fetch(known: PublishedSet, data_dir: Path, **allowed: bool) -> list[str]:
    lines: list[str] = []
    install.fetch(known, data_dir, allowed=Permissions(**allowed), notify=lines.append)
    return lines


def run(folder: Path, *words: object) -> int:
    """Exit status of a command on sets in a data folder."""
    return main(["data", *map(str, words), "--data-dir", str(folder)])


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Downloading -----------------------------------------------------------------------------------


def test_fetched_archive_is_installed_pinned_read_and_not_fetched_again(site, tmp_path):
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    fetch(known, tmp_path)
    assert files(tmp_path / "tiny") == BOTH
    pins = read_pins(tmp_path)
    assert pins["tiny/test.txt"].sha256 == hashlib.sha256(TEST).hexdigest()
    assert install.state(known, tmp_path, pins) == "verified"
    raw = load_raw(known.spec(), tmp_path, tmp_path / "cache")
    assert (raw.train_features.num_rows, raw.test_features.num_rows) == (3, 2)
    assert "nothing to fetch" in fetch(known, tmp_path)[0]
    assert len(site.requests) == 1


def test_download_goes_on_where_it_broke_off(site, tmp_path):
    fetch(tiny(site.put("/tiny.zip", Page(ZIP, breaks=[100, None, 50]))), tmp_path)
    assert [part for part in ranges(site) if part] == ["100", "150"]
    assert files(tmp_path / "tiny") == BOTH


def test_next_command_goes_on_with_a_partial_file_from_its_own_address(site, tmp_path):
    address = site.put("/tiny.zip", Page(ZIP, breaks=[100, *[0] * 8]))
    with pytest.raises(DataError, match=r"broke off at 100 bytes \(4 times\)"):
        fetch(tiny(site.root + "/gone.zip", address), tmp_path)
    [(name, content)] = files(tmp_path / "tiny").items()
    assert name.endswith(".part")
    assert content == ZIP[:100]
    assert install.state(TINY, tmp_path, read_pins(tmp_path)) == "absent"
    site.requests.clear()
    fetch(tiny(site.root + "/gone.zip", address), tmp_path)
    assert site.requests == [("/tiny.zip", None), ("/tiny.zip", "bytes=100-")]
    assert files(tmp_path / "tiny") == BOTH


def test_file_that_changed_meanwhile_is_downloaded_from_its_start(site, tmp_path):
    other = zipped({**MEMBERS, "Tiny/tiny_train.txt": TRAIN.replace(b"0.25", b"0.5")})
    known = tiny(site.put("/tiny.zip", Page(other, tag='"old"', breaks=[100, *[0] * 8])))
    with pytest.raises(DataError):
        fetch(known, tmp_path)
    site.put("/tiny.zip", Page(ZIP, tag='"new"'))
    fetch(known, tmp_path)
    assert files(tmp_path / "tiny") == BOTH


def test_server_without_ranges_sends_all_again(site, tmp_path):
    fetch(tiny(site.put("/tiny.zip", Page(ZIP, has_ranges=False, breaks=[100]))), tmp_path)
    assert files(tmp_path / "tiny") == BOTH


def test_download_in_drops_ends_and_goes_on_with_the_next_command(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MAX_TRIES", 5)
    known = tiny(site.put("/tiny.zip", Page(ZIP, breaks=[4, *[None, 2] * 4])))
    with pytest.raises(DataError, match=r"broke off at 12 bytes; asked 5 times"):
        fetch(known, tmp_path)
    site.requests.clear()
    fetch(known, tmp_path)
    assert ranges(site) == [None, "12"]


def test_full_disk_keeps_what_has_come(site, tmp_path, monkeypatch):
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=7))
        with pytest.raises(
            DataError, match=r"tiny\.zip: \d+ bytes to come; 7 are free on the disk"
        ):
            fetch(known, tmp_path)
    fetch(known, tmp_path)
    assert ranges(site) == [None, None, "2"]


def test_overloaded_server_is_asked_again(site, tmp_path):
    fetch(tiny(site.put("/tiny.zip", Page(ZIP, statuses=[503, 429]))), tmp_path)
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (None, "HTTP 404"),
        (Page(HTML, kind="text/html; charset=utf-8"), "a web page came instead of data"),
        (Page(b"quota exceeded"), r"starts with b'quota ex'; expected b'PK"),
        (Page(b""), "starts with b''"),
        (Page(ZIP[:150]), "broken archive"),
        (Page(zipped({"other.txt": b"1"})), r"no file of tiny among \['other.txt'\]"),
        (Page(ZIP, statuses=[503] * 4), r"HTTP 503 \(4 times\)"),
    ],
    ids=["404", "html", "no zip", "empty", "cut zip", "other zip", "busy"],
)
def test_mirror_is_asked_where_an_address_fails(site, tmp_path, page, reason):
    bad = site.root + "/first.zip" if page is None else site.put("/first.zip", page)
    with pytest.raises(DataError, match=reason) as caught:
        fetch(tiny(bad), tmp_path)
    assert "python -m bench data import FILE --as tiny" in str(caught.value)
    assert bad in str(caught.value)
    assert not (tmp_path / "tiny").exists()
    if page is not None:
        page.statuses = [503] * 4 if "503" in reason else []
    fetch(tiny(bad, site.put("/second.zip", Page(ZIP))), tmp_path)
    assert files(tmp_path / "tiny") == BOTH


# Checksums and sizes ---------------------------------------------------------------------------


def test_other_content_than_pinned_is_refused_until_it_is_to_be_replaced(site, tmp_path):
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    fetch(known, tmp_path)
    for role in ROLES:
        (tmp_path / "tiny" / known.file_name(role)).unlink()
    other = TEST.replace(b"0.5", b"0.75")
    site.put("/tiny.zip", Page(zipped({**MEMBERS, "Tiny/Tiny_test.txt": other})))
    found, pinned = (hashlib.sha256(content).hexdigest() for content in (other, TEST))
    with pytest.raises(DataError, match=f"sha256 of the new file is {found}; expected {pinned}"):
        fetch(known, tmp_path)
    assert not (tmp_path / "tiny").exists()
    fetch(known, tmp_path, replace=True)
    assert files(tmp_path / "tiny")["test.txt"] == other


def test_unexpected_sizes_are_named_and_the_download_kept(site, tmp_path):
    known = tiny(site.put("/tiny.zip", Page(ZIP)), num_train_points=4, num_labels=6)
    with pytest.raises(DataError) as caught:
        fetch(known, tmp_path)
    assert "tiny, train.txt: num_train_points is 3; expected 4" in str(caught.value)
    assert "tiny, test.txt: num_labels is 5; expected 6" in str(caught.value)
    assert list(files(tmp_path / "tiny").values()) == [ZIP]
    lines = fetch(known, tmp_path, accept_sizes=True)
    assert len(site.requests) == 1
    assert "accepted: tiny, train.txt: num_train_points is 3; expected 4" in lines
    assert install.verify(known, tmp_path, notify=lines.append) == []
    assert files(tmp_path / "tiny") == BOTH


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (TRAIN[:-9], r"train.txt, line 3: the file ends after 2 points; expected 3 by its header"),
        (b"no header\n" + TRAIN, "line 1: header b'no header'; expected three"),
        (b"", "train.txt: the file is empty"),
        (TRAIN.replace(b"\n", b"\r\n"), r"train.txt, line 1: header .*\\r'; expected .* by LF"),
        (TRAIN[:-1] + b"\r\n", r"train.txt, line 4: .* carriage return \(CRLF\); expected LF"),
    ],
)
def test_text_that_no_reader_takes_is_neither_installed_nor_verified(
    sets, tmp_path, capsys, train, message
):
    (tmp_path / "own.zip").write_bytes(zipped({**MEMBERS, "Tiny/tiny_train.txt": train}))
    assert run(tmp_path / "d", "import", tmp_path / "own.zip") == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "d/tiny").exists()
    at_hand(tmp_path / "d", train)
    assert run(tmp_path / "d", "verify") == 1
    assert re.search(message, capsys.readouterr().err)


def vw(site: Site, **changes: object) -> PublishedSet:
    items = tuple(
        Download(
            file_name=f"tiny_{role}.vw.gz",
            addresses=(site.put(f"/{role}.vw.gz", Page(gzip.compress(content, mtime=0))),),
            role=role,
        )
        for role, content in zip(ROLES, (VW_TRAIN, VW_TEST), strict=True)
    )
    return dataclasses.replace(TINY_VW, downloads=items, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("block_bytes", [5, 1 << 24])
def test_vw_files_are_installed_as_they_came_and_counted(site, tmp_path, monkeypatch, block_bytes):
    monkeypatch.setattr("bench.data.text.BLOCK_BYTES", block_bytes)
    known = vw(site)
    fetch(known, tmp_path)
    assert files(tmp_path / "tiny-vw") == {
        "train.vw.gz": site.pages["/train.vw.gz"].content,
        "test.vw.gz": site.pages["/test.vw.gz"].content,
    }
    pins = read_pins(tmp_path)
    assert install.state(known, tmp_path, pins) == "verified"
    train, test = pins["tiny-vw/train.vw.gz"], pins["tiny-vw/test.vw.gz"]
    assert (train.num_points, train.num_features, train.num_labels) == (2, 3, 3)
    assert (test.num_points, test.num_features, test.num_labels) == (1, 4, 2)


def test_only_the_missing_one_of_two_files_is_fetched(site, tmp_path):
    fetch(vw(site), tmp_path)
    (tmp_path / "tiny-vw/test.vw.gz").unlink()
    site.requests.clear()
    fetch(vw(site), tmp_path)
    assert [path for path, _ in site.requests] == ["/test.vw.gz"]


@pytest.mark.parametrize(
    ("changes", "train", "message"),
    [
        ({"num_features": 5}, VW_TRAIN, "both files: num_features is 4; expected 5"),
        ({"num_labels": 9}, VW_TRAIN, "both files: num_labels is 3; expected 9"),
        ({"num_train_points": 7}, VW_TRAIN, r"points is 2; expected 7 \(a number from memory\)"),
        ({"options": {"label_base": 2}}, VW_TRAIN, "line 1: label 1; expected 2 to"),
        ({}, VW_TRAIN + b"x | 1:1\n", r"train.vw.gz, line 3: label 'x'"),
        ({}, VW_TRAIN + b"1 | w:1\n", r"train.vw.gz, line 3: feature 'w'"),
        ({}, None, r"train\.vw\.gz: broken compression"),
    ],
)
def test_unexpected_sizes_and_lines_of_vw_files_are_named(site, tmp_path, changes, train, message):
    known = vw(site, **changes)
    packed = gzip.compress(VW_TRAIN)[:-9] if train is None else gzip.compress(train)
    site.put("/train.vw.gz", Page(packed))
    with pytest.raises(DataError, match=message):
        fetch(known, tmp_path)


SPLIT = {
    "Tiny_data.txt": b"5 9 5\n0 0:1\n1 1:1\n2 2:1\n3 3:1\n 4:1\n",
    "tiny_trSplit.txt": b"5 1 2\n1 2 3\n3 4 1\n",
    "tiny_tstSplit.txt": b"2 3 5\n4 5 4\n0 0 2\n",
}


def test_split_files_select_points_by_their_first_column(site, tmp_path):
    fetch(tiny(site.put("/tiny.zip", Page(zipped(SPLIT)))), tmp_path)
    assert files(tmp_path / "tiny") == {
        "train.txt": b"3 9 5\n 4:1\n0 0:1\n2 2:1\n",
        "test.txt": b"2 9 5\n1 1:1\n3 3:1\n",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tiny_tstSplit.txt", b"6 1\n", r"tstSplit.txt, line 1: b'6'; expected .*, 1 to 5"),
        ("tiny_trSplit.txt", b"1\nx 1\n", "trSplit.txt, line 2: b'x'"),
        ("tiny_trSplit.txt", None, r"data.txt: \['trSplit'\] missing"),
        ("Tiny_data.txt", b"9 9 5\n0 0:1\n", "1 points; expected a header 'N D L' and its N"),
    ],
)
def test_split_that_does_not_fit_is_refused(site, tmp_path, name, content, message):
    parts = {key: value for key, value in {**SPLIT, name: content}.items() if value is not None}
    with pytest.raises(DataError, match=message):
        fetch(tiny(site.put("/tiny.zip", Page(zipped(parts)))), tmp_path)


# Archives and folders --------------------------------------------------------------------------


def tarred(mode: str, content: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for name, member in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(member)
            packed.addfile(info, io.BytesIO(member))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type = tarfile.SYMTYPE
            info.linkname = "/etc/passwd"
            packed.addfile(info)
    return buffer.getvalue()


def zip_with(name: str, mode: int = 0, flags: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for member, content in MEMBERS.items():
            packed.writestr(member, content)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        packed.writestr(info, b"/etc/passwd")
    content = bytearray(buffer.getvalue())
    content[content.index(b"PK\x01\x02") + 8] |= flags  # of the first entry in the directory
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.zip", ZIP),
        ("own.tar", tarred("w", MEMBERS)),
        ("own.tgz", tarred("w:gz", MEMBERS)),
        ("own.tar.bz2", tarred("w:bz2", MEMBERS)),
        ("link.zip", zip_with("Old/tiny_train.txt", mode=stat.S_IFLNK | 0o777)),
        ("link.tar", tarred("w", MEMBERS, link="Old/tiny_train.txt")),
        ("outside.zip", zip_with("../../evil.txt")),  # nothing is put where a name says
    ],
)
def test_archive_that_a_person_has_is_imported(sets, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    folder = tmp_path / "a/b/d"
    assert run(folder, "import", tmp_path / name) == 0
    assert files(folder / "tiny") == BOTH
    assert set(files(tmp_path)) == {*BOTH, name, FILE_NAME}
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize(
    ("content", "limits", "message"),
    [
        (zip_with("x.txt", flags=1), {}, "tiny_train.txt: broken archive.* encrypted"),
        (zip_with("Old/tiny_train.txt"), {}, "a second train file"),
        (ZIP, {"MAX_UNPACKED_BYTES": 20}, "tiny_train.txt: unpacks to more than 20 bytes"),
    ],
    ids=["encrypted", "double", "large"],
)
def test_bad_archive_is_refused(site, tmp_path, monkeypatch, content, limits, message):
    for name, limit in limits.items():
        monkeypatch.setattr(members, name, limit)
    with pytest.raises(DataError, match=message):
        fetch(tiny(site.put("/tiny.zip", Page(content))), tmp_path / "data")
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]


ADDED = {
    "__MACOSX/._Tiny": b"\0\5\x16\7",
    "__MACOSX/Tiny/._tiny_train.txt": b"\0\5\x16\7 Mac OS X",
    "Tiny/.DS_Store": b"\0\0\0\1Bud1",
    "Tiny/Thumbs.db": b"\xd0\xcf",
    "Tiny/README_train_test.md": b"How train and test were split",
    "Tiny/notes on train.txt": b"hello\n",
}


@pytest.mark.parametrize("stem", ["tiny_", "", "my_"])
@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_what_systems_and_people_add_to_an_archive_is_no_data(sets, tmp_path, stem, kind):
    content = {f"Tiny/{stem}train.txt": TRAIN, f"Tiny/{stem}test.txt": TEST}
    content |= {name.replace("tiny_", stem): member for name, member in ADDED.items()}
    path = tmp_path / "own"
    if kind == "folder":
        for name, member in content.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(member)
    else:
        path.write_bytes(zipped(content) if kind == "zip" else tarred("w", content))
    assert run(tmp_path / "d", "import", path, "--as", "tiny") == 0
    assert files(tmp_path / "d/tiny") == BOTH


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
def test_files_are_recognised_by_their_headers(sets, tmp_path, capsys, pack):
    first, second = tmp_path / "one.data", tmp_path / "two.data"
    first.write_bytes(pack(TEST))
    second.write_bytes(pack(TRAIN))
    assert run(tmp_path / "d", "import", first) == 0
    assert "tiny still lacks its train file" in capsys.readouterr().out
    assert run(tmp_path / "d", "import", second) == 0
    assert "still lacks" not in capsys.readouterr().out
    assert files(tmp_path / "d/tiny") == BOTH


def test_vw_files_are_imported_by_name_and_keep_their_bytes(sets, tmp_path):
    packed = gzip.compress(VW_TRAIN, mtime=12345)
    (tmp_path / "my_training.txt.gz").write_bytes(packed)
    (tmp_path / "odp_test.vw").write_bytes(VW_TEST)
    paths = (tmp_path / "my_training.txt.gz", tmp_path / "odp_test.vw")
    assert run(tmp_path / "d", "import", *paths, "--as", "tiny-vw") == 0
    assert (tmp_path / "d/tiny-vw/train.vw.gz").read_bytes() == packed
    assert gzip.decompress((tmp_path / "d/tiny-vw/test.vw.gz").read_bytes()) == VW_TEST


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"7 7 7\n", [], "are those of one set alone; expected --as with one of ['tiny'"),
        (b"7 7 7\n", ["--as", "tiny"], "no file of tiny among ['x.txt']"),
        (TRAIN, ["--as", "huge"], "no published set is called 'huge'"),
        (TRAIN, ["--as", "LF-Wiki"], "of LF data sets are filtered by a file which is not read"),
        (gzip.compress(TRAIN, mtime=0)[:-9], [], "broken archive"),
        (None, [], "x.txt: no such file"),
        ("folder", [], "x.txt: 0 files in this folder; expected those of a data set"),
    ],
)
def test_import_says_what_is_wrong(sets, tmp_path, capsys, content, options, message):
    path = tmp_path / "x.txt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "folder":
        path.mkdir()
        (path / ".DS_Store").touch()
    assert run(tmp_path, "import", path, *options) == 2
    assert message in capsys.readouterr().err
    assert set(tmp_path.iterdir()) <= {path}


def test_import_does_not_touch_a_file_that_was_never_verified(sets, tmp_path, capsys):
    at_hand(tmp_path, b"mine")
    (tmp_path / "own.zip").write_bytes(ZIP)
    assert run(tmp_path, "import", tmp_path / "own.zip") == 2
    assert "a file that was never verified is there" in capsys.readouterr().err
    assert files(tmp_path / "tiny") == {**BOTH, "train.txt": b"mine"}
    assert run(tmp_path, "import", tmp_path / "own.zip", "--replace") == 0
    assert files(tmp_path / "tiny") == BOTH


# What is at hand -------------------------------------------------------------------------------


def at_hand(data_dir: Path, train: bytes = TRAIN) -> None:
    (data_dir / "tiny").mkdir(parents=True)
    (data_dir / "tiny/train.txt").write_bytes(train)
    (data_dir / "tiny/test.txt").write_bytes(TEST)


def test_verify_pins_at_first_and_finds_a_changed_byte_afterwards(sets, tmp_path, capsys):
    at_hand(tmp_path)

    def listed() -> str:
        capsys.readouterr()
        assert run(tmp_path, "list") == 0
        return capsys.readouterr().out

    assert "not verified" in listed()
    assert run(tmp_path, "verify") == 0
    assert "  verified" in listed()
    path = tmp_path / "tiny/train.txt"
    status = path.stat()
    path.write_bytes(TRAIN.replace(b"0.25", b"0.26"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would leave it
    assert "not verified" in listed()
    assert run(tmp_path, "verify") == 1
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"sha256 is {found}" in capsys.readouterr().err
    path.write_bytes(TRAIN[:-1])
    assert "changed" in listed()


def test_verify_refuses_other_sizes_and_pins_nothing(sets, tmp_path, capsys):
    at_hand(tmp_path)
    sets["tiny"] = dataclasses.replace(TINY, num_features=8)
    assert run(tmp_path, "verify", "tiny") == 1
    assert "num_features is 9; expected 8" in capsys.readouterr().err
    assert not (tmp_path / FILE_NAME).exists()


def test_folder_marked_read_only_is_read_and_not_written(sets, tmp_path, capsys):
    at_hand(tmp_path / "d")
    (tmp_path / "d").chmod(0o555)
    (tmp_path / "own.zip").write_bytes(ZIP)
    try:
        assert run(tmp_path / "d", "verify") == 0
        assert "marked read-only; the checksums could not be pinned" in capsys.readouterr().out
        assert run(tmp_path / "d", "import", tmp_path / "own.zip") == 2
        assert "--data-dir names a folder that can be written to" in capsys.readouterr().err
        assert {p.name for p in (tmp_path / "d").iterdir()} == {"tiny"}
    finally:
        (tmp_path / "d").chmod(0o755)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 9}', '{"format": 1, "files": {"a": 1}, "downloads": {}}']
)
def test_pins_that_are_not_ours_are_refused(sets, tmp_path, capsys, content):
    (tmp_path / FILE_NAME).write_text(content)
    assert run(tmp_path, "list") == 2
    assert f"{FILE_NAME}: " in capsys.readouterr().err


def test_pins_are_added_to_those_that_are_there_and_older_ones_are_read(tmp_path):
    sizes = {"num_points": 3, "num_features": 9, "num_labels": 5, "num_bytes": len(TRAIN)}
    older = {"a/train.txt": {"sha256": "0" * 64, "mtime_ns": 7, **sizes}}
    content = {"format": 1, "files": older, "downloads": {"a/a.zip": {}}}
    (tmp_path / FILE_NAME).write_text(json.dumps(content))
    pins = read_pins(tmp_path)
    add_pins(tmp_path, {"b/train.txt": pins["a/train.txt"]})
    assert read_pins(tmp_path) == pins | {"b/train.txt": pins["a/train.txt"]}
    at_hand(tmp_path)
    add_pins(tmp_path, {f"tiny/{role}.txt": pins["a/train.txt"] for role in ROLES})
    assert install.state(TINY, tmp_path, read_pins(tmp_path)) in ("not verified", "changed")


def test_every_published_set_is_readable_and_says_where_its_facts_are_from():
    assert set(SETS) == {known.name for known in SETS.values()}
    for known in SETS.values():
        spec = known.spec(num_validation_points=100)
        assert spec.source in SOURCES
        assert spec.options["train"] == f"{known.name}/{known.file_name('train')}"
        assert known.origins
        assert known.unverified <= {f.name for f in dataclasses.fields(known)}
        roles = [item.role for item in known.downloads]
        assert roles in ([None], ["train", "test"])
        for item in known.downloads:
            assert item.addresses
            assert all(address.startswith("http") for address in item.addresses)
    assert SETS["amazon-3m"].propensity == "amazon"
    assert SETS["amazoncat-13k"].propensity == "default"


def test_list_of_one_set_says_all_about_it(capsys, tmp_path):
    assert run(tmp_path, "list", "amazon-670k") == 0
    out = capsys.readouterr().out
    assert "https://drive.google.com/uc?export=download&id=1PV-wbKVv6Ng1K1XM1USqNxFhaQo2qfk6" in out
    assert "sorted by label" in out
    assert "670,091" in out


def test_sets_at_hand_are_as_the_catalogue_says(data_dir):
    pins = read_pins(data_dir)
    for name in ("delicious-983", "bibtex-159"):
        if install.state(SETS[name], data_dir, pins) == "absent":
            pytest.skip(f"{name} is not in {data_dir}")
        assert install.verify(SETS[name], data_dir, notify=str) == []
