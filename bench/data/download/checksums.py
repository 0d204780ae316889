"""`checksums.json` of the data folder: what was downloaded and placed, pinned when first seen.

The file is replaced as a whole, under a lock, so that two commands at a time lose nothing and a
reader never sees half of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from bench.data.source import DataError
from bench.store import locks
from bench.store.files import replace_file

FILE_NAME = "checksums.json"
_FORMAT = 1

_Pin = TypeVar("_Pin", "FilePin", "DownloadPin")


@dataclass(frozen=True, kw_only=True)
class FilePin:
    """A placed file when its content was last checked.

    Attributes:
        sha256: of its bytes, hex.
        num_bytes: its size.
        mtime_ns: its modification time, by which `list` sees a change without reading it.
        num_points: N of the file.
        num_features: D by its header or its largest id.
        num_labels: L, likewise.
    """

    sha256: str
    num_bytes: int
    mtime_ns: int
    num_points: int
    num_features: int
    num_labels: int


@dataclass(frozen=True, kw_only=True)
class DownloadPin:
    """A file as it was downloaded first: SHA-256 (hex), size, and from where."""

    sha256: str
    num_bytes: int
    address: str


@dataclass(frozen=True)
class Pins:
    """All pins of a data folder, by path relative to it."""

    files: Mapping[str, FilePin] = field(default_factory=dict)
    downloads: Mapping[str, DownloadPin] = field(default_factory=dict)


def read_pins(data_dir: Path) -> Pins:
    """The pins of a data folder; none where nothing was pinned.

    Raises:
        DataError: the file is not what this module writes.
    """
    path = data_dir / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Pins()
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: {error}; expected readable JSON") from error
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format is {content['format']!r}")
        files = {name: _checked(FilePin(**pin)) for name, pin in content["files"].items()}
        downloads = {name: _checked(DownloadPin(**p)) for name, p in content["downloads"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: {error}; expected the checksums that `bench data` wrote (remove the file "
            "to pin anew)"
        ) from error
    return Pins(files, downloads)


def add_pins(
    data_dir: Path,
    *,
    files: Mapping[str, FilePin] | None = None,
    downloads: Mapping[str, DownloadPin] | None = None,
) -> None:
    """Write pins down beside those that are there; one of the same name is replaced.

    Raises:
        DataError: the file that is there cannot be read.
        OSError: the folder cannot be written to.
    """
    with locked(data_dir / f".{FILE_NAME}.lock"):
        known = read_pins(data_dir)
        content = {
            "format": _FORMAT,
            "files": _plain({**known.files, **(files or {})}),
            "downloads": _plain({**known.downloads, **(downloads or {})}),
        }
        text = json.dumps(content, indent=1, sort_keys=True)
        replace_file(data_dir / FILE_NAME, f"{text}\n".encode())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for, and hold, the lock file at `path`.

    Its folder is made if need be, and the file is gone afterwards.

    Raises:
        OSError: the folder cannot be written to, or is marked read-only, which counts for root too.
    """
    refuse_read_only(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(path):
        yield


def refuse_read_only(folder: Path) -> None:
    """Judge a folder, or the one that it will be made in, by its marks; they bind root too.

    Raises:
        PermissionError: nobody may write to it.
    """
    folder = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not folder.stat().st_mode & 0o222:
        raise PermissionError(errno.EACCES, "marked read-only", str(folder))


def _checked(pin: _Pin) -> _Pin:
    for entry in dataclasses.fields(pin):
        value = getattr(pin, entry.name)
        wanted = str if entry.name in ("sha256", "address") else int
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ValueError(f"{entry.name} is {value!r}")
    return pin


def _plain(pins: Mapping[str, FilePin | DownloadPin]) -> dict[str, Any]:
    return {name: dataclasses.asdict(pin) for name, pin in pins.items()}
