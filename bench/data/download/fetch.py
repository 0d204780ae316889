"""Bringing a published set to its place: by download, or from files that a person has."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from bench.data.download.archive import MAX_MEMBERS, Member, is_added, open_archive
from bench.data.download.catalogue import ROLES, SETS, Download, PublishedSet, Role
from bench.data.download.checksums import add_pins, read_pins
from bench.data.download.download import download
from bench.data.download.file_stats import read_header
from bench.data.download.install import (
    Permissions,
    Put,
    Tell,
    file_state,
    place,
    relative_path,
    set_folder,
    state,
)
from bench.data.source import DataError

_GZIP_LEVEL = 6
_HEADER_BYTES = 100
_MAX_SPLIT_BYTES = 1 << 28
_PARTS = ("train", "test", "data", "trSplit", "tstSplit")
# Words in the names of files about a data set.
_ABOUT = frozenset({"readme", "license", "licence", "changelog"})
_VW_START = re.compile(rb"[0-9]+[^|]*\|")
_ROLE_WORDS: Mapping[Role, frozenset[str]] = {
    "train": frozenset({"train", "training", "trn"}),
    "test": frozenset({"test", "testing", "tst"}),
}


def fetch(known: PublishedSet, data_dir: Path, *, allowed: Permissions, tell: Tell) -> None:
    """Download a set that is not at hand, and place it.

    Raises:
        DataError: it cannot be had, or is not what was expected; the message says what to do.
    """
    with set_folder(known, data_dir) as folder:
        pins = read_pins(data_dir)
        found = state(known, data_dir, pins)
        if not allowed.replace:
            if found in ("verified", "not verified"):
                tell(f"{known.name} is at hand in {folder} ({found}); nothing to fetch")
                return
            if found == "changed":
                raise DataError(f"{folder}: a file is not the pinned one (see --replace)")
        for item in known.downloads:
            if (
                item.role is not None
                and not allowed.replace
                and file_state(known, item.role, data_dir, pins) == "verified"
            ):
                continue
            name = f"{known.name}/{item.file_name}"
            pin = None if allowed.replace else pins.downloads.get(name)

            def use(path: Path, role: Role | None = item.role) -> None:
                with contextlib.ExitStack() as stack:
                    if role is None:
                        members = stack.enter_context(open_archive(path))
                        files = _files(known, _by_stem(known, members), members)
                    else:
                        files = {role: _linked(path)}
                    place(known, files, data_dir, allowed=allowed, tell=tell)

            try:
                receipt = download(
                    item,
                    folder,
                    pinned_sha256=pin.sha256 if pin is not None else None,
                    use=use,
                    tell=tell,
                )
            except DataError as error:
                raise DataError(f"{error}\n{_by_hand(known, item)}") from error
            add_pins(data_dir, downloads={name: receipt})


def bring(
    paths: Sequence[Path],
    data_dir: Path,
    *,
    name: str | None,
    allowed: Permissions,
    tell: Tell,
) -> None:
    """Place files that a person has already: an archive, or the training and test files.

    A folder stands for the files in it, and those in its folders. Which set they are of is told by
    `name`, or else by their own names or their headers.

    Raises:
        DataError: the files belong to no set, or are not what is expected of it.
    """
    paths = [file for path in paths for file in _files_at(path)]
    with contextlib.ExitStack() as stack:
        members = [each for path in paths for each in stack.enter_context(open_archive(path))]
        known = named(name) if name is not None else _recognised(members)
        chosen = _by_stem(known, members) or _by_role(known, members)
        files = _files(known, chosen, members)
        with set_folder(known, data_dir):
            place(known, files, data_dir, allowed=allowed, tell=tell)
    for role in ROLES:
        if not (data_dir / relative_path(known, role)).is_file():
            tell(f"{known.name} still lacks its {role} file; import it likewise")


def _files_at(path: Path) -> list[Path]:
    """A file itself, or the files of a folder that may be of a data set.

    Raises:
        DataError: there is none, or there are too many.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = []
    for file in path.rglob("*"):
        if file.is_file() and not is_added(file.relative_to(path).as_posix()):
            found.append(file)
        if len(found) > MAX_MEMBERS:
            raise DataError(f"{path}: more than {MAX_MEMBERS} files; expected those of a data set")
    if not found:
        raise DataError(f"{path}: no file in this folder; expected those of a data set")
    return sorted(found)


def named(name: str) -> PublishedSet:
    """The set of a name.

    Raises:
        DataError: there is none.
    """
    if name not in SETS:
        filtered = (
            "; published numbers of LF data sets are filtered by a file which is not read here"
            if name.casefold().startswith("lf")
            else ""
        )
        raise DataError(
            f"no published set is called {name!r}; expected one of {list(SETS)}{filtered}"
        )
    return SETS[name]


def _by_hand(known: PublishedSet, item: Download) -> str:
    places = "\n".join(f"  {address}" for address in item.addresses)
    return (
        f"by hand: open one of these in a browser and save the file,\n{places}\n"
        f"then: python -m bench data import FILE --as {known.name}"
    )


def _recognised(members: Sequence[Member]) -> PublishedSet:
    """The set that the members' names tell, or else their headers."""
    fitting = [each for each in SETS.values() if each.stem and _by_stem(each, members)]
    if not fitting:
        headers = [header for each in members if (header := _header(each)) is not None]
        fitting = [
            each
            for each in SETS.values()
            if any(_fits(each, role, header) for header in headers for role in ROLES)
        ]
    if len(fitting) == 1:
        return fitting[0]
    raise DataError(
        f"{[each.name for each in members]}: names and headers do not tell which set this is; "
        f"expected --as with one of {[each.name for each in fitting] or list(SETS)}"
    )


