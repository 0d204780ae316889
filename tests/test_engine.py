from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_trials import build_trial

from bench.measure.experiment import Context
from bench.runner import child as child_module
from bench.runner.child import Job
from bench.runner.run import LocalEngine
from bench.runner.worker import is_out_of_memory, without_folders

VERSIONS = {"method": 1, "source": 1, "protocol": 1}
PROVENANCE = {"commit": "abc", "machine": {"cpu": "c"}}


def build_job(trial, entry="stub_trials"):
    return Job(study="stub", trial=trial, entry=entry, versions=VERSIONS, provenance=PROVENANCE)


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def run(tmp_path):
    def run(*trials, on_event=lambda job, event: None, entry="stub_trials", **fields):
        context = Context(data_dir=tmp_path, cache_dir=tmp_path / "cache", **fields)
        engine = LocalEngine(context, on_event)
        return list(engine.run([build_job(trial, entry) for trial in trials]))

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
    assert (first.versions, first.provenance["commit"]) == (VERSIONS, "abc")
    assert first.block("clock")["train_seconds"] == 0.25
    assert first.block("clock")["wall_seconds"] > 0
    pids = {r.block("resolved")["pid"] for r in (first, second)} | {os.getpid()}
    assert len(pids) == 3
    assert not first.block("data")["loaded_torch"]
    assert [e["event"] for e in events][:4] == ["start", "phase", "step", "phase"]
    assert "working in" in (tmp_path / f"cache/logs/stub-{first.trial_id}.log").read_text()


@pytest.mark.parametrize("validation_only", [False, True])
def test_what_a_context_scores_reaches_the_process_of_a_trial(run, validation_only):
    (record,) = run(build_trial(), validation_only=validation_only)
    assert record.status == "done"
    assert (record.raw["test"] is None) == validation_only


@pytest.mark.parametrize(
    ("behaviour", "status", "reason"),
    [
        ("exhaust", "oom", "MemoryError"),
        ("exhaust_torch", "oom", "RuntimeError: [enforce fail at alloc_cpu.cpp:"),
        ("abort_speaking_of_memory", "error", "killed by SIGABRT; log: "),
        ("leave_by_exit", "error", "SystemExit: no more (at stub_trials.py:"),
        ("fail_unprintably", "error", "Unprintable:  (at stub_trials.py:"),
        ("leave_speaking_of_memory", "error", "exit status 3 and no result; log: "),
        ("get_killed", "error", "killed by SIGKILL"),
        ("predict", "oom", "predicted 2000 bytes exceed the available 1000 bytes"),
        ("fail", "error", "ValueError: no file 'points.txt' here (at stub_trials.py:"),
        ("fail_by_surrogate", "error", "ValueError: no file b\\udcff"),
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


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "std::bad_alloc",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 9 bytes. Error code 12 (Cannot allocate memory)",
    ],
)
def test_words_alone_are_no_evidence_that_memory_ran_out(run, words):
    [failed] = run(build_trial("speak_of_memory", words=words))
    assert (failed.status, failed.reason[:14]) == ("error", "RuntimeError: ")


def test_a_trial_has_as_many_threads_as_its_quota_has_cores(run, monkeypatch):
    monkeypatch.setattr("bench.runner.child.thread_limits", lambda has: {"OMP_NUM_THREADS": "1"})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    [failed] = run(build_trial("exhaust_torch"))
    flags = failed.provenance["flags"]
    assert (flags["num_threads"], flags["environment"]["OMP_NUM_THREADS"]) == (1, "1")


def test_a_trial_computes_in_the_threads_that_its_job_names(tmp_path):
    job = dataclasses.replace(build_job(build_trial("exhaust_torch")), num_threads=1)
    [failed] = LocalEngine(Context(data_dir=tmp_path, cache_dir=tmp_path)).run([None, job])
    flags = failed.provenance["flags"]
    assert (flags["num_threads"], flags["environment"]["OMP_NUM_THREADS"]) == (1, "1")


@pytest.mark.parametrize(("share", "status"), [(None, "done"), (1 << 28, "oom")])
def test_a_share_of_memory_is_all_that_a_trial_gets(run, share, status):
    assert run(build_trial("take_bytes", bytes=1 << 29), memory_bytes=share)[0].status == status


def test_a_kill_is_for_want_of_memory_when_the_kernel_has_counted_one(run, monkeypatch):
    counts = iter((7, 8))
    monkeypatch.setattr("bench.runner.child.num_oom_kills", lambda: next(counts))
    [killed] = run(build_trial("get_killed"))
    assert (killed.status, killed.reason[:59]) == (
        "oom",
        "killed by SIGKILL, as the kernel did because memory ran out",
    )


@pytest.mark.parametrize(
    "line",
    [
        "not JSON",
        "[1]",
        "{}",
        '{"event": 3}',
        '{"event": "result"}',
        '{"event": "result", "payload": [1]}',
        '{"event": "failure", "payload": {}, "status": "odd", "reason": "r"}',
        '{"event": "failure", "payload": {}, "status": "error"}',
        "[" * 60_000,
        '{"event": "result", "payload": ' + "1" * 5000,
    ],
)
def test_a_trial_that_sends_rubbish_fails_at_once_and_alone(run, monkeypatch, line):
    monkeypatch.setattr("bench.runner.child._TERMINATE_GRACE_SECONDS", 0.5)
    began = time.monotonic()
    failed, after = run(build_trial("send_rubbish", line=line), build_trial())
    assert (failed.status, failed.reason) == ("error", "its process sent what is no message")
    assert after.status == "done"
    assert time.monotonic() - began < 30


