"""Metrics beside napkinXC's own on random cases, with ties and points without labels."""

import numpy as np
import pytest
import torch

from bench.data.batch import Batch
from bench.metrics.frequency import inverse_propensity
from bench.metrics.torchmetric import RankingMetrics

theirs = pytest.importorskip("napkinxc.metrics", reason="napkinXC is of the extra [peers]")
KS = (1, 3, 5)


def _case(seed):
    """Top labels, relevant labels and inverse propensities."""
    rng = np.random.default_rng(seed)
    num_points, num_labels = int(rng.integers(1, 40)), int(rng.integers(6, 60))
    most = int(rng.integers(1, min(9, num_labels)))  # now and then fewer than k
    counts = rng.integers(0 if seed % 2 else 1, most + 1, num_points)
    relevant = [np.sort(rng.choice(num_labels, n, replace=False)) for n in counts]
    # Few distinct scores: equal ones go by the smaller label, as our methods rank them.
    scores = rng.integers(0, 4, (num_points, num_labels)) + 2.0 * (seed % 3 == 0) * rng.random(
        (num_points, num_labels)
    )
    for point, labels in enumerate(relevant):
        scores[point, labels] += rng.integers(0, 3, len(labels))
    top = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    frequencies = torch.from_numpy(rng.integers(0, 300, num_labels))
    propensities = inverse_propensity(frequencies, 1000, a=0.55, b=1.5)
    return top, relevant, propensities


def _ours(top, relevant, propensities):
    counts = [len(labels) for labels in relevant]
    batch = Batch(
        feature_offsets=torch.zeros(len(relevant) + 1, dtype=torch.int64),
        feature_ids=torch.zeros(0, dtype=torch.int64),
        feature_values=torch.zeros(0),
        label_offsets=torch.from_numpy(np.r_[0, np.cumsum(counts)]),
        label_ids=torch.from_numpy(np.concatenate([*relevant, np.zeros(0, np.int64)])),
    )
    metrics = RankingMetrics(KS, inverse_propensities=propensities)
    metrics.update(torch.from_numpy(top.copy()), batch)
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("seed", range(60))
def test_every_metric_is_napkinxcs(seed):
    top, relevant, propensities = _case(seed)
    if not any(map(len, relevant)):
        relevant[0] = np.array([2])
    predicted, true = top.tolist(), [labels.tolist() for labels in relevant]
    weights = propensities.numpy()
    expected = {
        "P": theirs.precision_at_k(true, predicted, k=5),
        "R": theirs.recall_at_k(true, predicted, k=5, zero_division=0),
        "nDCG": theirs.ndcg_at_k(true, predicted, k=5, zero_division=0),
        "PSP": theirs.psprecision_at_k(true, predicted, weights, k=5),
        "PSnDCG": theirs.psndcg_at_k(true, predicted, weights, k=5),
    }
    found = _ours(top, relevant, propensities)
    for name, values in expected.items():
        for k in KS:
            assert found[f"{name}@{k}"] == pytest.approx(values[k - 1], abs=1e-15), (name, k)


@pytest.mark.parametrize(("a", "b"), [(0.55, 1.5), (0.5, 0.4), (0.6, 2.6)])
def test_propensities_are_napkinxcs(a, b):
    rng = np.random.default_rng(0)
    points = [sorted(set(rng.integers(0, 30, rng.integers(1, 8)).tolist())) for _ in range(200)]
    points[0] = sorted({*points[0], 29})
    counts = np.bincount(np.concatenate(points), minlength=30)
    ours = inverse_propensity(torch.from_numpy(counts), len(points), a=a, b=b)
    np.testing.assert_allclose(
        ours.numpy(), theirs.Jain_et_al_inverse_propensity(points, A=a, B=b), rtol=1e-15
    )
