"""Files within archives, folders or alone, and which of them are those of a published set.

Nothing is extracted by its own name: callers read a member and choose the name.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from bench.data.download.catalogue import ROLES, SETS, PublishedSet, Role
from bench.data.source import DataError
from bench.data.text import parse_header

MAX_UNPACKED_BYTES = 64 << 30
"""Limit of a member: several times the largest published set's."""

_MAX_FILES = 1000
_COPY_BYTES = 1 << 20
_LINE_BYTES = 100
_ADDED = frozenset({"thumbs.db", "desktop.ini"})
_BROKEN = (
    EOFError,
    RuntimeError,  # encrypted, or a method of compression that Python has not
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
_PARTS = ("train", "test", "data", "trSplit", "tstSplit")
_ROLE_WORDS: Mapping[Role, frozenset[str]] = {
    "train": frozenset({"train", "training", "trn"}),
    "test": frozenset({"test", "testing", "tst"}),
}


@dataclass(frozen=True)
class Member:
    """A file within an archive, or (`path`) one that is none; no `.gz` or `.bz2` in its name.

    `where` is for messages; `opener` gives a stream of its decompressed bytes.
    """

    name: str
    where: str
    opener: Callable[[], IO[bytes]]
    path: Path | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its decompressed bytes; a `DataError` where they turn out to be broken."""
        try:
            with self.opener() as stream:
                yield stream
        except _BROKEN as error:
            raise DataError(f"{self.where}: broken archive ({error})") from error

    def first_line(self) -> bytes:
        """Its first line without its end; cut off where it is longer than a header."""
        with self.opened() as stream:
            return stream.readline(_LINE_BYTES).rstrip(b"\r\n")

    def copy_to(self, target: IO[bytes]) -> None:
        """Write all of it to `target`, `MAX_UNPACKED_BYTES` at most."""
        num_bytes = 0
        with self.opened() as stream:
            while block := stream.read(_COPY_BYTES):
                num_bytes += len(block)
                if num_bytes > MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{self.where}: unpacks to more than {MAX_UNPACKED_BYTES:,} bytes"
                    )
                target.write(block)


def files_at(path: Path) -> list[Path]:
    """A file itself, or the files of a folder and of those in it."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    files = (file for file in path.rglob("*") if file.is_file())
    found = sorted(file for file in files if not _is_added(file.relative_to(path).as_posix()))
    if not 1 <= len(found) <= _MAX_FILES:
        raise DataError(f"{path}: {len(found)} files in this folder; expected those of a data set")
    return found


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Sequence[Member]]:
    """The files in a zip or tar archive, or the file itself if it is none.

    What systems add unasked is left out, and so are links and devices.

    Raises:
        DataError: the archive is broken, or unpacks to too much.
    """
    with contextlib.ExitStack() as stack:
        try:
            if _first_bytes(path) == b"PK\x03\x04":
                members = _zip_members(path, stack.enter_context(zipfile.ZipFile(path)))
            elif tarfile.is_tarfile(path):
                members = _tar_members(path, stack.enter_context(tarfile.open(path)))
            else:
                name = path.name.removesuffix(".gz").removesuffix(".bz2")
                members = [Member(name, str(path), functools.partial(_open_text, path), path)]
        except _BROKEN as error:
            raise DataError(f"{path}: broken archive ({error})") from error
        yield members


def recognised(members: Sequence[Member]) -> PublishedSet:
    """The set whose archive has members of these names, or whose headers they have."""
    fitting = [each for each in SETS.values() if each.stem and _by_stem(each, members)]
    if not fitting:
        lines = [each.first_line() for each in members]
        fitting = [
            each
            for each in SETS.values()
            if any(_fits(each, role, line) for line in lines for role in ROLES)
        ]
    if len(fitting) == 1:
        return fitting[0]
    raise DataError(
        f"{[each.name for each in members]}: neither names nor headers are those of one set alone; "
        f"expected --as with one of {[each.name for each in fitting] or list(SETS)}"
    )


