"""Streaming ranking metrics: sums over batches, one division at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from bench.data.batch import Batch
from bench.data.csr import Dataset, Int64s, Task
from bench.metrics import functional
from bench.metrics.frequency import GROUPS, PROPENSITY, frequency_groups, inverse_propensity
from bench.metrics.functional import ratio_of_sums
from bench.metrics.hits import SparseLabels, best_gains, find_entries, point_ids
from bench.settings import DataSpec

_MEANS = ("P", "nDCG", "R", "authors P")
# Each divided by that of the best prediction.
_RATIOS = ("PSP", "PSnDCG")
# Of labels with weights: means over the points, and means by the points' weights.
_WEIGHTED_MEANS = ("MAP", "MRR", "wR", "wnDCG")
_WEIGHTED_RATIOS = ("wMAP", "wMRR")
_GROUP_RECALL_K = 5


class RankingMetrics(Metric):
    """Every ranking metric of a pass over a split, from top labels alone.

    States are float64 sums and integer counts, reduced over processes by addition: how the points
    are split into batches or processes does not change the result beyond rounding.

    `compute()` names, for each k of `ks`:

    - multi-label: `P@k`, `nDCG@k`, `R@k`, `authors P@k` and, with propensities, `PSP@k`,
      `PSnDCG@k`; with groups, `R@5 head`, `R@5 torso`, `R@5 tail`.
    - multiclass: `P@1` (so that all records share it), `top-k` (the share of points whose label is
      among the top k) and, with groups, `top-1 head` and `R@5 head`, likewise torso and tail.
    - `weighted`, whatever the task: `wR@k`, `wnDCG@k`, `MAP@k`, `MRR@k`, `wMAP@k`, `wMRR@k`, see
      `bench.metrics.functional`.

    `PSP@k` and `PSnDCG@k` are ratios of sums, not means of ratios: the propensity-scored precision
    (or DCG ÷ the point's unweighted ideal DCG) summed over the points ÷ the same sum for the best
    prediction of every point. A point with rare labels so weighs more than one with frequent ones.

    `R@k head` is the share of the split's label occurrences of that group that stand in their
    point's top k; each occurrence weighs the same, whichever point it belongs to. `top-1 head` is
    that share at k = 1. A group with no occurrence in the split has no entry, nor has a k that is
    not in `ks`.

    Args:
        ks: ranks, each at least 1; predictions must hold the largest.
        task: `multiclass` (exactly one label a point, checked) or `multilabel`.
        inverse_propensities: `(L,)` float64, see `bench.metrics.frequency.inverse_propensity`; None
            leaves propensity-scored metrics out.
        groups: `(L,)` int64, 0 head, 1 torso, 2 tail; None leaves group metrics out. Lets ids of L
            or more be refused.
        weighted: report what search is measured by; every batch must have `label_weights`.

    Source: Jain, Prabhu, Varma 2016 (propensity-scored losses).

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
    sums: Tensor
    weight_sum: Tensor
    group_hits: Tensor
    group_occurrences: Tensor

    def __init__(
        self,
        ks: Sequence[int] = (1, 3, 5, 10),
        *,
        task: Task = "multilabel",
        inverse_propensities: Tensor | None = None,
        groups: Tensor | None = None,
        weighted: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.ks = tuple(sorted(ks))
        self.task = task
        self.weighted = weighted
        # Plain attributes, not buffers: a module cast to half precision would cast a buffer too.
        self._inverse_propensities = inverse_propensities
        self._groups = groups
        names = list(_MEANS)
        if inverse_propensities is not None:
            names += [*_RATIOS, *(f"best {name}" for name in _RATIOS)]
        if weighted:
            names += [*_WEIGHTED_MEANS, *_WEIGHTED_RATIOS]
        self._names = tuple(names)
        num_groups, num_ks = len(GROUPS), len(self.ks)
        for name, zeros in (
            ("num_points", torch.zeros((), dtype=torch.int64)),
            ("sums", torch.zeros(len(names), num_ks, dtype=torch.float64)),
            ("weight_sum", torch.zeros((), dtype=torch.float64)),
            ("group_hits", torch.zeros(num_groups, num_ks, dtype=torch.int64)),
            ("group_occurrences", torch.zeros(num_groups, dtype=torch.int64)),
        ):
            self.add_state(name, zeros, dist_reduce_fx="sum")

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
        if top_labels.ndim != 2 or top_labels.shape[1] < self.ks[-1]:
            raise ValueError(
                f"top_labels have shape {tuple(top_labels.shape)}; expected (N, K) with K of "
                f"{self.ks[-1]} or more"
            )
        targets = SparseLabels(batch.label_offsets, batch.label_ids)
        num_labels = None if self._groups is None else self._groups.numel()
        entries = find_entries(top_labels, targets, num_labels=num_labels)
        num_relevant = targets.offsets.diff()
        if self.task == "multiclass" and bool((num_relevant != 1).any()):
            raise ValueError("a multiclass point has no label or several; expected exactly one")
        hits = (entries >= 0).to(torch.float64)
        functions: dict[str, Callable[[int], Tensor]] = {
            "P": partial(functional.precision_per_point, hits),
            "nDCG": partial(functional.ndcg_per_point, hits, num_relevant),
            "R": partial(functional.recall_per_point, hits, num_relevant),
            "authors P": partial(functional.authors_precision_per_point, hits, num_relevant),
        }
        if self._inverse_propensities is not None:
            weights = self._inverse_propensities = self._inverse_propensities.to(hits.device)
            gains = hits * weights[top_labels.clamp(min=0)]
            best = best_gains(targets, weights[targets.ids], self.ks[-1])
            for prefix, scored in (("", gains), ("best ", best)):
                functions |= {
                    f"{prefix}PSP": partial(functional.precision_per_point, scored),
                    f"{prefix}PSnDCG": partial(functional.ndcg_per_point, scored, num_relevant),
                }
        if self.weighted:
            functions |= self._weighted(hits, entries, targets, batch.label_weights)
        self.num_points += top_labels.shape[0]
        self.sums = self.sums + torch.stack(
            [torch.stack([functions[name](k) for k in self.ks]).sum(dim=1) for name in self._names]
        )
        if self._groups is not None:
            self._groups = self._groups.to(hits.device)
            self._add_groups(entries >= 0, top_labels, targets, self._groups)

    def compute(self) -> dict[str, Tensor]:
        """Metrics of all points so far, float64 scalars in [0, 1] by name, see the class.

        Raises:
            ValueError: no points were added.
        """
        if int(self.num_points) == 0:
            raise ValueError("no points were added; update() at least once before compute()")
        sums = dict(zip(self._names, self.sums, strict=True))
        values: dict[str, Tensor] = {}
        if self.task == "multilabel":
            values |= self._by_k("{name}@{k}", {n: sums[n] / self.num_points for n in _MEANS})
            if self._inverse_propensities is not None:
                ratios = {n: ratio_of_sums(sums[n], sums[f"best {n}"]) for n in _RATIOS}
                values |= self._by_k("{name}@{k}", ratios)
        else:
            top = self._by_k("{name}-{k}", {"top": sums["R"] / self.num_points})
            if "top-1" in top:
                values["P@1"] = top["top-1"]
            values |= top | self._group_shares("top-{k}", 1)
        if self.weighted:
            means = {n: sums[n] / self.num_points for n in _WEIGHTED_MEANS}
            means |= {n: ratio_of_sums(sums[n], self.weight_sum) for n in _WEIGHTED_RATIOS}
            values |= self._by_k("{name}@{k}", means)
        return values | self._group_shares("R@{k}", _GROUP_RECALL_K)

    def _weighted(
        self, hits: Tensor, entries: Tensor, targets: SparseLabels, weights: Tensor | None
    ) -> Mapping[str, Callable[[int], Tensor]]:
        if weights is None:
            raise ValueError("the batch has no label_weights; expected them for weighted metrics")
        num_relevant = targets.offsets.diff()
        weights = weights.to(torch.float64)
        totals = weights.new_zeros(num_relevant.numel()).index_add_(0, point_ids(targets), weights)
        gains = torch.cat([weights, weights.new_zeros(1)])[entries]  # the last one for entry −1
        best = best_gains(targets, weights, self.ks[-1])
        self.weight_sum += totals.sum()

        def average_precision(k: int) -> Tensor:
            return functional.average_precision_per_point(hits, num_relevant, k)

        def reciprocal_rank(k: int) -> Tensor:
            return functional.reciprocal_rank_per_point(hits, k)

        return {
            "MAP": average_precision,
            "MRR": reciprocal_rank,
            "wR": partial(functional.weighted_recall_per_point, gains, totals),
            "wnDCG": partial(functional.weighted_ndcg_per_point, gains, best),
            "wMAP": lambda k: average_precision(k) * totals,
            "wMRR": lambda k: reciprocal_rank(k) * totals,
        }

    def _add_groups(
        self, hits: Tensor, top_labels: Tensor, targets: SparseLabels, groups: Tensor
    ) -> None:
        group_of_hit = groups[top_labels.clamp(min=0)]
        for group in range(len(GROUPS)):
            by_rank = (hits & (group_of_hit == group)).sum(dim=0).cumsum(0)
            self.group_hits[group] += by_rank[[k - 1 for k in self.ks]]
        self.group_occurrences += groups[targets.ids].bincount(minlength=len(GROUPS))

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


def metrics_of_data(spec: DataSpec, dataset: Dataset, *, most: int) -> RankingMetrics:
    """Metrics that a data set's settings ask for: the same for our methods and for peers.

    Propensities go by the complete training file, whatever of it is held back for validation;
    groups by what was trained on.

    Args:
        spec: the data set's settings.
        dataset: the data set.
        most: labels that are ranked; cut-offs above are left out.
    """
    propensities = None
    if dataset.task == "multilabel":
        a, b = PROPENSITY[spec.propensity]
        counts = _padded(dataset.file_label_counts(), dataset)
        propensities = inverse_propensity(counts, dataset.num_file_points, a=a, b=b)
    return RankingMetrics(
        ks=tuple(k for k in spec.ks if k <= most),
        task=dataset.task,
        inverse_propensities=propensities,
        groups=frequency_groups(_padded(dataset.train_labels.column_counts(), dataset)),
        weighted=dataset.test_labels.values is not None,
    )


def _padded(counts: Int64s, dataset: Dataset) -> Tensor:
    """Counts of the L labels, and 0 for those that only test points have."""
    return torch.from_numpy(np.pad(counts, (0, dataset.test_labels.num_columns - counts.size)))
