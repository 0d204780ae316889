"""Memory-mapped cache: a folder of `.npy` arrays and `meta.json` for each key, whole or absent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.locks import locked

FORMAT = 1
_READ_BYTES = 1 << 20
# A file changed within the file system's clock step keeps its mtime: only older ones are memoised.
_SETTLED_SECONDS = 2.0


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

    The entry is written beside its place and renamed into it, so that a reader never sees half of
    one. Concurrent builders of one key wait for the first. An exception of `build` passes through
    and leaves nothing behind.
    """
    entry = read(cache_dir / key)
    if entry is not None:
        return entry
    cache_dir.mkdir(parents=True, exist_ok=True)
    with _lock(cache_dir / f"{key}.lock"):
        entry = read(cache_dir / key)
        if entry is not None:
            return entry
        _write(cache_dir, key, build())
    entry = read(cache_dir / key)
    if entry is None:
        raise OSError(f"{cache_dir / key}: the cache entry just written cannot be read back")
    return entry


def read(folder: Path) -> Entry | None:
    """The entry in `folder`, or None if it is absent or not whole."""
    try:
        head = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, num_bytes in head["array_bytes"].items():
            path = folder / f"{name}.npy"
            if path.stat().st_size != num_bytes:
                return None
            arrays[name] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        texts = {
            name: tuple((folder / name).read_bytes().decode().split("\n")[:-1])
            for name in head["texts"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Entry(arrays, head["meta"], texts)


def _write(cache_dir: Path, key: str, entry: Entry) -> None:
    for remains in cache_dir.glob(f".{key}.*"):  # of builders that died; the lock is ours
        shutil.rmtree(remains, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=cache_dir))
    try:
        array_bytes: dict[str, int] = {}
        for name, array in entry.arrays.items():
            with (partial / f"{name}.npy").open("wb") as stream:
                np.save(stream, array, allow_pickle=False)
                stream.flush()
                os.fsync(stream.fileno())
                array_bytes[name] = stream.tell()
        for name, lines in entry.texts.items():
            _write_text(partial / name, "".join(f"{line}\n" for line in lines))
        head = {"meta": entry.meta, "array_bytes": array_bytes, "texts": list(entry.texts)}
        _write_text(partial / "meta.json", json.dumps(head, sort_keys=True, indent=1))
        target = cache_dir / key
        if target.exists():  # damaged, or it would have been read
            shutil.rmtree(target)
        partial.replace(target)
        folder = os.open(cache_dir, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as stream, locked(stream.fileno()):
        yield


def file_checksum(path: Path, cache_dir: Path) -> str:
    """SHA-256 (hex) of a file, remembered by its path, size and modification time."""
    status = path.stat()
    state = {"path": str(path.resolve()), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    name = hashlib.sha256(str(state["path"]).encode()).hexdigest()[:32]
    memo = cache_dir / "checksums" / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(memo.read_text(encoding="utf-8"))
        if isinstance(known, dict) and {**known, "sha256": None} == {**state, "sha256": None}:
            return str(known["sha256"])
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_READ_BYTES):
            digest.update(block)
    if time.time() - status.st_mtime > _SETTLED_SECONDS:
        memo.parent.mkdir(parents=True, exist_ok=True)
        partial = memo.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps({**state, "sha256": digest.hexdigest()}), encoding="utf-8")
        partial.replace(memo)
    return digest.hexdigest()
