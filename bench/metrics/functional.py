"""Ranking metrics over the top labels of N points, one function each.

Two layers. The `*_per_point` functions turn gains (what each rank earned: 1 for a hit, or the hit
label's inverse propensity) into values `(N,)` whose sums can be added over batches; the `*_at_k`
functions take predictions and targets and return one number. Points without labels earn 0 and count
in every mean; those who leave them out of a data set get larger numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.metrics.hits import SparseLabels, best_gains, find_hits


def precision_per_point(gains: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ k, `(N, K)` to `(N,)`."""
    return gains[:, :k].sum(dim=1) / k


def recall_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ relevant labels, `(N, K)` and `(N,)` to `(N,)`."""
    return gains[:, :k].sum(dim=1) / num_relevant.clamp(min=1)


def authors_precision_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains of the first k ranks ÷ min(k, relevant labels), `(N, K)` and `(N,)` to `(N,)`."""
    return gains[:, :k].sum(dim=1) / num_relevant.clamp(min=1, max=k)


def ndcg_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Gains discounted by log2(rank + 1) ÷ the ideal over min(k, relevant labels) ranks, `(N,)`."""
    ranks = torch.arange(1, k + 1, dtype=gains.dtype, device=gains.device)
    discounts = 1.0 / torch.log2(ranks + 1.0)
    ideal = discounts.cumsum(0)[num_relevant.clamp(min=1, max=k) - 1]
    return (gains[:, :k] * discounts).sum(dim=1) / ideal


def precision_at_k(top_labels: Tensor, targets: SparseLabels, *, k: int) -> Tensor:
    """Mean share of the top k that is relevant: hits ÷ k, also where a point has fewer labels.

    Args:
        top_labels: predicted label ids, best first, `(N, K)` int64 with K ≥ k; negative ids are
            padding and miss.
        targets: relevant labels of each point, CSR over `(N, L)`.
        k: ranks that count.

    Returns:
        Scalar float64 in [0, 1]. Points without labels count as 0.

    Raises:
        ValueError: no points, k outside [1, K], shapes disagree, or a label stands twice in a row.

    Source: Extreme Classification Repository; agrees with pyxclib and napkinXC.

    >>> targets = SparseLabels(torch.tensor([0, 3, 6]), torch.tensor([1, 2, 3, 3, 4, 7]))
    >>> precision_at_k(torch.tensor([[1, 2, 4], [7, 6, 3]]), targets, k=2)
    tensor(0.7500, dtype=torch.float64)
    """
    gains, _ = _gains_and_counts(top_labels, targets, k)
    return precision_per_point(gains, k).mean()


def authors_precision_at_k(top_labels: Tensor, targets: SparseLabels, *, k: int) -> Tensor:
    """Mean of hits ÷ min(k, relevant labels): what MACH's own evaluation code calls precision.

    Never below `precision_at_k`; equal to it at k = 1 and where every point has k labels. Not to be
    set beside numbers of the Extreme Classification Repository, which divide by k.

    Args, Returns and Raises are those of `precision_at_k`.

    Source: evaluation scripts of the MACH authors' repository (Tharun24/MACH).

    >>> targets = SparseLabels(torch.tensor([0, 1]), torch.tensor([4]))
    >>> top_labels = torch.tensor([[4, 2, 0]])
    >>> authors_precision_at_k(top_labels, targets, k=3)
    tensor(1., dtype=torch.float64)
    >>> precision_at_k(top_labels, targets, k=3)
    tensor(0.3333, dtype=torch.float64)
    """
    gains, num_relevant = _gains_and_counts(top_labels, targets, k)
    return authors_precision_per_point(gains, num_relevant, k).mean()


def recall_at_k(top_labels: Tensor, targets: SparseLabels, *, k: int) -> Tensor:
    """Mean share of a point's relevant labels that its top k holds.

    With one label a point this is top-k accuracy. Args, Returns and Raises are those of
    `precision_at_k`.

    Source: agrees with pyxclib and napkinXC.

    >>> targets = SparseLabels(torch.tensor([0, 3, 6]), torch.tensor([1, 2, 3, 3, 4, 7]))
    >>> recall_at_k(torch.tensor([[1, 2, 4], [7, 6, 3]]), targets, k=2)
    tensor(0.5000, dtype=torch.float64)
    """
    gains, num_relevant = _gains_and_counts(top_labels, targets, k)
    return recall_per_point(gains, num_relevant, k).mean()


def ndcg_at_k(top_labels: Tensor, targets: SparseLabels, *, k: int) -> Tensor:
    """Mean DCG ÷ ideal DCG, the ideal taken over min(k, relevant labels) ranks.

    Args, Returns and Raises are those of `precision_at_k`.

    Source: Extreme Classification Repository; agrees with pyxclib and napkinXC.

    >>> targets = SparseLabels(torch.tensor([0, 3, 6]), torch.tensor([1, 2, 3, 3, 4, 7]))
    >>> ndcg_at_k(torch.tensor([[1, 2, 4], [7, 6, 3]]), targets, k=3)
    tensor(0.7346, dtype=torch.float64)
    """
    gains, num_relevant = _gains_and_counts(top_labels, targets, k)
    return ndcg_per_point(gains, num_relevant, k).mean()


def psprecision_at_k(
    top_labels: Tensor, targets: SparseLabels, inverse_propensity: Tensor, *, k: int
) -> Tensor:
    """Propensity-scored precision at k, relative to the best attainable.

    A ratio of sums, not a mean of ratios: the propensity-scored precision summed over the points ÷
    the same sum for the best prediction of every point. A point with rare labels so weighs more
    than one with frequent labels.

    Args:
        top_labels: predicted label ids, best first, `(N, K)` int64 with K ≥ k; negative ids are
            padding and miss.
        targets: relevant labels of each point, CSR over `(N, L)`.
        inverse_propensity: `(L,)` float, positive, from the *training* labels.
        k: ranks that count.

    Returns:
        Scalar float64 in [0, 1]. Points without labels add 0 to both sums; 0 if no point has any.

    Raises:
        ValueError: no points, k outside [1, K], shapes disagree, an id is L or more, or a label
            stands twice in a row.

    Source: Jain, Prabhu, Varma 2016 (propensity-scored losses); agrees with pyxclib and napkinXC.

    >>> targets = SparseLabels(torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> psprecision_at_k(torch.tensor([[0]]), targets, torch.tensor([2.0, 8.0]), k=1)
    tensor(0.2500, dtype=torch.float64)
    """
    gains, _ = _gains_and_counts(top_labels, targets, k, inverse_propensity)
    best = best_gains(targets, inverse_propensity.to(torch.float64), k)
    return ratio_of_sums(precision_per_point(gains, k).sum(), precision_per_point(best, k).sum())


def psndcg_at_k(
    top_labels: Tensor, targets: SparseLabels, inverse_propensity: Tensor, *, k: int
) -> Tensor:
    """Propensity-scored nDCG at k, relative to the best attainable.

    Each point's propensity-scored DCG is divided by its unweighted ideal DCG, the points are
    summed, and that sum is divided by the same sum for the best prediction of every point: a ratio
    of sums.

    Args, Returns and Raises are those of `psprecision_at_k`.

    Source: Jain, Prabhu, Varma 2016 (propensity-scored losses); agrees with pyxclib and napkinXC.

    >>> targets = SparseLabels(torch.tensor([0, 2]), torch.tensor([0, 1]))
    >>> psndcg_at_k(torch.tensor([[1, 0]]), targets, torch.tensor([2.0, 8.0]), k=2)
    tensor(1., dtype=torch.float64)
    """
    gains, num_relevant = _gains_and_counts(top_labels, targets, k, inverse_propensity)
    best = best_gains(targets, inverse_propensity.to(torch.float64), k)
    return ratio_of_sums(
        ndcg_per_point(gains, num_relevant, k).sum(), ndcg_per_point(best, num_relevant, k).sum()
    )


def ratio_of_sums(achieved: Tensor, attainable: Tensor) -> Tensor:
    """`achieved` ÷ `attainable`, 0 where nothing was attainable."""
    return torch.where(attainable > 0, achieved / attainable, torch.zeros_like(achieved))


def weigh_hits(hits: Tensor, top_labels: Tensor, weights: Tensor) -> Tensor:
    """Weight of each hit label, 0 for misses: `(N, K)` bool and ids, `(L,)` to `(N, K)`."""
    return hits * weights[top_labels.clamp(min=0)]


def _gains_and_counts(
    top_labels: Tensor, targets: SparseLabels, k: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    check_k(top_labels, k)
    if top_labels.shape[0] == 0:
        raise ValueError("top_labels hold no points; expected at least one")
    num_labels = None if weights is None else weights.numel()
    # All K columns are looked at, so that a repeated label is refused at any k.
    hits = find_hits(top_labels, targets, num_labels=num_labels)
    num_relevant = targets[0].diff()
    if weights is None:
        return hits.to(torch.float64), num_relevant
    return weigh_hits(hits, top_labels, weights.to(torch.float64)), num_relevant


def check_k(top_labels: Tensor, k: int) -> None:
    """Raise ValueError unless `top_labels` is `(N, K)` and 1 ≤ k ≤ K."""
    if top_labels.ndim != 2:
        raise ValueError(f"top_labels have shape {tuple(top_labels.shape)}; expected (N, K)")
    if not 1 <= k <= top_labels.shape[1]:
        raise ValueError(f"k is {k}; expected 1 to K = {top_labels.shape[1]}, the labels predicted")
