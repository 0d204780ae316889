"""A row whose worlds are trained one after another: as any other row, and goes on after a kill."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.experiments import training
from bench.experiments.weights import restore_weights
from bench.measure.phases import Repetition
from bench.methods.cards import check_options
from bench.settings import ModelSpec, SettingsError, Trial
from bench.store.record import to_plain
from tests.export.models import context_of, planted, trial_of

ROOT = Path(__file__).parents[2]


def trial(in_turn: bool = True, **options) -> Trial:
    given = {"num_buckets": 16, "num_worlds": 3, "feature_dropout": 0.2} | options
    if in_turn:
        given["worlds_in_turn"] = True
    return trial_of(planted(), ModelSpec(method="mach", hidden_dims=(8, 6), options=given))


def quality(payload):
    """What must be the same again: not seconds nor bytes of the process."""
    blocks = ("data", "training", "test", "worlds", "estimators", "resolved")
    return to_plain([payload[name] for name in blocks])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder and the outcome of a row that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, training.run(trial(), context_of(folder))


def _weights(folder: Path, of: Trial) -> dict[str, torch.Tensor]:
    ready = training.prepare(of, context_of(folder))
    model = training.build_model(of, ready.model.facts)
    assert restore_weights(model, folder / "cache", training._weights_key(ready))
    return dict(model.named_parameters())


def test_a_row_in_turn_is_the_row_that_is_trained_at_once(whole, tmp_path):
    folder, found = whole
    at_once = trial(in_turn=False)
    wanted = training.run(at_once, context_of(tmp_path))
    own, other = _weights(folder, trial()), _weights(tmp_path, at_once)
    assert own.keys() == other.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, other[name], rtol=1e-5, atol=1e-6, msg=name)
    assert found["test"] == pytest.approx(wanted["test"], abs=0.02)
    [end] = found["training"]["curve"]
    last = wanted["training"]["curve"][-1]
    assert (end["step"], end["epoch"]) == (last["step"], last["epoch"])
    assert end["loss"] == pytest.approx(last["loss"], rel=1e-5)
    assert end["metrics"] == pytest.approx(last["metrics"], abs=0.03)
    assert [row["num_worlds"] for row in found["worlds"]] == [
        row["num_worlds"] for row in wanted["worlds"]
    ]
    assert [world["world"] for world in found["training"]["worlds"]] == [0, 1, 2]
    assert len(found["clock"]["world_seconds"]) == 3


_KILLED = """
import os, signal, sys
from pathlib import Path
from bench.experiments import training
from tests.export.models import context_of
from tests.methods.test_in_turn import trial
import dataclasses

def emit(event):
    if event.get("event") == "step" and event["fraction"] > 0.4:
        os.kill(os.getpid(), signal.SIGKILL)

training.run(trial(), dataclasses.replace(context_of(Path(sys.argv[1])), emit=emit))
"""


def test_a_killed_row_goes_on_with_the_world_it_was_at(whole, tmp_path, trained):
    ended = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert ended.returncode == -9, ended.stderr.decode()
    assert quality(training.run(trial(), context_of(tmp_path))) == quality(whole[1])
    assert trained in ([1, 2], [2])  # steps are told by the clock: it may have been killed later


def test_worlds_apart_have_the_bits_of_the_row(whole, tmp_path):
    """In turn each is trained alone, wherever and with whatever others."""
    told = []
    emit = lambda event: told.append(event) if event["event"] == "world" else None  # noqa: E731
    parts = [trial(num_worlds=1), trial(num_worlds=2, first_world=1)]
    for part in parts:
        training.run(part, dataclasses.replace(context_of(tmp_path), emit=emit))
    assert [event["world"] for event in told] == [0, 1, 2]
    whole_folder = whole[0] / "cache" / "worlds"
    for event in told:
        own, other = (folder / event["key"] for folder in (tmp_path / "cache/worlds", whole_folder))
        marks = [json.loads((f / "meta.json").read_text())["sha256"] for f in (own, other)]
        assert marks[0] == marks[1]


def test_worlds_of_what_keeps_no_weights_are_not_kept(tmp_path):
    context = dataclasses.replace(context_of(tmp_path), validation_only=True)
    found = training.run(trial(), context)
    assert found["test"] is None
    assert found["training"]["curve"][-1]["metrics"]["P@1"] > 0
    assert list((tmp_path / "cache" / "worlds").iterdir()) == []


def test_memory_is_one_worlds_in_training_and_the_models_at_the_merge(tmp_path):
    def memory(of: Trial) -> dict:
        return training.prepare(of, context_of(tmp_path)).memory

    many, one = memory(trial(num_worlds=32)), memory(trial(num_worlds=1))
    assert many["training_bytes"] == one["training_bytes"]
    assert many["parameter_bytes"] == 32 * one["parameter_bytes"]
    assert many["predicted_bytes"] < memory(trial(in_turn=False, num_worlds=32))["predicted_bytes"]


def test_a_row_in_turn_is_timed_by_steps_of_all_worlds(whole):
    seen = []

    def repetitions():
        repetition = Repetition(0)
        yield repetition
        seen.append(repetition.to_record())

    row = training.time(trial(), context_of(whole[0]), repetitions())
    assert row["weights"] == "trained"
    assert set(seen[0]) == {"train", "latency", "throughput", "decode"}


@pytest.mark.parametrize(
    ("options", "train", "said"),
    [
        ({"share_encoder": True}, {}, "worlds share an encoder; expected share_encoder=False"),
        ({}, {"keep_best": True}, "keep_best, and there is no model to validate"),
    ],
)
def test_what_cannot_be_trained_in_turn_is_refused(options, train, said):
    of = trial(**options)
    with pytest.raises(SettingsError, match=said):
        check_options(of.model, dataclasses.replace(of.train, **train))
