"""Folders that a command writes to are tried before the work whose outcome they take."""

from __future__ import annotations

import argparse
import errno
import os
import stat
import tempfile
from pathlib import Path

from bench.errors import StorageError, os_message

_HAS_USERS = hasattr(os, "geteuid")  # Windows has none
# As much as a long record.
_TRIED_BYTES = 1 << 17

# Errors of folders, disks and rights; anything else may be a fault of the suite.
_OF_STORAGE = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


def folder_named(text: str) -> Path:
    """A folder as typed, `~` included where no shell has replaced it."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from None


def private_folder(folder: Path) -> Path | None:
    """A folder that nobody but this user can write to or read, made if absent.

    Returns:
        None where it cannot be made or written, is a link, or is not this user's alone: whoever
        made it may have put into it what they wanted.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    is_private = not _HAS_USERS or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
    is_usable = stat.S_ISDIR(found.st_mode) and os.access(folder, os.W_OK | os.X_OK)
    return folder if is_private and is_usable else None


def of_user(purpose: str) -> str:
    """Name for a private folder where other users have theirs, too."""
    return f"mach-bench-{os.geteuid() if _HAS_USERS else 'user'}-{purpose}"


def require_writable(folder: Path, *below: str) -> None:
    """Make a folder, and try to write to it and to those below it that exist."""
    inner = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("", *below):
            inner = inner / name
            if inner.exists():
                with tempfile.TemporaryFile(dir=inner) as file:
                    file.write(b"\0" * _TRIED_BYTES)
    except (FileExistsError, NotADirectoryError) as error:
        raise StorageError(f"{inner} is or lies in a file; expected a folder") from error
    except OSError as error:
        raise StorageError(
            f"{inner}: {os_message(error)}; expected a folder to write to"
        ) from error


def of_storage(error: OSError) -> StorageError | None:
    """The sentence for an error of a folder or disk; None where the suite may be to blame."""
    if error.errno not in _OF_STORAGE:
        return None
    where = f"{error.filename}: " if error.filename is not None else ""
    return StorageError(f"{where}{os_message(error)}")