def _by_stem(known: PublishedSet, members: Sequence[Member]) -> dict[str, Member]:
    """Members that have the names of the set's archive, by what they are."""
    if known.stem is None:
        return {}
    prefix = f"{known.stem}_" if known.stem else ""
    parts = {f"{prefix}{part}.txt".casefold(): part for part in _PARTS}
    return _without_doubles(
        (parts[each.name.casefold()], each) for each in members if each.name.casefold() in parts
    )


def _by_role(known: PublishedSet, members: Sequence[Member]) -> dict[str, Member]:
    """Members by the words of their names, or else by their headers."""
    found: list[tuple[str, Member]] = []
    for member in members:
        words = set(re.split(r"[^a-z]+", member.name.casefold()))
        if words & _ABOUT:
            continue
        roles = [role for role in ROLES if words & _ROLE_WORDS[role]]
        header = None if len(roles) == 1 else _header(member)
        if header is not None:
            roles = [role for role in ROLES if _fits(known, role, header)]
        found += [(role, member) for role in roles]
    names = [role for role, _ in found]
    return _without_doubles(
        [(role, each) for role, each in found if names.count(role) == 1 or _is_data(known, each)]
    )


def _is_data(known: PublishedSet, member: Member) -> bool:
    """Whether a file begins as one of the set's does."""
    if known.source == "xmlrepo":
        return _header(member) is not None
    with member.opened() as stream:
        return _VW_START.match(stream.readline(_HEADER_BYTES)) is not None


def _without_doubles(
    found: Iterator[tuple[str, Member]] | list[tuple[str, Member]],
) -> dict[str, Member]:
    chosen: dict[str, Member] = {}
    for part, member in found:
        if part in chosen:
            raise DataError(f"{member.where}: a second {part} file after {chosen[part].where}")
        chosen[part] = member
    return chosen


def _header(member: Member) -> tuple[int, int, int] | None:
    with member.opened() as stream:
        return read_header(stream.readline(_HEADER_BYTES).rstrip(b"\n"))


def _fits(known: PublishedSet, role: Role, header: tuple[int, int, int]) -> bool:
    expected = (known.num_points(role), known.num_features, known.num_labels)
    return known.source == "xmlrepo" and header == expected


def _files(
    known: PublishedSet, chosen: Mapping[str, Member], members: Sequence[Member]
) -> dict[Role, Put]:
    """What puts each of the set's files, out of those that were chosen for it."""
    if "data" in chosen:
        splits: dict[Role, str] = {"train": "trSplit", "test": "tstSplit"}
        if missing := [part for part in splits.values() if part not in chosen]:
            raise DataError(f"{chosen['data'].where}: {missing} missing; expected both split files")
        return {
            role: _selected(chosen["data"], chosen[part], known.file_name(role))
            for role, part in splits.items()
        }
    files = {role: _copied(chosen[role]) for role in ROLES if role in chosen}
    if not files:
        raise DataError(
            f"no file of {known.name} among {[each.name for each in members]}; expected one to "
            "train on and one to test on, with 'train' and 'test' in their names"
        )
    return files


def _linked(path: Path) -> Put:
    """The file itself by a second name: it may be too large to lie here twice."""

    def put(target: Path) -> None:
        try:
            target.hardlink_to(path)
        except OSError:  # a file system without links
            shutil.copyfile(path, target)

    return put


def _copied(member: Member) -> Put:
    def put(target: Path) -> None:
        if member.path is not None and target.suffix == ".gz" and _is_gzip(member.path):
            shutil.copyfile(member.path, target)  # not packed anew: its checksum is known to others
        else:
            with _writing(target) as stream:
                member.copy_to(stream)

    return put


def _selected(data: Member, split: Member, name: str) -> Put:
    """The points of `data` that the first column of `split` numbers, from 1 on.

    Other columns are other splits; a 0 fills a column that is shorter than others.
    """

    def put(target: Path) -> None:
        with data.opened() as stream:
            header = read_header(stream.readline(_HEADER_BYTES).rstrip(b"\r\n"))
            lines = stream.read(_MAX_SPLIT_BYTES).splitlines()
        if header is None or len(lines) != header[0]:
            raise DataError(
                f"{data.where}: {len(lines):,} points; expected a header 'N D L' and its N points"
            )
        chosen = []
        with split.opened() as stream:
            for position, line in enumerate(stream, start=1):
                word = (line.split() or [b"0"])[0]
                if not word.isdigit() or int(word) > len(lines):
                    raise DataError(
                        f"{split.where}, line {position}: {word[:20]!r}; expected a point of "
                        f"{name}, 1 to {len(lines)}"
                    )
                if int(word):
                    chosen.append(lines[int(word) - 1])
        with _writing(target) as output:
            output.write(b"%d %d %d\n" % (len(chosen), header[1], header[2]))
            output.writelines(line + b"\n" for line in chosen)

    return put


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    """A new file, packed if its name says so, on the disk when it is closed."""
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            # Without name and time, so that equal content gives equal bytes.
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as stream:
                yield cast(IO[bytes], stream)
        else:
            yield raw
        raw.flush()
        os.fsync(raw.fileno())


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"
