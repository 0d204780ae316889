"""Streaming ranking metrics: sums over batches, one division at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from bench.data.batch import Batch
from bench.metrics.functional import (
    authors_precision_per_point,
    check_k,
    ndcg_per_point,
    precision_per_point,
    ratio_of_sums,
    recall_per_point,
    weigh_hits,
)
from bench.metrics.groups import GROUPS, frequency_groups
from bench.metrics.hits import SparseLabels, best_entries, best_gains, find_hits
from bench.metrics.propensity import inverse_propensity
from bench.metrics.retrieval import (
    average_precision_per_point,
    entry_gains,
    reciprocal_rank_per_point,
    total_weights,
    weighted_ndcg_per_point,
    weighted_recall_per_point,
)

_MEANS = {
    "P": "precision_sum",
    "nDCG": "ndcg_sum",
    "R": "recall_sum",
    "authors P": "authors_precision_sum",
}
_RATIOS = {
    "PSP": ("psprecision_sum", "best_psprecision_sum"),
    "PSnDCG": ("psndcg_sum", "best_psndcg_sum"),
}
# Of labels with weights: means over the points, and means by the points' weights.
_SEARCH_MEANS = {
    "MAP": "average_precision_sum",
    "MRR": "reciprocal_rank_sum",
    "wR": "weighted_recall_sum",
    "wnDCG": "weighted_ndcg_sum",
}
_SEARCH_RATIOS = {
    "wMAP": "weighted_average_precision_sum",
    "wMRR": "weighted_reciprocal_rank_sum",
}
_GROUP_RECALL_K = 5


class RankingMetrics(Metric):
    """Every ranking metric of a pass over a split, from top labels alone.

    States are float64 sums and integer counts, one entry per k, reduced over processes by addition:
    how the points are split into batches or processes does not change the result beyond rounding.

    `compute()` names, for each k of `ks`:

    - multi-label: `P@k`, `nDCG@k`, `R@k`, `authors P@k` and, with a propensity, `PSP@k`,
      `PSnDCG@k`; with groups, `R@5 head`, `R@5 torso`, `R@5 tail`.
    - multiclass: `P@1` (so that all records share it), `top-k` (the share of points whose label is
      among the top k) and, with groups, `top-1 head` and `R@5 head`, likewise torso and tail.
      `extended` adds the names of multi-label.
    - `weighted`, whatever the task: `wR@k`, `wnDCG@k`, `MAP@k`, `MRR@k`, `wMAP@k`, `wMRR@k`, see
      `bench.metrics.retrieval`.

    `R@k head` is the share of the split's label occurrences of that group that stand in their
    point's top k; each occurrence weighs the same, whichever point it belongs to. `top-1 head` is
    that share at k = 1. A group with no occurrence in the split has no entry, nor has a k that is
    not in `ks`.

    Args:
        ks: ranks, each at least 1; predictions must hold the largest.
        task: `multiclass` (exactly one label a point, checked) or `multilabel`.
        label_counts: `(L,)` training points of each label. Needed for a propensity; gives the
            default groups; lets ids of L or more be refused.
        num_train_points: training points, needed for a propensity.
        propensity: constants (a, b), see `bench.metrics.propensity.PROPENSITY`; None leaves
            propensity-scored metrics out.
        groups: `(L,)` integer, 0 head, 1 torso, 2 tail; by default `frequency_groups` of the
            counts, and no group metrics without counts.
        extended: in multiclass, report the multi-label names too.
        weighted: report what search is measured by; every batch must have `label_weights`.

    Raises:
        ValueError: impossible `ks`, an unknown task, a propensity without counts, or groups of the
            wrong shape or values.

    >>> from bench.data.batch import Batch
    >>> empty = torch.zeros(0)
    >>> batch = Batch(torch.tensor([0, 0, 0]), empty.long(), empty,
    ...               label_offsets=torch.tensor([0, 1, 2]), label_ids=torch.tensor([4, 2]))
    >>> metrics = RankingMetrics(ks=(1, 2), task="multiclass")
    >>> metrics.update(torch.tensor([[4, 0], [1, 2]]), batch)
    >>> {name: value.item() for name, value in metrics.compute().items()}
    {'P@1': 0.5, 'top-1': 0.5, 'top-2': 1.0}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    num_points: Tensor
    group_hits: Tensor
    group_occurrences: Tensor
    weight_sum: Tensor

    def __init__(
        self,
        ks: Sequence[int] = (1, 3, 5, 10),
        *,
        task: Literal["multiclass", "multilabel"] = "multilabel",
        label_counts: Tensor | None = None,
        num_train_points: int | None = None,
        propensity: tuple[float, float] | None = None,
        groups: Tensor | None = None,
        extended: bool = False,
        weighted: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not ks or min(ks) < 1 or len(set(ks)) != len(ks):
            raise ValueError(f"ks are {tuple(ks)}; expected distinct ranks of at least 1")
        if task not in ("multiclass", "multilabel"):
            raise ValueError(f"task is {task!r}; expected 'multiclass' or 'multilabel'")
        if groups is None and label_counts is not None:
            groups = frequency_groups(label_counts)
        self.ks = tuple(sorted(ks))
        self.task = task
        self.extended = extended
        self.weighted = weighted
        self.num_labels = None if label_counts is None else label_counts.numel()
        # Plain attributes, not buffers: a module cast to half precision would cast a buffer too.
        self._inverse_propensity = _build_propensity(label_counts, num_train_points, propensity)
        self._groups = _checked_groups(groups, self.num_labels)
        if self._groups is not None:
            self.num_labels = self._groups.numel()

        self.add_state("num_points", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        sums = list(_MEANS.values())
        if self._inverse_propensity is not None:
            sums += [state for pair in _RATIOS.values() for state in pair]
        if weighted:
            sums += [*_SEARCH_MEANS.values(), *_SEARCH_RATIOS.values()]
            zero = torch.zeros((), dtype=torch.float64)
            self.add_state("weight_sum", zero, dist_reduce_fx="sum")
        for name in sums:
            zeros = torch.zeros(len(self.ks), dtype=torch.float64)
            self.add_state(name, zeros, dist_reduce_fx="sum")
        group_zeros = torch.zeros(len(GROUPS), len(self.ks), dtype=torch.int64)
        self.add_state("group_hits", group_zeros, dist_reduce_fx="sum")
        self.add_state("group_occurrences", group_zeros[:, 0].clone(), dist_reduce_fx="sum")

    def update(self, top_labels: Tensor, batch: Batch) -> None:
        """Add the points of one batch.

        Args:
            top_labels: predicted label ids, best first, `(N, K)` int64 with K at least the largest
                of `ks`; negative ids are padding and miss.
            batch: the same N points; only its labels are read.

        Raises:
            ValueError: K is too small, shapes disagree, ids are out of range, a label stands twice
                in a row, a multiclass point has not exactly one label, or weights are asked for
                and the batch has none.
        """
        check_k(top_labels, self.ks[-1])
        targets = SparseLabels(batch.label_offsets, batch.label_ids)
        hits = find_hits(top_labels, targets, num_labels=self.num_labels)
        num_relevant = targets.offsets.diff()
        if self.task == "multiclass" and bool((num_relevant != 1).any()):
            raise ValueError("a multiclass point has no label or several; expected exactly one")
        self.num_points += top_labels.shape[0]
        gains = hits.to(torch.float64)
        self._add("precision_sum", [precision_per_point(gains, k) for k in self.ks])
        self._add("ndcg_sum", [ndcg_per_point(gains, num_relevant, k) for k in self.ks])
        self._add("recall_sum", [recall_per_point(gains, num_relevant, k) for k in self.ks])
        self._add(
            "authors_precision_sum",
            [authors_precision_per_point(gains, num_relevant, k) for k in self.ks],
        )
        if self._inverse_propensity is not None:
            weights = self._inverse_propensity = self._inverse_propensity.to(hits.device)
            self._add_propensity_scored(hits, top_labels, targets, weights)
        if self._groups is not None:
            groups = self._groups = self._groups.to(hits.device)
            self._add_groups(hits, top_labels, targets, groups)
        if self.weighted:
            self._add_search(top_labels, targets, batch.label_weights)

    def compute(self) -> dict[str, Tensor]:
        """Metrics of all points so far, float64 scalars in [0, 1] by name, see the class.

        Raises:
            ValueError: no points were added.
        """
        if int(self.num_points) == 0:
            raise ValueError("no points were added; update() at least once before compute()")
        values: dict[str, Tensor] = {}
        if self.task == "multilabel" or self.extended:
            values |= self._by_k("{name}@{k}", {n: self._mean(s) for n, s in _MEANS.items()})
            if self._inverse_propensity is not None:
                ratios = {
                    name: ratio_of_sums(getattr(self, achieved), getattr(self, attainable))
                    for name, (achieved, attainable) in _RATIOS.items()
                }
                values |= self._by_k("{name}@{k}", ratios)
        if self.task == "multiclass":
            top = self._by_k("{name}-{k}", {"top": self._mean("recall_sum")})
            if "top-1" in top:
                values.setdefault("P@1", top["top-1"])
            values |= top | self._group_shares("top-{k}", 1)
        if self.weighted:
            means = {name: self._mean(state) for name, state in _SEARCH_MEANS.items()}
            means |= {
                name: ratio_of_sums(getattr(self, state), self.weight_sum)
                for name, state in _SEARCH_RATIOS.items()
            }
            values |= self._by_k("{name}@{k}", means)
        return values | self._group_shares("R@{k}", _GROUP_RECALL_K)

    def _add_propensity_scored(
        self, hits: Tensor, top_labels: Tensor, targets: SparseLabels, weights: Tensor
    ) -> None:
        num_relevant = targets.offsets.diff()
        gains = weigh_hits(hits, top_labels, weights)
        best = best_gains(targets, weights, self.ks[-1])
        for prefix, scored in (("", gains), ("best_", best)):
            self._add(f"{prefix}psprecision_sum", [precision_per_point(scored, k) for k in self.ks])
            self._add(
                f"{prefix}psndcg_sum", [ndcg_per_point(scored, num_relevant, k) for k in self.ks]
            )

    def _add_groups(
        self, hits: Tensor, top_labels: Tensor, targets: SparseLabels, groups: Tensor
    ) -> None:
        group_of_hit = groups[top_labels.clamp(min=0)]
        for group in range(len(GROUPS)):
            by_rank = (hits & (group_of_hit == group)).sum(dim=0).cumsum(0)
            self.group_hits[group] += by_rank[[k - 1 for k in self.ks]]
        self.group_occurrences += groups[targets.ids].bincount(minlength=len(GROUPS))

    def _add_search(
        self, top_labels: Tensor, targets: SparseLabels, weights: Tensor | None
    ) -> None:
        if weights is None:
            raise ValueError("the batch has no label_weights; expected them for weighted metrics")
        num_relevant, totals = targets.offsets.diff(), total_weights(targets, weights)
        gains = entry_gains(top_labels, targets, weights)
        best = best_entries(targets, weights.to(torch.float64), self.ks[-1])
        hits = (gains > 0).to(torch.float64)
        self._add(
            "weighted_recall_sum", [weighted_recall_per_point(gains, totals, k) for k in self.ks]
        )
        self._add("weighted_ndcg_sum", [weighted_ndcg_per_point(gains, best, k) for k in self.ks])
        precisions = [average_precision_per_point(hits, num_relevant, k) for k in self.ks]
        ranks = [reciprocal_rank_per_point(hits, k) for k in self.ks]
        for name, per_point in (("average_precision", precisions), ("reciprocal_rank", ranks)):
            self._add(f"{name}_sum", per_point)
            self._add(f"weighted_{name}_sum", [values * totals for values in per_point])
        self.weight_sum += totals.sum()

    def _add(self, state: str, per_point: list[Tensor]) -> None:
        setattr(self, state, getattr(self, state) + torch.stack(per_point).sum(dim=1))

    def _mean(self, state: str) -> Tensor:
        total: Tensor = getattr(self, state)
        return total / self.num_points

    def _by_k(self, pattern: str, values: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            pattern.format(name=name, k=k): value[index]
            for name, value in values.items()
            for index, k in enumerate(self.ks)
        }

    def _group_shares(self, pattern: str, k: int) -> dict[str, Tensor]:
        if k not in self.ks:
            return {}
        hits = self.group_hits[:, self.ks.index(k)].to(torch.float64)
        return {
            f"{pattern.format(k=k)} {GROUPS[group]}": hits[group] / occurrences
            for group, occurrences in enumerate(self.group_occurrences.tolist())
            if occurrences > 0
        }


def _build_propensity(
    label_counts: Tensor | None,
    num_train_points: int | None,
    propensity: tuple[float, float] | None,
) -> Tensor | None:
    if propensity is None:
        return None
    if label_counts is None or num_train_points is None:
        raise ValueError(
            "propensity needs label_counts and num_train_points; expected both, or propensity=None"
        )
    a, b = propensity
    return inverse_propensity(label_counts, num_train_points, a=a, b=b)


def _checked_groups(groups: Tensor | None, num_labels: int | None) -> Tensor | None:
    if groups is None:
        return None
    if groups.ndim != 1 or (num_labels is not None and groups.numel() != num_labels):
        expected = "(L,)" if num_labels is None else f"({num_labels},)"
        raise ValueError(f"groups have shape {tuple(groups.shape)}; expected {expected}")
    if groups.numel() and not bool(((groups >= 0) & (groups < len(GROUPS))).all()):
        raise ValueError(
            f"groups span {int(groups.min())} to {int(groups.max())}; "
            f"expected 0 to {len(GROUPS) - 1} for {', '.join(GROUPS)}"
        )
    return groups.to(torch.int64)
