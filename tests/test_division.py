"""Several runners at once on one folder of results, and who measures beside whom."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_trials import build_study, build_trial

from bench.cli.progress import Progress
from bench.measure.experiment import Context
from bench.runner.child import run_job
from bench.runner.plan import RunOptions, plan_run
from bench.runner.run import View, run_plan, run_study
from bench.store import locks, record
from bench.store.locks import Busy, claimed, measuring, this_user

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parent}")


@pytest.fixture
def options(tmp_path):
    return RunOptions(
        data_dir=tmp_path, results_dir=tmp_path / "results", cache_dir=tmp_path / "cache"
    )


def start_runner(tmp_path, num_trials, seconds):
    """`stub_trials.py` as a process."""
    command = [sys.executable, HERE / "stub_trials.py", tmp_path / "results", tmp_path / "cache"]
    return subprocess.Popen([*map(str, command), str(num_trials), str(seconds)])


def records_of(tmp_path):
    paths = list((tmp_path / "results").glob("records/*/*.jsonl"))
    return [each for path in paths for each in record.read(path)[0]]


def claims_of(tmp_path):
    return list((tmp_path / "results").rglob("*.claim"))


def wait_until(claim, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_four_runners_make_one_record_of_each_trial(tmp_path):
    runners = [start_runner(tmp_path, 12, 0.1) for _ in range(4)]
    assert [runner.wait(300) for runner in runners] == [0] * 4
    records = records_of(tmp_path)
    assert len(records) == len({each.trial_id for each in records}) == 12
    assert claims_of(tmp_path) == []


def test_a_trial_of_a_killed_runner_is_run_by_the_one_who_waits_for_it(tmp_path, options):
    screen, started = io.StringIO(), []

    class Killing(Progress):
        def note(self, text):
            super().note(text)
            dying.kill()

        def on_event(self, job, event):
            started.append(job.trial)
            raise KeyboardInterrupt  # it would take ten minutes

    study = build_study([build_trial(seconds=600.0)])
    dying = start_runner(tmp_path, 1, 600)
    try:
        wait_until(lambda: claims_of(tmp_path))
        with pytest.raises(KeyboardInterrupt):
            run_study(study, options, progress=Killing(screen))
    finally:
        dying.kill()
        dying.wait()
    assert started == study.trials("cpu")
    assert f"1 trials run elsewhere (process {dying.pid} of " in screen.getvalue()
    assert claims_of(tmp_path) == []


def test_what_another_runner_has_recorded_since_the_plan_is_not_run(options, tmp_path):
    study = build_study([build_trial("fail"), build_trial()])
    plan = plan_run(study, options)
    assert sorted(each.status for each in run_study(study, options)) == ["done", "error"]
    screen = io.StringIO()
    assert run_plan(plan, options, progress=Progress(screen)) == []
    assert len(records_of(tmp_path)) == 2
    assert "DONE by another runner stub" in screen.getvalue()
    assert "ERROR by another runner stub" in screen.getvalue()
    # A plan made now retries what has failed.
    assert [each.status for each in run_study(study, options)] == ["error"]


def test_the_waiting_runner_goes_on_when_the_claim_is_given_up(tmp_path, options):
    study = build_study([build_trial()])
    plan = plan_run(study, options)
    shared = plan.claims_path
    path = shared.with_name(f".{shared.stem}.{plan.trials[0].trial.trial_id}.claim")
    path.parent.mkdir(parents=True)
    lock, notes = locks.try_lock(path, "process 7"), []

    def notify(text):
        notes.append(text)
        lock.release()

    trials = claimed(plan.claims_path, {plan.trials[0].trial.trial_id: 1}, lambda _: False, notify)
    assert [next(trials), next(trials)] == [None, 1]
    assert notes == ["1 trials run elsewhere (process 7); waiting for them"]
    assert path.exists()
    trials.close()
    assert not path.exists()


class ManyAtOnce:
    """An engine that takes all jobs in hand, and gives the last one's record first."""

    def __init__(self, seen):
        self.seen = seen

    def run(self, jobs):
        context = Context(data_dir=Path(), cache_dir=self.seen.parent)
        for job in reversed(list(jobs)):
            self.held = len(claims_of(self.seen.parent))
            yield run_job(job, context)


