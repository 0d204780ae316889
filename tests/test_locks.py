from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import platform
import pwd
import signal
import threading
import time
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.errors import StorageError
from bench.store import locks
from bench.store.files import scratch_folder
from bench.store.record import append_line


def _hold(path: Path, held: Path) -> None:
    with locks.locked(path, f"pid {os.getpid()}"):
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
    first = locks.try_lock(path, "me")
    assert first is not None
    assert locks.try_lock(path) is None
    assert locks.holder(path) == "me"
    first.release()
    assert locks.holder(path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_killed_process(tmp_path: Path, rival) -> None:
    path = tmp_path / "lock"
    assert locks.try_lock(path) is None
    locks.sweep(tmp_path, "lock")
    assert locks.holder(path) == f"pid {rival.pid}"
    os.kill(rival.pid, signal.SIGKILL)
    rival.join()
    assert path.exists()
    assert locks.holder(path) is None
    locks.sweep(tmp_path, "lock")
    assert not path.exists()


def test_one_who_waits_has_the_lock_once_its_holder_is_gone(tmp_path: Path, rival) -> None:
    os.kill(rival.pid, signal.SIGKILL)
    with locks.locked(tmp_path / "lock", "next"):
        assert locks.holder(tmp_path / "lock") == "next"


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP", "EINVAL", "EBADF"])
def no_locks(request, monkeypatch):
    """As on a file system that keeps none."""
    number = getattr(errno, request.param)

    def refuse(descriptor, mode):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)


def test_a_file_system_without_locks_is_named_with_the_option_that_moves_the_folder(
    tmp_path: Path, no_locks
) -> None:
    with pytest.raises(
        StorageError, match=rf"^{tmp_path}: this file system keeps no locks \(.*\); --here names a "
    ):
        locks.require_locks(tmp_path, "--here")


@pytest.mark.parametrize("bad", ["results", "cache"])
def test_a_command_says_at_once_which_folder_keeps_no_locks(tmp_path, monkeypatch, capsys, bad):
    real = fcntl.flock

    def refuse(descriptor, mode):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(tmp_path / bad):
            raise OSError(errno.ENOLCK, "No locks available")
        real(descriptor, mode)

    monkeypatch.setattr("fcntl.flock", refuse)
    study = tmp_path / "mine.py"
    study.write_text("from stub_trials import build_study, build_trial\n"
                     "STUDY = build_study([build_trial()])\n")  # fmt: skip
    folders = ["--results", str(tmp_path / "results"), "--cache-dir", str(tmp_path / "cache")]
    assert main(["run", str(study), *folders]) == 2
    option = {"results": "--results", "cache": "--cache-dir"}[bad]
    said = capsys.readouterr().err
    assert said.startswith(f"bench: {tmp_path / bad}: this file system keeps no locks (no locks av")
    assert said.endswith(f"{option} names a folder to use instead\n")
    assert not list((tmp_path / "results").rglob("*.jsonl"))


def test_a_record_is_kept_elsewhere_where_its_folder_keeps_no_locks(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "elsewhere"))
    real = fcntl.flock

    def refuse(descriptor, mode):
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(tmp_path / "r"):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        real(descriptor, mode)

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match=r"keeps no locks .*; the line is kept in "):
        append_line(tmp_path / "r" / "lines.jsonl", "{}")
    assert [file.read_text() for file in (tmp_path / "elsewhere").iterdir()] == ["{}\n"]


def test_a_machine_without_locks_for_temporary_files_measures(tmp_path, no_locks, monkeypatch):
    monkeypatch.setattr(locks, "MACHINE_FOLDER", tmp_path / "runners")
    with locks.measuring("run", "some") as others:
        assert others == {}


def test_a_lock_says_which_process_of_which_user_on_which_host_holds_it(tmp_path: Path) -> None:
    user = pwd.getpwuid(os.geteuid()).pw_name
    with locks.locked(tmp_path / "lock"):
        said = locks.holder(tmp_path / "lock")
    assert said == f"process {os.getpid()} of {user} on {platform.node()}"


def test_many_who_come_and_go_never_hold_it_together(tmp_path: Path) -> None:
    inside, most = [], []

    def come_and_go() -> None:
        for _ in range(60):
            with locks.locked(tmp_path / "lock"):
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
    with scratch_folder(home) as folder:
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
    with scratch_folder(home) as own:
        assert len(list(home.glob("*/model"))) == 1  # whose process is at work
        assert own.is_dir()
    process.kill()
    process.join()
    assert len(list(home.iterdir())) == 2
    with scratch_folder(home) as own:
        assert sorted(home.iterdir()) == [own, own.with_suffix(".lock")]
    assert list(home.iterdir()) == []


IMPORTS = "import fcntl, sys; from pathlib import Path; from bench.store import locks"
TAKE = """
path = Path(sys.argv[1])
lock = locks.try_lock(path, "nobody")
print(lock and (locks.holder(path), path.stat().st_uid))
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
    with locks.locked(open_folder / "lock", "root"):
        assert as_nobody(IMPORTS, TAKE, open_folder / "lock").strip() == "None"
