from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from bench import lockfiles


def _hold(path: Path, held: Path) -> None:
    with lockfiles.locked(path, f"pid {os.getpid()}"):
        held.touch()
        time.sleep(60)


@pytest.fixture
def rival(tmp_path: Path):
    """Another process that holds `tmp_path / "lock"`."""
    process = multiprocessing.get_context("spawn").Process(
        target=_hold, args=(tmp_path / "lock", tmp_path / "held")
    )
    process.start()
    deadline = time.monotonic() + 120
    while not (tmp_path / "held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    yield process
    process.kill()
    process.join()


def test_a_lock_has_one_holder_and_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = lockfiles.try_lock(path, "me")
    assert first is not None
    assert lockfiles.try_lock(path) is None
    assert lockfiles.holder(path) == "me"
    first.release()
    assert lockfiles.holder(path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_killed_process(tmp_path: Path, rival) -> None:
    path = tmp_path / "lock"
    assert lockfiles.try_lock(path) is None
    lockfiles.sweep(tmp_path, "lock")
    assert lockfiles.holder(path) == f"pid {rival.pid}"
    os.kill(rival.pid, signal.SIGKILL)
    rival.join()
    assert path.exists()
    assert lockfiles.holder(path) is None
    lockfiles.sweep(tmp_path, "lock")
    assert not path.exists()


def test_one_who_waits_has_the_lock_once_its_holder_is_gone(tmp_path: Path, rival) -> None:
    os.kill(rival.pid, signal.SIGKILL)
    with lockfiles.locked(tmp_path / "lock", "next"):
        assert lockfiles.holder(tmp_path / "lock") == "next"


def test_many_who_come_and_go_never_hold_it_together(tmp_path: Path) -> None:
    inside, most = [], []

    def come_and_go() -> None:
        for _ in range(60):
            with lockfiles.locked(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=come_and_go) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (max(most), len(most)) == (1, 360)
    assert list(tmp_path.iterdir()) == []


def _work_in_a_scratch_folder(home: Path, held: Path) -> None:
    with lockfiles.scratch_folder(home) as folder:
        (folder / "model").touch()
        held.touch()
        time.sleep(60)


def test_a_scratch_folder_of_a_killed_process_is_removed_by_the_next(tmp_path: Path) -> None:
    home, held = tmp_path / "home", tmp_path / "held"
    process = multiprocessing.get_context("spawn").Process(
        target=_work_in_a_scratch_folder, args=(home, held)
    )
    process.start()
    deadline = time.monotonic() + 120
    while not held.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with lockfiles.scratch_folder(home) as own:
        assert len(list(home.glob("*/model"))) == 1  # whose process is at work
        assert own.is_dir()
    process.kill()
    process.join()
    assert len(list(home.iterdir())) == 2
    with lockfiles.scratch_folder(home) as own:
        assert sorted(home.iterdir()) == [own, own.with_suffix(".lock")]
    assert list(home.iterdir()) == []


IMPORTS = "import fcntl, sys; from pathlib import Path; from bench import lockfiles"
TAKE = """
path = Path(sys.argv[1])
lock = lockfiles.try_lock(path, "nobody")
print(lock and (lockfiles.holder(path), path.stat().st_uid))
lock and lock.release()
"""


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_the_lock_of_another_users_dead_process_can_be_taken(
    open_folder: Path, as_nobody, mode: int
) -> None:
    open_folder.chmod(mode)  # where each may remove but their own, as in /tmp, the file stays
    path = open_folder / "lock"
    path.touch(mode=0o644)
    said = as_nobody(IMPORTS, TAKE, path).strip()
    assert said == ("('nobody', 65534)" if mode == 0o777 else "('', 0)")
    assert path.exists() == (mode == 0o1777)


def test_a_lock_that_another_user_holds_is_held(open_folder: Path, as_nobody) -> None:
    with lockfiles.locked(open_folder / "lock", "root"):
        assert as_nobody(IMPORTS, TAKE, open_folder / "lock").strip() == "None"
