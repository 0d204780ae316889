from __future__ import annotations

import dataclasses
import io
import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import stub_trials
from stub_trials import build_study, build_trial, stub_card

from bench.cli import commands
from bench.cli.progress import Progress, fitted
from bench.errors import StudyError
from bench.methods import cards
from bench.runner.plan import RunError, RunOptions, plan_run
from bench.runner.run import run_plan, run_study
from bench.settings import SettingsError
from bench.store import record
from bench.store.budgets import Budget, budgets_path, write_budgets
from bench.store.record import SchemaError


@pytest.fixture(autouse=True)
def _stubs_importable(monkeypatch):
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")


@pytest.fixture
def options(tmp_path):
    def options(**changes):
        common = {
            "data_dir": tmp_path,
            "results_dir": tmp_path / "results",
            "cache_dir": tmp_path / "cache",
        }
        return RunOptions(**(common | changes))

    return options


def states(plan):
    return [planned.state for planned in plan.trials]


def run(study, options):
    return [r.status for r in run_study(study, options)]


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
    assert states(plan_run(study, options())) == ["new"] * 3
    assert sorted(run(study, options())) == ["done", "error", "oom"]
    assert states(plan_run(study, options())) == ["kept", "kept", "retry"]
    marker.touch()
    assert run(study, options()) == ["done"]
    assert run(study, options()) == []
    records, warnings = read_all(tmp_path)
    assert (len(records), warnings) == (4, [])
    assert sorted(r.status for r in record.latest(records)) == ["done", "done", "oom"]


def raise_version(monkeypatch, name):
    """As whoever changes what a method computes does."""
    others = [card for card in cards._registered if card.name != name]
    monkeypatch.setattr(cards, "_registered", [*others, stub_card(name, version=2)])


def test_records_of_a_method_that_behaves_differently_are_rerun_and_superseded(
    options, tmp_path, monkeypatch
):
    study = build_study([build_trial(), build_trial(replicate=1), build_trial(method="other")])
    assert len(run(study, options())) == 3
    raise_version(monkeypatch, "stub")
    assert states(plan_run(study, options())) == ["stale", "stale", "kept"]
    assert run(study, options()) == ["done", "done"]
    assert states(plan_run(study, options())) == ["kept"] * 3
    records, _ = read_all(tmp_path)
    assert len(records) == 5
    newest = record.latest(records)
    versions = [(r.settings["model"]["method"], r.versions["method"]) for r in newest]
    assert sorted(versions) == [("other", 1), ("stub", 2), ("stub", 2)]


def test_records_made_by_an_older_source_or_protocol_are_stale(options, monkeypatch):
    study = build_study([build_trial()])
    run(study, options())
    with monkeypatch.context() as patch:
        patch.setitem(stub_trials.SOURCE, "version", 2)
        assert states(plan_run(study, options())) == ["stale"]
    monkeypatch.setattr("bench.methods.cards.PROTOCOL", 2)
    assert states(plan_run(study, options())) == ["stale"]


def test_a_raised_version_of_metrics_runs_nothing_again(options, monkeypatch):
    study = build_study([build_trial()])
    run(study, options())
    monkeypatch.setattr("bench.methods.cards.METRIC_VERSIONS", {"psp": 3})
    assert states(plan_run(study, options())) == ["kept"]


def test_a_raised_version_of_an_options_value_runs_its_trials_again(options, monkeypatch):
    study = build_study([build_trial(number=0), build_trial(number=1)])
    run(study, options())
    card = dataclasses.replace(stub_card("stub"), option_versions={"number": {1: 2}})
    monkeypatch.setattr(cards, "_registered", [card, stub_card("other")])
    assert states(plan_run(study, options())) == ["kept", "stale"]
    assert run(study, options()) == ["done"]
    assert states(plan_run(study, options())) == ["kept", "kept"]


def test_a_record_by_newer_code_than_todays_is_kept(options, monkeypatch):
    study = build_study([build_trial()])
    with monkeypatch.context() as patch:
        patch.setattr("bench.methods.cards.PROTOCOL", 2)
        run(study, options())
    assert states(plan_run(study, options())) == ["kept"]


