"""Files that readers may have open, written elsewhere, then moved; temporary and private folders.

Folders that a command writes to are tried before the work whose outcome they take.
"""

from __future__ import annotations

import argparse
import errno
import glob
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.errors import StorageError, os_message
from bench.store.locks import NoLocksError, locked, own_name, sweep

_PARTIAL = ".partial"
_HAS_USERS = hasattr(os, "geteuid")  # Windows has none
# As much as a long record.
_TRIED_BYTES = 1 << 17

# Errors of folders, disks and rights; anything else may be a fault of the suite.
_OF_STORAGE = {
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EISDIR, errno.ELOOP,
    errno.ENAMETOOLONG, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS,
}  # fmt: skip


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file completely or not at all; a reader sees the old one or the new one.

    What writers left of this file that were killed is taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(NoLocksError):  # nobody knows there who is at work
        sweep(path.parent, f".{glob.escape(path.name)}.*{_PARTIAL}")
    partial = path.with_name(f".{path.name}.{own_name()}{_PARTIAL}")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        with suppress(NoLocksError):
            stack.enter_context(locked(partial))
        partial.write_bytes(content)
        if path.exists():
            partial.chmod(path.stat().st_mode)
        partial.replace(path)
    return path


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_safe(text: str) -> str:
    """Text as part of a file's name.

    >>> file_safe("k = 5")
    'k-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder below another one, removed afterwards; as are those whose process was killed."""
    home.mkdir(parents=True, exist_ok=True)
    sweep(home, "*.lock", lambda path: shutil.rmtree(path.with_suffix(""), ignore_errors=True))
    folder = home / own_name()
    with locked(folder.with_suffix(".lock")):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


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
