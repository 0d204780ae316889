"""Locks that end with their process, however it dies: files under the system's `flock`.

A lock's file is there while it is held, and says by whom. A process that was killed leaves a file
that nobody holds; whoever looks next takes it away. A folder may be shared by several users.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bench.errors import StorageError, UserError, os_message

_NOTE_BYTES = 4096
#: After so long it is worth asking again what others had in hand.
LOOK_SECONDS = 0.25
# What file systems without locks answer, networks' among them: some want files open for writing.
_NO_LOCKS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)
#: Where those are known who measure on this machine, of all users and in whatever folders.
MACHINE_FOLDER = Path(tempfile.gettempdir()) / "mach-bench-runners"


class NoLocksError(OSError, StorageError):
    """There are no locks where one was to be; an `OSError` too, for who can do without."""

    def __str__(self) -> str:
        where = "" if self.filename is None else f"{self.filename}: "
        return f"{where}{self.strerror}"


class Busy(UserError):  # noqa: N818 - says what the machine is
    """Somebody measures on this machine; the message says who, and what."""


@dataclass(frozen=True)
class Lock:
    """A lock that this process holds: its file, and the descriptor of that."""

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
    import pwd  # not on Windows, which has no locks either

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"user {os.geteuid()}"


def require_locks(folder: Path, option: str) -> None:
    """Try a lock in a folder that can be written to."""
    try:
        with locked(folder / f".{own_name()}.lock"):
            pass
    except NoLocksError as error:
        raise StorageError(
            f"{folder}: {error.strerror}; {option} names a folder to use instead"
        ) from error


def try_lock(path: Path, note: str | None = None, *, is_patient: bool = False) -> Lock | None:
    """The lock at a path, or None while another holds it.

    Args:
        path: its file; the folder must exist.
        note: what others read of the holder, see :func:`holder`; default: :func:`this_process`.
        is_patient: wait until its holder gives it up or dies.

    Raises:
        NoLocksError: its file system keeps no locks.
        OSError: the file can be neither made nor opened.
    """
    while True:
        descriptor, is_writable = _open(path)
        with contextlib.ExitStack() as failure:
            failure.callback(os.close, descriptor)
            if not _flock(descriptor, path, is_patient=is_patient):
                return None
            if not is_at(descriptor, path):
                continue  # its holder took the file away while we waited
            if is_writable:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, (note or this_process()).encode(), 0)
            else:  # of another user's dead process; a file of our own can say that we hold it
                with contextlib.suppress(OSError):
                    path.unlink()
                    continue
            failure.pop_all()
            return Lock(path, descriptor)


@contextlib.contextmanager
def locked(path: Path, note: str | None = None) -> Iterator[None]:
    """Hold the lock at a path, once whoever has it gives it up or dies; see :func:`try_lock`."""
    lock = try_lock(path, note, is_patient=True)
    assert lock is not None
    try:
        yield
    finally:
        lock.release()


def lock_open(descriptor: int, path: Path) -> None:
    """Wait for the lock of an open file or folder itself, which ends when that is closed."""
    _flock(descriptor, path, is_patient=True)


def try_lock_open(descriptor: int, path: Path) -> bool:
    """The lock of an open file itself, unless others have or share it."""
    return _flock(descriptor, path)


def share_open(descriptor: int, path: Path) -> bool:
    """Share the lock of an open file with others who do; False where one has it alone."""
    return _flock(descriptor, path, is_shared=True)


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


def sweep(folder: Path, pattern: str, remove: Callable[[Path], object] = lambda path: None) -> None:
    """Take away the files of locks that nobody holds.

    Args:
        folder: where they are.
        pattern: of their names.
        remove: takes away what such a lock was for.
    """
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if lock := try_lock(path):
                remove(path)
                lock.release()


T = TypeVar("T")


def claimed(
    records_path: Path,
    trials: Mapping[str, T],
    is_over: Callable[[T], bool],
    notify: Callable[[str], None],
    held: dict[str, Lock] | None = None,
) -> Generator[T | None]:
    """Trials to run now, so that runners of the same records divide the work.

    Each is locked until the next one is asked for, or for as long as whoever gives `held` likes.
    What other runners have in hand comes last, once they have recorded it or died. Nobody is kept
    waiting for it who has trials to record meanwhile: None is given where it is all that is left.

    Args:
        records_path: the file, or what stands for those of a kind; the locks lie beside it.
        trials: trial id → trial.
        is_over: whether a trial that is locked now has been recorded meanwhile.
        notify: takes a line about what is waited for.
        held: takes the lock of each trial by its id, for its owner to release; None: nobody does.

    Raises:
        OSError: no file can be made beside the records.
    """
    folder, name = records_path.parent, f".{records_path.stem}.{{}}.claim"
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder, name.format("*"))
    waiting, last = list(trials), ""
    while waiting:
        for trial_id in waiting[:]:
            lock = try_lock(folder / name.format(trial_id))
            if lock is None:
                continue
            with contextlib.ExitStack() as stack:
                stack.callback(lock.release)
                if not is_over(trials[trial_id]):
                    if held is not None:
                        held[trial_id] = lock
                        stack.pop_all()
                    yield trials[trial_id]
            waiting.remove(trial_id)
        notes = sorted({who for each in waiting if (who := holder(folder / name.format(each)))})
        text = f"{len(waiting)} trials run elsewhere ({', '.join(notes)}); waiting for them"
        if notes and text != last:
            notify(text)
            last = text
        if waiting:
            yield None


@contextlib.contextmanager
def measuring(command: str, study: str, *, alone: bool = False) -> Iterator[dict[str, str]]:
    """Be known as one who measures on this machine; who else does, and by which command.

    Trials beside a session of timing would spoil it, and two sessions each other. Where the folder
    for temporary files cannot be used, nobody knows of anybody.

    Args:
        command: `run`, `cost`, `budget` or `audit`.
        study: what is run or timed.
        alone: refuse to be beside others.

    Raises:
        Busy: others measure, and `alone`.
    """
    with contextlib.ExitStack() as stack:
        others: dict[str, str] = {}
        with contextlib.suppress(OSError), _machine_folder():
            others = _others()
            if not (alone and others):
                note = f"process {os.getpid()} of {this_user()} ({command} {study})"
                lock = try_lock(MACHINE_FOLDER / f"{command}-{own_name()}", note)
                if lock is not None:
                    stack.callback(lock.release)
        if alone and others:
            raise Busy(
                f"{command} {study} measures seconds, and {' and '.join(others)} "
                "would disturb it on this machine; start it again when that is over"
            )
        yield others


@contextlib.contextmanager
def _machine_folder() -> Iterator[None]:
    """Hold the folder of those who measure: of two who come at once, one comes second."""
    if not MACHINE_FOLDER.is_dir():
        MACHINE_FOLDER.mkdir(exist_ok=True)
        MACHINE_FOLDER.chmod(0o1777)  # as /tmp itself: for all, and each removes but their own
    descriptor = os.open(MACHINE_FOLDER, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lock_open(descriptor, MACHINE_FOLDER)
        yield
    finally:
        os.close(descriptor)


def _others() -> dict[str, str]:
    sweep(MACHINE_FOLDER, "*-*-*")
    found = {}
    for path in sorted(MACHINE_FOLDER.glob("*-*-*")):
        command, pid, _ = path.name.split("-", 2)
        if pid != str(os.getpid()) and (note := holder(path)):
            found[note] = command
    return found


def own_name() -> str:
    """A file name that no other process uses, nor this one again."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"


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


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _flock(
    descriptor: int, path: Path, *, is_shared: bool = False, is_patient: bool = False
) -> bool:
    """Lock an open file; False where another holds it and nobody waits."""
    try:
        import fcntl  # where there is none (Windows), all that writes nothing works
    except ImportError as error:
        reason = "this system has no file locks (fcntl); runs need Linux or macOS"
        raise NoLocksError(errno.ENOSYS, reason, str(path)) from error
    mode = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, mode if is_patient else mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        reason = f"this file system keeps no locks ({os_message(error)})"
        raise NoLocksError(error.errno, reason, str(path)) from error
    return True
