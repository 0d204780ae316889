"""Memory-mapped cache: a folder of `.npy` arrays and `meta.json` for each key, complete or absent.

`meta.json` holds the entry's key and the SHA-256 of every other file and of itself. They are
recomputed when a process first opens an entry: what was written may have been changed since, by a
disk or by a person, and an entry may lie under another's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.errors import StorageError
from bench.store import locks
from bench.store.files import replace_file, sync

FORMAT = 1
# A file changed within the file system's clock step keeps its times: only older ones are memoised.
_SETTLED_SECONDS = 2.0
# Smaller files are read each time: that takes about as long as to look their checksum up.
_SMALL_BYTES = 1 << 18
_META = "meta.json"

_log = logging.getLogger(__name__)

#: Device, inode, size, and times of modification and of change; the last one nobody can set.
_Marks = tuple[int, int, int, int, int]

#: Name of each of an entry's files, and :func:`file_marks` of it.
_State = tuple[tuple[str, _Marks], ...]
# Entries as they were when this process last found their digests right.
_verified: dict[Path, _State] = {}


class CacheError(OSError, StorageError):
    """The cache folder does not let this user do what has to be done there."""


class _Damaged(Exception):  # noqa: N818 - the state of an entry
    """An entry is not what was written; the message says in what way."""


@dataclass(frozen=True)
class Entry:
    """Arrays by name, JSON facts about them, and lines of text by file name (`labels.txt`)."""

    arrays: Mapping[str, npt.NDArray[Any]]
    meta: Mapping[str, Any]
    texts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def cache_key(identity: Mapping[str, Any]) -> str:
    """32 hex digits of the SHA-256 of the identity's canonical JSON and the cache's own format."""
    text = json.dumps([FORMAT, identity], sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def load_or_build(cache_dir: Path, key: str, build: Callable[[], Entry]) -> Entry:
    """The entry at `key`, built first if absent or damaged; its arrays are memory-mapped.

    The entry is written to another folder and renamed, so that a reader never sees half of one.
    Concurrent builders of one key wait for the first. An exception of `build` passes through
    and leaves nothing behind. That an entry was damaged is logged.

    Raises:
        CacheError: the folder does not let this user write.
    """
    return load_or_write(cache_dir, key, lambda folder: build())


def load_or_write(cache_dir: Path, key: str, build: Callable[[Path], Entry]) -> Entry:
    """As :func:`load_or_build`, of arrays that need not fit into memory.

    `build` is given a folder of its own to write to. An array that is all of a `.npy` file there
    (`bench.data.rowwriter`) becomes part of the entry as it is; what else lies there is removed.
    """
    with contextlib.suppress(FileNotFoundError, _Damaged):
        return _read(cache_dir / key)
    with _building(cache_dir, key):
        try:
            return _read(cache_dir / key)  # somebody else has built it meanwhile
        except FileNotFoundError:
            pass
        except _Damaged as damage:
            _log.warning("cache entry %s is built again: %s", key, damage)
        _write(cache_dir, key, build)
    entry = read(cache_dir / key)
    if entry is None:
        raise CacheError(f"{cache_dir / key}: the cache entry just written cannot be read back")
    return entry


def replace(cache_dir: Path, key: str, entry: Entry) -> None:
    """Write an entry, instead of whatever is there."""
    with _building(cache_dir, key):
        _write(cache_dir, key, lambda folder: entry)


def read(folder: Path) -> Entry | None:
    """The entry in `folder`; None if it is absent or, as is then logged, damaged."""
    try:
        return _read(folder)
    except FileNotFoundError:
        return None
    except _Damaged as damage:
        _log.warning("cache entry %s is not used: %s", folder.name, damage)
        return None


def _read(folder: Path) -> Entry:
    """The entry in a folder; `FileNotFoundError` where there is none."""
    hold = _Hold(folder)
    try:
        text = (folder / _META).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder.exists():
            raise _Damaged(f"it has no {_META}") from None
        raise FileNotFoundError(str(error)) from None
    except (OSError, ValueError) as error:
        raise _Damaged(f"{_META} cannot be read ({error})") from None
    head = unsealed(text)
    if head is None:
        raise _Damaged(f"{_META} is not as it was written, or of an older form without digests")
    # Entries of before the key was written down are found by their folder's name alone.
    if head.get("key", folder.name) != folder.name:
        raise _Damaged(f"it is that of {head['key']}, in another's folder")
    state = _verify(folder, head)
    try:
        arrays = {name: _mapped(folder / f"{name}.npy", hold) for name in head["arrays"]}
        texts = {
            name: tuple((folder / name).read_bytes().decode().split("\n")[:-1])
            for name in head["texts"]
        }
    except (OSError, ValueError) as error:
        raise _Damaged(str(error)) from None
    _verified[folder.absolute()] = state
    with contextlib.suppress(OSError):  # another user's
        os.utime(folder)  # when it was last used
    return Entry(arrays, head["meta"], texts)


class _Hold:
    """That this process reads an entry, for as long as one of its arrays is there.

    `FileNotFoundError` where :func:`remove_unused` is taking the entry away.
    """

    _descriptor = -1

    def __init__(self, folder: Path) -> None:
        path = folder / _META
        with contextlib.suppress(OSError):  # reading it says why
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if self._descriptor >= 0:
            with contextlib.suppress(locks.NoLocksError):  # then nothing is ever taken away
                is_kept = locks.share_open(self._descriptor, path)
                if not (is_kept and locks.is_at(self._descriptor, path)):
                    raise FileNotFoundError(f"{folder} is being taken away")

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


def _mapped(path: Path, hold: _Hold) -> npt.NDArray[Any]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    mapped.hold = hold  # every view of it keeps it
    return np.asarray(mapped)


def remove_unused(folder: Path) -> bool:
    """Take an entry away; False where a process reads or builds it, or this user may not."""
    key, meta = folder.name, folder / _META
    with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
        lock = locks.try_lock(folder.parent / f"{key}.lock")
        if lock is None:
            return False
        stack.callback(lock.release)
        descriptor = os.open(meta, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        if locks.try_lock_open(descriptor, meta):
            gone = folder.parent / f".{key}.partial"  # as what a builder that died leaves
            _remove(gone)
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)
            return True
    return False


def forget() -> None:
    """Check every entry's digests at its next opening, as a new process does."""
    _verified.clear()


