"""Ranking metrics of search: where the first hits stand, and what the labels found are worth.

As in `bench.metrics.functional`: `*_per_point` functions give values `(N,)` whose sums can be added
over batches, `*_at_k` functions one number. Weights are those of a point's label entries, such as
how often a product was bought after a query; a point's own weight is the sum of them.

The papers name weighted and unweighted recall, MAP, MRR and nDCG of Amazon's search, and what they
mean by them could not be found. These definitions are ours: recall and nDCG weigh a point's labels
and all points alike; MAP and MRR know no weights within a point, and their weighted forms are means
over points by the points' weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.metrics.functional import check_k, ratio_of_sums
from bench.metrics.hits import SparseLabels, best_entries, find_entries, point_ids


def average_precision_per_point(gains: Tensor, num_relevant: Tensor, k: int) -> Tensor:
    """Precisions at the hits of the first k ranks, added up, ÷ min(k, relevant labels), `(N,)`."""
    hits = gains[:, :k]
    precisions = hits.cumsum(1) / _ranks(hits)
    return (hits * precisions).sum(dim=1) / num_relevant.clamp(min=1, max=k)


def reciprocal_rank_per_point(gains: Tensor, k: int) -> Tensor:
    """1 ÷ rank of the first hit among the first k ranks, 0 without one, `(N, K)` to `(N,)`."""
    hits = gains[:, :k]
    return (hits / _ranks(hits)).amax(dim=1)


def weighted_recall_per_point(gains: Tensor, totals: Tensor, k: int) -> Tensor:
    """Weights found in the first k ranks ÷ the point's weight, `(N, K)` and `(N,)` to `(N,)`."""
    return ratio_of_sums(gains[:, :k].sum(dim=1), totals)


def weighted_ndcg_per_point(gains: Tensor, best: Tensor, k: int) -> Tensor:
    """DCG of the weights found ÷ that of the point's heaviest labels, each `(N, K)` to `(N,)`."""
    discounts = 1.0 / torch.log2(_ranks(gains[:, :k]) + 1.0)
    found, ideal = ((part[:, :k] * discounts).sum(dim=1) for part in (gains, best))
    return ratio_of_sums(found, ideal)


def entry_gains(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor, *, num_labels: int | None = None
) -> Tensor:
    """Weight of the entry that each prediction hits, 0 for misses: `(N, K)` float64.

    Args:
        top_labels: predicted label ids, best first, `(N, K)`; negative ids miss.
        targets: relevant labels, CSR over `(N, L)`.
        weights: `(M,)` positive, of each entry of `targets.ids`.
        num_labels: L, to have ids at or above it refused.

    Raises:
        ValueError: see :func:`bench.metrics.hits.find_entries`; or the weights do not fit.
    """
    if weights.shape != targets[1].shape:
        raise ValueError(
            f"weights have shape {tuple(weights.shape)}; expected that of the label ids, "
            f"{tuple(targets[1].shape)}"
        )
    if weights.numel() and not bool(((weights > 0) & weights.isfinite()).all()):
        raise ValueError("a label's weight is not above 0 and finite; expected both")
    entries = find_entries(top_labels, targets, num_labels=num_labels)
    padded = torch.cat([weights.to(torch.float64), weights.new_zeros(1, dtype=torch.float64)])
    return padded[entries]  # the last one, 0, for entry −1


def total_weights(targets: SparseLabels, weights: Tensor) -> Tensor:
    """`(N,)` float64: the sum of each point's weights."""
    totals = torch.zeros(targets[0].numel() - 1, dtype=torch.float64, device=weights.device)
    return totals.index_add_(0, point_ids(targets), weights.to(torch.float64))


