from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from bench.store import locks
from bench.store.files import replace_file


def _write(path: Path) -> None:
    Path.replace = lambda partial, target: time.sleep(60)  # type: ignore[method-assign]
    replace_file(path, b"half of it")


@pytest.fixture
def writer(tmp_path: Path):
    """Another process that is about to put `tmp_path / "README.md"` in place."""
    process = multiprocessing.get_context("spawn").Process(
        target=_write, args=(tmp_path / "README.md",)
    )
    process.start()
    deadline = time.monotonic() + 120
    while not [each for each in tmp_path.iterdir() if each.read_bytes() == b"half of it"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path, writer) -> None:
    (tmp_path / ".README.md.7.partial").touch()
    (tmp_path / ".OTHER.md.7.partial").touch()
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    assert len(list(tmp_path.glob(".README.md.*.partial"))) == 2
    replace_file(tmp_path / "README.md", b"whole")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"README.md", ".OTHER.md.7.partial"}
    assert (tmp_path / "README.md").read_bytes() == b"whole"


def test_what_a_living_writer_writes_is_left_alone(tmp_path: Path, writer) -> None:
    replace_file(tmp_path / "README.md", b"whole")
    [partial] = tmp_path.glob(".README.md.*.partial")
    assert partial.read_bytes() == b"half of it"


def test_a_file_is_replaced_where_there_are_no_locks(tmp_path: Path, monkeypatch) -> None:
    def refuse(descriptor, path, **how):
        raise locks.NoLocksError(37, "none", str(path))

    monkeypatch.setattr(locks, "_flock", refuse)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]
