from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from bench.data.planted import PlantedSource
from bench.data.prepared import load_dataset, load_raw
from bench.settings import DataSpec
from tests.data.rows import planted


def source(**options: float) -> PlantedSource:
    sizes = planted(500, 300, 64, 25, features_per_point=6, signature_size=4)
    return PlantedSource(**{**sizes, **options})


@pytest.mark.parametrize("signal", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("zipf_exponent", [0.0, 1.0])
def test_best_labels_equal_brute_force(signal, zipf_exponent):
    drawn = source(signal=signal, zipf_exponent=zipf_exponent)
    raw = drawn.build(Path())
    signatures, prior, noise = drawn.signatures(), drawn.label_prior(), drawn.background()
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
    best = drawn.best_labels(raw.test_features, signatures)
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
    drawn = source(num_train_points=50_000)
    counts = drawn.build(Path()).train_labels.column_counts()
    expected = 50_000 * drawn.label_prior()
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
    options = planted(500, 300, 100, 25)
    settings = {"num_validation_points": 10, "max_test_points": 40}
    scored, plain = (
        load_dataset(
            DataSpec(source="planted", name="p", options=options, **settings, **more),
            tmp_path,
            tmp_path,
        )
        for more in ({"feature_weighting": "tfidf"}, {"normalize_rows": False})
    )
    drawn = PlantedSource(**options)
    best = drawn.best_labels(plain.test_features, drawn.signatures())
    expected = float((best == plain.test_labels.ids).mean())
    assert scored.facts["bayes_accuracy"] == expected


def test_several_labels_a_point_make_multilabel_data(tmp_path):
    options = planted(200, 20, 100, 40, labels_per_point=4)
    raw = load_raw(DataSpec(source="planted", name="p", options=options), tmp_path, tmp_path)
    assert raw.task == "multilabel"
    assert raw.bayes_hits is None
    lengths = raw.train_labels.row_lengths
    assert 1 <= lengths.min() <= lengths.max() == 4
