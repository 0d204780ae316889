"""The `pruned` decode: exact, and sub-linear in L where the bucket scores are peaked.

Reads the best buckets of each world through inverted lists and stops as soon as no label that was
not encountered can be among the k best (`bench.mach.decode.pruned_kernel`). A query that would
score more labels this way than is worth while, and minima and medians, are answered by `dense`; the
labels are the same either way.
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
from bench.mach.decode.coarse_kernel import COARSE_TILE
from bench.mach.decode.index import BucketIndex, IndexCache
from bench.mach.decode.workspace import Workspace

# Sorted scores and their buckets `(P, R, B)`, and states of labels `(P, ⌈L / 32⌉)`.
_Room = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.uint64]]

# A scan costs a query as much as scoring one label in so many by a search: fewer where the levels
# of a tile of queries fit a core's and its neighbours' caches.
_LARGE_RATIO = 16
_SMALL_RATIO = 48
_LARGE_LEVELS_BYTES = 1 << 23
_indexes = IndexCache()
_workspace: Workspace[_Room] = Workspace()


class SearchTotals(NamedTuple):
    """Of all queries of a batch; see :class:`PrunedResult`."""

    num_queries: int
    num_proven: int
    num_scored: int
    num_encountered: int
    num_read: int


@dataclass(frozen=True)
class PrunedResult:
    """What a search found, and what it cost.

    Attributes:
        scores: `(N, k)` float32, best first.
        labels: `(N, k)` int64, equal scores by ascending label. Undefined, as the scores are,
            where not proven.
        counts: `(N, 4)` int64, as the kernel counts; the properties are its columns.
    """

    scores: Tensor
    labels: Tensor
    counts: NDArray[np.int64]

    @property
    def is_proven(self) -> Tensor:
        """`(N,)` bool: the k labels are exact. False where the search gave up."""
        return self._column(pruned_kernel.IS_PROVEN) > 0

    @property
    def num_scored(self) -> Tensor:
        """`(N,)` int64, labels scored, in full or until they could not win any more."""
        return self._column(pruned_kernel.NUM_SCORED)

    @property
    def num_encountered(self) -> Tensor:
        """`(N,)` int64, distinct labels in the buckets read, scored or not."""
        return self._column(pruned_kernel.NUM_ENCOUNTERED)

    @property
    def num_read(self) -> Tensor:
        """`(N,)` int64, buckets read."""
        return self._column(pruned_kernel.NUM_READ)

    def _column(self, number: int) -> Tensor:
        return torch.from_numpy(self.counts[:, number].copy())

    def totals(self) -> SearchTotals:
        """Of all queries."""
        # Of a single query without a sum, which would be a tenth of what all of it may take.
        num_queries = len(self.counts)
        counts = self.counts[0] if num_queries == 1 else self.counts.sum(axis=0)
        total: list[int] = counts.tolist()
        return SearchTotals(
            num_queries=num_queries,
            num_proven=total[pruned_kernel.IS_PROVEN],
            num_scored=total[pruned_kernel.NUM_SCORED],
            num_encountered=total[pruned_kernel.NUM_ENCOUNTERED],
            num_read=total[pruned_kernel.NUM_READ],
        )


def is_dense(device: torch.device, reduction: Reduction) -> bool:
    """Whether nothing is searched: on other devices than the CPU, for minima and medians."""
    return reduction != "sum" or device.type != "cpu"


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by the search, or by `dense` where that is shorter.

    The table's inverted lists are built at its first use and kept as long as the table is.
    """
    if is_dense(bucket_scores.device, reduction):
        return dense.top_k(bucket_scores, table, k, reduction)
    return top_k_indexed(bucket_scores, table, index_of(table, bucket_scores.shape[2]), k)


def prepare(table: Tensor, num_buckets: int, k: int, reduction: Reduction) -> None:
    """Build the table's index, compile search and scan; see `bench.mach.decode.prepare`."""
    dense.prepare(table, num_buckets, k, reduction)
    if is_dense(table.device, reduction):
        return
    index = index_of(table, num_buckets)
    scores = torch.zeros(2, table.shape[0], num_buckets)
    # Compiled by types alone: a search that may take nothing is as good as one that arrives.
    nothing = SearchBudget(_TYPICAL_PRICES, 0.0)
    for queries in (scores, scores[:1]):
        search(queries, index, k, budget=nothing)


