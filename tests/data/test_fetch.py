from __future__ import annotations

import bz2
import dataclasses
import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.cli import data
from bench.cli.commands import main
from bench.data.download import archive, catalogue, download, fetch, file_stats, install
from bench.data.download.catalogue import ROLES, SETS, Download, PublishedSet
from bench.data.download.checksums import FILE_NAME, add_pins, locked, read_pins
from bench.data.download.download import confirmed_address
from bench.data.download.install import Permissions
from bench.data.source import DataError
from bench.data.sources import SOURCES, load_raw
from tests.data.site import Page, Site, ranges, serving, zipped

TRAIN = b"3 9 5\n0,2 0:1 3:0.25\n1 2:2\n 1:4 4:1\n"
TEST = b"2 9 5\n2,3 0:0.5 8:3\n3 3:1\n"
MEMBERS = {"Tiny/tiny_train.txt": TRAIN, "Tiny/Tiny_test.txt": TEST, "Tiny/readme": b"hello"}
ZIP = zipped(MEMBERS)
VW_TRAIN = b"1 | 1001:1 1003\n3 0.5 'tag |n 1002:0.25\n"
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
    with serving() as found:
        yield found


@pytest.fixture
def known_sets(monkeypatch: pytest.MonkeyPatch) -> dict[str, PublishedSet]:
    sets = {"tiny": TINY, "tiny-vw": TINY_VW}
    for module in (data, fetch):
        monkeypatch.setattr(module, "SETS", sets)
    return sets


def tiny(*addresses: str, **changes: object) -> PublishedSet:
    item = Download(file_name="tiny.zip", addresses=addresses)
    return dataclasses.replace(TINY, downloads=(item,), **changes)  # type: ignore[arg-type]


def bring(known: PublishedSet, data_dir: Path, **allowed: bool) -> list[str]:
    told: list[str] = []
    fetch.fetch(known, data_dir, allowed=Permissions(**allowed), tell=told.append)
    return told


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_fetched_archive_is_placed_pinned_and_read(site: Site, tmp_path: Path) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    bring(known, tmp_path)
    assert files(tmp_path / "tiny") == {"train.txt": TRAIN, "test.txt": TEST}
    pins = read_pins(tmp_path)
    assert pins.downloads["tiny/tiny.zip"].sha256 == hashlib.sha256(ZIP).hexdigest()
    assert pins.files["tiny/test.txt"].sha256 == hashlib.sha256(TEST).hexdigest()
    assert install.state(known, tmp_path, pins) == "verified"
    raw = load_raw(known.spec(), tmp_path, tmp_path / "cache")
    assert (raw.train_features.num_rows, raw.test_features.num_rows) == (3, 2)


def test_what_is_at_hand_is_not_fetched(site: Site, tmp_path: Path) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    bring(known, tmp_path)
    assert "nothing to fetch" in bring(known, tmp_path)[0]
    assert len(site.requests) == 1


def test_download_goes_on_where_it_broke_off(site: Site, tmp_path: Path) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP, breaks=[100, 50])))
    bring(known, tmp_path)
    assert ranges(site) == [None, "100", "150"]
    assert files(tmp_path / "tiny")["train.txt"] == TRAIN


def test_next_command_goes_on_with_a_partial_file(site: Site, tmp_path: Path) -> None:
    page = Page(ZIP, breaks=[100, 0, 0, 0, 0])
    known = tiny(site.root + "/gone.zip", site.put("/tiny.zip", page))
    with pytest.raises(DataError, match="broke off at 100 of"):
        bring(known, tmp_path)
    assert set(files(tmp_path / "tiny")) == {"tiny.zip.part", "tiny.zip.part.json"}
    assert install.state(known, tmp_path, read_pins(tmp_path)) == "absent"
    site.requests.clear()
    bring(known, tmp_path)
    assert site.requests == [("/tiny.zip", "bytes=100-")]


