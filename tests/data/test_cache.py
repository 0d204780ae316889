from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bench.data import cache
from bench.data.cache import Entry, cache_key, file_checksum, load_or_build

ARRAY = np.arange(10, dtype=np.int64)


def small_entry() -> Entry:
    arrays: dict[str, npt.NDArray[Any]] = {"a": ARRAY, "empty": ARRAY[:0].astype(np.float32)}
    return Entry(arrays, {"answer": 42}, {"labels.txt": ("one", "two\u2028three", "")})


def refuse_to_build() -> Entry:
    raise AssertionError("built again")


def test_entry_reads_back_as_it_was_built(tmp_path: Path) -> None:
    load_or_build(tmp_path, "key", small_entry)
    entry = load_or_build(tmp_path, "key", refuse_to_build)
    np.testing.assert_array_equal(entry.arrays["a"], ARRAY)
    assert entry.arrays["empty"].shape == (0,)
    assert entry.arrays["empty"].dtype == np.float32
    assert entry.meta == {"answer": 42}
    assert entry.texts == {"labels.txt": ("one", "two\u2028three", "")}


def test_arrays_are_mapped_and_cannot_be_written(tmp_path: Path) -> None:
    array = load_or_build(tmp_path, "key", small_entry).arrays["a"]
    assert isinstance(array.base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> Entry:
        raise KeyError("bad input")

    with pytest.raises(KeyError):
        load_or_build(tmp_path, "key", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match="No space left"):
        load_or_build(tmp_path, "key", small_entry)
    assert [path.name for path in tmp_path.iterdir()] == ["key.lock"]


@pytest.mark.parametrize("damage", ["no meta", "short array", "torn meta", "missing array"])
def test_damaged_entry_is_rebuilt(tmp_path: Path, damage: str) -> None:
    load_or_build(tmp_path, "key", small_entry)
    meta, array = tmp_path / "key" / "meta.json", tmp_path / "key" / "a.npy"
    if damage == "no meta":
        meta.unlink()
    elif damage == "torn meta":
        meta.write_bytes(meta.read_bytes()[:20])
    elif damage == "missing array":
        array.unlink()
    else:
        array.write_bytes(array.read_bytes()[:-8])
    assert cache.read(tmp_path / "key") is None
    entry = load_or_build(tmp_path, "key", small_entry)
    np.testing.assert_array_equal(entry.arrays["a"], ARRAY)


def _stall_after_first_array(folder: Path) -> None:
    save = np.save

    def stall(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        (folder / "stalled").touch()
        time.sleep(60)

    np.save = stall
    load_or_build(folder, "key", small_entry)


def test_killed_builder_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    builder = multiprocessing.get_context("spawn").Process(
        target=_stall_after_first_array, args=(tmp_path,)
    )
    builder.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "stalled").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert builder.pid is not None
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert list(tmp_path.glob(".key.*")) != []  # what the builder had written so far
    assert cache.read(tmp_path / "key") is None
    load_or_build(tmp_path, "key", small_entry)
    assert cache.read(tmp_path / "key") is not None
    assert list(tmp_path.glob(".key.*")) == []


def test_concurrent_builders_build_once(tmp_path: Path) -> None:
    num_builds = []

    def slow() -> Entry:
        num_builds.append(1)
        time.sleep(0.2)
        return small_entry()

    threads = [
        threading.Thread(target=load_or_build, args=(tmp_path, "key", slow)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(num_builds) == 1


def test_key_depends_on_every_part_and_not_on_order() -> None:
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
    assert cache_key({"a": 1, "b": 2}) != cache_key({"a": 1, "b": 3})


def test_checksum_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000, 1_000_000))
    first = file_checksum(path, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(cache, "_READ_BYTES", "no whole number: reading would fail")
        assert file_checksum(path, tmp_path / "cache") == first
    path.write_bytes(b"two")
    assert file_checksum(path, tmp_path / "cache") != first


def test_checksum_of_a_fresh_file_is_not_remembered(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_bytes(b"one")
    status = path.stat()
    first = file_checksum(path, tmp_path / "cache")
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_checksum(path, tmp_path / "cache") != first
