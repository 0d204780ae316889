"""Members of a downloaded file, none of which can reach outside of where it is put.

Nothing is extracted by its own name: callers read a member and choose the name. An archive that
holds a suspicious member is refused as a whole all the same, because it is not the one expected.
"""

from __future__ import annotations

import contextlib
import gzip
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from bench.data.download.file_stats import open_text
from bench.data.source import DataError

MAX_MEMBERS = 1000
MAX_UNPACKED_BYTES = 64 << 30
"""Limit of all members together: several times the largest published set's."""

_COPY_BYTES = 1 << 20
_ADDED = frozenset({"thumbs.db", "desktop.ini"})
_BROKEN = (
    EOFError,
    NotImplementedError,  # a method of compression that Python has not
    gzip.BadGzipFile,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class Member:
    """A file within an archive, or a file that is none.

    Attributes:
        name: without folders and without `.gz` or `.bz2`.
        where: for messages.
        opener: gives a stream of its decompressed bytes.
        path: the file itself, where it is no archive.
    """

    name: str
    where: str
    opener: Callable[[], IO[bytes]]
    path: Path | None = None

    @contextlib.contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Its decompressed bytes.

        Raises:
            DataError: they turn out to be broken while they are read.
        """
        try:
            with self.opener() as stream:
                yield stream
        except _BROKEN as error:
            raise DataError(f"{self.where}: broken archive ({error})") from error

    def copy_to(self, target: IO[bytes]) -> None:
        """Write all of it to `target`.

        Raises:
            DataError: it unpacks to more than `MAX_UNPACKED_BYTES`, or is broken.
        """
        num_bytes = 0
        with self.opened() as stream:
            while block := stream.read(_COPY_BYTES):
                num_bytes += len(block)
                if num_bytes > MAX_UNPACKED_BYTES:
                    raise DataError(
                        f"{self.where}: unpacks to more than {MAX_UNPACKED_BYTES:,} bytes"
                    )
                target.write(block)


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Sequence[Member]]:
    """Members of a zip or tar archive, or the file itself: plain, gzip or bzip2.

    What it is goes by its bytes, not by its name. What systems add unasked (`__MACOSX/`, `._name`,
    `.DS_Store`, `Thumbs.db`) is left out.

    Raises:
        DataError: the archive is broken, has more than `MAX_MEMBERS` members or unpacks to more
            than `MAX_UNPACKED_BYTES`, or a member has an absolute path, `..` in it, is a link or
            a device, or is encrypted.
    """
    with contextlib.ExitStack() as stack:
        try:
            with path.open("rb") as stream:
                is_zip = stream.read(4) == b"PK\x03\x04"
            if is_zip:
                members = _zip_members(path, stack.enter_context(zipfile.ZipFile(path)))
            elif tarfile.is_tarfile(path):
                members = _tar_members(path, stack.enter_context(tarfile.open(path)))
            else:
                name = path.name.removesuffix(".gz").removesuffix(".bz2")
                members = [Member(name, str(path), lambda: open_text(path), path)]
        except _BROKEN as error:
            raise DataError(f"{path}: broken archive ({error})") from error
        yield members


def is_added(name: str) -> bool:
    """Whether a file, by its path in an archive or a folder, is one that systems add unasked."""
    parts = [part for part in re.split(r"[/\\]", name) if part != "."]
    return (
        any(part.startswith(".") or part == "__MACOSX" for part in parts)
        or parts[-1].casefold() in _ADDED
    )


def _zip_members(path: Path, archive: zipfile.ZipFile) -> list[Member]:
    infos = archive.infolist()
    _check_limits(path, len(infos), sum(info.file_size for info in infos))
    members = []
    for info in infos:
        _check_name(path, info.orig_filename)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise DataError(f"{path}: member {info.orig_filename!r} is a link; expected files")
        if info.flag_bits & 1:
            raise DataError(f"{path}: member {info.orig_filename!r} is encrypted")
        if not info.is_dir() and not is_added(info.filename):
            members.append(_member(path, info.filename, _opener(archive, info)))
    return members


def _tar_members(path: Path, archive: tarfile.TarFile) -> list[Member]:
    members = []
    num_bytes = 0
    for number, info in enumerate(archive, start=1):
        num_bytes += info.size
        _check_limits(path, number, num_bytes)
        _check_name(path, info.name)
        if info.isreg() and is_added(info.name):
            continue
        if info.isreg():
            members.append(_member(path, info.name, _opener(archive, info)))
        elif not info.isdir():
            raise DataError(f"{path}: member {info.name!r} is a link or device; expected files")
    return members


def _opener(archive: zipfile.ZipFile | tarfile.TarFile, info: Any) -> Callable[[], IO[bytes]]:
    if isinstance(archive, zipfile.ZipFile):
        return lambda: archive.open(info)
    return lambda: cast(IO[bytes], archive.extractfile(info))


def _member(path: Path, name: str, opener: Callable[[], IO[bytes]]) -> Member:
    return Member(PurePosixPath(name).name, f"{path}, member {name}", opener)


def _check_limits(path: Path, num_members: int, num_bytes: int) -> None:
    if num_members > MAX_MEMBERS:
        raise DataError(f"{path}: more than {MAX_MEMBERS} members; expected a data set")
    if num_bytes > MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: unpacks to more than {MAX_UNPACKED_BYTES:,} bytes")
    free = shutil.disk_usage(path.parent).free
    if num_bytes > free:
        raise DataError(f"{path}: unpacks to {num_bytes:,} bytes; {free:,} are free on the disk")


def _check_name(path: Path, name: str) -> None:
    parts = re.split(r"[/\\]", name)
    if not name or "\0" in name or parts[0] == "" or ":" in parts[0] or ".." in parts:
        raise DataError(
            f"{path}: member {name!r} points outside of the archive; nothing was unpacked"
        )