def test_file_that_changed_meanwhile_is_brought_from_its_start(site: Site, tmp_path: Path) -> None:
    other = zipped({**MEMBERS, "Tiny/readme": b"an older edition of the archive"})
    page = Page(other, tag='"old"', breaks=[100, 0, 0, 0, 0])
    known = tiny(site.put("/tiny.zip", page))
    with pytest.raises(DataError):
        bring(known, tmp_path)
    site.put("/tiny.zip", Page(ZIP, tag='"new"'))
    bring(known, tmp_path)
    assert read_pins(tmp_path).downloads["tiny/tiny.zip"].num_bytes == len(ZIP)


def test_partial_file_that_lacks_nothing_is_kept(site: Site, tmp_path: Path) -> None:
    address = site.put("/tiny.zip", Page(ZIP))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/tiny.zip.part").write_bytes(ZIP)
    state = json.dumps({"address": address, "validator": '"1"'})
    (tmp_path / "tiny/tiny.zip.part.json").write_text(state)
    bring(tiny(address), tmp_path)
    assert ranges(site) == [str(len(ZIP))]
    assert files(tmp_path / "tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def test_partial_file_longer_than_the_servers_is_dropped(site: Site, tmp_path: Path) -> None:
    address = site.put("/tiny.zip", Page(ZIP, tag=None))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/tiny.zip.part").write_bytes(ZIP + b"more")
    state = json.dumps({"address": address, "validator": None})
    (tmp_path / "tiny/tiny.zip.part.json").write_text(state)
    bring(tiny(address), tmp_path)
    assert ranges(site) == [str(len(ZIP) + 4), None]


@pytest.mark.parametrize("status", [416, 206])
def test_whole_file_is_asked_for_once_a_part_was_answered_wrongly(
    site: Site, tmp_path: Path, status: int
) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP, breaks=[100, 50], range_status=status)))
    bring(known, tmp_path)
    assert ranges(site) == [None, "100", None, None]
    assert files(tmp_path / "tiny")["train.txt"] == TRAIN


@pytest.mark.parametrize("status", [416, 206])
def test_download_that_gets_no_further_ends(site: Site, tmp_path: Path, status: int) -> None:
    page = Page(ZIP, breaks=[100] * 1000, range_status=status)
    with pytest.raises(DataError, match=r"broke off at 100 of .* \(4 times\)"):
        bring(tiny(site.put("/tiny.zip", page)), tmp_path)
    assert ranges(site) == [None, "100", None, None, None]
    assert (tmp_path / "tiny/tiny.zip.part").stat().st_size == 100


def test_download_in_drops_ends_and_goes_on_with_the_next_command(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "MAX_TRIES", 9)
    page = Page(ZIP, breaks=[4] + [1] * 8)
    with pytest.raises(DataError, match=r"broke off at 12 of .*; asked 9 times"):
        bring(tiny(site.put("/tiny.zip", page)), tmp_path)
    site.requests.clear()
    bring(tiny(site.root + "/tiny.zip"), tmp_path)
    assert ranges(site) == ["12"]


def test_server_without_ranges_sends_all_again(site: Site, tmp_path: Path) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP, has_ranges=False, breaks=[100])))
    bring(known, tmp_path)
    assert ranges(site) == [None, "100"]
    assert files(tmp_path / "tiny")["test.txt"] == TEST


