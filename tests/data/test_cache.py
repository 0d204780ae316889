from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
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


def test_entry_reads_back_as_it_was_built_mapped_and_read_only(tmp_path):
    load_or_build(tmp_path, "key", small_entry)
    entry = load_or_build(tmp_path, "key", refuse_to_build)
    np.testing.assert_array_equal(entry.arrays["a"], ARRAY)
    assert entry.arrays["empty"].shape == (0,)
    assert entry.arrays["empty"].dtype == np.float32
    assert entry.meta == {"answer": 42}
    assert entry.texts == {"labels.txt": ("one", "two\u2028three", "")}
    assert isinstance(entry.arrays["a"].base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        entry.arrays["a"][0] = 1


def test_failed_build_or_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*args: object, **kwargs: object) -> Entry:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        load_or_build(tmp_path, "key", fail)
    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(OSError, match="No space left"):
        load_or_build(tmp_path, "key", small_entry)
    assert list(tmp_path.iterdir()) == []


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "no meta": lambda folder: (folder / "meta.json").unlink(),
    "torn meta": lambda folder: (folder / "meta.json").write_bytes(b'{"meta": {"answer"'),
    "edited meta": lambda folder: (folder / "meta.json").write_text(
        (folder / "meta.json").read_text().replace("42", "43")
    ),
    "meta of an older form": lambda folder: (folder / "meta.json").write_text(
        '{"meta": {"answer": 42}, "array_bytes": {"a": 208, "empty": 128}, "texts": []}'
    ),
    "missing array": lambda folder: (folder / "a.npy").unlink(),
    "short array": lambda folder: (folder / "a.npy").write_bytes(
        (folder / "a.npy").read_bytes()[:-8]
    ),
    "one bit of an array": lambda folder: flip(folder / "a.npy", -3),
    "one bit of an array's header": lambda folder: flip(folder / "a.npy", 20),
    "one bit of a text": lambda folder: flip(folder / "labels.txt", 1),
    "a file in its place": lambda folder: (shutil.rmtree(folder), folder.write_text("?")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_entry_is_built_again_and_said_in_a_line(tmp_path, caplog, damage):
    load_or_build(tmp_path, "key", small_entry)
    damage(tmp_path / "key")
    assert cache.read(tmp_path / "key") is None
    caplog.clear()
    entry = load_or_build(tmp_path, "key", small_entry)
    [said] = caplog.messages
    assert said.startswith("cache entry key is built again: ")
    assert "\n" not in said
    np.testing.assert_array_equal(entry.arrays["a"], ARRAY)
    assert (entry.meta, entry.texts) == (small_entry().meta, small_entry().texts)
    load_or_build(tmp_path, "key", refuse_to_build)


def test_every_flipped_bit_is_noticed(tmp_path):
    load_or_build(tmp_path, "key", small_entry)
    folder = tmp_path / "key"
    for path in sorted(folder.iterdir()):
        for position in range(0, path.stat().st_size, 7):
            flip(path, position)
            assert cache.read(folder) is None, (path.name, position)
            flip(path, position)
    assert cache.read(folder) is not None


def test_digests_are_recomputed_once_a_process_and_when_a_file_has_changed(tmp_path, monkeypatch):
    load_or_build(tmp_path, "key", small_entry)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "file_digest", lambda path: pytest.fail("read again"))
        load_or_build(tmp_path, "key", refuse_to_build)
    cache.forget()
    load_or_build(tmp_path, "key", refuse_to_build)
    os.utime(tmp_path / "key" / "a.npy", (1, 1))
    read = []
    digest = cache.file_digest
    monkeypatch.setattr(
        cache, "file_digest", lambda path: (read.append(path.name), digest(path))[1]
    )
    load_or_build(tmp_path, "key", refuse_to_build)
    assert sorted(read) == ["a.npy", "empty.npy", "labels.txt"]


def test_what_dead_builders_of_other_keys_left_is_taken_away(tmp_path):
    (tmp_path / "other.lock").touch()
    (tmp_path / ".other.partial").mkdir()
    (tmp_path / ".other.partial" / "a.npy").touch()
    load_or_build(tmp_path, "key", small_entry)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


IMPORTS = """
import fcntl, sys
from pathlib import Path
import numpy as np
from bench.data.cache import CacheError, Entry, load_or_build

load_or_build(Path(sys.argv[2]), "key", lambda: Entry({"a": np.arange(3)}, {}))  # imports the rest
"""
READ_AND_BUILD = """
folder = Path(sys.argv[1])
print(load_or_build(folder, "key", None).meta)
try:
    print(load_or_build(folder, "new", lambda: Entry({"a": np.arange(3)}, {})).meta)
except CacheError as error:
    print(error)
"""


