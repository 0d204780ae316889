"""`checksums.json` of the data folder: what was installed, pinned when first seen.

The file is replaced as a whole, under a lock, so that two commands at a time lose nothing and a
reader never sees half of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.data.source import DataError
from bench.settings import coerce_fields
from bench.store import locks
from bench.store.files import replace_file

FILE_NAME = "checksums.json"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class FilePin:
    """An installed file when its content was last checked: D and L by its header or largest ids.

    `marks` are its :func:`bench.data.cache.file_marks`; none in a file of before they were kept.
    """

    sha256: str
    num_bytes: int
    num_points: int
    num_features: int
    num_labels: int
    marks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        coerce_fields(self, DataError)


def read_pins(data_dir: Path) -> dict[str, FilePin]:
    """The pins of a data folder by path relative to it; none where nothing was pinned."""
    path = data_dir / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format is {content['format']!r}")
        for pin in content["files"].values():
            pin.pop("mtime_ns", None)  # of before marks were kept
        return {name: FilePin(**pin) for name, pin in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: {error}; expected the checksums that `bench data` wrote (remove the file to "
            "pin anew)"
        ) from error


def add_pins(data_dir: Path, pins: Mapping[str, FilePin]) -> None:
    """Add pins to those that are there; one of the same name is replaced."""
    with locked(data_dir / f".{FILE_NAME}.lock"):
        files = {**read_pins(data_dir), **pins}
        content = {
            "format": _FORMAT,
            "files": {name: dataclasses.asdict(pin) for name, pin in files.items()},
        }
        text = json.dumps(content, indent=1, sort_keys=True)
        replace_file(data_dir / FILE_NAME, f"{text}\n".encode())


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for, and hold, the lock file at `path`, whose folder is made if need be.

    A folder that is marked read-only is not written to by root either.
    """
    folder = next(each for each in path.absolute().parents if each.exists())
    if not folder.stat().st_mode & 0o222:
        raise PermissionError(errno.EACCES, "marked read-only", str(folder))
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.locked(path):
        yield