def test_overloaded_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    bring(tiny(site.put("/tiny.zip", Page(ZIP, statuses=[503, 429]))), tmp_path)
    assert len(site.requests) == 3


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (None, "HTTP 404"),
        (Page(HTML, kind="text/html; charset=utf-8"), "a web page came instead of data"),
        (Page(b"\n " + HTML), "a web page came instead of data"),
        (Page(b"quota exceeded"), r"starts with b'quota ex'; expected b'PK"),
        (Page(b""), "starts with b''"),
        (Page(ZIP[:150]), "broken archive"),
        (Page(zipped({"other.txt": b"1"})), r"no file of tiny among \['other.txt'\]"),
        (Page(ZIP, statuses=[503] * 4), r"HTTP 503 .* \(4 times\)"),
    ],
    ids=["404", "html", "html as data", "no zip", "empty", "cut zip", "other zip", "busy"],
)
def test_mirror_is_asked_where_an_address_fails(
    site: Site, tmp_path: Path, page: Page | None, reason: str
) -> None:
    bad = site.root + "/first.zip" if page is None else site.put("/first.zip", page)
    with pytest.raises(DataError, match=reason) as caught:
        bring(tiny(bad), tmp_path)
    assert "python -m bench data import FILE --as tiny" in str(caught.value)
    assert bad in str(caught.value)
    assert not (tmp_path / "tiny").exists()
    if page is not None:
        page.statuses = [503] * 4 if "503" in reason else []
    bring(tiny(bad, site.put("/second.zip", Page(ZIP))), tmp_path)
    assert read_pins(tmp_path).downloads["tiny/tiny.zip"].address.endswith("/second.zip")
    assert files(tmp_path / "tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def test_other_content_than_pinned_is_refused_until_it_is_to_be_replaced(
    site: Site, tmp_path: Path
) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP)))
    bring(known, tmp_path)
    for role in ROLES:
        (tmp_path / "tiny" / known.file_name(role)).unlink()
    other = zipped({**MEMBERS, "Tiny/readme": b"other"})
    site.put("/tiny.zip", Page(other))
    found, pinned = (hashlib.sha256(content).hexdigest() for content in (other, ZIP))
    with pytest.raises(DataError, match=f"sha256 is {found}; expected {pinned}"):
        bring(known, tmp_path)
    assert not (tmp_path / "tiny").exists()
    bring(known, tmp_path, replace=True)
    assert read_pins(tmp_path).downloads["tiny/tiny.zip"].sha256 == found


@pytest.mark.parametrize("is_right", [True, False])
def test_published_checksum_is_held_to(site: Site, tmp_path: Path, is_right: bool) -> None:
    sha256 = hashlib.sha256(ZIP).hexdigest() if is_right else "f" * 64
    address = site.put("/tiny.zip", Page(ZIP))
    item = Download(file_name="tiny.zip", addresses=(address,), sha256=sha256)
    known = dataclasses.replace(TINY, downloads=(item,))
    if is_right:
        bring(known, tmp_path)
        assert install.state(known, tmp_path, read_pins(tmp_path)) == "verified"
    else:
        with pytest.raises(DataError, match=r"sha256 is [0-9a-f]+; expected ffff"):
            bring(known, tmp_path)


def test_unexpected_sizes_are_named_and_the_download_kept(site: Site, tmp_path: Path) -> None:
    known = tiny(site.put("/tiny.zip", Page(ZIP)), num_train_points=4, num_labels=6)
    with pytest.raises(DataError) as caught:
        bring(known, tmp_path)
    message = str(caught.value)
    assert "tiny, train.txt: num_train_points is 3; expected 4" in message
    assert "tiny, test.txt: num_labels is 5; expected 6" in message
    assert set(files(tmp_path / "tiny")) == {"tiny.zip", "tiny.zip.part.json"}
    told = bring(known, tmp_path, accept_sizes=True)
    assert len(site.requests) == 1
    assert "accepted: tiny, train.txt: num_train_points is 3; expected 4" in told
    assert install.verify(known, tmp_path, tell=told.append) == []


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (TRAIN[:-13] + b"\n", r"train.txt: 2 points; expected 3 by its header"),
        (b"no header\n" + TRAIN, "line 1: b'no header'; expected a header"),
        (b"", "train.txt: the file is empty"),
    ],
)
def test_damaged_text_is_refused(site: Site, tmp_path: Path, train: bytes, message: str) -> None:
    content = zipped({**MEMBERS, "Tiny/tiny_train.txt": train})
    with pytest.raises(DataError, match=message):
        bring(tiny(site.put("/tiny.zip", Page(content))), tmp_path)
    assert not (tmp_path / "tiny").exists()


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


