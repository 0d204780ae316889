from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bench.data.planted import PlantedSource
from bench.data.prepared import load_dataset, load_raw
from bench.settings import DataSpec


def source(**options: float) -> PlantedSource:
    sizes = {"num_train_points": 500, "num_test_points": 300, "num_features": 64, "num_labels": 25}
    return PlantedSource(**{**sizes, "features_per_point": 6, "signature_size": 4, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("signal", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("zipf_exponent", [0.0, 1.0])
def test_best_labels_equal_brute_force(signal, zipf_exponent):
    planted = source(signal=signal, zipf_exponent=zipf_exponent)
    raw = planted.build(Path())
    signatures, prior, noise = planted.signatures(), planted.label_prior(), planted.background()
    rows, values = raw.test_features, raw.test_features.values
    assert values is not None
    scores = np.zeros((300, 25))
    for i in range(300):
        for label in range(25):
            own = set(signatures[label].tolist())
            score = math.log(prior[label])
            for entry in range(rows.offsets[i], rows.offsets[i + 1]):
                feature = int(rows.ids[entry])
                likelihood = (1 - signal) * noise[feature] + (feature in own) * signal / 4
                score += values[entry] * math.log(likelihood)
            scores[i, label] = score
    best = planted.best_labels(raw.test_features, signatures)
    chosen = scores[np.arange(300), best]
    np.testing.assert_allclose(chosen, scores.max(axis=1), rtol=1e-12)
    assert raw.bayes_hits is not None
    np.testing.assert_array_equal(raw.bayes_hits, best == raw.test_labels.ids)


def test_more_signal_is_easier():
    hits = [source(signal=signal).build(Path()).bayes_hits for signal in (0.05, 0.3, 0.9)]
    rates = [hit.mean() for hit in hits if hit is not None]
    assert rates == sorted(rates)
    assert rates[0] < 0.6 < rates[-1]


def test_labels_follow_the_zipfian_prior():
    planted = source(num_train_points=50_000)
    counts = planted.build(Path()).train_labels.column_counts()
    expected = 50_000 * planted.label_prior()
    statistic = float(((counts - expected) ** 2 / expected).sum())
    assert statistic < 24 + 5 * math.sqrt(2 * 24)  # chi-square with L - 1 = 24 degrees of freedom


def test_draws_add_up_and_blocks_change_nothing(monkeypatch):
    raw = source().build(Path())
    assert raw.train_features.values is not None
    totals = np.add.reduceat(raw.train_features.values, raw.train_features.offsets[:-1])
    assert np.all(totals == 6)
    assert np.all(np.diff(source().signatures(), axis=1) > 0)
    monkeypatch.setattr("bench.data.planted._BLOCK_DRAWS", 60)
    assert source().build(Path()).train_features.num_rows == 500


def test_bayes_accuracy_is_that_of_the_scored_points(tmp_path):
    options = {
        "num_train_points": 500,
        "num_test_points": 300,
        "num_features": 100,
        "num_labels": 25,
    }
    spec = DataSpec(
        source="planted", name="p", options=options, num_validation_points=10, max_test_points=40
    )
    data = load_dataset(spec, tmp_path, tmp_path)
    planted = PlantedSource(**options)
    plain = DataSpec(
        source="planted",
        name="p",
        options=options,
        num_validation_points=10,
        max_test_points=40,
        feature_weighting="raw",
        normalize_rows=False,
    )
    rows = load_dataset(plain, tmp_path, tmp_path)
    best = planted.best_labels(rows.test_features, planted.signatures())
    assert data.facts["bayes_accuracy"] == float((best == rows.test_labels.ids).mean())


def test_several_labels_a_point_make_multilabel_data(tmp_path):
    options = {
        "num_train_points": 200,
        "num_test_points": 20,
        "num_features": 100,
        "num_labels": 40,
        "labels_per_point": 4,
    }
    raw = load_raw(DataSpec(source="planted", name="p", options=options), tmp_path, tmp_path)
    assert raw.task == "multilabel"
    assert raw.bayes_hits is None
    lengths = raw.train_labels.row_lengths
    assert 1 <= lengths.min() <= lengths.max() == 4
