"""Settings take what is plainly meant, and name what is not: before anything runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bench.settings import LATER, DataSpec, ModelSpec, SettingsError, TrainSpec, Trial, derive_seed


def build_trial(model=None, data=None, replicate=0, **train):
    return Trial(
        data=data or DataSpec(source="planted", name="p", options={"num_labels": 40}),
        model=model
        or ModelSpec(method="mach", hidden_dims=(8,), options={"num_buckets": 16, "num_worlds": 4}),
        train=TrainSpec(**({"num_steps": 100} | train)),
        replicate=replicate,
    )


def test_identities_are_those_that_records_were_made_with():
    # Golden: whoever changes one of these two orphans every record.
    assert build_trial().trial_id == "23a406d4920a5c7c"
    assert build_trial().cost_id == "c30a783edd097831"


def test_settings_survive_json():
    trial = build_trial(num_steps=None, num_epochs=0.5, replicate=3)
    assert Trial.from_dict(trial.to_dict()) == trial


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("data", {"num_labels": 41}),
        ("model", {"num_buckets": 17}),
        ("train", {"learning_rate": 0.5}),
        ("train", {"num_steps": 101}),
        ("train", {"num_steps": None, "num_epochs": 1.0}),
        ("train", {"num_validations": 7}),
        ("replicate", {"replicate": 1}),
    ],
)
def test_whatever_decides_a_result_makes_another_trial(part, changes):
    trial = build_trial()
    if part in ("data", "model"):
        spec = getattr(trial, part)
        options = dict(spec.options) | changes
        other = dataclasses.replace(trial, **{part: dataclasses.replace(spec, options=options)})
    else:
        other = build_trial(**changes)
    assert other.trial_id != trial.trial_id


def test_a_limit_that_changes_no_result_is_no_part_of_the_identity():
    assert build_trial(trial_timeout_seconds=5.0).trial_id == build_trial().trial_id


@pytest.mark.parametrize(
    ("changes", "is_same"),
    [
        *((changes, True) for changes in (
            {"learning_rate": 0.5}, {"replicate": 1}, {"num_steps": 7}, {"num_validations": 1},
            {"num_steps": None, "budget_seconds": 9.0}, {"trial_timeout_seconds": 5.0},
            {"schedule": "constant"})),
        *((changes, False) for changes in (
            {"batch_size": 64}, {"optimizer": "adam"}, {"precision": "bf16-mixed"})),
    ],
)  # fmt: skip
def test_costs_depend_on_what_a_step_computes_and_not_on_rate_length_or_replicate(changes, is_same):
    assert (build_trial(**changes).cost_id == build_trial().cost_id) == is_same


@dataclasses.dataclass(frozen=True, kw_only=True)
class GrownTrainSpec(TrainSpec):
    """As it may be once somebody has added settings."""

    momentum: float = dataclasses.field(default=0.5, metadata=LATER)


def test_a_setting_that_comes_later_orphans_no_record():
    grown = dataclasses.replace(build_trial(), train=GrownTrainSpec(num_steps=100))
    assert grown.trial_id == build_trial().trial_id
    moved = dataclasses.replace(grown, train=GrownTrainSpec(num_steps=100, momentum=0.75))
    assert moved.trial_id != grown.trial_id


def test_weight_decay_is_no_cost_and_is_at_least_0():
    decayed = build_trial(weight_decay=0.01)
    assert decayed.trial_id != build_trial().trial_id
    assert decayed.cost_id == build_trial().cost_id
    assert build_trial(weight_decay=0.0).to_dict() == build_trial().to_dict()
    with pytest.raises(SettingsError, match=r"weight_decay is -0\.1; expected at least 0"):
        TrainSpec(weight_decay=-0.1)


def test_one_epoch_is_the_length_of_a_training_that_names_none():
    assert TrainSpec().num_epochs == 1.0
    assert TrainSpec(num_steps=3).num_epochs is None


def test_a_budget_gives_way_to_steps():
    spec = TrainSpec(budget_seconds=20.0, batch_size=7).with_steps(31)
    assert spec == TrainSpec(num_steps=31, batch_size=7)


def test_equal_lengths_have_one_identity_however_they_are_written():
    assert (
        build_trial(num_steps=None, num_epochs=4).trial_id
        == build_trial(num_steps=None, num_epochs=4.0).trial_id
    )
    assert build_trial(num_steps=100.0).trial_id == build_trial().trial_id


def spec(**changes):
    return DataSpec(**({"source": "vw", "name": "n"} | changes))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.int64(4), 4),
        (np.float32(0.5), 0.5),
        (np.float64(4.0), 4.0),
        (np.bool_(True), True),
        (Path("train.txt"), "train.txt"),
        (True, True),
        (2, 2),
        (2.0, 2.0),
        ("2", "2"),
        (None, None),
    ],
)
def test_options_keep_what_is_plainly_meant_in_plain_types(given, kept):
    value = spec(options={"x": given}).options["x"]
    assert value == kept
    assert type(value) is type(kept)


def test_numbers_of_other_types_make_the_same_trial():
    def trial(width, rate, buckets):
        model = ModelSpec(method="mach", hidden_dims=width, options={"num_buckets": buckets})
        return Trial(data=spec(), model=model, train=TrainSpec(learning_rate=rate))

    plain = trial((128,), 1.0, 4)
    assert trial(128, 1, np.int64(4)).trial_id == plain.trial_id
    assert trial([128], np.float32(1.0), np.int32(4)).trial_id == plain.trial_id


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (TrainSpec, {"learning_rate": "1e-3"}, "learning_rate is '1e-3'; expected a finite number"),
        (TrainSpec, {"learning_rate": True}, "learning_rate is True; expected a finite number"),
        (TrainSpec, {"learning_rate": float("nan")}, "learning_rate is nan"),
        (TrainSpec, {"num_epochs": float("inf")}, "num_epochs is inf; expected a finite number"),
        *((TrainSpec, lengths, "expected one length") for lengths in (
            {"num_steps": 3, "num_epochs": 1.0}, {"num_epochs": 1.0, "budget_seconds": 2.0},
            {"num_steps": 3, "num_epochs": 1.0, "budget_seconds": 2.0})),
        (TrainSpec, {"num_steps": 0}, "num_steps is 0; expected more than 0"),
        (TrainSpec, {"num_steps": 2.5}, "num_steps is 2.5; expected a whole number or None"),
        (TrainSpec, {"batch_size": 2.24}, "batch_size is 2.24; expected a whole number"),
        (TrainSpec, {"batch_size": 0}, "batch_size is 0; expected at least 1"),
        (TrainSpec, {"num_validations": -1}, "num_validations is -1; expected at least 0"),
        (TrainSpec, {"precision": "float16"}, "precision is 'float16'; expected '32-true' or"),
        (TrainSpec, {"optimizer": ["adam"]}, "optimizer is .*; expected 'adam' or 'row_adam'"),
        (TrainSpec, {"schedule": "cosine"}, "expected 'constant' or 'linear_decay'"),
        (TrainSpec, {"schedule": "step_decay"}, "expected both"),
        (TrainSpec, {"decay_epochs": (3.0,)}, "expected both"),
        (TrainSpec, {"schedule": "step_decay", "decay_epochs": (6.0, 3.0)}, "expected ascending"),
        (TrainSpec, {"schedule": "step_decay", "decay_epochs": (0.0,)}, "expected ascending"),
        (TrainSpec, {"decay_factor": 1.0}, "decay_factor is 1.0"),
        (TrainSpec, {"keep_best": True, "num_validations": 0}, "num_validations 0"),
        (TrainSpec, {"order": "random"}, "expected 'points' or 'batches' or 'file'"),
        (ModelSpec, {"method": 3}, "ModelSpec.method is 3; expected a text"),
        (ModelSpec, {"method": "m", "hidden_dims": "128"}, "is '128'; expected a whole"),
        (ModelSpec, {"method": "m", "options": [1]}, "options is .1.; expected values by name"),
        (spec, {"options": {"a": float("nan")}}, "options is .*nan.*; expected .*finite number"),
        (spec, {"options": {"a": [1]}}, "DataSpec.options is"),
        (spec, {"options": {1: 2}}, "expected values by name"),
        (spec, {"num_top_labels": "9"}, "is '9'; expected a whole number or None"),
        (spec, {"num_top_labels": 1}, "num_top_labels is 1; expected at least 2"),
        (spec, {"ks": [1, "3"]}, "ks is .*; expected a whole number"),
        (spec, {"name": None}, "name is None; expected a text"),
        (build_trial, {"data": "vw"}, "Trial.data is 'vw'; expected a DataSpec"),
        (build_trial, {"replicate": -1}, "Trial.replicate is -1; expected at least 0"),
        (build_trial, {"data": spec(num_validation_points=0), "keep_best": True},
         "num_validation_points 0"),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused_with_field_value_and_expectation(kind, settings, message):
    with pytest.raises(SettingsError, match=message):
        kind(**settings)


@pytest.mark.parametrize(
    "change",
    [
        lambda settings: settings.pop("data"),
        lambda settings: settings["train"].update(max_epochs=1.0),
        lambda settings: settings["train"].update(batch_size="many"),
        lambda settings: settings.update(replicate="first"),
    ],
)
def test_settings_of_no_trial_are_refused(change):
    settings = build_trial().to_dict()
    change(settings)
    with pytest.raises(SettingsError):
        Trial.from_dict(settings)


def test_seeds_of_two_purposes_and_two_replicates_differ():
    seeds = [derive_seed(purpose, i) for purpose in ("model", "data order") for i in range(50)]
    assert len(set(seeds)) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed("a", "b", 1) != derive_seed("a", "b1")


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "step_decay", "decay_epochs": (30.0, 60.0)},
        {"schedule": "step_decay", "decay_epochs": 30, "decay_factor": 0.5},
        {"order": "file", "drop_last": True},
        {"order": "batches"},
        {"keep_best": True},
        {"optimizer": "tf_adam"},
    ],
)
def test_later_settings_make_other_trials_that_survive_json(changes):
    trial = build_trial(**changes)
    assert Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    assert trial.trial_id != build_trial().trial_id


def test_later_settings_at_their_defaults_are_not_written():
    later = {entry.name for entry in dataclasses.fields(TrainSpec) if entry.metadata == LATER}
    assert {"keep_best", "order", "drop_last", "decay_epochs", "decay_factor"} <= later
    assert not later & set(build_trial().to_dict()["train"])
    assert build_trial(keep_best=True).to_dict()["train"]["keep_best"] is True