def test_vw_files_are_placed_as_they_came_and_counted(site: Site, tmp_path: Path) -> None:
    bring(vw(site), tmp_path)
    content = files(tmp_path / "tiny-vw")
    assert content == {
        "train.vw.gz": site.pages["/train.vw.gz"].content,
        "test.vw.gz": site.pages["/test.vw.gz"].content,
    }
    pins = read_pins(tmp_path).files
    train, test = pins["tiny-vw/train.vw.gz"], pins["tiny-vw/test.vw.gz"]
    assert (train.num_points, train.num_features, train.num_labels) == (2, 3, 3)
    assert (test.num_points, test.num_features, test.num_labels) == (1, 4, 2)


def test_only_the_missing_one_of_two_files_is_fetched(site: Site, tmp_path: Path) -> None:
    bring(vw(site), tmp_path)
    (tmp_path / "tiny-vw/test.vw.gz").unlink()
    site.requests.clear()
    bring(vw(site), tmp_path)
    assert [path for path, _ in site.requests] == ["/test.vw.gz"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_features": 5}, "both files: num_features is 4; expected 5"),
        ({"num_labels": 9}, "both files: num_labels is 3; expected 9"),
        (
            {"num_train_points": 7},
            r"train.vw.gz: num_train_points is 2; expected 7 \(a number from memory\)",
        ),
        ({"options": {"label_base": 2}}, "smallest label is 1; expected 2 or more"),
    ],
)
def test_unexpected_counts_of_vw_files_are_named(
    site: Site, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        bring(vw(site, **changes), tmp_path)


@pytest.mark.parametrize(
    ("line", "shown"), [(b"x | 1:1", "b'x [|] 1:1'"), (b"1 2 3", "b'1 2 3'"), (b"1 | w:1", "w:1")]
)
def test_line_that_is_no_vw_is_named(site: Site, tmp_path: Path, line: bytes, shown: str) -> None:
    known = vw(site)
    content = VW_TRAIN + line + b"\n"
    site.put("/train.vw.gz", Page(gzip.compress(content, mtime=0)))
    with pytest.raises(DataError, match=rf"train.vw.gz, line 3: .*{shown}.*; expected 'label"):
        bring(known, tmp_path)


def test_counts_do_not_depend_on_the_blocks(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.download.file_stats.BLOCK_BYTES", 5)
    bring(vw(site), tmp_path)
    assert read_pins(tmp_path).files["tiny-vw/train.vw.gz"].num_points == 2


def test_truncated_gzip_is_refused(site: Site, tmp_path: Path) -> None:
    known = vw(site)
    site.pages["/train.vw.gz"].content = site.pages["/train.vw.gz"].content[:-9]
    with pytest.raises(DataError, match=r"train\.vw\.gz: broken compression"):
        bring(known, tmp_path)


def test_split_files_select_points_by_their_first_column(site: Site, tmp_path: Path) -> None:
    content = zipped(
        {
            "Tiny_data.txt": b"5 9 5\n0 0:1\n1 1:1\n2 2:1\n3 3:1\n 4:1\n",
            "tiny_trSplit.txt": b"5 1 2\n1 2 3\n3 4 1\n",
            "tiny_tstSplit.txt": b"2 3 5\n4 5 4\n0 0 2\n",
        }
    )
    bring(tiny(site.put("/tiny.zip", Page(content))), tmp_path)
    assert files(tmp_path / "tiny") == {
        "train.txt": b"3 9 5\n 4:1\n0 0:1\n2 2:1\n",
        "test.txt": b"2 9 5\n1 1:1\n3 3:1\n",
    }


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"tiny_tstSplit.txt": b"6 1\n"}, r"tstSplit.txt, line 1: b'6'; expected .*, 1 to 5"),
        ({"tiny_trSplit.txt": b"1\nx 1\n"}, "trSplit.txt, line 2: b'x'"),
        ({"Tiny_data.txt": b"9 9 5\n0 0:1\n"}, "1 points; expected a header 'N D L' and its N"),
    ],
)
def test_split_that_does_not_fit_is_refused(
    site: Site, tmp_path: Path, members: dict[str, bytes], message: str
) -> None:
    whole = {
        "Tiny_data.txt": b"5 9 5\n0 0:1\n1 1:1\n2 2:1\n3 3:1\n 4:1\n",
        "tiny_trSplit.txt": b"5\n1\n3\n",
        "tiny_tstSplit.txt": b"2\n4\n",
    }
    with pytest.raises(DataError, match=message):
        bring(tiny(site.put("/tiny.zip", Page(zipped(whole | members)))), tmp_path)


