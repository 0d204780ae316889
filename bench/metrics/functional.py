"""Ranking metrics of each point, from the gains of its top labels; their sums add up over batches.

Gains are what each rank earned: 1 for a hit, or what the hit label weighs, 0 for a miss. Points
without labels earn 0 and count in every mean; those who leave them out of a data set get larger
numbers. Definitions are those of the Extreme Classification Repository; they agree with pyxclib and
napkinXC.

The papers name weighted and unweighted recall, MAP, MRR and nDCG of Amazon's search, and what they
mean by them could not be found. Those definitions are ours: recall and nDCG weigh a point's labels
and all points alike; MAP and MRR know no weights within a point, and their weighted forms are means
over points by the points' weights.

>>> hits, num_relevant = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([2])
>>> precision_per_point(hits, 3), recall_per_point(hits, num_relevant, 1)
(tensor([0.6667]), tensor([0.5000]))
>>> ndcg_per_point(hits, num_relevant, 3)
tensor([0.9197])
"""

from __future__ import annotations

import torch
from torch import Tensor


def precision_per_point(gains: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ k, also where a point has fewer labels: `(N, K)` to `(N,)`."""
    return gains[:, :k].sum(dim=1) / k


def recall_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ relevant labels, `(N, K)` and `(N,)` to `(N,)`.

    With one label a point this is top-k accuracy.
    """
    return gains[:, :k].sum(dim=1) / num_relevant.clamp(min=1)


def authors_precision_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ min(k, relevant labels), `(N, K)` and `(N,)` to `(N,)`.

    Never below the precision, and not to be set beside numbers of the repository.

    Source: evaluation scripts of the MACH authors' repository (Tharun24/MACH).
    """
    return gains[:, :k].sum(dim=1) / num_relevant.clamp(min=1, max=k)


def ndcg_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains discounted by log2(rank + 1) ÷ the ideal over min(k, relevant labels) ranks, `(N,)`."""
    discounts = _discounts(gains, k)
    ideal = discounts.cumsum(0)[num_relevant.clamp(min=1, max=k) - 1]
    return (gains[:, :k] * discounts).sum(dim=1) / ideal


def average_precision_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Precisions at the hits of the first k ranks, added up, ÷ min(k, relevant labels), `(N,)`."""
    hits = gains[:, :k]
    precisions = hits.cumsum(1) / _ranks(hits, k)
    return (hits * precisions).sum(dim=1) / num_relevant.clamp(min=1, max=k)


def reciprocal_rank_per_point(gains: Tensor, k: int) -> Tensor:
    """1 ÷ rank of the first hit among the first k ranks, 0 without one, `(N, K)` to `(N,)`."""
    return (gains[:, :k] / _ranks(gains, k)).amax(dim=1)


def weighted_recall_per_point(gains: Tensor, totals: Tensor, k: int) -> Tensor:
    """Weights found in the first k ranks ÷ the point's weight, `(N, K)` and `(N,)` to `(N,)`."""
    return ratio_of_sums(gains[:, :k].sum(dim=1), totals)


def weighted_ndcg_per_point(gains: Tensor, best: Tensor, k: int) -> Tensor:
    """DCG of the weights found ÷ that of the point's heaviest labels, each `(N, K)` to `(N,)`."""
    discounts = _discounts(gains, k)
    found, ideal = ((part[:, :k] * discounts).sum(dim=1) for part in (gains, best))
    return ratio_of_sums(found, ideal)


def ratio_of_sums(achieved: Tensor, attainable: Tensor) -> Tensor:
    """`achieved` ÷ `attainable`, 0 where nothing was attainable."""
    return torch.where(attainable > 0, achieved / attainable, torch.zeros_like(achieved))


def _ranks(gains: Tensor, k: int) -> Tensor:
    return torch.arange(1, k + 1, dtype=gains.dtype, device=gains.device)


def _discounts(gains: Tensor, k: int) -> Tensor:
    return 1.0 / torch.log2(_ranks(gains, k) + 1.0)
