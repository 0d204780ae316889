"""The `pruned` decode: exact, and sub-linear in L where the bucket scores are peaked.

Walks the best buckets of each world through inverted lists and stops as soon as no unseen label can
be among the k best (`bench.mach.decode.pruned_kernel`). A query that would score more labels this
way than is worth while is answered by `dense`; the labels are the same either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.mach.decode import Reduction, dense, pruned_kernel
from bench.mach.decode.dense_kernel import COARSE_TILE
from bench.mach.decode.index import BucketIndex, IndexCache
from bench.mach.decode.workspace import Workspace

# Sorted scores and their buckets `(P, R, B)`, and states of labels `(P, ⌈L / 32⌉)`.
_Room = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint64]]

_REDUCTION_CODES = {
    "sum": pruned_kernel.SUM,
    "min": pruned_kernel.MIN,
    "median": pruned_kernel.MEDIAN,
}
# A scan costs a query as much as scoring one label in so many by a walk: fewer where the levels
# of a tile of queries fit a core's and its neighbours' caches.
_LARGE_RATIO = 16
_SMALL_RATIO = 48
_LARGE_LEVELS_BYTES = 1 << 23
_indexes = IndexCache()
_workspace: Workspace[_Room] = Workspace()


class WalkTotals(NamedTuple):
    """Of all queries of a batch; see :class:`PrunedResult`."""

    num_queries: int
    num_proven: int
    num_scored: int
    num_met: int
    num_buckets_walked: int


@dataclass(frozen=True)
class PrunedResult:
    """What a walk found, and what it cost.

    Attributes:
        scores: `(N, k)` float32, best first.
        labels: `(N, k)` int64, equal scores by ascending label. Undefined, as the scores are,
            where not proven.
        counts: `(N, 4)` int64, as the kernel counts; the properties tell them apart.
    """

    scores: Tensor
    labels: Tensor
    counts: NDArray[np.int64]

    @property
    def is_proven(self) -> Tensor:
        """`(N,)` bool: the k labels are exact. False where the walk gave up."""
        return torch.from_numpy(self.counts[:, pruned_kernel.IS_PROVEN] > 0)

    @property
    def num_scored(self) -> Tensor:
        """`(N,)` int64, labels scored, in full or until they could not win any more."""
        return torch.from_numpy(self.counts[:, pruned_kernel.NUM_SCORED].copy())

    @property
    def num_met(self) -> Tensor:
        """`(N,)` int64, distinct labels in the buckets walked, scored or not."""
        return torch.from_numpy(self.counts[:, pruned_kernel.NUM_MET].copy())

    @property
    def num_buckets_walked(self) -> Tensor:
        """`(N,)` int64."""
        return torch.from_numpy(self.counts[:, pruned_kernel.NUM_WALKED].copy())

    def totals(self) -> WalkTotals:
        """Of all queries."""
        # Of a single query without a sum, which would be a tenth of what walk and all may take.
        num_queries = len(self.counts)
        counts = self.counts[0] if num_queries == 1 else self.counts.sum(axis=0)
        total: list[int] = counts.tolist()
        return WalkTotals(
            num_queries=num_queries,
            num_proven=total[pruned_kernel.IS_PROVEN],
            num_scored=total[pruned_kernel.NUM_SCORED],
            num_met=total[pruned_kernel.NUM_MET],
            num_buckets_walked=total[pruned_kernel.NUM_WALKED],
        )


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by the walk, or by `dense` where that is shorter.

    The table's inverted lists are built at its first use and kept as long as the table is. On other
    devices than the CPU all of it is `dense`.

    Raises:
        ValueError: a bucket of the table is outside 0 … B − 1.
    """
    if bucket_scores.device.type != "cpu":
        return dense.top_k(bucket_scores, table, k, reduction)
    index = index_of(table, bucket_scores.shape[2])
    return top_k_indexed(bucket_scores, table, index, k, reduction)