def _verify(folder: Path, head: Mapping[str, Any]) -> _State:
    """State of an entry's files, whose digests are right."""
    digests: Mapping[str, str] = head["sha256"]
    try:
        state = tuple((name, file_marks((folder / name).stat())) for name in (_META, *digests))
        if _verified.get(folder.absolute()) != state:
            for name, digest in digests.items():
                if file_digest(folder / name) != digest:
                    raise _Damaged(f"{name} is not as it was written")
    except OSError as error:
        raise _Damaged(f"{Path(error.filename or folder).name}: {error.strerror}") from None
    return state


def file_marks(status: os.stat_result) -> _Marks:
    """By which a file is seen to be touched without reading it."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in blocks: its pages do not count as this process's memory."""
    with path.open("rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextlib.contextmanager
def _building(cache_dir: Path, key: str) -> Iterator[None]:
    """Be the only one who writes a key; what writers left that died is taken away."""
    with contextlib.ExitStack() as stack:
        with _permitted(cache_dir):
            cache_dir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locks.locked(cache_dir / f"{key}.lock"))
        _sweep(cache_dir)
        yield


@contextlib.contextmanager
def _permitted(cache_dir: Path) -> Iterator[None]:
    """A sentence on what to do where the folder is another user's."""
    try:
        yield
    except (PermissionError, locks.NoLocksError) as error:
        raise CacheError(
            f"{error.filename or cache_dir}: {error.strerror}; expected a cache folder that this "
            "user may write: one of their own, see --cache-dir"
        ) from error