@pytest.mark.parametrize("is_shared", [True, False])
def test_another_user_reads_the_cache_and_builds_in_a_shared_one(
    open_folder, tmp_path, as_nobody, is_shared
):
    folder = open_folder / "cache"
    load_or_build(folder, "key", small_entry)
    folder.chmod(0o777 if is_shared else 0o755)
    read, built = as_nobody(IMPORTS, READ_AND_BUILD, folder, tmp_path).splitlines()
    assert read == "{'answer': 42}"
    if is_shared:
        assert built == "{}"
        cache.replace(folder, "new", small_entry())  # and one does away with the other's
    else:
        assert "expected a cache folder that this user may write" in built


def _stall_after_first_array(folder: Path) -> None:
    save = np.save

    def stall(*args: Any, **kwargs: Any) -> None:
        save(*args, **kwargs)
        (folder / "stalled").touch()
        time.sleep(60)

    np.save = stall
    load_or_build(folder, "key", small_entry)


def test_killed_builder_leaves_nothing_that_is_read(tmp_path):
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


def test_concurrent_builders_build_once(tmp_path):
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


def test_key_depends_on_every_part_and_not_on_order():
    assert cache_key({"a": 1, "b": 2}) == cache_key({"b": 2, "a": 1})
    assert cache_key({"a": 1, "b": 2}) != cache_key({"a": 1, "b": 3})


@pytest.fixture
def old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose checksum is remembered, though it is small and fresh."""
    monkeypatch.setattr(cache, "_SMALL_BYTES", 0)
    monkeypatch.setattr(cache, "_SETTLED_SECONDS", -1.0)
    path = tmp_path / "data.txt"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000, 1_000_000))
    return path


ONE, TWO = (hashlib.sha256(content).hexdigest() for content in (b"one", b"two"))


def test_checksum_is_remembered_until_the_file_changes(old_file, tmp_path, monkeypatch):
    assert file_checksum(old_file, tmp_path / "cache") == ONE
    with monkeypatch.context() as patch:
        patch.setattr(cache, "file_digest", "no function: reading would fail")
        assert file_checksum(old_file, tmp_path / "cache") == ONE
    old_file.write_bytes(b"two")
    assert file_checksum(old_file, tmp_path / "cache") == TWO


@pytest.mark.parametrize("is_new_file", [True, False])
def test_a_file_of_equal_size_and_time_that_replaces_another_is_seen(
    old_file, tmp_path, is_new_file
):
    assert file_checksum(old_file, tmp_path / "cache") == ONE
    other = tmp_path / "other.txt"
    (other if is_new_file else old_file).write_bytes(b"two")
    if is_new_file:
        other.replace(old_file)
    os.utime(old_file, (1_000_000, 1_000_000))
    assert file_checksum(old_file, tmp_path / "cache") == TWO


def test_an_edited_checksum_is_not_believed(old_file, tmp_path):
    file_checksum(old_file, tmp_path / "cache")
    [memo] = (tmp_path / "cache" / "checksums").iterdir()
    memo.write_text(memo.read_text().replace(ONE, "0" * 64))
    assert file_checksum(old_file, tmp_path / "cache") == ONE


def test_a_checksum_that_cannot_be_remembered_is_given_all_the_same(old_file, tmp_path):
    (tmp_path / "file").touch()
    assert file_checksum(old_file, tmp_path / "file") == ONE


@pytest.mark.parametrize(("limit", "value"), [("_SMALL_BYTES", 1 << 18), ("_SETTLED_SECONDS", 2.0)])
def test_checksum_of_a_small_or_fresh_file_is_not_remembered(
    old_file, tmp_path, monkeypatch, limit, value
):
    monkeypatch.setattr(cache, limit, value)  # its last change is fresh, in spite of its time
    assert file_checksum(old_file, tmp_path / "cache") == ONE
    assert not (tmp_path / "cache").exists()


def test_entries_renamed_into_each_other_are_built_again(tmp_path, caplog):
    for key, number in (("one", 1.0), ("two", 2.0)):
        load_or_build(tmp_path, key, lambda n=number: Entry({"a": np.array([n])}, {}))
    (tmp_path / "one").rename(tmp_path / "kept")
    (tmp_path / "two").rename(tmp_path / "one")
    (tmp_path / "kept").rename(tmp_path / "two")
    assert cache.read(tmp_path / "two") is None
    entry = load_or_build(tmp_path, "one", lambda: Entry({"a": np.array([1.0])}, {}))
    assert entry.arrays["a"].tolist() == [1.0]
    assert "is built again: it is that of two, in another's folder" in caplog.text
