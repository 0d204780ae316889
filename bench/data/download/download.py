"""Download over HTTP, or from Google Drive, that goes on where it broke off.

`gdown` writes what has arrived to a `.part` file beside the target, and only a complete file gets
the target's name.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import gdown
from gdown.exceptions import DownloadError, FileURLRetrievalError
from tqdm import tqdm

from bench.data.source import DataError

TIMEOUT_SECONDS = 60.0
MAX_FRUITLESS_TRIES = 4
"""Tries in a row that give nothing new before the next address is asked."""
MAX_TRIES = 200
"""Tries of any kind before the next address is asked; another command goes on from there."""

_BACKOFF_SECONDS = 1.0
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_LOCAL_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
# First bytes by the end of a name.
_MAGIC = {".zip": b"PK\x03\x04", ".gz": b"\x1f\x8b", ".bz2": b"BZh"}


class KeptError(DataError):
    """What was downloaded is kept: a person has to decide, or to make room."""


def target_of(folder: Path, file_name: str, address: str) -> Path:
    """Where a download lies until it is installed; those of other addresses lie elsewhere."""
    return folder / f"{hashlib.sha256(address.encode()).hexdigest()[:8]}-{file_name}"


def has_begun(target: Path) -> bool:
    """Whether an earlier command has left all or a part of a file."""
    return target.exists() or any(_parts(target))


def download(address: str, target: Path, notify: Callable[[str], None]) -> None:
    """Download a file to `target`, unless it is there; a part of it is completed.

    Raises:
        KeptError: the disk is full or may not be written to.
        DataError: the address gives another kind of file, nothing new several times in a row, or
            was asked too often.
    """
    if target.exists():
        return
    most, num_fruitless = _num_received(target), 0
    for num_tries in range(1, MAX_TRIES + 1):
        try:
            _transfer(address, target)
            break
        except FileURLRetrievalError as error:
            raise DataError(" ".join(str(error).split())) from error
        except (DownloadError, OSError) as error:
            reason = _reason(error, target)
        has_grown = _num_received(target) > most
        most = max(most, _num_received(target))
        num_fruitless = 0 if has_grown else num_fruitless + 1
        if num_fruitless == MAX_FRUITLESS_TRIES:
            raise DataError(f"{reason} ({num_fruitless} times)")
        if num_tries == MAX_TRIES:
            raise DataError(f"{reason}; asked {num_tries} times")
        notify(f"  {reason}; trying again")
        time.sleep(_BACKOFF_SECONDS * 2**num_fruitless)
    _refuse_other_kinds(target)


def _transfer(address: str, target: Path) -> None:
    with tqdm(
        unit="B",
        unit_scale=True,
        desc=f"  {target.name}",
        disable=None,  # where nobody watches
        leave=False,
    ) as bar:

        def progress(num_bytes: int, total: int | None) -> None:
            free = shutil.disk_usage(target.parent).free
            if total is not None and total - num_bytes > free:
                raise KeptError(
                    f"{target.name}: {total - num_bytes:,} bytes to come; {free:,} are free on the "
                    "disk"
                )
            bar.total = total
            bar.update(num_bytes - bar.n)

        gdown.download(
            address,
            str(target),
            quiet=True,
            use_cookies=False,
            resume=True,
            timeout=TIMEOUT_SECONDS,
            progress=progress,
        )


def _reason(error: Exception, target: Path) -> str:
    """Why a try ended, where another one may go on.

    Raises:
        KeptError: it is this machine's disk.
        DataError: another try would end in the same way.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        if status not in _RETRIED:
            raise DataError(f"HTTP {status}") from error
        return f"HTTP {status}"
    if isinstance(error, OSError):
        if error.errno in _LOCAL_ERRORS:
            raise KeptError(f"{target}: {error.strerror}") from error
        return str(error)
    if "byte range" in str(error):
        for part in _parts(target):
            part.unlink()
        return "the server does not send the rest of the file, but only all of it"
    return f"broke off at {_num_received(target):,} bytes"


def _refuse_other_kinds(target: Path) -> None:
    with target.open("rb") as stream:
        first = stream.read(512)
    if first.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        raise DataError("a web page came instead of data (open the address in a browser)")
    magic = _MAGIC.get(target.suffix)
    if magic is not None and not first.startswith(magic):
        raise DataError(
            f"the data starts with {first[:8]!r}; expected {magic!r} as of a {target.suffix} file"
        )


def _parts(target: Path) -> list[Path]:
    return list(target.parent.glob(f"{glob.escape(target.name)}????????.part"))


def _num_received(target: Path) -> int:
    return sum(part.stat().st_size for part in _parts(target))