@pytest.mark.parametrize(("fingerprint", "state"), [("g", "other data"), (None, "kept")])
def test_trials_on_data_that_has_changed_are_run_again(options, monkeypatch, fingerprint, state):
    study = build_study([build_trial()])
    run(study, options())
    monkeypatch.setitem(stub_trials.SOURCE, "fingerprint", fingerprint)  # None: it cannot be had
    assert states(plan_run(study, options())) == [state]


def test_a_time_out_is_run_again_once_it_is_given_more_time(options):
    def study(seconds):
        limit = {"trial_timeout_seconds": seconds}
        return build_study([build_trial(seconds=1.5, train=limit)])

    assert run(study(0.5), options()) == ["timeout"]
    assert states(plan_run(study(0.4), options())) == ["kept"]
    assert states(plan_run(study(60.0), options())) == ["retry"]
    assert run(study(60.0), options()) == ["done"]


@pytest.fixture
def of_two_studies(monkeypatch):
    """Two built-in studies that ask for one trial each and for one together."""
    both = build_trial(number=0)
    monkeypatch.setattr("bench.runner.plan.study_names", lambda: ["first", "second"])
    return [
        build_study([both, build_trial(number=i)], name=name)
        for i, name in enumerate(("first", "second"), start=1)
    ]


def test_what_another_study_has_recorded_is_taken_over(of_two_studies, options, tmp_path):
    first, second = of_two_studies
    run(first, options())
    assert states(plan_run(second, options())) == ["shared", "new"]
    assert run(second, options()) == ["done"]
    assert states(plan_run(second, options())) == ["kept", "kept"]
    [theirs], [ours] = (
        [r for r in record.read(path)[0] if r.settings["model"]["options"]["number"] == 0]
        for path in sorted((tmp_path / "results" / "records").glob("*/*.jsonl"))
    )
    assert (theirs.study, ours.study) == ("first", "second")
    assert {**ours.raw, "study": "first"} == theirs.raw


def test_what_another_study_has_recorded_must_be_as_todays(of_two_studies, options, monkeypatch):
    first, second = of_two_studies
    run(first, options())
    assert states(plan_run(second, options(rerun=True))) == ["new", "new"]
    with monkeypatch.context() as patch:
        patch.setitem(stub_trials.SOURCE, "fingerprint", "g")
        assert states(plan_run(second, options())) == ["new", "new"]
    with monkeypatch.context() as patch:
        raise_version(patch, "stub")
        assert states(plan_run(second, options())) == ["new", "new"]
    ours = build_study([build_trial(number=0)], name="second", file="mine.py")
    assert states(plan_run(ours, options())) == ["new"]


def test_records_that_are_in_another_studys_way_are_not_in_ones_own(of_two_studies, options):
    first, second = of_two_studies
    run(first, options())
    path = plan_run(first, options()).records_path
    path.write_text(path.read_text().replace('"schema":2', '"schema":1'))
    with pytest.raises(SchemaError):
        plan_run(first, options())
    plan = plan_run(second, options())
    assert states(plan) == ["new", "new"]
    [warning] = plan.warnings
    assert f"{path}:1: record has schema 1" in warning


def test_a_damaged_line_of_another_studys_records_is_told(of_two_studies, options):
    first, second = of_two_studies
    run(first, options())
    path = plan_run(first, options()).records_path
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line[:-9]}\n" for line in lines))
    plan = plan_run(second, options())
    assert states(plan) == ["new", "new"]
    places = [warning.partition(": ")[0] for warning in plan.warnings]
    assert places == [f"{path}:{number}" for number in range(1, len(lines) + 1)]


def test_what_is_shared_needs_no_data_at_hand(of_two_studies, options, monkeypatch):
    first, second = of_two_studies
    run(first, options())
    monkeypatch.setitem(stub_trials.SOURCE, "fingerprint", None)
    brought = dataclasses.replace(second, optional_data=("nothing",))
    assert states(plan_run(brought, options())) == ["shared", "no data"]


