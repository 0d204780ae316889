"""Worlds in turn: as trained together, resumed after a kill, bounded in memory, exact."""

import dataclasses
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from bench.experiments.scale import full_layer, sequential_worlds
from bench.experiments.scale import trial as scale_trial
from bench.experiments.scale.batches import load_points
from bench.experiments.scale.sequential_worlds import Plan
from bench.experiments.scale.trial import worlds_shown
from bench.experiments.training import build_model
from bench.measure.experiment import Context
from bench.measure.memory import PredictedOutOfMemory
from bench.measure.phases import Repetition
from bench.methods.arithmetic import predict_memory
from bench.nn.classifier import DataFacts
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from bench.store.record import to_plain
from bench.studies.study import load_study

NOWHERE = Context(data_dir=Path("nowhere"), cache_dir=Path("nowhere"))
GIB = 2**30


def trial(decode="dense", num_worlds=2, hidden=8, **options):
    queries = {"num_train_queries": 400, "num_test_queries": 120}
    sizes = {"num_features": 800, "num_labels": 300}
    data = DataSpec(source="query_stream", name="tiny", options=queries | sizes, ks=(1, 10))
    common = {
        "num_buckets": 24,
        "num_worlds": num_worlds,
        "hash_family": "universal",
        "num_hashed_features": 200,
        "decode": decode,
    }
    model = ModelSpec(method="mach_in_turn", hidden_dims=(hidden,), options=common | options)
    return Trial(data=data, model=model, train=TrainSpec(batch_size=100, learning_rate=0.05))


def in_cache(cache, emit=lambda event: None):
    return dataclasses.replace(NOWHERE, cache_dir=cache, emit=emit)


def bytes_of(of):
    return predict_memory(of, load_points(of, NOWHERE).sizes).to_record()


def fingerprint():
    return load_points(trial(), NOWHERE).facts["fingerprint"]


def run(of, cache, emit=lambda event: None):
    return scale_trial.run(of, in_cache(cache, emit))


def outcome(payload):
    """What must be the same again: not seconds nor bytes of the process."""
    return to_plain([payload["test"], payload["worlds"], payload["training"]])


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    return run(trial(), tmp_path_factory.mktemp("whole"))


def test_a_record_tells_of_every_world_and_of_fewer_of_them(whole_run):
    assert [world["world"] for world in whole_run["training"]["worlds"]] == [0, 1]
    assert whole_run["training"]["num_steps"] == 4
    assert len(whole_run["clock"]["world_seconds"]) == 2
    assert all(seconds > 0 for seconds in whole_run["clock"]["world_seconds"])
    assert [row["num_worlds"] for row in whole_run["worlds"]] == [1, 2]
    assert whole_run["test"] == whole_run["worlds"][-1]["metrics"]
    assert 0 < whole_run["test"]["seen in training"] <= 1
    memory = whole_run["memory"]
    assert memory["parameter_bytes"] == 2 * memory["world_bytes"]
    assert memory["world_bytes"] == bytes_of(trial())["world_bytes"]
    assert len(memory["host_world_peak_bytes"]) == 2


@pytest.mark.parametrize("decode", ["auto", "recompute"])
def test_other_ways_to_labels_train_nothing_and_find_the_same(decode, tmp_path, trained):
    first = run(trial(), tmp_path)
    again = run(trial(decode), tmp_path)
    assert trained == [0, 1]
    assert again["test"] == first["test"]
    assert [row["num_worlds"] for row in again["worlds"]] == [2]
    assert (again["memory"]["decode_bytes"] == 0) == (decode == "recompute")


def test_more_worlds_go_on_from_those_that_are_there(tmp_path, trained):
    run(trial(), tmp_path)
    trained.clear()
    more = run(trial(num_worlds=3), tmp_path)
    assert trained == [2]
    assert [world["world"] for world in more["training"]["worlds"]] == [0, 1, 2]


