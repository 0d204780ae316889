"""Slow, loop-only definitions of every metric, written from the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from bench.data.batch import Batch
from bench.metrics.hits import SparseLabels

Rows = Sequence[Sequence[int]]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _hits(top: Sequence[int], relevant: Sequence[int], k: int) -> int:
    return sum(label in relevant for label in top[:k])


def precision(tops: Rows, targets: Rows, k: int) -> float:
    return _mean([_hits(top, row, k) / k for top, row in zip(tops, targets, strict=True)])


def authors_precision(tops: Rows, targets: Rows, k: int) -> float:
    pairs = zip(tops, targets, strict=True)
    return _mean([_hits(top, row, k) / min(k, len(row)) if row else 0.0 for top, row in pairs])


def recall(tops: Rows, targets: Rows, k: int) -> float:
    pairs = zip(tops, targets, strict=True)
    return _mean([_hits(top, row, k) / len(row) if row else 0.0 for top, row in pairs])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def _ideal(row: Sequence[int], k: int) -> float:
    return _dcg([1.0] * min(k, len(row)))


def ndcg(tops: Rows, targets: Rows, k: int) -> float:
    values = []
    for top, row in zip(tops, targets, strict=True):
        dcg = _dcg([float(label in row) for label in top[:k]])
        values.append(dcg / _ideal(row, k) if row else 0.0)
    return _mean(values)


def psprecision(tops: Rows, targets: Rows, weights: Sequence[float], k: int) -> float:
    achieved = attainable = 0.0
    for top, row in zip(tops, targets, strict=True):
        achieved += sum(weights[label] for label in top[:k] if label in row) / k
        attainable += sum(sorted((weights[label] for label in row), reverse=True)[:k]) / k
    return achieved / attainable if attainable else 0.0


def psndcg(tops: Rows, targets: Rows, weights: Sequence[float], k: int) -> float:
    achieved = attainable = 0.0
    for top, row in zip(tops, targets, strict=True):
        if row:
            gains = [weights[label] if label in row else 0.0 for label in top[:k]]
            achieved += _dcg(gains) / _ideal(row, k)
            best = sorted((weights[label] for label in row), reverse=True)[:k]
            attainable += _dcg(best) / _ideal(row, k)
    return achieved / attainable if attainable else 0.0


def group_share(tops: Rows, targets: Rows, members: set[int], k: int) -> float | None:
    occurrences = hits = 0
    for top, row in zip(tops, targets, strict=True):
        for label in row:
            if label in members:
                occurrences += 1
                hits += label in top[:k]
    return hits / occurrences if occurrences else None


def average_precision(top: Sequence[int], row: Sequence[int], k: int) -> float:
    if not row:
        return 0.0
    hits = [rank for rank in range(1, k + 1) if top[rank - 1] in row]
    return sum(_hits(top, row, rank) / rank for rank in hits) / min(k, len(row))


def reciprocal_rank(top: Sequence[int], row: Sequence[int], k: int) -> float:
    return next((1 / rank for rank in range(1, k + 1) if top[rank - 1] in row), 0.0)


def weighted_recall(top: Sequence[int], bought: Mapping[int, float], k: int) -> float:
    found = sum(bought.get(label, 0.0) for label in top[:k])
    return found / sum(bought.values()) if bought else 0.0


def weighted_ndcg(top: Sequence[int], bought: Mapping[int, float], k: int) -> float:
    best = _dcg(sorted(bought.values(), reverse=True)[:k])
    return _dcg([bought.get(label, 0.0) for label in top[:k]]) / best if bought else 0.0


def search_metrics(
    tops: Rows, purchases: Sequence[Mapping[int, float]], k: int
) -> dict[str, float]:
    """Of each query the products bought and how often."""
    rows = [list(bought) for bought in purchases]
    per_query = {
        "MAP": [average_precision(top, row, k) for top, row in zip(tops, rows, strict=True)],
        "MRR": [reciprocal_rank(top, row, k) for top, row in zip(tops, rows, strict=True)],
        "wR": [weighted_recall(top, b, k) for top, b in zip(tops, purchases, strict=True)],
        "wnDCG": [weighted_ndcg(top, b, k) for top, b in zip(tops, purchases, strict=True)],
    }
    values = {name: _mean(found) for name, found in per_query.items()}
    weights = [sum(bought.values()) for bought in purchases]
    for name in ("MAP", "MRR"):
        pairs = zip(weights, per_query[name], strict=True)
        total = sum(weight * value for weight, value in pairs)
        values[f"w{name}"] = total / sum(weights) if any(weights) else 0.0
    return values


def sparse(targets: Rows) -> SparseLabels:
    offsets = torch.tensor([0, *(len(row) for row in targets)]).cumsum(0)
    ids = [label for row in targets for label in row]
    return SparseLabels(offsets, torch.tensor(ids, dtype=torch.int64))


def batch_of(targets: Rows, weights: Sequence[float] | None = None) -> Batch:
    """A batch without features: metrics read labels only, and the weights of all of them."""
    offsets, ids = sparse(targets)
    return Batch(
        feature_offsets=torch.zeros_like(offsets),
        feature_ids=torch.zeros(0, dtype=torch.int64),
        feature_values=torch.zeros(0),
        label_offsets=offsets,
        label_ids=ids,
        label_weights=None if weights is None else torch.tensor(weights),
    )