def test_rows_of_a_peer_that_is_not_installed_are_left_out_and_the_extra_is_named(
    options, monkeypatch, capsys
):
    lacking = stub_card("lacking", library="no_such_library")
    monkeypatch.setattr(cards, "_registered", [*cards._registered, lacking])
    study = build_study([build_trial(), build_trial(method="lacking")])
    plan = plan_run(study, options())
    assert (states(plan), plan.uninstalled) == (["new", "no library"], ("no_such_library",))
    commands._print_absent(study, plan.absent, plan.uninstalled)
    shown = capsys.readouterr().out
    assert "no_such_library is not installed, its rows are left out" in shown
    assert "mach-bench[peers]" in shown


def test_what_is_shared_is_taken_over_once_by_runners_side_by_side(of_two_studies, options):
    first, second = of_two_studies
    run(first, options())
    early, late = plan_run(second, options()), plan_run(second, options())
    assert [r.status for r in run_plan(early, options())] == ["done"]
    shown = io.StringIO()
    assert run_plan(late, options(), progress=Progress(shown, is_live=False)) == []
    assert "[2 of 2 done" in shown.getvalue()
    records, _ = record.read(late.records_path)
    assert len(records) == 2


def test_only_the_first_replicates_are_run_on_request(options):
    study = build_study([build_trial(replicate=i) for i in range(3)])
    plan = plan_run(study, options(replicates=2))
    assert sorted(p.trial.replicate for p in plan.trials) == [0, 1]
    with pytest.raises(RunError, match="replicates is 0; expected at least 1"):
        options(replicates=0)


def test_replicates_run_one_after_the_other(options):
    trials = [build_trial(note=n, replicate=i) for i in range(3) for n in range(5)]
    order = [p.trial.replicate for p in plan_run(build_study(trials), options()).to_run]
    assert order == sorted(order)


def test_a_budget_that_nobody_has_measured_is_refused_with_the_way_out(options, tmp_path):
    budgeted = build_trial(train={"budget_seconds": 20.0})
    study = build_study([build_trial(), budgeted])
    plan = plan_run(study, options())
    assert plan.unbudgeted == (budgeted,)
    with pytest.raises(RunError, match=r"1 trials of stub have a budget .* `bench budget stub`"):
        run_plan(plan, options())
    assert not (tmp_path / "results").exists()


def test_a_budget_on_file_is_trained_by_steps(options, tmp_path):
    budgeted = build_trial(train={"budget_seconds": 20.0})
    budget = Budget(
        cost_id=budgeted.cost_id,
        budget_seconds=20.0,
        num_steps=31,
        seconds_per_step=0.65,
        measured={},
    )
    write_budgets(budgets_path(tmp_path / "results", "stub"), "stub", [budget])
    assert run(build_study([budgeted]), options()) == ["done"]
    [kept] = read_all(tmp_path)[0]
    assert kept.block("training")["num_steps"] == 31
    assert kept.settings["train"]["budget_seconds"] is None
    assert states(plan_run(build_study([budgeted]), options())) == ["kept"]


def test_the_tiny_grid_needs_no_budget(options):
    study = build_study(
        [build_trial(train={"budget_seconds": 20.0})], smoke=lambda: [build_trial()]
    )
    assert states(plan_run(study, options(is_smoke=True))) == ["new"]


def test_rerun_runs_settled_trials_again(options):
    study = build_study([build_trial()])
    run(study, options())
    assert states(plan_run(study, options(rerun=True))) == ["again"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 11])
def test_shards_partition_the_trials(options, count):
    study = build_study([build_trial(replicate=i) for i in range(10)])
    shards = [plan_run(study, options(shard=(i, count))).to_run for i in range(1, count + 1)]
    ids = [planned.trial.trial_id for shard in shards for planned in shard]
    assert sorted(ids) == sorted(t.trial_id for t in study.trials("cpu"))


@pytest.mark.parametrize("shard", [(0, 2), (3, 2), (1, 0)])
def test_impossible_shard_is_refused(options, shard):
    with pytest.raises(RunError, match="expected i/n"):
        options(shard=shard)


def test_order_is_shuffled_but_always_the_same(options):
    study = build_study([build_trial(note=i) for i in range(8)])
    orders = [
        [p.trial.model.options["note"] for p in plan_run(study, options()).to_run] for _ in range(2)
    ]
    assert orders[0] == orders[1]
    assert orders[0] != sorted(orders[0])