def average_precision_at_k(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor | None = None, *, k: int
) -> Tensor:
    """Mean over points of the average precision among the k best labels (MAP).

    A point's average precision adds up the precision at each hit and divides by min(k, relevant
    labels): 1 where the hits stand in front and are all that could be hit.

    Args:
        top_labels: predicted label ids, best first, `(N, K)` int64 with K ≥ k; negative ids are
            padding and miss.
        targets: relevant labels of each point, CSR over `(N, L)`.
        weights: `(M,)` positive, of each entry of `targets.ids`: points count by the sum of theirs;
            None: all alike.
        k: ranks that count.

    Returns:
        Scalar float64 in [0, 1]. Points without labels earn 0.

    Raises:
        ValueError: no points, k outside [1, K], shapes disagree, a label stands twice in a row, or
            a weight is not positive.

    >>> targets = SparseLabels(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 7]))
    >>> top_labels = torch.tensor([[1, 5, 2], [4, 7, 3]])
    >>> average_precision_at_k(top_labels, targets, k=3)
    tensor(0.6667, dtype=torch.float64)
    >>> average_precision_at_k(top_labels, targets, torch.tensor([1.0, 2.0, 1.0]), k=3)
    tensor(0.7500, dtype=torch.float64)
    """
    gains, totals = _gains_and_totals(top_labels, targets, weights, k)
    hits = (gains > 0).to(torch.float64)
    return _mean(average_precision_per_point(hits, targets[0].diff(), k), totals, weights)


def reciprocal_rank_at_k(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor | None = None, *, k: int
) -> Tensor:
    """Mean over points of 1 ÷ rank of the first hit among the k best labels (MRR).

    Args, Returns and Raises are those of `average_precision_at_k`.

    >>> targets = SparseLabels(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 7]))
    >>> reciprocal_rank_at_k(torch.tensor([[1, 5], [4, 7]]), targets, k=2)
    tensor(0.7500, dtype=torch.float64)
    """
    gains, totals = _gains_and_totals(top_labels, targets, weights, k)
    return _mean(reciprocal_rank_per_point((gains > 0).to(torch.float64), k), totals, weights)


def weighted_recall_at_k(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor, *, k: int
) -> Tensor:
    """Mean share of a point's weight that its k best labels hold.

    With purchase counts for weights: which share of what was bought the k best products were.
    Equal weights give `bench.metrics.functional.recall_at_k`.

    Args, Returns and Raises are those of `average_precision_at_k`; weights are needed.

    >>> targets = SparseLabels(torch.tensor([0, 2, 3]), torch.tensor([1, 2, 7]))
    >>> weighted_recall_at_k(torch.tensor([[1], [7]]), targets, torch.tensor([3.0, 1, 5]), k=1)
    tensor(0.8750, dtype=torch.float64)
    """
    gains, totals = _gains_and_totals(top_labels, targets, weights, k)
    return weighted_recall_per_point(gains, totals, k).mean()


def weighted_ndcg_at_k(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor, *, k: int
) -> Tensor:
    """Mean DCG of the weights found ÷ that of each point's heaviest labels in falling order.

    Equal weights give `bench.metrics.functional.ndcg_at_k`. Args, Returns and Raises are those of
    `average_precision_at_k`; weights are needed.

    >>> targets = SparseLabels(torch.tensor([0, 2]), torch.tensor([1, 2]))
    >>> weighted_ndcg_at_k(torch.tensor([[2, 1]]), targets, torch.tensor([3.0, 1.0]), k=2)
    tensor(0.7967, dtype=torch.float64)
    """
    gains, _ = _gains_and_totals(top_labels, targets, weights, k)
    best = best_entries(targets, weights.to(torch.float64), k)
    return weighted_ndcg_per_point(gains, best, k).mean()


def _ranks(gains: Tensor) -> Tensor:
    return torch.arange(1, gains.shape[1] + 1, dtype=gains.dtype, device=gains.device)


def _gains_and_totals(
    top_labels: Tensor, targets: SparseLabels, weights: Tensor | None, k: int
) -> tuple[Tensor, Tensor]:
    check_k(top_labels, k)
    if top_labels.shape[0] == 0:
        raise ValueError("top_labels hold no points; expected at least one")
    if weights is None:
        weights = torch.ones(targets[1].numel(), dtype=torch.float64, device=targets[1].device)
    gains = entry_gains(top_labels, targets, weights)
    return gains, total_weights(targets, weights)


def _mean(per_point: Tensor, totals: Tensor, weights: Tensor | None) -> Tensor:
    if weights is None:
        return per_point.mean()
    return ratio_of_sums((per_point * totals).sum(), totals.sum())