def test_merged_worlds_are_the_model_that_is_trained_at_once(tmp_path):
    of = trial()
    trainer, points, _ = scale_trial._open(of, in_cache(tmp_path))
    trainer.all_worlds()
    merged = trainer.merged()
    options = {name: v for name, v in of.model.options.items() if name != "decode"}
    model = ModelSpec(method="mach", hidden_dims=(8,), options=options)
    together = build_model(dataclasses.replace(of, model=model), trainer.facts)
    optimizer = together.configure_optimizers()
    for number, batch in enumerate(points.train):
        for group in optimizer.param_groups:
            group["lr"] = of.train.learning_rate * (1 - number / points.steps_per_epoch)
        together.training_step(batch, 0).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert merged.head.world_ids == (0, 1)
    assert torch.equal(merged.head.table, together.head.table)
    for (name, own), other in zip(merged.named_parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-5, msg=name)


_KILLED = """
import os, signal, sys
sys.path.insert(0, {folder!r})
from pathlib import Path
import test_worlds as here

def emit(event):
    inside = event.get("event") == "step" and event["fraction"] > 0.5
    merging = event.get("phase") == "merge"
    if {inside!r} and inside or not {inside!r} and merging:
        os.kill(os.getpid(), signal.SIGKILL)

here.run(here.trial(), Path({cache!r}), emit)
"""


