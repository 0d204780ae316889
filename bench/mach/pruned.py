"""The `pruned` decode: exact, and sub-linear in L where the bucket scores are peaked.

Walks the best buckets of each world through inverted lists and stops as soon as no unseen label can
be among the k best (`bench.mach.pruned_kernel`). A query that would score more labels this way than
is worth while is answered by `dense`; the labels are the same either way.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.mach import dense, pruned_kernel
from bench.mach.decode import Reduction
from bench.mach.index import BucketIndex, IndexCache

_REDUCTION_CODES = {
    "sum": pruned_kernel.SUM,
    "min": pruned_kernel.MIN,
    "median": pruned_kernel.MEDIAN,
}
_indexes = IndexCache()
_workspaces = threading.local()


@dataclass(frozen=True)
class PrunedResult:
    """What a walk found, and what it cost.

    Attributes:
        scores: `(N, k)` float32, best first.
        labels: `(N, k)` int64, equal scores by ascending label; undefined where not proven.
        is_proven: `(N,)` bool: the k labels are exact. False where the walk gave up.
        num_scored: `(N,)` int64, distinct labels looked at.
        num_buckets_walked: `(N,)` int64.
    """

    scores: Tensor
    labels: Tensor
    is_proven: Tensor
    num_scored: Tensor
    num_buckets_walked: Tensor


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
    found = walk(bucket_scores, index, k, reduction, max_labels=worthwhile_labels(index))
    if bool(found.is_proven.all()):
        return found.scores, found.labels
    given_up = (~found.is_proven).nonzero()[:, 0]
    scores, labels = dense.top_k(bucket_scores[given_up].contiguous(), table, k, reduction)
    return found.scores.index_copy(0, given_up, scores), found.labels.index_copy(
        0, given_up, labels
    )


def index_of(table: Tensor, num_buckets: int) -> BucketIndex:
    """Index of a table, built at its first use and kept as long as the table is.

    Raises:
        ValueError: a bucket of the table is outside 0 … B − 1.
    """
    return _indexes.get(table, num_buckets)


def worthwhile_labels(index: BucketIndex) -> int:
    """Labels that a walk may score before `dense` would have been the cheaper way."""
    return max(index.num_labels // 16, 1)


def walk(
    bucket_scores: Tensor,
    index: BucketIndex,
    k: int,
    reduction: Reduction = "sum",
    *,
    max_labels: int | None = None,
) -> PrunedResult:
    """The k best labels of each query, exact wherever the result says that they are proven.

    Args:
        bucket_scores: `(N, R, B)` on the CPU, finite or −inf.
        index: inverted lists of the table.
        k: 1 to L.
        reduction: `sum`, `min` or `median`.
        max_labels: give up on a query that would score more labels; None: no limit, all proven.

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
    counts = np.zeros((num_queries, 3), dtype=np.int64)
    num_threads = min(torch.get_num_threads(), numba.get_num_threads())
    with _workspace(index, max(min(num_threads, num_queries), 1)) as room:
        is_single = num_queries == 1
        if is_single:
            listed = np.empty(num_worlds, dtype=np.int64)
            pruned_kernel.select(scores[0], room.values[0], room.ids[0], listed)
        pruned_kernel.walk_queries(
            _REDUCTION_CODES[reduction],
            scores,
            index.rows,
            index.rows.reshape(-1),
            index.lists,
            index.offsets,
            room.values,
            room.ids,
            room.visited,
            is_single,
            index.num_labels if max_labels is None else max_labels,
            out_scores,
            out_labels,
            counts,
        )
    return PrunedResult(
        scores=torch.from_numpy(out_scores),
        labels=torch.from_numpy(out_labels),
        is_proven=torch.from_numpy(counts[:, 2] > 0),
        num_scored=torch.from_numpy(counts[:, 0].copy()),
        num_buckets_walked=torch.from_numpy(counts[:, 1].copy()),
    )


class _workspace:  # noqa: N801 - a context manager, used like a function
    """Room for some threads' walks, kept for this thread's next call; dropped after an exception.

    An interrupted walk leaves marks of visited labels behind.
    """

    values: NDArray[np.float32]
    ids: NDArray[np.int32]
    visited: NDArray[np.uint64]

    def __init__(self, index: BucketIndex, num_parts: int) -> None:
        shape = (num_parts, index.num_worlds, index.num_buckets)
        num_words = (index.num_labels + 63) // 64
        kept: Any = getattr(_workspaces, "arrays", None)
        _workspaces.arrays = None
        if kept is None or kept[0].shape != shape or kept[2].shape[1] != num_words:
            kept = (
                np.empty(shape, dtype=np.float32),
                np.empty(shape, dtype=np.int32),
                np.zeros((num_parts, num_words), dtype=np.uint64),
            )
        self.values, self.ids, self.visited = kept

    def __enter__(self) -> _workspace:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            _workspaces.arrays = (self.values, self.ids, self.visited)
