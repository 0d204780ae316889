"""Tiny data, models and trainers for the tests of Lightning's ordinary life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L

from baselines.adaptive_softmax import AdaptiveSoftmax
from baselines.full_softmax import FullSoftmax
from baselines.sampled_softmax import SampledSoftmax
from baselines.two_tower import TwoTower
from bench.data.module import ExtremeDataModule
from bench.experiments.training import data_facts
from bench.mach.module import Mach
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.settings import DataSpec
from tests.data import rows

WIDTH = 16
SHARED: dict[str, Any] = {"hidden_dims": (WIDTH,), "learning_rate": 0.02}
#: 450 training points: seven batches and a shorter one.
BATCH_SIZE = 64
STEPS = 8


def planted(folder: Path, *, labels_per_point: int = 1, **options: Any) -> ExtremeDataModule:
    points = rows.planted(501, 90, 120, 40, labels_per_point=labels_per_point)
    spec = DataSpec(source="planted", name="planted", options=points, num_validation_points=51)
    settings = {"batch_size": BATCH_SIZE, "seed": 3, "data_dir": folder, "cache_dir": folder}
    data = ExtremeDataModule(spec, **(settings | options))
    data.setup()
    return data


def facts(folder: Path, **options: Any) -> DataFacts:
    return data_facts(planted(folder, **options))


def mach(facts: DataFacts, **options: Any) -> Mach:
    return Mach(facts, **({"num_buckets": 16, "num_worlds": 4} | SHARED | options))


def build(name: str, facts: DataFacts, **options: Any) -> ExtremeClassifier:
    """One model of each kind of output layer, by name."""
    if name == "mach":
        return mach(facts, **options)
    if name == "full_softmax":
        return FullSoftmax(facts, **({"chunk_size": 16} | SHARED | options))
    if name == "sampled_softmax":
        return SampledSoftmax(facts, **({"num_samples": 20} | SHARED | options))
    if name == "adaptive_softmax":
        return AdaptiveSoftmax(facts, **(SHARED | options))
    return TwoTower(facts, **(SHARED | options))


METHODS = ("mach", "full_softmax", "sampled_softmax", "adaptive_softmax", "two_tower")


def trainer(**options: Any) -> L.Trainer:
    plain = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**(plain | options))
