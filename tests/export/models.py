"""Small trials, data and exported models for the tests of `bench.export`."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from bench.experiments import training
from bench.export.write import export_trial
from bench.measure.experiment import Context
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

_MACH = {"num_buckets": 16, "num_worlds": 3}
_SAMPLES = {"num_samples": 20}


def _mlp(method: str, *widths: int, **options: Any) -> ModelSpec:
    return ModelSpec(method=method, hidden_dims=widths or (8,), options=options)


#: A model of every method, and of every form whose state or tables differ.
MODELS: dict[str, ModelSpec] = {
    "full_softmax": _mlp("full_softmax"),
    "linear": ModelSpec(method="full_softmax", encoder="linear"),
    "one_vs_all": _mlp("full_softmax", loss="bce"),
    "bfloat16": _mlp("full_softmax", update="sgd", weight_type="bfloat16", output_rate=0.5),
    "sampled_softmax": _mlp("sampled_softmax", **_SAMPLES),
    "sampled_bce": _mlp("sampled_bce", **_SAMPLES),
    "adaptive_softmax": _mlp("adaptive_softmax", head_share=0.3),
    "two_tower": _mlp("two_tower"),
    "mach": _mlp("mach", 8, 6, **_MACH),
    "mach_linear": ModelSpec(method="mach", encoder="linear", options=_MACH),
    "mach_shared": _mlp("mach", **_MACH, share_encoder=True, hash_family="universal"),
    "mach_pruned": _mlp("mach", **_MACH, decode_method="pruned", loss="bce"),
    "mach_hashed": _mlp("mach", **_MACH, num_hashed_features=64, filter_buckets=12),
    "centroid": ModelSpec(method="centroid"),
    "neighbours": ModelSpec(method="neighbours", options={"num_neighbours": 5}),
    "frequency": ModelSpec(method="frequency"),
}


def planted(**spec: Any) -> DataSpec:
    options = {
        "num_train_points": 501,
        "num_test_points": 90,
        "num_features": 120,
        "num_labels": 40,
    }
    settings = {"num_validation_points": 50} | spec
    return DataSpec(source="planted", name="planted", options=options, **settings)


def write_texts(folder: Path) -> DataSpec:
    """Texts that tell their label, as CSV with two columns of text; labels have names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    syllables = ("ba", "ko", "mi", "tü", "ra", "lo")
    words = [a + b for a in syllables for b in syllables]
    for name, count in (("train.csv", 400), ("test.csv", 70)):
        lines = ["title,label,body"]
        for _ in range(count):
            label = rng.randrange(12)
            some = [words[3 * label + rng.randrange(3)], *rng.choices(words, k=4)]
            lines.append(f'"{" ".join(some[:2])}",Straße {label},"{" ".join(some[2:])}"')
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return DataSpec(
        source="texts",
        name="texts",
        options={"train": "train.csv", "test": "test.csv", "text_columns": "title,body"},
        feature_weighting="tfidf",
        num_validation_points=40,
    )


def trial_of(data: DataSpec, model: ModelSpec, replicate: int = 0, **train: Any) -> Trial:
    settings = {"batch_size": 64, "learning_rate": 0.02, "num_validations": 2, "num_epochs": 2.0}
    return Trial(data=data, model=model, train=TrainSpec(**(settings | train)), replicate=replicate)


def context_of(folder: Path) -> Context:
    return Context(data_dir=folder, cache_dir=folder / "cache", keep_models=True)


def export(trial: Trial, folder: Path, **options: Any) -> Path:
    """Folder of a trial that has been run."""
    target = folder / "model"
    settings = {"record": {"trial_id": trial.trial_id}, "how": "bench run"} | options
    return export_trial(trial, context_of(folder), target, **settings)


def exported(model: ModelSpec, folder: Path, data: DataSpec | None = None) -> Path:
    """Folder of a model that is trained for it."""
    trial = trial_of(data or planted(), model)
    training.run(trial, context_of(folder))
    return export(trial, folder)
