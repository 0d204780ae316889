"""What a row leaves to the memory of its machine is decided before it runs, and stays its trial."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.methods.arithmetic import DataSizes, predict_memory
from bench.methods.card import TRAINING
from bench.methods.cards import choices_of
from bench.report.load import asked_for
from bench.runner import deciding
from bench.runner.deciding import decided
from bench.runner.plan import RunError, RunOptions, plan_run
from bench.settings import ModelSpec, Trial
from bench.studies.study import Study
from tests.export.models import planted, trial_of

GIB = 2**30
FACTS = {
    "num_features": 120,
    "num_labels": 40,
    "task": "multiclass",
    "num_train_points": 451,
    "features_per_point": 20.0,
    "labels_per_point": 1.0,
}
SIZES = DataSizes.of_facts(FACTS)


def row(**options) -> Trial:
    given = {"num_buckets": 2000, "num_worlds": 8, "worlds_per_step": "auto"} | options
    return trial_of(planted(), ModelSpec(method="mach", hidden_dims=(8,), options=given))


def study(*trials: Trial) -> Study:
    return Study(name="mine", claim="Worlds.", trials=lambda profile: list(trials), smoke=list)


def options(tmp_path: Path, **more) -> RunOptions:
    return RunOptions(data_dir=tmp_path, results_dir=tmp_path, cache_dir=tmp_path, **more)


@pytest.fixture
def asked(monkeypatch):
    """Trials whose data's facts were asked for."""
    trials = []

    def facts_of(trial, context, note, study_file):
        trials.append(trial)
        return FACTS

    monkeypatch.setattr(deciding, "facts_of", facts_of)
    monkeypatch.setattr(deciding, "_facts", {})
    return trials


def _machine(num_bytes: float | None) -> dict:
    memory = None if num_bytes is None else int(num_bytes)
    return {"cpu": "c", "num_cores": 2, "memory_bytes": memory, "accelerator": None}


def _taken(tmp_path, num_bytes: float | None, of: Trial, monkeypatch, **more) -> Trial:
    monkeypatch.setattr(deciding, "_whole", float)  # tiny models in tiny machines
    found = decided(study(of), options(tmp_path, **more), _machine(num_bytes))
    [trial] = found.build_trials("cpu")
    return trial


def test_as_many_worlds_are_taken_together_as_half_of_the_memory_holds(
    asked, tmp_path, monkeypatch
):
    choices = choices_of(row(), TRAINING)
    steps = [each.model.options.get("worlds_per_step") for each in choices]
    assert steps == [None, 4, 2, 1]
    needed = [predict_memory(each, SIZES).total for each in choices]
    assert needed == sorted(needed, reverse=True)
    assert len(set(needed)) == 4
    for number, each in enumerate(choices):
        assert _taken(tmp_path, 2 * needed[number], row(), monkeypatch) == each
    assert _taken(tmp_path, 2 * needed[0] - 2, row(), monkeypatch) == choices[1]
    assert _taken(tmp_path, 2, row(), monkeypatch) == choices[-1]  # and its record will say oom
    assert _taken(tmp_path, None, row(), monkeypatch) == choices[0]


def test_all_worlds_together_are_the_row_that_says_nothing(asked, tmp_path, monkeypatch):
    of = row()
    told = {name: value for name, value in of.model.options.items() if name != "worlds_per_step"}
    plain = dataclasses.replace(of, model=dataclasses.replace(of.model, options=told))
    assert _taken(tmp_path, 64 * GIB, of, monkeypatch).trial_id == plain.trial_id


@pytest.mark.parametrize("is_linear", [True, False])
def test_where_a_step_has_no_worlds_to_take_apart_nothing_is_left_to_decide(
    is_linear, asked, tmp_path, monkeypatch
):
    of = row() if is_linear else row(worlds_in_turn=True)
    if is_linear:
        of = dataclasses.replace(of, model=dataclasses.replace(of.model, encoder="linear"))
    assert "worlds_per_step" not in _taken(tmp_path, 2, of, monkeypatch).model.options


def test_worlds_that_are_trained_apart_are_decided_by_their_own_memory(
    asked, tmp_path, monkeypatch
):
    [most, *_] = choices_of(row(num_worlds=2), TRAINING)
    num_bytes = 2 * predict_memory(most, SIZES).total
    assert "worlds_per_step" in _taken(tmp_path, num_bytes, row(), monkeypatch).model.options
    own = _taken(tmp_path, num_bytes, row(), monkeypatch, worlds=(2, 4))
    assert "worlds_per_step" not in own.model.options


def test_only_data_of_rows_that_leave_something_is_asked_for(asked, tmp_path):
    plain = study(row(worlds_per_step=2))
    assert decided(plain, options(tmp_path), _machine(GIB)) is plain
    assert asked == []
    both = decided(study(row(), row(num_worlds=4)), options(tmp_path), _machine(GIB))
    assert len(asked) == 1
    plan = plan_run(both, options(tmp_path), _machine(GIB))
    assert [planned.state for planned in plan.trials] == ["new", "new"]


def test_machines_of_one_kind_decide_alike(asked, tmp_path):
    most = [
        deciding._memory_bytes(options(tmp_path), _machine(size * GIB)) for size in (23.6, 24.4)
    ]
    assert most == [24 * GIB, 24 * GIB]


def test_an_accelerator_of_unknown_memory_is_refused(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.store.provenance.accelerator_bytes", lambda: None)
    machine = _machine(GIB) | {"accelerator": "NVIDIA H200"}
    with pytest.raises(RunError, match="memory of NVIDIA H200 is not known here"):
        decided(study(row()), options(tmp_path), machine)


def test_a_report_takes_whatever_was_decided_for_the_row():
    of = study(row())
    made = choices_of(row(), TRAINING)[2]
    records = [{"trial_id": made.trial_id}]
    kept, missing = asked_for(records, of, [of.build_trials("cpu"), []])
    assert (kept, missing) == (records, 0)
    other = [{"trial_id": "0" * 16}]
    assert asked_for(other, of, [of.build_trials("cpu"), []]) == ([], 0)
