"""The papers' set-ups: complete trials, of the published sizes, that a process could run."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.data.prepared import load_dataset
from bench.experiments import training
from bench.experiments.training import build_model
from bench.measure.experiment import Context
from bench.methods.cards import check_options
from bench.nn.classifier import DataFacts
from bench.settings import Trial
from bench.studies.presets import PRESETS, Preset
from tests.data.rows import planted

# Parameters as published, or as the papers' shapes give them in `PAPER.md`, and its rounding.
STATED = {
    "odp-b32-r25": (338e6, 1e6),
    "odp-b4-r50": (84.5e6, 0.1e6),
    "imagenet-b512-r20": (62.9e6, 0.1e6),
    "wiki10-31k": (32 * 52.2e6, 32 * 0.1e6),
    "delicious-200k": (32 * 394e6, 32 * 1e6),
    "amazon-670k": (32 * 73.2e6, 32 * 0.1e6),
    "amazon-3m": (16 * 450.6e6, 16 * 0.1e6),
    # Published: 5.77 and 6.4 billion.
    "amazon-search-b10000": (5.77e9, 0.011e9),
    "amazon-search-b20000": (6.4e9, 0.01e9),
}


def _described(preset: Preset) -> torch.nn.Module:
    """The model at its true size, without memory for its weights."""
    sizes = preset.sizes
    # The counts decide no size: one number for all labels.
    counts = torch.ones(1, dtype=torch.int64).expand(sizes.num_labels)
    facts = DataFacts(
        num_features=sizes.num_features,
        num_labels=sizes.num_labels,
        task="multiclass" if preset.name.startswith(("odp", "imagenet")) else "multilabel",
        label_counts=counts,
        num_train_points=sizes.num_train_points,
    )
    with torch.device("meta"):
        return build_model(preset.trial(), facts)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_is_a_trial_that_survives_json_and_builds_at_its_size(name):
    preset = PRESETS[name]
    trial = preset.trial(replicate=1)
    assert Trial.from_dict(json.loads(json.dumps(trial.to_dict()))) == trial
    check_options(trial.model)
    model = _described(preset)
    assert preset.reproduces
    if name in STATED:
        stated, rounding = STATED[name]
        found = sum(parameter.numel() for parameter in model.parameters())
        assert found == pytest.approx(stated, abs=rounding)


def test_the_query_tower_of_the_search_has_the_published_order_of_parameters():
    model = _described(PRESETS["amazon-search-dssm"])
    tower = sum(parameter.numel() for parameter in model.encoder.parameters())
    assert tower == pytest.approx(200e6, rel=0.1)  # published: 200 million


def test_presets_import_no_torch():
    code = "import sys, bench.studies.presets; sys.exit('torch' in sys.modules)"
    root = Path(__file__).resolve().parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_hash_functions_are_the_published_ones_in_every_replicate():
    preset = PRESETS["bibtex-159-third-party"]
    facts = DataFacts(1836, 159, "multilabel", torch.ones(159, dtype=torch.int64), 4380)
    first, second = (build_model(preset.trial(replicate), facts) for replicate in range(2))
    assert torch.equal(first.head.table, second.head.table)
    assert not torch.equal(first.head.weight, second.head.weight)
    # Signed murmur3 of labels 0 to 5 with seed 0, floor-modulo B.
    values = [593689054, -68075478, 1085422463, 847579505, 1889779975, 236698494]
    assert first.head.table[0, :6].tolist() == [value % 100 for value in values]


@pytest.mark.parametrize(
    "name", ["wiki10-31k", "odp-b32-r25", "amazon-3m", "eurlex-4k-third-party"]
)
def test_preset_trains_on_small_data(name, tmp_path):
    trial = PRESETS[name].trial()
    is_multiclass = trial.model.encoder == "linear"
    data = dataclasses.replace(
        trial.data,
        source="planted",
        options=planted(1200, 200, 300, 40, labels_per_point=1 if is_multiclass else 3),
        num_validation_points=100 if trial.train.keep_best else 0,
    )
    small = {"num_buckets": 16, "num_worlds": 4}
    small |= {"num_hashed_features": 128} if "num_hashed_features" in trial.model.options else {}
    model = dataclasses.replace(
        trial.model,
        options={**trial.model.options, **small},
        hidden_dims=tuple(32 for _ in trial.model.hidden_dims),
    )
    epochs = {"num_epochs": 40} if trial.train.keep_best else {"num_epochs": 20}
    train = dataclasses.replace(trial.train, batch_size=50, learning_rate=0.01, **epochs)
    payload = training.run(
        dataclasses.replace(trial, data=data, model=model, train=train),
        Context(data_dir=tmp_path, cache_dir=tmp_path / "cache"),
    )
    losses = [point["loss"] for point in payload["training"]["curve"]]
    assert all(math.isfinite(loss) for loss in losses)
    assert payload["test"]["P@1"] > 0.3
    assert ("kept_step" in payload["training"]) == trial.train.keep_best


@pytest.mark.parametrize("name", ["bibtex-159-third-party", "delicious-983-third-party"])
def test_stated_sizes_are_those_of_the_set(name, data_dir, tmp_path):
    preset = PRESETS[name]
    facts = load_dataset(preset.data, data_dir, tmp_path).facts
    sizes = preset.sizes
    points = facts["num_train_points"] + facts["num_validation_points"]
    assert points == sizes.num_train_points
    assert facts["num_test_points"] == sizes.num_test_points
    assert (facts["num_features"], facts["num_labels"]) == (sizes.num_features, sizes.num_labels)