def test_only_picks_methods_and_refuses_unknown_ones(options):
    study = build_study([build_trial(), build_trial(method="other")])
    plan = plan_run(study, options(only=("other",)))
    assert [p.trial.model.method for p in plan.trials] == ["other"]
    with pytest.raises(RunError, match="no trial of method 'absent'; it has other, stub"):
        plan_run(study, options(only=("absent",)))


def test_study_that_asks_twice_for_a_trial_is_refused(options):
    with pytest.raises(StudyError, match="asks twice"):
        plan_run(build_study([build_trial(), build_trial()]), options())


def test_unknown_method_is_refused_with_the_known_ones(options):
    study = build_study([build_trial(method="absent")])
    with pytest.raises(SettingsError, match=r"method is 'absent'; expected one of .*mach.*stub"):
        plan_run(study, options())


def test_records_carry_provenance_and_the_machine_names_the_file(options, tmp_path):
    run(build_study([build_trial()]), options())
    [kept] = read_all(tmp_path)[0]
    assert kept.versions == {"method": 1, "source": 1, "protocol": 1, "psp": 2}
    assert kept.machine["accelerator"] is None
    assert kept.provenance["packages"]["torch"]


def recorded_ids(results):
    return [
        kept.trial_id for path in results.glob("records/*/*.jsonl") for kept in record.read(path)[0]
    ]


def test_killed_run_loses_and_doubles_nothing(tmp_path):
    results, cache = tmp_path / "results", tmp_path / "cache"
    script = str(Path(__file__).parent / "stub_trials.py")
    command = [sys.executable, script, results, cache, "10", "0.05"]
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


@pytest.mark.parametrize("is_live", [True, False])
def test_progress_tells_of_each_trial_and_of_the_study(options, is_live):
    screen = io.StringIO()
    study = build_study([build_trial(), build_trial("fail")])
    run_study(study, options(), progress=Progress(screen, is_live=is_live))
    assert ("\r" in screen.getvalue()) == is_live
    assert "stub: 2 trials to run" in screen.getvalue()
    assert "[2 of 2 done" in screen.getvalue()
    assert "DONE stub, behaviour=done on nothing" in screen.getvalue()
    assert "ERROR stub, behaviour=fail on nothing" in screen.getvalue()
    assert "P@1 0.5000" in screen.getvalue()


def test_a_run_says_once_how_large_its_data_is(options):
    screen = io.StringIO()
    study = build_study([build_trial("say_sizes"), build_trial("say_sizes", seconds=0.0)])
    run_study(study, options(), progress=Progress(screen, is_live=False))
    line = (
        "nothing: 7 training points, 3 test points, 1,200 features, 50 labels, "
        "6 of them with a training point, multiclass\n"
    )
    assert screen.getvalue().count(line) == 1


def test_what_every_trial_says_of_its_data_is_shown_once():
    screen = io.StringIO()
    progress = Progress(screen, is_live=False, now=itertools.count().__next__)
    progress.open("stub", {}, num_kept=0)
    progress.note("mine: no test label is known")
    for text in ("mine: no test label is known", "another word", "another word"):
        event = {"event": "note", "text": text}
        progress.on_event(SimpleNamespace(trial=build_trial()), event)
    assert screen.getvalue().count("no test label is known") == 1
    assert screen.getvalue().count("another word") == 1


@pytest.mark.parametrize("value", [float("inf"), float("nan"), "soon"])
def test_a_step_may_tell_what_is_no_number(value):
    screen = io.StringIO()
    progress = Progress(screen, is_live=True, now=itertools.count().__next__)
    progress.open("stub", {}, num_kept=0)
    step = {"event": "step", "fraction": 0.5, "seconds_left": value, "loss": value}
    progress.on_event(SimpleNamespace(trial=build_trial()), {"event": "start"})
    progress.on_event(SimpleNamespace(trial=build_trial()), step)
    progress.on_event(SimpleNamespace(trial=build_trial()), step | {"seconds_left": 61})
    assert "50% · 1m01s left" in screen.getvalue()


def test_progress_text_is_cut_by_columns_and_moves_no_cursor():
    assert fitted("日本語", 5) == "日本…"
    assert fitted("abc", 3) == "abc"
    assert fitted("abc", 0) == ""