def chosen(known: PublishedSet, members: Sequence[Member]) -> dict[str, Member]:
    """A set's files by role, or its `data` with `trSplit` and `tstSplit`.

    By the names in the set's own archive, or else by words of their names, or by their headers.
    """
    found = _by_stem(known, members) or _by_role(known, members)
    if "data" in found:
        if missing := {"trSplit", "tstSplit"} - set(found):
            raise DataError(f"{found['data'].where}: {sorted(missing)} missing; expected both")
    elif not found:
        raise DataError(
            f"no file of {known.name} among {[each.name for each in members]}; expected one to "
            "train on and one to test on, with 'train' and 'test' in their names"
        )
    return found


def _by_stem(known: PublishedSet, members: Sequence[Member]) -> dict[str, Member]:
    if known.stem is None:
        return {}
    prefix = f"{known.stem}_" if known.stem else ""
    parts = {f"{prefix}{part}.txt".casefold(): part for part in _PARTS}
    return _each_once(
        (parts[each.name.casefold()], each) for each in members if each.name.casefold() in parts
    )


def _by_role(known: PublishedSet, members: Sequence[Member]) -> dict[str, Member]:
    found: list[tuple[str, Member]] = []
    for member in members:
        line = member.first_line()
        if not _is_data(known, line):  # a text about the set
            continue
        words = set(re.split(r"[^a-z]+", member.name.casefold()))
        roles = [role for role in ROLES if words & _ROLE_WORDS[role]]
        if len(roles) != 1:
            roles = [role for role in ROLES if _fits(known, role, line)]
        found += [(role, member) for role in roles]
    return _each_once(found)


def _is_data(known: PublishedSet, line: bytes) -> bool:
    if known.source == "vw":
        return re.match(rb"[0-9]+[^|]*\|", line) is not None
    return parse_header(line) is not None


def _fits(known: PublishedSet, role: Role, line: bytes) -> bool:
    expected = (known.num_points(role), known.num_features, known.num_labels)
    return known.source == "xmlrepo" and parse_header(line) == expected


def _each_once(found: Iterable[tuple[str, Member]]) -> dict[str, Member]:
    by_part: dict[str, Member] = {}
    for part, member in found:
        if part in by_part:
            raise DataError(f"{member.where}: a second {part} file after {by_part[part].where}")
        by_part[part] = member
    return by_part


def _is_added(name: str) -> bool:
    """Whether a file, by its path in an archive or a folder, is one that systems add unasked."""
    parts = [part for part in re.split(r"[/\\]", name) if part != "."]
    return (
        any(part.startswith(".") or part == "__MACOSX" for part in parts)
        or parts[-1].casefold() in _ADDED
    )


def _zip_members(path: Path, archive: zipfile.ZipFile) -> list[Member]:
    files = [
        (info.filename, info.file_size, functools.partial(archive.open, info))
        for info in archive.infolist()
        if not info.is_dir() and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
    ]
    return _members(path, files)


def _tar_members(path: Path, archive: tarfile.TarFile) -> list[Member]:
    files = [
        (info.name, info.size, functools.partial(archive.extractfile, info))
        for info in archive
        if info.isreg()
    ]
    return _members(path, files)


def _members(path: Path, files: Sequence[tuple[str, int, Callable[[], Any]]]) -> list[Member]:
    """Members of an archive by path, size and opener, if there is room to unpack them."""
    num_bytes, free = sum(size for _, size, _ in files), shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise DataError(f"{path}: unpacks to {num_bytes:,} bytes; {free:,} are free on the disk")
    return [
        Member(PurePosixPath(name).name, f"{path}, member {name}", opener)
        for name, _, opener in files
        if not _is_added(name)
    ]


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(4)


def is_gzip(path: Path) -> bool:
    """By its first bytes."""
    return _first_bytes(path).startswith(b"\x1f\x8b")


def _open_text(path: Path) -> IO[bytes]:
    """The decompressed bytes of a file, by its first bytes: gzip, bzip2 or plain."""
    if is_gzip(path):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return bz2.open(path, "rb") if _first_bytes(path).startswith(b"BZh") else path.open("rb")
