"""What is known of sources of bucket scores without running one; never imports torch."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cards import card
from bench.settings import DataSpec, Scalar, SettingsError, Trial

#: Raised by whoever changes what a source gives for the same options; records of a lower one are
#: stale.
VERSIONS: dict[str, int] = {"planted_scores": 1, "model_scores": 1}

#: Data that models of `model_scores` are trained on, by the option `dataset`.
TRAINING_DATA: Mapping[str, DataSpec] = {
    "simplewiki": DataSpec(
        source="vw",
        name="simplewiki",
        options={"train": "simplewiki/train.vw.gz", "test": "simplewiki/test.vw.gz"},
    ),
    "citeulike": DataSpec(
        source="xmlrepo",
        name="citeulike-t",
        options={"train": "citeulike-t/train.txt.gz", "test": "citeulike-t/test.txt.gz"},
    ),
    "planted": DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 1500,
            "num_test_points": 200,
            "num_features": 300,
            "num_labels": 60,
        },
        num_validation_points=100,
    ),
}


def source_version(spec: DataSpec) -> int:
    """Version of the spec's source of scores.

    Raises:
        SettingsError: the source is unknown.
    """
    if spec.source not in VERSIONS:
        raise SettingsError(
            f"source of scores is {spec.source!r}; expected one of {', '.join(VERSIONS)}"
        )
    return VERSIONS[spec.source]


def data_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str | None:
    """Hash of all that the scores follow from; equal fingerprints mean equal scores.

    Of a trained model's scores that is also MACH's version and the fingerprint of its data.

    Args:
        spec: of the scores.
        data_dir: where data sets lie.
        cache_dir: where what is known of them is kept.

    Returns:
        16 hex digits; None where the model's data is not at hand.

    Raises:
        SettingsError: an unknown source or data set.
    """
    facts: dict[str, Any] = {
        "source": spec.source,
        "version": source_version(spec),
        "options": dict(spec.options),
    }
    if spec.source == "model_scores":
        data = training_fingerprint(str(spec.options.get("dataset")), data_dir, cache_dir)
        if data is None:
            return None
        facts |= {"data": data, "mach": card("mach").version}
    return _digest(facts)


def training_data(dataset: str) -> DataSpec:
    """Data of the models of a name.

    Raises:
        SettingsError: there is none of that name.
    """
    if dataset not in TRAINING_DATA:
        raise SettingsError(f"dataset is {dataset!r}; expected one of {', '.join(TRAINING_DATA)}")
    return TRAINING_DATA[dataset]


def training_fingerprint(dataset: str, data_dir: Path, cache_dir: Path) -> str | None:
    """Fingerprint of the data of the models of a name; None where it is not at hand.

    Raises:
        SettingsError: there is none of that name.
    """
    spec = training_data(dataset)
    # Imported when it is needed: planted scores can do without any data source.
    of_data = getattr(importlib.import_module("bench.data.sources"), "data_fingerprint", None)
    if of_data is None:
        return _digest({"source": spec.source, "options": dict(spec.options)})
    fingerprint: str | None = of_data(spec, data_dir, cache_dir)
    return fingerprint


def _digest(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settings_of(trial: Trial) -> dict[str, Scalar]:
    """What tells a decode trial from others, by name: its scores, their options, its own."""
    own: dict[str, Scalar] = {"scores": trial.data.name}
    return own | dict(trial.data.options) | dict(trial.model.options)


def matches(trial: Trial, where: Mapping[str, str]) -> bool:
    """Whether all of these settings have the values asked for, as text.

    >>> from bench.settings import ModelSpec, TrainSpec
    >>> data = DataSpec(source="planted_scores", name="uniform", options={"num_labels": 10})
    >>> model = ModelSpec(method="dense", encoder="linear", options={"k": 5})
    >>> trial = Trial(data=data, model=model, train=TrainSpec())
    >>> matches(trial, {"num_labels": "10", "k": "5"}), matches(trial, {"scores": "peak 0.9"})
    (True, False)
    """
    settings = settings_of(trial)
    return all(name in settings and str(settings[name]) == where[name] for name in where)


def select(trials: Sequence[Trial], where: Mapping[str, str]) -> list[Trial]:
    """The trials that match, in their order.

    Raises:
        SettingsError: a setting that no trial has, or none that has its value too.
    """
    chosen = list(trials)
    for name, value in where.items():
        known = {str(settings_of(trial)[name]) for trial in chosen if name in settings_of(trial)}
        if not known:
            names = sorted({name for trial in chosen for name in settings_of(trial)})
            raise SettingsError(f"no trial has a setting {name!r}; expected {', '.join(names)}")
        chosen = [trial for trial in chosen if matches(trial, {name: value})]
        if not chosen:
            raise SettingsError(
                f"no trial has {name} = {value!r}; there are {', '.join(sorted(known))}"
            )
    return chosen
