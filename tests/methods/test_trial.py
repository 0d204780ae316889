"""A whole trial, in this process: every part of the record that comes from inside."""

import dataclasses

import pytest

from bench import trial as trial_module
from bench.measure.memory import PredictedOutOfMemory
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from bench.trial import execute

MODELS = {
    "full": ModelSpec(method="full_softmax", hidden_dims=(8,), options={"chunk_size": 16}),
    "sampled": ModelSpec(
        method="sampled_softmax",
        hidden_dims=(8,),
        options={"sampler": "log_uniform", "num_samples": 20},
    ),
    "mach": ModelSpec(
        method="mach", hidden_dims=(8,), options={"num_buckets": 16, "num_worlds": 4}
    ),
    "mach linear": ModelSpec(
        method="mach", encoder="linear", options={"num_buckets": 16, "num_worlds": 4}
    ),
    "frequency": ModelSpec(method="frequency", encoder="linear"),
    "centroid": ModelSpec(method="centroid", encoder="linear"),
}


def _trial(model: ModelSpec, labels_per_point: int = 1, **train) -> Trial:
    data = DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 1200,
            "num_test_points": 300,
            "num_features": 300,
            "num_labels": 40,
            "labels_per_point": labels_per_point,
        },
        num_validation_points=100,
    )
    settings = {"batch_size": 64, "learning_rate": 0.02, "max_epochs": 4.0} | train
    return Trial(data=data, model=model, train=TrainSpec(**settings))


def _execute(trial: Trial, tmp_path, events: list | None = None) -> dict:
    return execute(
        trial,
        data_dir=tmp_path,
        cache_dir=tmp_path / "cache",
        accelerator="cpu",
        emit=(events if events is not None else []).append,
    )


@pytest.mark.parametrize("labels_per_point", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_every_method_beats_chance_and_fills_its_record(name, labels_per_point, tmp_path):
    trial = _trial(MODELS[name], labels_per_point, num_validations=2)
    payload = _execute(trial, tmp_path)
    assert payload["test"]["P@1"] > (0.1 if name == "frequency" else 0.3)
    assert payload["clock"]["train_seconds"] > 0
    assert payload["clock"]["evaluation_seconds"] > 0
    assert len(payload["inference"]["latency_seconds"]) == trial_module.LATENCY_QUERIES
    assert payload["memory"]["host_peak_bytes"] > 0
    assert payload["data"]["num_labels"] == 40
    if name in ("frequency", "centroid"):
        assert payload["training"]["num_steps"] == 0
    else:
        curve = payload["training"]["curve"]
        assert [point["epoch"] for point in curve] == [2.0, 4.0]
        assert all("P@1" in point["metrics"] for point in curve)
        assert curve[-1]["loss"] < curve[0]["loss"]
        memory = payload["memory"]
        assert memory["optimizer_bytes"] == 2 * memory["parameter_bytes"]
    if name.startswith("mach"):
        assert {row["num_worlds"] for row in payload["worlds"]} == {1, 2, 4}
        assert payload["memory"]["decode_bytes"] == 4 * 40
    else:
        assert payload["worlds"] is None


def test_a_linear_softmax_comes_near_the_bayes_accuracy_of_planted_data(tmp_path):
    model = ModelSpec(method="full_softmax", encoder="linear")
    trial = _trial(model, learning_rate=0.02, max_epochs=12.0)
    options = dict(trial.data.options) | {"num_train_points": 12_000}
    data = dataclasses.replace(
        trial.data, options=options, feature_weighting="raw", normalize_rows=False
    )
    payload = _execute(dataclasses.replace(trial, data=data), tmp_path)
    bayes = payload["data"]["bayes_accuracy"]
    assert bayes - 0.1 < payload["test"]["P@1"] <= bayes + 0.05


def test_seconds_end_training_and_validation_does_not_count(tmp_path):
    events: list[dict] = []
    trial = _trial(MODELS["full"], max_epochs=10_000.0, max_train_seconds=0.5, num_validations=3)
    payload = _execute(trial, tmp_path, events)
    assert 0.5 <= payload["clock"]["train_seconds"] < 2.5
    assert len(payload["training"]["curve"]) == 3
    assert payload["training"]["curve"][-1]["train_seconds"] >= 0.5
    steps = [event for event in events if event["event"] == "step"]
    assert steps
    assert all(0 < event["fraction"] <= 1 for event in steps)
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert phases == ["data", "build", "train", "evaluate", "decode"]


def test_the_same_trial_gives_the_same_model_and_a_replicate_another(tmp_path):
    trial = _trial(MODELS["mach"])
    first, again = (_execute(trial, tmp_path)["test"] for _ in range(2))
    other = _execute(dataclasses.replace(trial, replicate=1), tmp_path)["test"]
    assert first == again
    assert first != other


def test_what_cannot_fit_is_refused_with_its_bytes_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(trial_module, "available_memory_bytes", lambda: 10_000)
    events: list[dict] = []
    with pytest.raises(PredictedOutOfMemory) as caught:
        _execute(_trial(MODELS["mach"]), tmp_path, events)
    parts = caught.value.parts
    # 4 worlds: 300 × 8 first layer, its bias, 9 × 16 output layer; 4 bytes each.
    assert parts["parameter_bytes"] == 4 * 4 * (300 * 8 + 8 + 9 * 16)
    assert parts["optimizer_bytes"] == 2 * parts["parameter_bytes"]
    assert caught.value.predicted_bytes == sum(
        parts[f"{part}_bytes"] for part in ("parameter", "gradient", "optimizer", "activation")
    )
    assert not [event for event in events if event.get("phase") == "train"]
    partial = next(event for event in events if event["event"] == "partial")
    assert partial["memory"]["predicted_bytes"] == caught.value.predicted_bytes


def test_a_model_too_large_for_any_machine_is_predicted_without_being_built(tmp_path):
    huge = ModelSpec(method="full_softmax", hidden_dims=(2**40,))
    with pytest.raises(PredictedOutOfMemory):
        _execute(_trial(huge), tmp_path)


def test_dense_adam_is_predicted_with_dense_gradients(tmp_path):
    small = _execute(_trial(MODELS["sampled"], max_epochs=0.1, batch_size=4), tmp_path)["memory"]
    trial = _trial(MODELS["sampled"], max_epochs=0.1, batch_size=4, optimizer="adam")
    dense = _execute(trial, tmp_path)["memory"]
    assert dense["gradient_bytes"] == dense["parameter_bytes"] > small["gradient_bytes"]


def test_a_diverging_loss_is_named(tmp_path):
    with pytest.raises(FloatingPointError, match="smaller learning rate"):
        _execute(_trial(MODELS["full"], learning_rate=1e38, optimizer="adam"), tmp_path)


def test_unknown_options_are_refused_before_any_data_is_read(tmp_path):
    model = dataclasses.replace(MODELS["mach"], options={"num_bucket": 16, "num_worlds": 2})
    with pytest.raises(SettingsError, match=r"unknown \['num_bucket'\], missing \['num_buckets'\]"):
        _execute(_trial(model), tmp_path)
    assert not (tmp_path / "cache").exists()


def test_feature_dropout_acts_on_training_alone(tmp_path):
    options = dict(MODELS["full"].options) | {"feature_dropout": 0.5}
    model = dataclasses.replace(MODELS["full"], options=options)
    plain, dropped = (_execute(_trial(m), tmp_path) for m in (MODELS["full"], model))
    assert dropped["training"]["curve"][-1]["loss"] > plain["training"]["curve"][-1]["loss"]
    assert dropped["test"]["P@1"] > 0.3
