"""Locks that end with their process, however it dies: files under the system's `flock`.

A lock's file is there while it is held, and says by whom. A process that was killed leaves a file
that nobody holds; whoever looks next takes it away. A folder may be shared by several users.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import StorageError, told

_NOTE_BYTES = 4096
# What file systems without locks answer, networks' among them: some want files open for writing.
_NO_LOCKS = frozenset(
    {
        errno.EBADF,
        errno.EINVAL,
        errno.ENOLCK,
        errno.ENOSYS,
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
    }
)


class NoLocksError(OSError, StorageError):
    """There are no locks where one was to be; an `OSError` too, for who can do without."""

    def __str__(self) -> str:
        where = "" if self.filename is None else f"{self.filename}: "
        return f"{where}{self.strerror}"


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds.

    Attributes:
        path: its file.
        descriptor: of the open file.
    """

    path: Path
    descriptor: int

    def release(self) -> None:
        """Take the file away and let others have the lock."""
        # While it is still held, so that nobody else's file is taken away. In a folder in which
        # each may remove but their own, the file of another user's dead process stays.
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


def this_process() -> str:
    """Which process this is, for those who find its lock: number, user and host."""
    return f"process {os.getpid()} of {this_user()} on {platform.node() or 'this host'}"


def this_user() -> str:
    """Name of the user whose process this is; a number where the system has no name."""
    if not hasattr(os, "geteuid"):
        return "this user"
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def require_locks(folder: Path, option: str) -> None:
    """Try a lock in a folder that can be written to.

    Args:
        folder: the folder.
        option: what names another one on the command line.

    Raises:
        StorageError: its file system keeps none.
    """
    try:
        lock = try_lock(folder / f".{os.getpid()}-{os.urandom(4).hex()}.lock")
    except NoLocksError as error:
        raise StorageError(
            f"{folder}: {error.strerror}; {option} names a folder to use instead"
        ) from error
    if lock is not None:
        lock.release()


def try_lock(path: Path, note: str | None = None) -> Lock | None:
    """The lock at a path, or None while another holds it.

    Args:
        path: its file; the folder must exist.
        note: what others read of the holder, see :func:`holder`; default: :func:`this_process`.

    Raises:
        NoLocksError: its file system keeps no locks.
        OSError: the file can be neither made nor opened.
    """
    return _lock(path, note, is_patient=False)


@contextlib.contextmanager
def locked(path: Path, note: str | None = None) -> Iterator[None]:
    """Hold the lock at a path, once whoever has it gives it up or dies.

    Raises:
        NoLocksError: its file system keeps no locks.
        OSError: the file can be neither made nor opened.
    """
    lock = _lock(path, note, is_patient=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


def holder(path: Path) -> str | None:
    """The note of whoever holds the lock at a path; None where nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _flock(descriptor, path, is_shared=True):
            return None
        return os.pread(descriptor, _NOTE_BYTES, 0).decode(errors="replace")
    finally:
        os.close(descriptor)


def sweep(folder: Path, pattern: str) -> None:
    """Take away the files of locks that nobody holds."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            lock = try_lock(path)
            if lock is not None:
                lock.release()


@contextlib.contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder below another one, removed afterwards; as are those whose process was killed."""
    home.mkdir(parents=True, exist_ok=True)
    for path in home.glob("*.lock"):
        with contextlib.suppress(OSError):
            lock = try_lock(path)
            if lock is not None:
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                lock.release()
    folder = home / f"{os.getpid()}-{os.urandom(4).hex()}"
    with locked(folder.with_suffix(".lock")):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def locked_descriptor(descriptor: int, path: Path) -> Iterator[None]:
    """Hold an open file itself, until it is closed at the latest.

    Raises:
        NoLocksError: its file system keeps no locks.
    """
    _flock(descriptor, path, is_patient=True)
    try:
        yield
    finally:
        _flock(descriptor, path, is_released=True)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder itself, which any user can who may read it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _flock(descriptor, folder, is_patient=True)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, note: str | None, *, is_patient: bool) -> Lock | None:
    while True:
        descriptor, is_writable = _open(path)
        try:
            if not _flock(descriptor, path, is_patient=is_patient):
                os.close(descriptor)
                return None
            if _is_at(descriptor, path):
                if is_writable:
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, (this_process() if note is None else note).encode(), 0)
                    return Lock(path, descriptor)
                try:  # of another user's dead process; our own file can say that we hold it
                    path.unlink()
                except OSError:
                    return Lock(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its holder took the file away while we waited


def _open(path: Path) -> tuple[int, bool]:
    """Descriptor of the file, made if absent, and whether it may be written."""
    while True:
        for flags in (os.O_RDWR, os.O_RDONLY):
            # Not made and opened in one: in a folder like /tmp the kernel refuses that for files of
            # others, even if all may read them.
            with contextlib.suppress(FileNotFoundError):
                try:
                    return os.open(path, flags | os.O_CLOEXEC), flags == os.O_RDWR
                except PermissionError:
                    if flags == os.O_RDONLY:
                        raise
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            return made, True


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _flock(
    descriptor: int,
    path: Path,
    *,
    is_shared: bool = False,
    is_patient: bool = False,
    is_released: bool = False,
) -> bool:
    """Lock an open file, or let it go; False where another holds it and nobody waits."""
    try:
        import fcntl  # where there is none (Windows), all that writes nothing works
    except ImportError as error:
        said = "this system has no file locks (fcntl); runs need Linux or macOS"
        raise NoLocksError(errno.ENOSYS, said, str(path)) from error
    mode = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    mode = fcntl.LOCK_UN if is_released else mode
    try:
        fcntl.flock(descriptor, mode if is_patient else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise NoLocksError(
            error.errno, f"this file system keeps no locks ({told(error)})", str(path)
        ) from error
    return True