def _sweep(cache_dir: Path) -> None:
    for remains in cache_dir.glob(".*.partial"):
        # Whoever writes it holds the lock of its key; this process itself cleans up its own.
        with contextlib.suppress(OSError):
            lock = locks.try_lock(cache_dir / f"{remains.name.split('.')[1]}.lock")
            if lock is not None:
                shutil.rmtree(remains, ignore_errors=True)
                lock.release()
    locks.sweep(cache_dir, "*.lock")


def _write(cache_dir: Path, key: str, build: Callable[[Path], Entry]) -> None:
    partial, target = cache_dir / f".{key}.partial", cache_dir / key
    with _permitted(cache_dir):
        _remove(partial)  # of a builder that died; the lock is ours
        partial.mkdir()
    try:
        entry = build(partial)
        with _permitted(cache_dir):
            _fill(partial, key, entry)
            _remove(target)  # damaged, or replaced
            partial.replace(target)
            sync(cache_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _fill(folder: Path, key: str, entry: Entry) -> None:
    for name, array in entry.arrays.items():
        path = folder / f"{name}.npy"
        if (written := _file_of(folder, array)) is not None:
            written.rename(path)
        else:
            with path.open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
        sync(path)
    for name, lines in entry.texts.items():
        _write_text(folder / name, "".join(f"{line}\n" for line in lines))
    names = {"arrays": list(entry.arrays), "texts": list(entry.texts)}
    files = {*(f"{name}.npy" for name in names["arrays"]), *names["texts"]}
    digests = {}
    for path in folder.iterdir():
        if path.name in files:
            digests[path.name] = file_digest(path)
        else:
            path.unlink()
    _write_text(
        folder / _META, sealed({"key": key, "meta": entry.meta, **names, "sha256": digests})
    )


def _file_of(folder: Path, array: npt.NDArray[Any]) -> Path | None:
    """The file in a folder that an array is all of."""
    mapped = array.base
    if (
        not isinstance(mapped, np.memmap)
        or mapped.size != array.size
        or mapped.filename is None
        or Path(mapped.filename).parent != folder.resolve()
    ):
        return None
    return folder / Path(mapped.filename).name


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def sealed(value: Mapping[str, Any]) -> str:
    """JSON text of a value, with a digest of itself."""
    plain = json.loads(json.dumps(value))  # keys and lists as they will be read back
    return json.dumps(plain | {"seal": _seal(plain)}, sort_keys=True, indent=1)


def unsealed(text: str) -> dict[str, Any] | None:
    """The value of a text by :func:`sealed`; None for a text that has been changed, or any other.

    >>> unsealed(sealed({"a": [1, 2]})), unsealed(sealed({"a": [1, 2]}).replace("2", "3"))
    ({'a': [1, 2]}, None)
    """
    try:
        value = json.loads(text)
        seal = value.pop("seal")
        return value if isinstance(value, dict) and seal == _seal(value) else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None


def _seal(plain: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def file_checksum(path: Path, cache_dir: Path) -> str:
    """SHA-256 (hex) of a file, of a large one remembered as long as nothing touches it.

    Size and modification time are not enough: both can be equal in a file that replaced it. Its
    inode and the time of its last change, which no program sets, must be the same as well.
    """
    status = path.stat()
    if status.st_size <= _SMALL_BYTES:
        return file_digest(path)
    state = {"path": str(path.resolve()), "marks": list(file_marks(status))}
    name = hashlib.sha256(str(state["path"]).encode()).hexdigest()[:32]
    memo = cache_dir / "checksums" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        known = unsealed(memo.read_text(encoding="utf-8"))
        if known is not None and {**known, "sha256": None} == {**state, "sha256": None}:
            return str(known["sha256"])
    digest = file_digest(path)
    if time.time() - max(status.st_mtime, status.st_ctime) > _SETTLED_SECONDS:
        # It spares time, no more: where it cannot be written, the file is read again next time.
        with contextlib.suppress(OSError):
            replace_file(memo, sealed({**state, "sha256": digest}).encode())
    return digest