def bad_zip(name: str, mode: int = 0, flags: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for member, content in MEMBERS.items():
            packed.writestr(member, content)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        packed.writestr(info, b"evil")
    content = buffer.getvalue()
    if flags:  # of the last entry in the central directory
        at = content.rindex(b"PK\x01\x02") + 8
        content = content[:at] + bytes([flags]) + content[at + 1 :]
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bad_zip("../evil.txt"), "'../evil.txt' points outside"),
        (bad_zip("a/../../evil.txt"), "points outside"),
        (bad_zip("/etc/evil.txt"), "'/etc/evil.txt' points outside"),
        (bad_zip("C:\\evil.txt"), "points outside"),
        (bad_zip("..\\evil.txt"), "points outside"),
        (bad_zip("tiny_train.txt", mode=stat.S_IFLNK | 0o777), "is a link"),
        (bad_zip("x.txt", flags=1), "is encrypted"),
        (bad_zip("Old/tiny_train.txt"), "a second train file"),
    ],
    ids=["up", "up inside", "absolute", "drive", "backslash", "link", "encrypted", "double"],
)
def test_archive_with_a_bad_member_is_refused_whole(
    site: Site, tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        bring(tiny(site.put("/tiny.zip", Page(content))), tmp_path / "data")
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]


def test_archive_that_unpacks_to_too_much_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = site.put("/tiny.zip", Page(ZIP))
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 50)
    with pytest.raises(DataError, match="unpacks to more than 50 bytes"):
        bring(tiny(address), tmp_path)
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 1 << 20)
    monkeypatch.setattr(archive, "MAX_MEMBERS", 2)
    with pytest.raises(DataError, match="more than 2 members"):
        bring(tiny(address), tmp_path)


def tarred(mode: str, members: dict[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as packed:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        if link is not None:
            info = tarfile.TarInfo(link)
            info.type = tarfile.SYMTYPE
            info.linkname = "/etc/passwd"
            packed.addfile(info)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("own.zip", ZIP),
        ("own.tar", tarred("w", MEMBERS)),
        ("own.tgz", tarred("w:gz", MEMBERS)),
        ("own.tar.bz2", tarred("w:bz2", MEMBERS)),
    ],
)
def test_archive_that_a_person_has_is_imported(
    known_sets: object, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["data", "import", str(tmp_path / name), "--data-dir", str(tmp_path / "d")]) == 0
    assert files(tmp_path / "d/tiny") == {"train.txt": TRAIN, "test.txt": TEST}
    assert (tmp_path / name).read_bytes() == content


ADDED = {
    "__MACOSX/._Tiny": b"\0\5\x16\7",
    "__MACOSX/Tiny/._tiny_train.txt": b"\0\5\x16\7 Mac OS X",
    "Tiny/.DS_Store": b"\0\0\0\1Bud1",
    "Tiny/Thumbs.db": b"\xd0\xcf",
    "Tiny/README_train_test.md": b"How train and test were split",
}


