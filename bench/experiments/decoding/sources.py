"""What is known of sources of bucket scores without running one; never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data.sources import data_fingerprint as fingerprint_of_data
from bench.methods.cards import card
from bench.settings import DataSpec, SettingsError, short_hash

#: Raised by whoever changes what a source gives for the same options; records of a lower one are
#: stale.
VERSIONS: dict[str, int] = {"planted_scores": 1, "model_scores": 1}

#: Data that models of `model_scores` are trained on, by the option `dataset`.
TRAINING_DATA: Mapping[str, DataSpec] = {
    "simplewiki": DataSpec(
        source="vw",
        name="simplewiki",
        options={"train": "simplewiki/train.vw.gz", "test": "simplewiki/test.vw.gz"},
        feature_weighting="tfidf",
    ),
    "citeulike": DataSpec(
        source="xmlrepo",
        name="citeulike-t",
        options={"train": "citeulike-t/train.txt.gz", "test": "citeulike-t/test.txt.gz"},
        feature_weighting="tfidf",
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
    """Version of the spec's source of scores."""
    if spec.source not in VERSIONS:
        raise SettingsError(
            f"source of scores is {spec.source!r}; expected one of {', '.join(VERSIONS)}"
        )
    return VERSIONS[spec.source]


def data_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str | None:
    """Hash of all that the scores follow from; equal fingerprints mean equal scores.

    Of a trained model's scores that is also MACH's version and the fingerprint of its data.
    None where the model's data is not at hand.
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
    return short_hash(facts)


def training_data(dataset: str) -> DataSpec:
    """Data of the models of a name."""
    if dataset not in TRAINING_DATA:
        raise SettingsError(f"dataset is {dataset!r}; expected one of {', '.join(TRAINING_DATA)}")
    return TRAINING_DATA[dataset]


def training_fingerprint(dataset: str, data_dir: Path, cache_dir: Path) -> str | None:
    """Fingerprint of the data of the models of a name; None where it is not at hand."""
    return fingerprint_of_data(training_data(dataset), data_dir, cache_dir)