def top_k_indexed(
    bucket_scores: Tensor, table: Tensor, index: BucketIndex, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`top_k` for sums, with an index at hand."""
    budget = typical_budget(index)
    if budget is None:
        return dense.top_k(bucket_scores, table, k, "sum")
    found = search(bucket_scores, index, k, budget=budget)
    complete(found, bucket_scores, table)
    return found.scores, found.labels


def complete(found: PrunedResult, bucket_scores: Tensor, table: Tensor) -> None:
    """Answer by `dense`, in place, the queries that a search over the same gave up."""
    total = found.totals()
    if total.num_proven < total.num_queries:
        given_up = (~found.is_proven).nonzero()[:, 0]
        answer_by_dense(found.scores, found.labels, given_up, bucket_scores, table)


def answer_by_dense(
    scores: Tensor, labels: Tensor, queries: Tensor, bucket_scores: Tensor, table: Tensor
) -> None:
    """Fill in the scores and labels, `(N, k)`, of some queries, distinct positions among the N."""
    if queries.numel() == 0:
        return
    k = scores.shape[1]
    if queries.numel() == scores.shape[0]:  # all of them: without a copy
        found = dense.top_k(bucket_scores, table, k, "sum")
        scores.copy_(found[0])
        labels.copy_(found[1])
        return
    asked = bucket_scores.index_select(0, queries)
    scores[queries], labels[queries] = dense.top_k(asked, table, k, "sum")


def index_of(table: Tensor, num_buckets: int) -> BucketIndex:
    """Index of a table, built at its first use and kept as long as the table is."""
    return _indexes.get(table, num_buckets)


@dataclass(frozen=True)
class SearchPrices:
    """What a search takes, in any unit.

    Attributes:
        bucket: of a bucket read.
        encounter: of a label that is encountered there for the first time.
        score: of a label scored.
    """

    bucket: float
    encounter: float
    score: float

    def of_search(self, num_read: float, num_encountered: float, num_scored: float) -> float:
        """What a search took."""
        return num_read * self.bucket + num_encountered * self.encounter + num_scored * self.score


@dataclass(frozen=True)
class SearchBudget:
    """What a search may take before it gives up.

    Attributes:
        prices: of its parts.
        limit: of what they come to, in the unit of the prices.
    """

    prices: SearchPrices
    limit: float

    def is_enough(self, num_labels: int, num_worlds: int, num_buckets: int) -> bool:
        """Whether a search can end within it that finds what it looks for at once."""
        # Until each world has one bucket read, the bound has worlds whose best bucket counts.
        encountered = num_worlds * num_labels / num_buckets
        scored = min(encountered, pruned_kernel.NUM_IMMEDIATE)
        return self.prices.of_search(num_worlds, encountered, scored) <= self.limit


# In labels scored: where nobody has measured the machine.
_TYPICAL_PRICES = SearchPrices(bucket=4.0, encounter=1 / 8, score=1.0)


def typical_budget(index: BucketIndex) -> SearchBudget | None:
    """What a search may take until `dense` would have been the cheaper way on a usual machine.

    None where no search can be that short.
    """
    levels = index.num_worlds * index.num_buckets * COARSE_TILE
    ratio = _LARGE_RATIO if levels > _LARGE_LEVELS_BYTES else _SMALL_RATIO
    budget = SearchBudget(_TYPICAL_PRICES, index.num_labels / ratio)
    is_enough = budget.is_enough(index.num_labels, index.num_worlds, index.num_buckets)
    return budget if is_enough else None


def _limits(budget: SearchBudget | None) -> tuple[float, float, float, float]:
    """As the kernel takes them."""
    if budget is None:
        return 0.0, 0.0, 0.0, math.inf
    prices = budget.prices
    return float(prices.bucket), float(prices.encounter), float(prices.score), float(budget.limit)


def search(
    bucket_scores: Tensor,
    index: BucketIndex,
    k: int,
    *,
    budget: SearchBudget | None = None,
    num_immediate: int = pruned_kernel.NUM_IMMEDIATE,
) -> PrunedResult:
    """The k best labels of each query by sums, exact wherever the result says that they are proven.

    Args:
        bucket_scores: `(N, R, B)` on the CPU, finite or −inf.
        index: inverted lists of the table.
        k: 1 to L.
        budget: give up on a query whose search would take more; None: no limit, all proven.
        num_immediate: labels that a query scores when it first encounters them; others wait until
            they are encountered again.

    Raises:
        ValueError: shapes disagree or k is out of range.
    """
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    index.check(num_worlds, num_buckets)
    if not 1 <= k <= index.num_labels:
        raise ValueError(f"k is {k}; expected 1 to L = {index.num_labels}")
    scores = bucket_scores.detach().float().contiguous().numpy()
    out_scores = np.empty((num_queries, k), dtype=np.float32)
    out_labels = np.empty((num_queries, k), dtype=np.int64)
    counts = np.empty((num_queries, 4), dtype=np.int64)
    num_parts = 1
    if num_queries > 1:
        num_parts = min(torch.get_num_threads(), numba.get_num_threads(), num_queries)
    shape = (num_parts, num_worlds, num_buckets)
    num_words = (index.num_labels + 31) // 32

    def room() -> _Room:
        values, ids = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.int32)
        return values, ids, np.zeros((num_parts, num_words), dtype=np.uint64)

    with _workspace.borrow((shape, num_words), room) as (values, ids, states):
        limits = _limits(budget)
        if num_queries == 1:
            # On one thread: waking another takes as long as what it could take over.
            pruned_kernel.search_query(
                scores[0], index.rows, index.lists, index.offsets, values[0], ids[0], states[0],
                out_scores[0], out_labels[0], limits, num_immediate, counts[0],
            )  # fmt: skip
        else:
            pruned_kernel.search_queries(
                scores, index.rows, index.lists, index.offsets, values, ids, states, out_scores,
                out_labels, limits, num_immediate, counts,
            )  # fmt: skip
    return PrunedResult(torch.from_numpy(out_scores), torch.from_numpy(out_labels), counts)