def prepare(table: Tensor, num_buckets: int, k: int, reduction: Reduction) -> None:
    """Build the table's index, compile the walk and the scan; see `bench.mach.decode.prepare`."""
    dense.prepare(table, num_buckets, k, reduction)
    if table.device.type != "cpu":
        return
    index = index_of(table, num_buckets)
    scores = torch.zeros(2, table.shape[0], num_buckets)
    # Compiled by types alone: a walk that may take nothing is as good as one that arrives.
    nothing = WalkBudget(_TYPICAL_PRICES, 0.0)
    walk(scores, index, k, reduction, budget=nothing)
    walk(scores[:1], index, k, reduction, budget=nothing)


def top_k_indexed(
    bucket_scores: Tensor, table: Tensor, index: BucketIndex, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """As :func:`top_k` with an index at hand."""
    budget = typical_budget(index, reduction)
    if budget is None:
        return dense.top_k(bucket_scores, table, k, reduction)
    found = walk(bucket_scores, index, k, reduction, budget=budget)
    complete(found, bucket_scores, table, reduction)
    return found.scores, found.labels


def complete(
    found: PrunedResult, bucket_scores: Tensor, table: Tensor, reduction: Reduction
) -> None:
    """Answer by `dense`, in place, the queries that a walk over the same gave up."""
    total = found.totals()
    if total.num_proven < total.num_queries:
        given_up = (~found.is_proven).nonzero()[:, 0]
        answer_by_dense(found.scores, found.labels, given_up, bucket_scores, table, reduction)


def answer_by_dense(
    scores: Tensor,
    labels: Tensor,
    queries: Tensor,
    bucket_scores: Tensor,
    table: Tensor,
    reduction: Reduction,
) -> None:
    """Fill in the answers of some queries.

    Args:
        scores: `(N, k)`, the rows of `queries` are written.
        labels: `(N, k)`, likewise.
        queries: distinct positions among the N.
        bucket_scores: `(N, R, B)`.
        table: `(R, L)`.
        reduction: `sum`, `min` or `median`.
    """
    if queries.numel() == 0:
        return
    k = scores.shape[1]
    if queries.numel() == scores.shape[0]:  # all of them: without a copy
        found = dense.top_k(bucket_scores, table, k, reduction)
        scores.copy_(found[0])
        labels.copy_(found[1])
        return
    asked = bucket_scores.index_select(0, queries)
    scores[queries], labels[queries] = dense.top_k(asked, table, k, reduction)


def index_of(table: Tensor, num_buckets: int) -> BucketIndex:
    """Index of a table, built at its first use and kept as long as the table is.

    Raises:
        ValueError: a bucket of the table is outside 0 … B − 1.
    """
    return _indexes.get(table, num_buckets)


@dataclass(frozen=True)
class WalkPrices:
    """What a walk takes, in any unit.

    Attributes:
        bucket: of a bucket walked.
        meet: of a label that is met there for the first time.
        score: of a label scored.
    """

    bucket: float
    meet: float
    score: float

    def of_walk(self, num_buckets: float, num_met: float, num_scored: float) -> float:
        """What a walk took."""
        return num_buckets * self.bucket + num_met * self.meet + num_scored * self.score


@dataclass(frozen=True)
class WalkBudget:
    """What a walk may take before it gives up.

    Attributes:
        prices: of its parts.
        limit: of what they come to, in the unit of the prices.
    """

    prices: WalkPrices
    limit: float

    def is_enough(self, num_labels: int, shape: tuple[int, int], reduction: Reduction) -> bool:
        """Whether a walk can end within it that finds what it looks for at once.

        Args:
            num_labels: L.
            shape: R and B.
            reduction: `sum`, `min` or `median`.
        """
        num_worlds, num_buckets = shape
        # Until then a sum's bound has worlds whose best bucket counts, and a median's most of them.
        walked = {"sum": num_worlds, "median": num_worlds // 2 + 1, "min": 1}[reduction]
        met = walked * num_labels / num_buckets
        scored = min(met, pruned_kernel.NUM_IMMEDIATE) if reduction == "sum" else met
        return self.prices.of_walk(walked, met, scored) <= self.limit


# In labels scored: where nobody has measured the machine.
_TYPICAL_PRICES = WalkPrices(bucket=4.0, meet=1 / 8, score=1.0)


def typical_budget(index: BucketIndex, reduction: Reduction) -> WalkBudget | None:
    """What a walk may take until `dense` would have been the cheaper way on a usual machine.

    None where no walk can be that short.
    """
    levels = index.num_worlds * index.num_buckets * COARSE_TILE
    ratio = _LARGE_RATIO if levels > _LARGE_LEVELS_BYTES else _SMALL_RATIO
    budget = WalkBudget(_TYPICAL_PRICES, index.num_labels / ratio)
    shape = index.num_worlds, index.num_buckets
    return budget if budget.is_enough(index.num_labels, shape, reduction) else None


def _limits(budget: WalkBudget | None) -> tuple[float, float, float, float]:
    """As the kernel takes them."""
    if budget is None:
        return 0.0, 0.0, 0.0, math.inf
    prices = budget.prices
    return float(prices.bucket), float(prices.meet), float(prices.score), float(budget.limit)


def walk(
    bucket_scores: Tensor,
    index: BucketIndex,
    k: int,
    reduction: Reduction = "sum",
    *,
    budget: WalkBudget | None = None,
    num_immediate: int = pruned_kernel.NUM_IMMEDIATE,
) -> PrunedResult:
    """The k best labels of each query, exact wherever the result says that they are proven.

    Args:
        bucket_scores: `(N, R, B)` on the CPU, finite or −inf.
        index: inverted lists of the table.
        k: 1 to L.
        reduction: `sum`, `min` or `median`.
        budget: give up on a query whose walk would take more; None: no limit, all proven.
        num_immediate: labels that a query scores when it first meets them; others wait until they
            are met again, in a sum.

    Raises:
        ValueError: shapes disagree or k is out of range.
    """
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    if (num_worlds, num_buckets) != (index.num_worlds, index.num_buckets):
        raise ValueError(
            f"bucket scores have R = {num_worlds}, B = {num_buckets}; expected those of the index, "
            f"R = {index.num_worlds}, B = {index.num_buckets}"
        )
    if not 1 <= k <= index.num_labels:
        raise ValueError(f"k is {k}; expected 1 to L = {index.num_labels}")
    scores = bucket_scores.detach().float().contiguous().numpy()
    out_scores = np.empty((num_queries, k), dtype=np.float32)
    out_labels = np.empty((num_queries, k), dtype=np.int64)
    counts = np.zeros((num_queries, 4), dtype=np.int64)
    num_parts = 1
    if num_queries > 1:
        num_parts = min(torch.get_num_threads(), numba.get_num_threads(), num_queries)
    shape = (num_parts, num_worlds, num_buckets)
    num_words = (index.num_labels + 31) // 32

    def room() -> _Room:
        values, ids = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int32)
        return values, ids, np.zeros((num_parts, num_words), dtype=np.uint64)

    with _workspace.borrow((shape, num_words), room) as (values, ids, states):
        code = _REDUCTION_CODES[reduction]
        limits = _limits(budget)
        if num_queries == 1:
            # On one thread: waking another takes as long as what it could take over.
            pruned_kernel.walk_query(
                code, scores[0], index.rows, index.lists, index.offsets, values[0], ids[0],
                states[0], out_scores[0], out_labels[0], limits, num_immediate, counts[0],
            )  # fmt: skip
        else:
            pruned_kernel.walk_queries(
                code, scores, index.rows, index.lists, index.offsets, values, ids, states,
                out_scores, out_labels, limits, num_immediate, counts,
            )  # fmt: skip
    return PrunedResult(torch.from_numpy(out_scores), torch.from_numpy(out_labels), counts)