@pytest.mark.parametrize("is_inside", [True, False])
def test_a_killed_run_goes_on_with_the_world_it_was_at(is_inside, tmp_path, whole_run, trained):
    script = _KILLED.format(
        folder=str(Path(__file__).parent), inside=is_inside, cache=str(tmp_path)
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    resumed = run(trial(), tmp_path)
    assert trained == ([1] if is_inside else [])
    assert outcome(resumed) == outcome(whole_run)


def test_a_world_written_in_part_is_trained_again(tmp_path, whole_run):
    run(trial(), tmp_path)
    folder = tmp_path / "worlds" / Plan.of(trial()).key(0, fingerprint())
    weights = folder / "output.npy"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert outcome(run(trial(), tmp_path)) == outcome(whole_run)


def test_fifty_million_products_fit_into_eight_gigabytes_and_a_full_layer_does_not():
    trials = load_study("amazon").build_trials("cpu")
    found = {}
    for each in trials:
        if each.model.method == "mach_in_turn":
            plan = Plan.of(each)
            found[plan.decode, plan.is_complete, each.model.hidden_dims] = bytes_of(each)
    for (_, is_complete, _), memory in found.items():
        # A process of torch and Numba has about 1 GB before.
        assert memory["predicted_bytes"] < 7e9, memory
        assert is_complete or memory["all_at_once_bytes"] > 60e9
    (many,) = load_study("amazon-r32").build_trials("cpu")
    assert bytes_of(many)["predicted_bytes"] < 7e9
    assert found["auto", True, (64,)]["decode_bytes"] == 49_460_000 * 8 * (2 + 2 + 4) + (
        8 * 8 * 10_001
    )
    narrow = found["recompute", True, (64,)]
    assert narrow["decode_bytes"] == 0
    assert narrow["world_bytes"] == 4 * (64 * 80_000 + 64 + 65 * 10_000)


@pytest.mark.parametrize(("width", "least"), [(64, 50e9), (2000, 1.58e12)])
def test_a_full_softmax_is_refused_with_its_bytes(width, least, monkeypatch):
    monkeypatch.setattr("bench.experiments.training.available_memory_bytes", lambda: 24 * GIB)
    (full,) = (
        each
        for each in load_study("amazon").build_trials("cpu")
        if each.model.method == "full_softmax" and each.model.hidden_dims == (width,)
    )
    events = []
    with pytest.raises(PredictedOutOfMemory) as refused:
        full_layer.run(full, dataclasses.replace(NOWHERE, emit=events.append))
    assert least < refused.value.predicted_bytes < 1.1 * least
    assert events[0]["memory"]["predicted_bytes"] == refused.value.predicted_bytes


def test_worlds_in_turn_have_no_validation_to_be_scored_alone(tmp_path):
    with pytest.raises(SettingsError, match="validation_only is True"):
        scale_trial.run(trial(), dataclasses.replace(NOWHERE, validation_only=True))


def test_what_does_not_fit_is_refused_before_a_label_is_counted(monkeypatch, tmp_path):
    monkeypatch.setattr("bench.experiments.training.available_memory_bytes", lambda: 1000)
    monkeypatch.setattr(
        "bench.experiments.scale.stream.QueryStream.label_counts",
        lambda self: pytest.fail("the labels of what does not fit were counted"),
    )
    with pytest.raises(PredictedOutOfMemory):
        run(trial(), tmp_path)


def test_a_world_is_gone_before_the_next_one_is_made(tmp_path, monkeypatch):
    made = []

    def build(of, facts):
        if torch.get_default_device().type == "meta":  # what is described takes no memory
            return build_model(of, facts)
        assert not any(model() is not None for model in made)
        model = build_model(of, facts)
        made.append(weakref.ref(model))
        return model

    monkeypatch.setattr(sequential_worlds, "build_model", build)
    of = trial(num_worlds=3)
    trainer, *_ = scale_trial._open(of, in_cache(tmp_path))
    trainer.all_worlds()
    assert len(made) == 3


def test_sampled_worlds_are_not_kept_and_find_no_labels(tmp_path):
    found = run(trial(trained_worlds=1), tmp_path)
    assert len(found["training"]["worlds"]) == 1
    assert found["test"] == {}
    assert not (tmp_path / "worlds").exists()


@pytest.mark.parametrize("options", [{}, {"trained_worlds": 1}])
def test_a_row_is_timed_by_step_world_and_decode(options, tmp_path):
    is_complete = not options
    of = trial("recompute", **options)
    if is_complete:
        run(of, tmp_path)
    seen = []

    def repetitions():
        for number in range(2):
            repetition = Repetition(number)
            yield repetition
            seen.append(repetition.to_record())

    row = scale_trial.time(of, in_cache(tmp_path), repetitions())
    assert row["weights"] == ("trained" if is_complete else "started")
    assert [set(phases) for phases in seen] == [{"train", "world", "decode", "decode-alone"}] * 2
    assert all(phase["seconds"] for phases in seen for phase in phases.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"decode": "guess"}, "decode is 'guess'"),
        ({"trained_worlds": 3}, "trained_worlds is 3; expected 1 to 2"),
        ({"num_worlds": 0}, "num_worlds is 0"),
        ({"decode": "recompute", "hash_family": "balanced"}, "hash_family 'universal'"),
        ({"share_encoder": True}, "share_encoder is set"),
        ({"typo": 1}, "unknown"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(SettingsError, match=said):
        Plan.of(trial(**{"decode": "dense", **options}))


def test_a_world_is_the_same_in_every_plan_that_has_it():
    keys = {Plan.of(trial(decode, num_worlds)).key(1, "f") for decode in ("auto", "dense")
            for num_worlds in (2, 3)}  # fmt: skip
    assert len(keys) == 1
    assert Plan.of(trial()).key(0, "f") not in keys
    wider = dataclasses.replace(trial(), replicate=1)
    assert Plan.of(wider).key(1, "f") not in keys
    assert Plan.of(trial()).key(1, "other data") not in keys


def test_counts_of_worlds_that_are_shown():
    assert worlds_shown(1) == [1]
    assert worlds_shown(32) == [*range(1, 9), 16, 32]


def test_facts_are_described_without_a_label_counted():
    points = load_points(trial(), NOWHERE)
    assert isinstance(points.described, DataFacts)
    assert points.described.label_counts.device.type == "meta"
    assert points.steps_per_epoch == 4