@pytest.mark.parametrize("stem", ["tiny_", ""])
@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_what_systems_and_people_add_to_an_archive_is_no_data(
    known_sets: object, tmp_path: Path, stem: str, kind: str
) -> None:
    members = {f"Tiny/{stem}train.txt": TRAIN, f"Tiny/{stem}test.txt": TEST}
    members |= {name.replace("tiny_", stem): content for name, content in ADDED.items()}
    path = tmp_path / "own"
    if kind == "folder":
        for name, content in members.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    else:
        path.write_bytes(zipped(members) if kind == "zip" else tarred("w", members))
    arguments = ["data", "import", str(path), "--as", "tiny", "--data-dir", str(tmp_path / "d")]
    assert main(arguments) == 0
    assert files(tmp_path / "d/tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def test_a_text_about_a_file_gives_way_to_the_file(known_sets: object, tmp_path: Path) -> None:
    members = {"my_train.txt": TRAIN, "my_test.txt": TEST, "notes on train.txt": b"hello\n"}
    (tmp_path / "own.zip").write_bytes(zipped(members))
    arguments = ["data", "import", str(tmp_path / "own.zip"), "--as", "tiny"]
    assert main([*arguments, "--data-dir", str(tmp_path / "d")]) == 0
    assert files(tmp_path / "d/tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def test_an_empty_folder_is_refused_in_a_sentence(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.DS_Store").touch()
    assert main(["data", "import", str(tmp_path / "own"), "--data-dir", str(tmp_path)]) == 2
    assert "own: no file in this folder; expected those of a data set" in capsys.readouterr().err


@pytest.mark.parametrize("train", [TRAIN.replace(b"\n", b"\r\n"), TRAIN[:-1] + b"\r\n"])
def test_a_file_that_no_reader_takes_is_neither_imported_nor_verified(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], train: bytes
) -> None:
    (tmp_path / "own.zip").write_bytes(zipped({**MEMBERS, "Tiny/tiny_train.txt": train}))
    folder = ["--data-dir", str(tmp_path / "d")]
    line = 1 + train.count(b"\n", 0, train.index(b"\r"))
    expected = f"train.txt, line {line}: a carriage return (CRLF); expected lines that end in LF"
    assert main(["data", "import", str(tmp_path / "own.zip"), *folder]) == 2
    assert expected in capsys.readouterr().err
    (tmp_path / "d/tiny").mkdir(parents=True)
    (tmp_path / "d/tiny/train.txt").write_bytes(train)
    (tmp_path / "d/tiny/test.txt").write_bytes(TEST)
    assert main(["data", "verify", *folder]) == 1
    assert expected in capsys.readouterr().err


