"""A trial on a log of purchases is scored by what search is measured by, whoever runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from baselines.peers.process import metrics_of
from bench.data.prepared import load_dataset
from bench.experiments import training
from bench.measure.experiment import Context
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from tests.metrics import reference

KS = (1, 5, 30)
TRIAL = Trial(
    data=DataSpec(
        source="searchlog",
        name="log",
        options={
            "num_train_points": 400,
            "num_test_points": 80,
            "num_labels": 60,
            "num_words": 50,
            "num_known_words": 30,
            "num_unknown_slots": 10,
            "num_pair_slots": 20,
        },
        num_validation_points=40,
        ks=KS,
    ),
    model=ModelSpec(method="frequency", encoder="linear"),
    train=TrainSpec(batch_size=256),
)


def test_frequency_baseline_is_scored_by_purchases_as_a_peer_with_its_answers_is(
    tmp_path: Path,
) -> None:
    result = training.run(TRIAL, Context(data_dir=tmp_path, cache_dir=tmp_path))
    data = load_dataset(TRIAL.data, tmp_path, tmp_path)
    counts = data.train_labels.column_counts()
    top = np.argsort(-counts, kind="stable")[: KS[-1]].astype(np.int64)
    labels = data.test_labels
    assert labels.values is not None
    purchases = [
        dict(zip(labels.ids[a:b].tolist(), labels.values[a:b].tolist(), strict=True))
        for a, b in zip(labels.offsets[:-1], labels.offsets[1:], strict=True)
    ]
    expected = {
        f"{name}@{k}": value
        for k in KS
        for name, value in reference.search_metrics([top.tolist()] * 80, purchases, k).items()
    }
    found = {name: result["test"][name] for name in expected}
    assert found == pytest.approx(expected, abs=1e-9)
    assert metrics_of(TRIAL, data, labels, np.tile(top, (80, 1))) == result["test"]
    assert 0 < result["memory"]["host_evaluation_peak_bytes"] <= result["memory"]["host_peak_bytes"]