def test_an_engine_with_many_trials_in_hand_keeps_each_until_its_record_is_there(tmp_path, options):
    plan = plan_run(build_study([build_trial(seconds=n / 100) for n in range(3)]), options)
    engine, held = ManyAtOnce(options.results_dir), []

    class Counting(View):
        def finish(self, record):
            held.append((engine.held, len(claims_of(tmp_path)), len(records_of(tmp_path))))

    records = run_plan(plan, options, Counting(), lambda on_event: engine)
    wanted = [planned.trial.trial_id for planned in plan.to_run]
    assert [each.trial_id for each in records] == wanted[::-1]
    assert held == [(3, 2, 1), (2, 1, 2), (1, 0, 3)]


def test_claims_of_dead_runners_are_taken_away(tmp_path, options):
    study = build_study([build_trial()])
    path = plan_run(study, options).claims_path
    path.parent.mkdir(parents=True)
    dead = path.with_name(f".{path.stem}.feedbeef.claim")
    dead.touch()
    run_study(study, options)
    assert claims_of(tmp_path) == []


def measure_elsewhere(command="run"):
    code = (
        "import sys, time\n"
        "from bench.store.locks import measuring\n"
        f"with measuring({command!r}, 'wide'):\n"
        "    print('here', flush=True)\n"
        "    time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def test_seconds_are_not_measured_beside_another_who_measures(options):
    with measure_elsewhere() as other:
        try:
            words = rf"cost narrow .* process {other.pid} of .* \(run wide\) would disturb it"
            with pytest.raises(Busy, match=words), measuring("cost", "narrow", alone=True):
                pytest.fail("measured")
            with measuring("run", "narrow") as others:
                assert others == {f"process {other.pid} of {this_user()} (run wide)": "run"}
        finally:
            other.send_signal(signal.SIGKILL)
    with measuring("cost", "narrow", alone=True) as others:
        assert others == {}
    assert list(locks.MACHINE_FOLDER.iterdir()) == []


def test_a_run_says_whose_timing_it_disturbs(options):
    with measure_elsewhere("cost") as other:
        try:
            screen = io.StringIO()
            run_study(build_study([build_trial()]), options, progress=Progress(screen))
            assert (
                f"process {other.pid} of {this_user()} (cost wide) measures seconds"
                in screen.getvalue()
            )
        finally:
            other.kill()


def test_one_process_is_not_beside_itself():
    with measuring("run", "a"), measuring("cost", "a", alone=True) as others:
        assert others == {}


def test_what_is_no_announcement_is_overlooked(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "MACHINE_FOLDER", tmp_path)
    held = [locks.try_lock(tmp_path / name, "x") for name in ("1", "1-2", ".partial")]
    with measuring("cost", "a", alone=True) as others:
        assert others == {}
    for lock in held:
        lock.release()


def test_without_a_folder_for_it_nobody_is_known(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(locks, "MACHINE_FOLDER", tmp_path / "file" / "runners")
    with measuring("cost", "a", alone=True) as others:
        assert others == {}


ANNOUNCE = """
with measuring("run", "theirs") as others:
    print(others, flush=True)
"""


def test_another_users_measuring_is_seen(open_folder, as_nobody, monkeypatch):
    monkeypatch.setattr(locks, "MACHINE_FOLDER", open_folder / "mach-bench-runners")
    monkeypatch.setenv("TMPDIR", str(open_folder))
    with measuring("cost", "ours", alone=True):
        imports = "import fcntl; from bench.store.locks import measuring"
        said = as_nobody(imports, ANNOUNCE)
    assert said == f"{{'process {os.getpid()} of root (cost ours)': 'cost'}}\n"


IMPORTS = """
import fcntl, sys
from pathlib import Path
from bench.store import record
from bench.store.locks import claimed
"""
JOIN_IN = """
path = Path(sys.argv[1])
for trial in claimed(path, {"theirs": "theirs"}, lambda trial: False, print):
    record.append_line(path, trial)
    print(sorted(each.name for each in path.parent.iterdir()))
"""


def test_two_users_of_a_shared_folder_write_one_file_of_records(open_folder, as_nobody):
    folder = open_folder / "records"
    umask = os.umask(0)  # as in a shared folder whose group may write
    try:
        folder.mkdir(0o777)
        path = folder / "m.jsonl"
        dead = folder / ".m.theirs.claim"
        dead.touch()
        record.append_line(path, "ours")
    finally:
        os.umask(umask)
    said = as_nobody(IMPORTS, JOIN_IN, path)
    assert said == "['.m.theirs.claim', 'm.jsonl']\n"
    record.append_line(path, "ours again")
    assert path.read_text().split("\n") == ["ours", "theirs", "ours again", ""]
    assert [each.name for each in folder.iterdir()] == ["m.jsonl"]
