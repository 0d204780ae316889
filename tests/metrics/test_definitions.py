"""Metrics beside their definitions over a dense matrix, as pyxclib computes them, from scores on.

Its formulas are written out here; pyxclib itself is in no package index. Equal scores go by the
smaller label, and k may exceed a point's labels and reach all L.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.metrics.torchmetric import RankingMetrics
from bench.nn.ranking import exact_top_k

from . import reference


def _found(scores: np.ndarray, relevant: np.ndarray, weights: np.ndarray, ks: tuple[int, ...]):
    """Of scores `(N, L)`, a matrix `(N, L)` of 0 and 1, and inverse propensities `(L,)`."""
    metrics = RankingMetrics(ks, inverse_propensities=torch.from_numpy(weights))
    top = exact_top_k(torch.from_numpy(scores), max(ks))[1]
    metrics.update(top, reference.batch_of([np.flatnonzero(row).tolist() for row in relevant]))
    return {name: float(value) for name, value in metrics.compute().items()}


def test_a_matrix_worked_out_by_hand():
    """Three points, four labels, inverse propensities 1, 2, 3, 4.

    ======  ==========  ====================  ==================  ========
    point   relevant    scores                ranking             hits
    ======  ==========  ====================  ==================  ========
    A       0, 2        0.9  0.5  0.5  0.1    0 1 2 3 (1, 2 tie)  1 0 1 0
    B       3           0.2  0.2  0.2  0.2    0 1 2 3 (all tie)   0 0 0 1
    C       none        0.1  0.2  0.3  0.4    3 2 1 0             0 0 0 0
    ======  ==========  ====================  ==================  ========

    With d = 1/log2(3), the discount of rank 2, and those of ranks 3 and 4 1/2 and 1/log2(5):

    - P@k, hits ÷ k: @1 (1 + 0 + 0)/3; @3 (2/3 + 0 + 0)/3 = 2/9; @4 (2/4 + 1/4 + 0)/3 = 1/4.
    - R@k, hits ÷ relevant: @1 (1/2)/3 = 1/6; @3 (2/2)/3 = 1/3; @4 (2/2 + 1/1)/3 = 2/3.
    - nDCG@k, the ideal over min(k, relevant) ranks, 1 + d of A from k = 2 on and 1 of B:
      @1 1/3; @3 (1 + 1/2)/(1 + d)/3; @4 (3/2/(1 + d) + 1/log2(5))/3.
    - PSP@k, weights of hits over the largest of relevant labels, each summed over points:
      @1 1/(3 + 4); @3 (1 + 3)/((3 + 1) + 4); @4 (1 + 3 + 4)/8.
    - PSnDCG@k, the same with discounts, each point's ÷ its ideal:
      @1 1/(3 + 4); @3 (1 + 3/2)/(1 + d) over (3 + d)/(1 + d) + 4; @4 with B's 4/log2(5) above.
    """
    scores = np.array([[0.9, 0.5, 0.5, 0.1], [0.2] * 4, [0.1, 0.2, 0.3, 0.4]], dtype=np.float32)
    relevant = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    found = _found(scores, relevant, np.array([1.0, 2.0, 3.0, 4.0]), (1, 3, 4))
    d, last = 1 / math.log2(3), 1 / math.log2(5)
    attainable = (3 + d) / (1 + d) + 4
    expected = {
        "P": (1 / 3, 2 / 9, 1 / 4),
        "R": (1 / 6, 1 / 3, 2 / 3),
        "nDCG": (1 / 3, 1.5 / (1 + d) / 3, (1.5 / (1 + d) + last) / 3),
        "PSP": (1 / 7, 1 / 2, 1.0),
        "PSnDCG": (1 / 7, 2.5 / (1 + d) / attainable, (2.5 / (1 + d) + 4 * last) / attainable),
    }
    for name, values in expected.items():
        for k, value in zip((1, 3, 4), values, strict=True):
            assert found[f"{name}@{k}"] == pytest.approx(value, abs=1e-15), (name, k)


def _defined(scores: np.ndarray, relevant: np.ndarray, weights: np.ndarray, k: int):
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(relevant, order, axis=1)
    gains, best = hits * weights[order], -np.sort(-relevant * weights, axis=1)[:, :k]
    counts = relevant.sum(axis=1)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discounts)[np.clip(counts, 1, k) - 1]
    return {
        "P": np.mean(hits.sum(axis=1) / k),
        "R": np.mean(hits.sum(axis=1) / np.maximum(counts, 1)),
        "nDCG": np.mean(hits @ discounts / ideal),
        "PSP": np.mean(gains.sum(axis=1) / k) / np.mean(best.sum(axis=1) / k),
        "PSnDCG": np.mean(gains @ discounts / ideal) / np.mean(best @ discounts / ideal),
    }


@pytest.mark.parametrize("seed", range(60))
def test_random_sparse_cases_are_those_of_the_definitions(seed):
    rng = np.random.default_rng(seed)
    num_points, num_labels = int(rng.integers(1, 40)), int(rng.integers(6, 60))
    ks = (1, 3, 5, num_labels)
    relevant = (rng.random((num_points, num_labels)) < rng.choice([0.02, 0.1, 0.3])).astype(int)
    relevant[rng.random(num_points) < 0.2] = 0
    relevant[0, rng.integers(num_labels)] = 1
    # Few levels tie nearly always, many hardly ever; relevant labels score higher.
    levels = int(rng.choice([1, 3, 10**6]))
    scores = rng.integers(0, levels, (num_points, num_labels)) + relevant * rng.integers(0, 2)
    scores = scores.astype(np.float32)
    weights = 1 + 10 * rng.random(num_labels)
    found = _found(scores, relevant, weights, ks)
    for k in ks:
        for name, value in _defined(scores, relevant, weights, k).items():
            assert found[f"{name}@{k}"] == pytest.approx(value, abs=1e-15), (name, k)
