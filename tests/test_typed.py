"""Settings take what is plainly meant, and name what is not: before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial


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
    ("build", "message"),
    [
        (lambda: TrainSpec(learning_rate="1e-3"), r"TrainSpec.learning_rate is '1e-3'; expected a"),
        (lambda: TrainSpec(learning_rate=True), "learning_rate is True; expected a finite number"),
        (lambda: TrainSpec(num_epochs=float("inf")), "num_epochs is inf; expected a finite number"),
        (lambda: TrainSpec(batch_size=2.24), "batch_size is 2.24; expected a whole number"),
        (lambda: TrainSpec(num_steps=2.5), "num_steps is 2.5; expected a whole number or None"),
        (lambda: TrainSpec(precision="float16"), "precision is 'float16'; expected '32-true' or"),
        (lambda: TrainSpec(optimizer=["adam"]), "optimizer is .*; expected 'adam' or 'row_adam'"),
        (lambda: ModelSpec(method=3), "ModelSpec.method is 3; expected a text"),
        (
            lambda: ModelSpec(method="m", hidden_dims="128"),
            "hidden_dims is '128'; expected a whole",
        ),
        (lambda: ModelSpec(method="m", options=[1]), "options is .1.; expected values by name"),
        (lambda: spec(options={"a": float("nan")}), "options is .*nan.*; expected .*finite number"),
        (lambda: spec(options={"a": [1]}), "DataSpec.options is"),
        (lambda: spec(options={1: 2}), "expected values by name"),
        (
            lambda: spec(num_top_labels="9"),
            "num_top_labels is '9'; expected a whole number or None",
        ),
        (lambda: spec(ks=[1, "3"]), "ks is .*; expected a whole number"),
        (lambda: spec(name=None), "name is None; expected a text"),
        (
            lambda: Trial(data="vw", model=ModelSpec(method="m"), train=TrainSpec()),
            "Trial.data is 'vw'; expected a DataSpec",
        ),
    ],
)
def test_what_is_plainly_something_else_is_named_with_field_and_expectation(build, message):
    with pytest.raises(SettingsError, match=message):
        build()
