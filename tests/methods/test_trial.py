"""A whole trial of every method: what it records, that it repeats, and what it refuses."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.experiments import recipe, trainer
from bench.experiments import training as trial_module
from bench.experiments.weights import keep_weights, restore_weights, weights_key
from bench.measure import phases
from bench.measure.experiment import Context
from bench.measure.memory import PredictedOutOfMemory
from bench.measure.phases import Repetition
from bench.methods.arithmetic import PROCESS_BYTES
from bench.methods.card import TRAINING_ENTRY
from bench.methods.cards import cards, method_class
from bench.runner.child import TRIAL_ENVIRONMENT
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from tests.data.rows import planted

# Sizes of a small model, for methods that need or take them; a new method runs without a line here.
OPTIONS = {
    "mach": {"num_buckets": 16, "num_worlds": 4},
    "full_softmax": {"chunk_size": 16},
    "sampled_softmax": {"num_samples": 20},
    "sampled_bce": {"num_samples": 20},
    "neighbours": {"num_neighbours": 20},
}
CARDS = {card.name: card for card in cards("training") if card.entry == TRAINING_ENTRY}
CLOSED_FORM = {name for name in CARDS if method_class(name).is_closed_form}
TRAINED = [name for name in CARDS if name not in CLOSED_FORM]
TASKS = {"multiclass": 1, "multilabel": 3}


def _model(method: str, encoder: str = "mlp", **options) -> ModelSpec:
    options = OPTIONS.get(method, {}) | options
    return ModelSpec(method=method, encoder=encoder, hidden_dims=(8,), options=options)


def _trial(method: str, task: str = "multiclass", *, model=None, replicate=0, **train) -> Trial:
    options = planted(1200, 300, 300, 40, labels_per_point=TASKS[task])
    data = DataSpec(source="planted", name="planted", options=options, num_validation_points=100)
    length = {} if train.keys() & {"num_steps", "budget_seconds"} else {"num_epochs": 4.0}
    settings = {"batch_size": 64, "learning_rate": 0.02, "num_validations": 2} | length | train
    return Trial(
        data=data,
        model=model or _model(method),
        train=TrainSpec(**settings),
        replicate=replicate,
    )


def _context(tmp_path: Path, events: list | None = None, **fields) -> Context:
    emit = ([] if events is None else events).append
    return Context(data_dir=tmp_path, cache_dir=tmp_path / "cache", emit=emit, **fields)


def _run(trial: Trial, tmp_path: Path, events: list | None = None, **fields) -> dict:
    return trial_module.run(trial, _context(tmp_path, events, **fields))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", CARDS)
def test_every_method_beats_chance_and_fills_its_record(method, task, tmp_path):
    payload = _run(_trial(method, task), tmp_path)
    assert payload["test"]["P@1"] > (0.1 if method == "frequency" else 0.3)
    assert payload["clock"]["train_seconds"] > 0
    assert payload["memory"]["host_peak_bytes"] > 0
    assert payload["data"]["num_labels"] == 40
    assert len(payload["data"]["fingerprint"]) == 64
    if method in CLOSED_FORM:
        assert payload["training"]["num_steps"] == 0
        (point,) = payload["training"]["curve"]
        assert (point["step"], point["epoch"], point["loss"]) == (0, 1.0, None)
        # 100 validation points of the same distribution as 300 test points.
        assert point["metrics"]["P@1"] == pytest.approx(payload["test"]["P@1"], abs=0.15)
    else:
        curve = payload["training"]["curve"]
        steps = payload["training"]["num_steps"]
        assert [point["step"] for point in curve] == [steps / 2, steps]
        assert [point["epoch"] for point in curve] == [2.0, 4.0]
        assert all("P@1" in point["metrics"] for point in curve)
        assert curve[-1]["loss"] < curve[0]["loss"]
        memory = payload["memory"]
        assert memory["optimizer_bytes"] == 2 * memory["parameter_bytes"]


def test_a_linear_mach_learns_and_records_its_worlds_and_hash_table(tmp_path):
    payload = _run(_trial("mach", model=_model("mach", "linear")), tmp_path)
    assert payload["test"]["P@1"] > 0.3
    assert {row["num_worlds"] for row in payload["worlds"]} == {1, 2, 4}
    assert payload["memory"]["decode_bytes"] == 4 * 40


def test_a_linear_softmax_comes_near_the_bayes_accuracy_of_planted_data(tmp_path):
    trial = _trial("full_softmax", model=_model("full_softmax", "linear"), num_epochs=12.0)
    options = dict(trial.data.options) | {"num_train_points": 12_000}
    data = dataclasses.replace(
        trial.data, options=options, feature_weighting="raw", normalize_rows=False
    )
    payload = _run(dataclasses.replace(trial, data=data), tmp_path)
    bayes = payload["data"]["bayes_accuracy"]
    assert bayes - 0.1 < payload["test"]["P@1"] <= bayes + 0.05


def _print_quality(folder: str, order: int) -> None:
    """What settings alone decide of each trial; run by a process of its own."""
    names = ("test", "training", "worlds", "estimators")
    outcomes = {}
    every = list(itertools.product(CARDS, TASKS, range(2)))
    for trial in (_trial(*each, replicate=number) for *each, number in every[::order]):
        payload = _run(trial, Path(folder))
        outcomes[trial.trial_id] = {name: payload[name] for name in names}
    print(json.dumps(outcomes, sort_keys=True))  # noqa: T201


@pytest.fixture(scope="module")
def twice(tmp_path_factory) -> list[dict]:
    """Quality of every trial from two processes, which ran them in opposite orders."""
    folder = tmp_path_factory.mktemp("twice")
    paths = os.pathsep.join((str(Path(__file__).parent), str(Path(__file__).parents[2])))
    outcomes = []
    for order in (1, -1):
        code = f"from test_trial import _print_quality as p; p({str(folder)!r}, {order})"
        environment = os.environ | TRIAL_ENVIRONMENT | {"PYTHONPATH": paths}
        command = [sys.executable, "-W", "ignore", "-c", code]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert answer.returncode == 0, answer.stderr
        outcomes.append(json.loads(answer.stdout.splitlines()[-1]))
    return outcomes


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", CARDS)
def test_the_same_trial_gives_the_same_metrics_and_curve_in_any_process(twice, method, task):
    for replicate in range(2):
        trial_id = _trial(method, task, replicate=replicate).trial_id
        first, second = (outcomes[trial_id] for outcomes in twice)
        assert first == second
        assert len(first["training"]["curve"]) == (1 if method in CLOSED_FORM else 2)


@pytest.mark.parametrize("method", TRAINED)
def test_a_replicate_is_another_draw(twice, method):
    first, other = (twice[0][_trial(method, replicate=i).trial_id] for i in range(2))
    assert first["training"]["curve"] != other["training"]["curve"]


@pytest.mark.parametrize("method", ["mach", "neighbours", "centroid"])
def test_validation_alone_is_scored_where_the_context_says_so(method, tmp_path, monkeypatch):
    trial = _trial(method, "multilabel")
    whole = _run(trial, tmp_path)
    events: list[dict] = []
    shutil.rmtree(tmp_path / "cache" / "weights", ignore_errors=True)
    monkeypatch.delattr(trial_module.Prepared, "test_batches")
    part = _run(trial, tmp_path, events, validation_only=True)
    assert part["training"] == whole["training"]
    assert [part[name] for name in ("test", "worlds", "estimators")] == [None, None, None]
    assert part["data"]["num_validation_points"] == 100
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases[-1] == "train"
    assert not (tmp_path / "cache" / "weights").exists()


@pytest.mark.parametrize(
    ("points", "validations"), [(0, 2), (100, 0)], ids=["no points", "no validations"]
)
def test_a_trial_without_validation_is_refused_where_nothing_else_counts(
    points, validations, tmp_path
):
    trial = _trial("mach", num_validations=validations)
    data = dataclasses.replace(trial.data, num_validation_points=points)
    words = f"num_validation_points is {points} and num_validations {validations}"
    with pytest.raises(SettingsError, match=words):
        _run(dataclasses.replace(trial, data=data), tmp_path, validation_only=True)
    assert not (tmp_path / "cache").exists()


def _prepared(trial: Trial, tmp_path: Path) -> trial_module.Prepared:
    return trial_module.prepare(trial, _context(tmp_path))


@pytest.mark.parametrize("method", TRAINED)
def test_kept_weights_are_restored_to_the_bit(method, tmp_path):
    trial = _trial(method, num_steps=5)
    ready = _prepared(trial, tmp_path)
    trial_module.fit(ready)
    assert keep_weights(ready.model, tmp_path, "key")
    other = _prepared(trial, tmp_path).model
    assert restore_weights(other, tmp_path, "key")
    trained = dict(ready.model.named_parameters())
    assert trained
    for name, value in other.named_parameters():
        assert torch.equal(value, trained[name]), name
    assert not restore_weights(other, tmp_path, "another key")
    wider = dataclasses.replace(trial, model=dataclasses.replace(trial.model, hidden_dims=(9,)))
    assert not restore_weights(_prepared(wider, tmp_path).model, tmp_path, "key")


@pytest.mark.parametrize(
    ("replicate", "keep_models", "is_kept"), [(0, False, True), (1, False, False), (1, True, True)]
)
def test_weights_are_kept_of_the_first_replicate_and_where_asked_of_all(
    replicate, keep_models, is_kept, tmp_path
):
    # An output layer in bfloat16, which NumPy's files have no type for.
    model = _model("full_softmax", update="sgd", weight_type="bfloat16", output_rate=0.5)
    trial = _trial("full_softmax", model=model, replicate=replicate, num_steps=3)
    _run(trial, tmp_path, keep_models=keep_models)
    other = _prepared(trial, tmp_path)
    key = trial_module._weights_key(other)
    assert restore_weights(other.model, tmp_path / "cache", key) == is_kept
    if is_kept:
        trained = trial_module.prepare(trial, _context(tmp_path))
        trial_module.fit(trained)
        for name, value in other.model.named_parameters():
            assert torch.equal(value, trained.model.get_parameter(name)), name


def test_weights_that_would_fill_the_disk_are_not_kept(tmp_path, monkeypatch):
    model = _prepared(_trial("mach"), tmp_path).model
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(
        "bench.experiments.weights.shutil.disk_usage", lambda path: usage._replace(free=10)
    )
    assert not keep_weights(model, tmp_path, "key")
    assert not (tmp_path / "weights" / "key").exists()


@pytest.fixture
def _brief(monkeypatch):
    """Repetitions of a tenth of a second."""
    monkeypatch.setattr(trainer, "_WARM_UP_SECONDS", (0.01, 0.01))
    monkeypatch.setattr(trainer, "_TIMED_SECONDS", 0.05)
    monkeypatch.setattr(phases, "PHASE_SECONDS", 0.02)


def _time(trial: Trial, tmp_path: Path, num_rounds: int = 2) -> tuple[dict, list[Repetition]]:
    repetitions = [Repetition(number) for number in range(num_rounds)]
    return trial_module.time(trial, _context(tmp_path), iter(repetitions)), repetitions


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("method", CARDS)
def test_every_repetition_times_training_and_inference(method, tmp_path):
    is_closed_form = method in CLOSED_FORM
    row, repetitions = _time(_trial(method), tmp_path)
    assert len(row["fingerprint"]) == 64
    assert row["weights"] == (None if is_closed_form else "started")
    expected = ["fit"] if is_closed_form else ["train"]
    expected += ["latency", "throughput"] + ([] if is_closed_form else ["decode"])
    for repetition in repetitions:
        phases = repetition.to_record()
        assert list(phases) == expected
        assert all(seconds > 0 for phase in phases.values() for seconds in phase["seconds"])
        assert phases["latency"]["units"] == 1
        assert phases["throughput"]["units"] == 256
        assert len(phases[expected[0]]["seconds"]) >= (1 if is_closed_form else 3)


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("method", TRAINED)
def test_inference_is_timed_on_the_weights_of_the_finished_trial(method, tmp_path):
    trial = _trial(method)
    _run(trial, tmp_path)
    ready = _prepared(trial, tmp_path)
    assert restore_weights(ready.model, tmp_path / "cache", trial_module._weights_key(ready))
    before = {name: value.detach().clone() for name, value in ready.model.named_parameters()}
    trial_module.measure(ready, iter([Repetition(0), Repetition(1)]), is_trained=True)
    for name, value in ready.model.named_parameters():
        assert torch.equal(value, before[name]), name
    assert _time(trial, tmp_path, num_rounds=1)[0]["weights"] == "trained"


@pytest.mark.usefixtures("_brief")
@pytest.mark.parametrize("changes", [{"learning_rate": 0.5}, {"num_epochs": 9.0}])
def test_weights_of_a_trial_are_not_taken_for_those_of_another_rate_or_length(changes, tmp_path):
    trial = _trial("mach")
    _run(trial, tmp_path)
    other = dataclasses.replace(trial, train=dataclasses.replace(trial.train, **changes))
    assert other.cost_id == trial.cost_id
    assert _time(other, tmp_path, num_rounds=1)[0]["weights"] == "started"


def test_weights_outlive_a_raised_version_of_metrics():
    old = {"method": 1, "source": 1, "protocol": 1, "psp": 1}
    assert weights_key("t", old, "f") == weights_key("t", old | {"psp": 2}, "f")
    assert weights_key("t", old, "f") != weights_key("t", old | {"method": 2}, "f")


@pytest.mark.usefixtures("_brief")
def test_timed_training_of_an_untrained_model_trains(tmp_path):
    ready = _prepared(_trial("mach"), tmp_path)
    before = ready.model.head.weight.detach().clone()
    trial_module.measure(ready, iter([Repetition(0)]), is_trained=False)
    assert not torch.equal(ready.model.head.weight, before)


@pytest.mark.parametrize("method", TRAINED)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        # The row-wise optimiser refuses such a rate; torch's own makes weights NaN with it.
        ({"learning_rate": 3e38, "num_steps": 1, "num_validations": 0}, "smaller learning rate"),
        ({"learning_rate": 3e38, "num_steps": 1, "num_validations": 1}, "smaller learning rate"),
        # Weights are huge and finite; what they score is not.
        ({"learning_rate": 1e37, "num_steps": 2}, "finite|NaN"),
        # A loss that diverges.
        ({"learning_rate": 1e38, "optimizer": "adam"}, "smaller learning rate"),
    ],
)
def test_training_that_ran_away_is_an_error(method, changes, message, tmp_path):
    with pytest.raises((FloatingPointError, ValueError), match=message):
        _run(_trial(method, **changes), tmp_path)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_weight_that_is_no_number_is_refused_wherever_it_is(bad):
    model = torch.nn.Linear(64, 1000)
    trial_module.refuse_what_is_not_finite(model)
    for place in (0, 31_999, 63_999):
        weight = model.weight.detach().clone().view(-1)
        weight[place] = bad
        with pytest.raises(FloatingPointError, match="weights 0"):
            trial_module.refuse_what_is_not_finite(torch.nn.ParameterList([weight]))


def test_looking_for_weights_that_are_no_numbers_makes_no_copy_of_them():
    model = torch.nn.Linear(1000, 1000)
    with torch.profiler.profile(profile_memory=True) as profile:
        trial_module.refuse_what_is_not_finite(model)
    taken = sum(max(0, event.cpu_memory_usage) for event in profile.events())
    assert 0 < taken < 4 * 1000


@pytest.mark.parametrize("method", CARDS)
def test_scores_that_are_no_numbers_are_an_error(method, tmp_path, monkeypatch):
    trial = _trial(method, num_validations=0)
    ready = _prepared(trial, tmp_path)
    trial_module.fit(ready)
    whole = ready.model.top_k

    def spoiled(batch, k):
        scores, labels = whole(batch, k)
        scores = scores.clone()
        scores[-1, 0] = math.nan
        return scores, labels

    monkeypatch.setattr(ready.model, "top_k", spoiled)
    with pytest.raises(FloatingPointError, match="NaN"):
        trial_module.score(ready)


def test_a_budget_in_seconds_does_not_run(tmp_path):
    with pytest.raises(ValueError, match=r"budget_seconds is 5.0"):
        _run(_trial("mach", budget_seconds=5.0), tmp_path)


def test_phases_and_steps_are_told_as_they_come(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "EVENT_SECONDS", 0.0)
    events: list[dict] = []
    _run(_trial("mach", num_steps=6), tmp_path, events)
    steps = [event for event in events if event["event"] == "step"]
    assert [step["fraction"] for step in steps] == [n / 6 for n in range(1, 7)]
    assert steps[-1]["seconds_left"] == 0
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    before = ["data", "build", "compile"]
    assert phases == [*before, "train", "evaluate", "analyse", "keep weights"]


def test_the_rate_decays_along_the_steps_or_after_epochs_as_torch_schedules_it(
    tmp_path, monkeypatch
):
    rates: list[float] = []
    monkeypatch.setattr(recipe, "set_learning_rate", lambda trainer, rate: rates.append(rate))
    _run(_trial("mach", num_steps=4, learning_rate=0.8), tmp_path)
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2])
    rates.clear()
    steps = {"schedule": "step_decay", "decay_epochs": (1, 3), "decay_factor": 0.5}
    _run(_trial("mach", num_epochs=4, batch_size=400, learning_rate=0.8, **steps), tmp_path)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.8)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], 0.5)
    expected = []
    for _ in range(4):  # epochs of three batches
        expected += [optimizer.param_groups[0]["lr"]] * 3
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("method", ["mach", "full_softmax"])
def test_the_best_weights_are_those_of_a_training_that_ends_there(method, tmp_path):
    # At this rate the last validations are worse than the best one.
    settings = {"schedule": "constant", "learning_rate": 0.5, "num_validations": 12}
    trial = _trial(method, num_steps=48, keep_best=True, **settings)
    kept = _run(trial, tmp_path)["training"]
    quality = {point["step"]: point["metrics"]["P@1"] for point in kept["curve"]}
    best = max(quality.values())
    first = min(step for step, value in quality.items() if value == best)
    assert kept["kept_step"] == first < 48
    assert kept["num_steps"] == 48
    models = []
    for other in (trial, _trial(method, num_steps=first, **settings)):
        ready = _prepared(other, tmp_path)
        block = trial_module.fit(ready)
        assert ("kept_step" in block) == other.train.keep_best
        models.append(dict(ready.model.named_parameters()))
    for name, value in models[0].items():
        assert torch.equal(value, models[1][name]), name
    plain = dataclasses.replace(trial, train=dataclasses.replace(trial.train, keep_best=False))
    ready = _prepared(plain, tmp_path)
    trial_module.fit(ready)
    last = dict(ready.model.named_parameters())
    assert any(not torch.equal(value, last[name]) for name, value in models[0].items())


def test_memory_of_the_best_weights_is_predicted(tmp_path):
    plain, kept = (
        _prepared(_trial("mach", keep_best=keep), tmp_path).memory for keep in (False, True)
    )
    assert kept["predicted_bytes"] == plain["predicted_bytes"] + plain["parameter_bytes"]


def test_file_order_trains_on_the_first_batches_of_the_file(tmp_path):
    plain = _trial("mach", order="file", drop_last=True, batch_size=300, num_epochs=2.0)
    seen = []
    ready = _prepared(plain, tmp_path)
    whole = ready.model.training_loss
    ready.model.training_loss = lambda batch: (seen.append(batch.feature_ids), whole(batch))[1]
    block = trial_module.fit(ready)
    assert block["points_seen"] == 2 * 900  # of 1,100 points
    assert torch.equal(torch.cat(seen[:3]), torch.cat(seen[3:]))
    features = ready.data.dataset.train_features.slice(0, 900)
    assert torch.cat(seen[:3]).tolist() == features.ids.tolist()


def test_what_cannot_fit_is_refused_with_its_bytes_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "available_memory_bytes", lambda: 10_000)
    events: list[dict] = []
    with pytest.raises(PredictedOutOfMemory) as caught:
        _run(_trial("mach"), tmp_path, events)
    parts = caught.value.parts
    # 4 worlds: 300 × 8 first layer, its bias, 9 × 16 output layer; 4 bytes each.
    assert parts["parameter_bytes"] == 4 * 4 * (300 * 8 + 8 + 9 * 16)
    assert parts["optimizer_bytes"] == 2 * parts["parameter_bytes"]
    own = sum(
        parts[f"{part}_bytes"] for part in ("parameter", "gradient", "optimizer", "activation")
    )
    assert own + PROCESS_BYTES < caught.value.predicted_bytes < own + 1.3 * PROCESS_BYTES
    assert not [event for event in events if event.get("phase") == "train"]
    partial = next(event for event in events if event["event"] == "partial")
    assert partial["memory"]["predicted_bytes"] == caught.value.predicted_bytes


def test_a_model_too_large_for_any_machine_is_predicted_without_being_built(tmp_path):
    huge = ModelSpec(method="full_softmax", hidden_dims=(2**40,))
    with pytest.raises(PredictedOutOfMemory):
        _run(_trial("full_softmax", model=huge), tmp_path)


def test_no_optimizer_is_predicted_with_dense_gradients_of_rows(tmp_path):
    rows, dense = (
        _run(_trial("sampled_softmax", num_steps=2, batch_size=4, optimizer=o), tmp_path)["memory"]
        for o in ("row_adam", "adam")
    )
    assert rows["gradient_bytes"] == dense["gradient_bytes"] < rows["parameter_bytes"]


def test_unknown_options_are_refused_before_any_data_is_read(tmp_path):
    model = ModelSpec(method="mach", options={"num_bucket": 16, "num_worlds": 2})
    with pytest.raises(SettingsError, match=r"unknown \['num_bucket'\], missing \['num_buckets'\]"):
        _run(_trial("mach", model=model), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_feature_dropout_acts_on_training_alone(tmp_path):
    plain, dropped = (
        _run(_trial("mach", model=_model("mach", **options)), tmp_path)
        for options in ({}, {"feature_dropout": 0.5})
    )
    assert dropped["training"]["curve"][-1]["loss"] > plain["training"]["curve"][-1]["loss"]
    assert dropped["test"]["P@1"] > 0.3
