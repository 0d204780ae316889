from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from stub_trials import build_study, build_trial

from bench import record, runner
from bench.progress import Progress, describe, fitted
from bench.runner import RunError, RunOptions, plan_run, run_study
from bench.study import StudyError


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def options(tmp_path):
    def options(**changes):
        common = {
            "data_dir": tmp_path,
            "results_dir": tmp_path / "results",
            "cache_dir": tmp_path / "cache",
            "entry": "stub_trials:execute",
        }
        return RunOptions(**(common | changes))

    return options


def same_digest(trial):
    return "digest"


def states(plan):
    return [planned.state for planned in plan.trials]


def run(study, options, digest=same_digest):
    return [r.status for r in run_study(study, options, digest=digest)]


def read_all(tmp_path):
    [path] = (tmp_path / "results" / "records").glob("*/*.jsonl")
    return record.read(path)


def test_settled_trials_are_kept_and_errors_retried(options, tmp_path):
    marker = tmp_path / "marker"
    trials = [
        build_trial(),
        build_trial("predict"),
        build_trial("fail_until_file", file=str(marker)),
    ]
    study = build_study(trials)
    assert states(plan_run(study, options(), digest=same_digest)) == ["new"] * 3
    assert sorted(run(study, options())) == ["done", "error", "oom"]
    assert states(plan_run(study, options(), digest=same_digest)) == ["kept", "kept", "retry"]
    marker.touch()
    assert run(study, options()) == ["done"]
    assert run(study, options()) == []
    records, warnings = read_all(tmp_path)
    assert (len(records), warnings) == (4, [])
    assert sorted(r.status for r in record.latest(records)) == ["done", "done", "oom"]


def test_stale_record_is_rerun_and_superseded(options, tmp_path):
    study = build_study([build_trial(), build_trial(replicate=1)])
    assert len(run(study, options())) == 2

    def changed(trial):
        return "digest" if trial.replicate else "new digest"

    assert states(plan_run(study, options(), digest=changed)) == ["stale", "kept"]
    assert run(study, options(), changed) == ["done"]
    newest = {r.replicate: r.code_digest for r in record.latest(read_all(tmp_path)[0])}
    assert newest == {0: "new digest", 1: "digest"}


def test_rerun_runs_settled_trials_again(options):
    study = build_study([build_trial()])
    run(study, options())
    assert states(plan_run(study, options(rerun=True), digest=same_digest)) == ["again"]


def test_trials_of_a_busy_machine_are_run_again_on_request(options, tmp_path):
    study = build_study([build_trial(replicate=i) for i in range(3)])
    run(study, options())
    path = next((tmp_path / "results" / "records").rglob("*.jsonl"))
    shares = iter((0.3, 0.1, None))
    lines = []
    for line in path.read_text().splitlines():
        raw = json.loads(line)
        raw["load"] = {"other_cpu_share": next(shares)}
        lines.append((raw["settings"]["replicate"], json.dumps(raw)))
    path.write_text("".join(f"{text}\n" for _, text in lines))
    disturbed = lines[0][0]
    assert states(plan_run(study, options(), digest=same_digest)) == ["kept"] * 3
    found = plan_run(study, options(max_load=0.2), digest=same_digest).trials
    assert [p.trial.replicate for p in found if p.state == "disturbed"] == [disturbed]
    assert [p.state for p in found].count("kept") == 2
    with pytest.raises(RunError, match="max_load is 1"):
        options(max_load=1)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_shards_partition_the_trials(options, count):
    study = build_study([build_trial(replicate=i) for i in range(10)])
    shards = [
        plan_run(study, options(shard=(i, count)), digest=same_digest).to_run
        for i in range(1, count + 1)
    ]
    ids = [planned.trial.trial_id for shard in shards for planned in shard]
    assert sorted(ids) == sorted(t.trial_id for t in study.trials("cpu"))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_impossible_shard_is_refused(options, shard):
    with pytest.raises(RunError, match="expected i/n"):
        options(shard=shard)