def test_line_of_a_carriage_return_is_counted_over_blocks(
    known_sets: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.download.file_stats.BLOCK_BYTES", 5)
    (tmp_path / "x.vw").write_bytes(b"1 | 1001\n2 | 1002\n1 | 1003\r\n")
    with pytest.raises(DataError, match="line 3: a carriage return"):
        file_stats.count_file(tmp_path / "x.vw", TINY_VW)


def test_a_set_whose_numbers_are_filtered_is_said_to_be_none_of_ours(
    known_sets: object, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="of LF data sets are filtered by a file which is not read"):
        fetch.named("LF-AmazonTitles-131K")


def test_tar_with_a_link_is_refused(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.tar").write_bytes(tarred("w", MEMBERS, link="tiny_test.txt"))
    assert main(["data", "import", str(tmp_path / "own.tar"), "--data-dir", str(tmp_path)]) == 2
    assert "member 'tiny_test.txt' is a link" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
def test_files_are_recognised_by_their_headers(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], pack: object
) -> None:
    first, second = tmp_path / "one.data", tmp_path / "two.data"
    first.write_bytes(pack(TEST))  # type: ignore[operator]
    second.write_bytes(pack(TRAIN))  # type: ignore[operator]
    folder = ["--data-dir", str(tmp_path / "d")]
    assert main(["data", "import", str(first), *folder]) == 0
    assert "tiny still lacks its train file" in capsys.readouterr().out
    assert main(["data", "import", str(second), *folder]) == 0
    assert "still lacks" not in capsys.readouterr().out
    assert files(tmp_path / "d/tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def test_vw_files_are_imported_by_name_and_keep_their_bytes(
    known_sets: object, tmp_path: Path
) -> None:
    packed = gzip.compress(VW_TRAIN, mtime=12345)
    (tmp_path / "my_training.txt.gz").write_bytes(packed)
    (tmp_path / "odp_test.vw").write_bytes(VW_TEST)
    paths = [str(tmp_path / name) for name in ("my_training.txt.gz", "odp_test.vw")]
    folder = ["--data-dir", str(tmp_path / "d")]
    assert main(["data", "import", *paths, "--as", "tiny-vw", *folder]) == 0
    assert (tmp_path / "d/tiny-vw/train.vw.gz").read_bytes() == packed
    assert gzip.decompress((tmp_path / "d/tiny-vw/test.vw.gz").read_bytes()) == VW_TEST


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"7 7 7\n", [], "do not tell which set this is; expected --as with one of ['tiny'"),
        (b"7 7 7\n", ["--as", "tiny"], "no file of tiny among ['x.txt']"),
        (TRAIN, ["--as", "huge"], "no published set is called 'huge'"),
        (gzip.compress(TRAIN)[:-9], [], "broken archive"),
        (None, [], "x.txt: no such file"),
    ],
)
def test_import_says_what_is_wrong(
    known_sets: object,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: bytes | None,
    options: list[str],
    message: str,
) -> None:
    if content is not None:
        (tmp_path / "x.txt").write_bytes(content)
    arguments = ["data", "import", str(tmp_path / "x.txt"), *options, "--data-dir", str(tmp_path)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert set(tmp_path.iterdir()) <= {tmp_path / "x.txt"}


def test_import_does_not_touch_a_file_that_was_never_verified(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/train.txt").write_bytes(b"mine")
    (tmp_path / "own.zip").write_bytes(ZIP)
    arguments = ["data", "import", str(tmp_path / "own.zip"), "--data-dir", str(tmp_path)]
    assert main(arguments) == 2
    assert "a file that was never verified is there" in capsys.readouterr().err
    assert files(tmp_path / "tiny") == {"train.txt": b"mine"}
    assert main([*arguments, "--replace"]) == 0
    assert files(tmp_path / "tiny") == {"train.txt": TRAIN, "test.txt": TEST}


def at_hand(data_dir: Path) -> None:
    (data_dir / "tiny").mkdir(parents=True)
    (data_dir / "tiny/train.txt").write_bytes(TRAIN)
    (data_dir / "tiny/test.txt").write_bytes(TEST)


def test_verify_pins_at_first_and_finds_a_changed_byte_afterwards(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_hand(tmp_path)
    verify = ["data", "verify", "--data-dir", str(tmp_path)]
    listing = ["data", "list", "--data-dir", str(tmp_path)]
    assert main(listing) == 0
    assert "not verified" in capsys.readouterr().out
    assert main(verify) == 0
    assert main(listing) == 0
    assert "  verified" in capsys.readouterr().out
    path = tmp_path / "tiny/train.txt"
    status = path.stat()
    path.write_bytes(TRAIN.replace(b"0.25", b"0.26"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a failing disk would leave it
    assert main(verify) == 1
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"sha256 is {found}" in capsys.readouterr().err
    path.write_bytes(TRAIN[:-1])
    assert main(listing) == 0
    assert "changed" in capsys.readouterr().out


def test_verify_refuses_other_sizes_and_pins_nothing(
    known_sets: dict[str, PublishedSet], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_hand(tmp_path)
    known_sets["tiny"] = dataclasses.replace(TINY, num_features=8)
    assert main(["data", "verify", "tiny", "--data-dir", str(tmp_path)]) == 1
    assert "num_features is 9; expected 8" in capsys.readouterr().err
    assert not (tmp_path / FILE_NAME).exists()


def test_folder_marked_read_only_is_read_and_not_written(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_hand(tmp_path / "d")
    (tmp_path / "d").chmod(0o555)
    (tmp_path / "own.zip").write_bytes(ZIP)
    folder = ["--data-dir", str(tmp_path / "d")]
    try:
        assert main(["data", "verify", *folder]) == 0
        assert "marked read-only; the checksums could not be pinned" in capsys.readouterr().out
        assert main(["data", "import", str(tmp_path / "own.zip"), *folder]) == 2
        assert "--data-dir names a folder that can be written to" in capsys.readouterr().err
        assert {p.name for p in (tmp_path / "d").iterdir()} == {"tiny"}
    finally:
        (tmp_path / "d").chmod(0o755)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 9}', '{"format": 1, "files": {"a": 1}, "downloads": {}}']
)
def test_pins_that_are_not_ours_are_refused(
    known_sets: object, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    assert main(["data", "list", "--data-dir", str(tmp_path)]) == 2
    assert f"{FILE_NAME}: " in capsys.readouterr().err


def test_pins_are_added_to_those_that_are_there(tmp_path: Path, site: Site) -> None:
    bring(tiny(site.put("/tiny.zip", Page(ZIP))), tmp_path)
    before = read_pins(tmp_path)
    add_pins(tmp_path, files={"other/train.txt": before.files["tiny/train.txt"]})
    assert read_pins(tmp_path).files.keys() == before.files.keys() | {"other/train.txt"}
    assert read_pins(tmp_path).downloads == before.downloads


def test_lock_is_held_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "new/.lock"
    with locked(path):
        assert path.exists()
    assert not path.exists()


def test_confirmation_page_leads_to_the_file(site: Site, tmp_path: Path) -> None:
    form = (
        b'<!DOCTYPE html><html><form id="download-form" action="/download" method="get">'
        b'<input type="submit" value="Download anyway">'
        b'<input type="hidden" name="id" value="a&amp;b"><input type="hidden" name="confirm" '
        b'value="t"><input type="hidden" name="uuid" value="1-2"></form></html>'
    )
    page = Page(ZIP, breaks=[100])
    site.put("/download?id=a%26b&confirm=t&uuid=1-2", page)
    known = tiny(site.put("/uc?id=1", Page(form, kind="text/html")))
    bring(known, tmp_path)
    assert files(tmp_path / "tiny")["train.txt"] == TRAIN
    assert [asked for path, asked in site.requests if path[:3] != "/uc"] == [None, "bytes=100-"]


@pytest.mark.parametrize(
    ("page", "address"),
    [
        (
            '<a id="uc-download-link" href="/uc?export=download&amp;confirm=XyZ&amp;id=1">',
            "https://drive.google.com/uc?export=download&confirm=XyZ&id=1",
        ),
        (
            '<form id="download-form" action="https://drive.usercontent.google.com/download">'
            '<input name="id" value="1"></form><input name="q" value="2">',
            "https://drive.usercontent.google.com/download?id=1",
        ),
        ('<form id="download-form" action="https://evil.example/download"></form>', None),
        ('<form id="download-form" action="file:///etc/passwd"></form>', None),
        ("<p>Quota exceeded</p>", None),
    ],
    ids=["link", "form", "other host", "other scheme", "quota"],
)
def test_confirmation_is_followed_on_googles_hosts_alone(page: str, address: str | None) -> None:
    assert confirmed_address("https://drive.google.com/uc?id=1", page.encode()) == address


def test_redirection_off_the_web_is_refused(site: Site, tmp_path: Path) -> None:
    redirects = download._SafeRedirects()
    request = download.urllib.request.Request("https://drive.google.com/uc")
    with pytest.raises(download._AddressError, match="expected https"):
        redirects.redirect_request(request, None, 302, "", {}, "http://drive.google.com/uc")


def test_every_published_set_is_readable_and_says_where_its_facts_are_from() -> None:
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
            assert item.file_name not in {known.file_name(role) for role in ROLES}
            assert all(address.startswith("http") for address in item.addresses)
    assert catalogue.SETS["amazon-3m"].propensity == "amazon"
    assert catalogue.SETS["amazoncat-13k"].propensity == "default"


def test_list_of_one_set_tells_all_about_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["data", "list", "amazon-670k", "--data-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "https://drive.google.com/uc?export=download&id=1PV-wbKVv6Ng1K1XM1USqNxFhaQo2qfk6" in out
    assert "sorted by label" in out
    assert "670,091" in out


def test_sets_at_hand_are_as_the_catalogue_says(data_dir: Path) -> None:
    pins = read_pins(data_dir)
    for name in ("delicious-983", "bibtex-159"):
        if install.state(SETS[name], data_dir, pins) == "absent":
            pytest.skip(f"{name} is not in {data_dir}")
        assert install.verify(SETS[name], data_dir, tell=str) == []