def test_a_message_without_an_end_fails_its_trial(run, monkeypatch):
    monkeypatch.setattr("bench.runner.child._MOST_MESSAGE_BYTES", 1 << 17)
    monkeypatch.setattr("bench.runner.child._TERMINATE_GRACE_SECONDS", 0.5)
    failed, after = run(build_trial("send_without_end"), build_trial())
    assert (failed.status, failed.reason) == ("error", "its process sent what is no message")
    assert after.status == "done"


def test_a_trial_that_dies_before_it_has_read_its_request_fails_alone(run, monkeypatch):
    class Dead(child_module.Child):
        def send(self, message):
            self._process.kill()
            self._process.wait()
            super().send(message)

    with monkeypatch.context() as patch:
        patch.setattr(child_module, "Child", Dead)
        [dead] = run(build_trial())
    assert (dead.status, dead.reason) == ("error", "killed by SIGKILL")
    assert run(build_trial())[0].status == "done"


@pytest.mark.parametrize(
    ("then", "status"),
    [("done", "done"), ("fail", "error"), ("leave", "error"), ("get_killed", "error")],
)
def test_processes_of_a_trial_end_with_it(run, tmp_path, monkeypatch, then, status):
    monkeypatch.setattr("bench.runner.child._LOOK_SECONDS", 0.2)
    pid_file = tmp_path / "pid"
    began = time.monotonic()
    [over] = run(build_trial("have_a_child", then=then, child_pid_file=str(pid_file)))
    assert over.status == status
    wait_until(lambda: not is_alive(int(pid_file.read_text())))
    assert time.monotonic() - began < 20  # though that process held the pipe open


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
    limit = {"trial_timeout_seconds": 2.0}
    trial = build_trial("hang", pid_file=str(pid_file), train=limit)
    began = time.monotonic()
    over = run(trial)[0]
    assert over.status == "timeout"
    assert over.reason == "not done after 2 seconds (trial_timeout_seconds)"
    assert over.block("memory")["parameter_bytes"] == 123
    assert time.monotonic() - began < 20
    assert not is_alive(int(pid_file.read_text()))


def test_timeout_ends_a_trial_that_ignores_requests(run, monkeypatch):
    monkeypatch.setattr("bench.runner.child._TERMINATE_GRACE_SECONDS", 0.2)
    limit = {"trial_timeout_seconds": 0.8}
    assert run(build_trial("hang_deaf", train=limit))[0].status == "timeout"


def test_entry_that_cannot_be_imported_is_an_error_of_the_trial(run):
    failed = run(build_trial(), entry="no_such_module")[0]
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


RUNNER = """
import sys
from pathlib import Path
from stub_trials import build_trial
from test_engine import build_job
from bench.measure.experiment import Context
from bench.runner.run import LocalEngine
here = Path(sys.argv[1])
engine = LocalEngine(Context(data_dir=here, cache_dir=here))
files = {name: str(here / name.removesuffix("_file")) for name in ("pid_file", "child_pid_file")}
trial = build_trial("have_a_child", then="hang", **files)
list(engine.run([build_job(trial)]))
"""


@pytest.fixture
def hung(tmp_path):
    """A runner whose trial hangs, and the numbers of trial, its child and its guards."""
    with subprocess.Popen([sys.executable, "-c", RUNNER, str(tmp_path)]) as runner:
        try:
            wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), 60)
            trial, child = (int((tmp_path / name).read_text()) for name in ("pid", "child_pid"))
            numbers = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdecimal()]
            guards = sorted(pid for pid in numbers if is_guard(pid, trial))
            assert all(map(is_alive, (trial, child, *guards)))
            yield runner, trial, child, guards
        finally:
            runner.kill()


def is_guard(pid, trial):
    try:
        return os.getpgid(pid) == trial and Path(f"/proc/{pid}/comm").read_text() == "bench-guard\n"
    except OSError:
        return False


@pytest.mark.parametrize("guard", [None, 0, 1])
def test_trial_and_its_processes_die_when_runner_and_guard_are_killed(hung, guard):
    runner, trial, child, guards = hung
    assert len(guards) == 2
    if guard is not None:
        os.kill(guards[guard], signal.SIGKILL)
    runner.kill()
    wait_until(lambda: not any(map(is_alive, (trial, child, *guards))))


def raised(action):
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def test_out_of_memory_is_told_by_types_and_numbers():
    import numpy as np
    import torch  # not by the runners that import this module

    class OutOfMemoryError(RuntimeError):
        """As torch names its own."""

    def wrap():
        try:
            torch.empty(1 << 45)
        except RuntimeError:
            raise  # as hooks and pools do

    assert is_out_of_memory(raised(lambda: np.empty(1 << 50)))
    assert is_out_of_memory(raised(lambda: torch.empty(1 << 45)))
    assert is_out_of_memory(raised(wrap))
    assert is_out_of_memory(torch.OutOfMemoryError("any words"))
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    assert not is_out_of_memory(OSError(28, "No space; cannot allocate memory"))
    assert not is_out_of_memory(OutOfMemoryError())
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