def test_order_is_shuffled_but_always_the_same(options):
    study = build_study([build_trial(replicate=i) for i in range(8)])
    orders = [
        [p.trial.replicate for p in plan_run(study, options(), digest=same_digest).to_run]
        for _ in range(2)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_only_picks_methods_and_refuses_unknown_ones(options):
    study = build_study([build_trial(), build_trial(method="other")])
    plan = plan_run(study, options(only=("other",)), digest=same_digest)
    assert [p.trial.model.method for p in plan.trials] == ["other"]
    with pytest.raises(RunError, match="no trial of method 'absent'; it has other, stub"):
        plan_run(study, options(only=("absent",)), digest=same_digest)


def test_study_that_asks_twice_for_a_trial_is_refused(options):
    with pytest.raises(StudyError, match="asks twice"):
        plan_run(build_study([build_trial(), build_trial()]), options(), digest=same_digest)


def test_unregistered_method_is_refused_with_the_known_ones(monkeypatch):
    class Registry:
        METHODS = {"known": "bench.settings:Trial"}  # noqa: RUF012
        SOURCES = {"planted": "bench.settings:Trial"}  # noqa: RUF012

    monkeypatch.setattr(runner, "resolve", lambda where: getattr(Registry, where.partition(":")[2]))
    with pytest.raises(RunError, match="unknown method 'stub'; known: known"):
        runner.trial_digest(build_trial())


def test_records_carry_provenance_and_the_machine_names_the_file(options, tmp_path):
    run(build_study([build_trial()]), options())
    [kept] = read_all(tmp_path)[0]
    assert kept.code_digest == "digest"
    assert kept.machine["accelerator"] is None
    assert kept.provenance["packages"]["torch"]


def recorded_ids(results):
    return [
        kept.trial_id for path in results.glob("records/*/*.jsonl") for kept in record.read(path)[0]
    ]


def test_killed_run_loses_and_doubles_nothing(tmp_path):
    results, cache = tmp_path / "results", tmp_path / "cache"
    command = [sys.executable, str(Path(__file__).parent / "stub_trials.py"), results, cache]
    draw = random.Random(5)
    kept: list[str] = []
    for num_new in (0, 1, 1, 1, 1):
        with subprocess.Popen(command) as process:
            while process.poll() is None and len(recorded_ids(results)) < len(kept) + num_new:
                time.sleep(0.005)
            time.sleep(draw.uniform(0.0, 0.25))  # anywhere in the next trial
            process.kill()
        assert process.returncode == -signal.SIGKILL
        ids = recorded_ids(results)
        assert ids[: len(kept)] == kept
        kept = ids
        if len(kept) > 6:  # the next run might end before it is killed
            break
    subprocess.run(command, check=True)
    records, warnings = read_all(tmp_path)
    assert warnings == []
    assert all(r.status == "done" for r in records)
    assert len({r.trial_id for r in records}) == len(records) == 10


class Screen:
    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.mark.parametrize("is_live", [True, False])
def test_progress_tells_of_each_trial_and_of_the_study(options, is_live):
    screen = Screen()
    study = build_study([build_trial(), build_trial("fail")])
    run_study(study, options(), digest=same_digest, progress=Progress(screen, is_live=is_live))
    assert ("\r" in screen.text) == is_live
    assert "stub: 2 trials to run" in screen.text
    assert "[2 of 2 done" in screen.text
    assert "DONE stub behaviour=done on nothing" in screen.text
    assert "ERROR stub behaviour=fail on nothing" in screen.text
    assert "P@1 0.5000" in screen.text


def test_progress_text_is_cut_by_columns_and_moves_no_cursor():
    assert fitted("日本語", 5) == "日本…"
    assert fitted("abc", 3) == "abc"
    assert fitted("abc", 0) == ""
    assert "\x1b" not in describe(build_trial(note="a\x1b[2Jb\nc"))
