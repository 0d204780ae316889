from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_trials import build_trial

from bench.engine.base import Job
from bench.engine.local import LocalEngine
from bench.engine.worker import is_out_of_memory, without_folders

PROVENANCE = {"code_digest": "d", "machine": {"cpu": "c"}}


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def run(tmp_path):
    def run(*trials, on_event=lambda job, event: None, entry="stub_trials:execute"):
        engine = LocalEngine(
            data_dir=tmp_path, cache_dir=tmp_path / "cache", entry=entry, on_event=on_event
        )
        jobs = [Job(study="stub", trial=trial, provenance=PROVENANCE) for trial in trials]
        return list(engine.run(jobs))

    return run


def wait_until(claim, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] not in "ZX"
    except OSError:
        return False


def test_trials_run_in_fresh_processes_and_give_their_records(run, tmp_path):
    events = []
    trials = [build_trial(replicate=i) for i in range(2)]
    first, second = run(*trials, on_event=lambda job, event: events.append(event))
    assert (first.status, first.reason) == ("done", None)
    assert first.trial_id == trials[0].trial_id
    assert first.block("test") == {"P@1": 0.5, "P@3": None}
    assert first.block("clock")["train_seconds"] == 0.25
    assert first.block("clock")["wall_seconds"] > 0
    assert first.block("load").keys() == {"other_cpu_share"}
    pids = {r.block("data")["pid"] for r in (first, second)} | {os.getpid()}
    assert len(pids) == 3
    assert not first.block("data")["loaded_torch"]
    assert [e["event"] for e in events][:4] == ["start", "phase", "step", "phase"]
    assert "working in" in (tmp_path / f"cache/logs/stub-{first.trial_id}.log").read_text()


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        ("exhaust", "oom", "MemoryError"),
        ("exhaust_by_words", "oom", "RuntimeError: DefaultCPUAllocator"),
        ("get_killed", "oom", "killed by SIGKILL"),
        ("predict", "oom", "predicted 2000 bytes exceed the available 1000 bytes"),
        ("fail", "error", "ValueError: no file 'points.txt' here (at stub_trials.py:"),
        ("crash", "error", "killed by SIGABRT; log: "),
        ("leave", "error", "ended with exit status 3 and no result; log: working in"),
        ("return_rubbish", "error", "no record: unknown block 'nonsense'"),
    ],
)
def test_every_ending_has_its_status_and_reason(run, behaviour, status, reason):
    failed, after = run(build_trial(behaviour), build_trial())
    assert failed.status == status
    assert reason in failed.reason
    assert "/somewhere" not in failed.to_json()
    assert after.status == "done"


def test_predicted_out_of_memory_keeps_the_prediction(run):
    memory = run(build_trial("predict"))[0].block("memory")
    assert memory["predicted_bytes"] == 2000
    assert memory["parameter_bytes"] == 500
    assert memory["host_peak_bytes"] is None


def test_traceback_is_in_the_log(run, tmp_path):
    failed = run(build_trial("fail"))[0]
    log = (tmp_path / f"cache/logs/stub-{failed.trial_id}.log").read_text()
    assert "Traceback" in log


def test_timeout_ends_the_trial_and_keeps_what_it_reached(run, tmp_path):
    pid_file = tmp_path / "pid"
    trial = build_trial("hang", pid_file=str(pid_file), timeout_seconds=2.0)
    began = time.monotonic()
    over = run(trial)[0]
    assert over.status == "timeout"
    assert over.reason == "not done after 2 seconds (trial_timeout_seconds)"
    assert over.block("memory")["parameter_bytes"] == 123
    assert time.monotonic() - began < 20
    assert not is_alive(int(pid_file.read_text()))


def test_timeout_ends_a_trial_that_ignores_requests(run, monkeypatch):
    monkeypatch.setattr("bench.engine.local._TERMINATE_GRACE_SECONDS", 0.2)
    assert run(build_trial("hang_deaf", timeout_seconds=0.8))[0].status == "timeout"


def test_entry_that_cannot_be_imported_is_an_error_of_the_trial(run):
    failed = run(build_trial(), entry="no_such_module:execute")[0]
    assert failed.status == "error"
    assert "ModuleNotFoundError" in failed.reason


def test_interrupt_ends_the_running_trial(run, tmp_path):
    pid_file = tmp_path / "pid"

    def interrupt(job, event):
        if event["event"] == "phase":
            wait_until(lambda: pid_file.exists() and pid_file.read_text())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(build_trial("hang", pid_file=str(pid_file)), on_event=interrupt)
    assert not is_alive(int(pid_file.read_text()))


def test_trial_dies_when_its_parent_is_killed(tmp_path):
    pid_file = tmp_path / "pid"
    code = f"""
from pathlib import Path
from stub_trials import build_trial
from bench.engine.base import Job
from bench.engine.local import LocalEngine
here = Path({str(tmp_path)!r})
engine = LocalEngine(data_dir=here, cache_dir=here, entry="stub_trials:execute")
trial = build_trial("hang", pid_file=str(here / "pid"))
list(engine.run([Job(study="stub", trial=trial, provenance={PROVENANCE!r})]))
"""
    with subprocess.Popen([sys.executable, "-c", code]) as parent:
        try:
            wait_until(lambda: pid_file.exists() and pid_file.read_text())
            pid = int(pid_file.read_text())
            assert is_alive(pid)
        finally:
            parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def test_out_of_memory_is_told_from_other_errors():
    class OutOfMemoryError(RuntimeError):
        """As torch names its own."""

    assert is_out_of_memory(OutOfMemoryError())
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes disagree"))
    assert not is_out_of_memory(ValueError("'out of memory' is no setting"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at /a/b/c.py:3", "at c.py:3"),
        ("'/a/b.txt' and ~/x/y.gz", "'b.txt' and y.gz"),
        ("file:///a/b/c", "c"),
        ("https://host/a/b stays, so do 1/2 and ../a/b", None),
    ],
)
def test_reasons_name_files_but_no_folders(text, expected):
    assert without_folders(text) == (expected or text)
