"""The `buckets` decode: the MACH authors' approximate one, for comparison; it may miss labels.

Only the m best buckets of each world are looked into. A label's score is the sum over those of its
buckets that are among them, all others counting 0; labels that are in fewer than `min_count` of
them are dropped, the bound being lowered until k labels are left.

Source: `approx_eval.py` of the authors' code, as described in `PAPER.md` section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import torch
from numba import prange
from numpy.typing import NDArray
from torch import Tensor

from bench.mach.decode.index import BucketIndex
from bench.mach.decode.kernels import NO_LABEL, clear_heap, offer, sort_heap
from bench.mach.decode.workspace import Workspace
from bench.nn.ranking import UnrankableError
from bench.store.kernels import njit

# Sums, counts and the labels seen, each `(P, L)`; the counts are left zero.
_Room = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
_workspace: Workspace[_Room] = Workspace()


@dataclass(frozen=True)
class BucketsResult:
    """What the heuristic answered.

    Attributes:
        scores: `(N, k)` float32, best first; −inf where there is no label.
        labels: `(N, k)` int64; −1 where the buckets held fewer than k labels.
        num_scored: `(N,)` int64, distinct labels looked at.
    """

    scores: Tensor
    labels: Tensor
    num_scored: Tensor


def top_k(
    bucket_scores: Tensor, index: BucketIndex, k: int, *, num_best_buckets: int, min_count: int
) -> BucketsResult:
    """About the k best labels of each query.

    Scores must be worth more than an absent bucket's 0: probabilities, not logits or logarithms.

    Args:
        bucket_scores: `(N, R, B)` on the CPU, at least 0.
        index: inverted lists of the table.
        k: labels wanted.
        num_best_buckets: m, 1 to B.
        min_count: 1 to R.

    Raises:
        UnrankableError: a score is negative or NaN.
        ValueError: sizes out of range or disagreeing.
    """
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    index.check(num_worlds, num_buckets)
    for name, value, most in (
        ("k", k, index.num_labels),
        ("num_best_buckets", num_best_buckets, num_buckets),
        ("min_count", min_count, num_worlds),
    ):
        if not 1 <= value <= most:
            raise ValueError(f"{name} is {value}; expected 1 to {most}")
    scores = bucket_scores.detach().float().contiguous()
    if num_queries and not float(scores.min()) >= 0:
        raise UnrankableError("a bucket score is negative or NaN; expected probabilities")
    best = scores.topk(num_best_buckets, dim=2, sorted=False).indices
    threads = max(min(torch.get_num_threads(), numba.get_num_threads(), num_queries), 1)
    shape = (threads, index.num_labels)

    def room() -> _Room:
        counts = np.zeros(shape, dtype=np.int32)
        return np.empty(shape, dtype=np.float32), counts, np.empty(shape, dtype=np.int32)

    out_scores = np.empty((num_queries, k), dtype=np.float32)
    out_labels = np.empty((num_queries, k), dtype=np.int64)
    num_scored = np.empty(num_queries, dtype=np.int64)
    with _workspace.borrow(shape, room) as (sums, counts, seen):
        _answer_queries(
            scores.numpy(), best.numpy(), index.lists, index.offsets, min_count, sums, counts,
            seen, out_scores, out_labels, num_scored,
        )  # fmt: skip
    out_labels[out_labels == NO_LABEL] = -1
    return BucketsResult(*map(torch.from_numpy, (out_scores, out_labels, num_scored)))


@njit(cache=True, nogil=True)
def _answer(
    scores: Any, best: Any, lists: Any, offsets: Any, min_count: int, sums: Any, counts: Any,
    seen: Any, heap_scores: Any, heap_labels: Any,
) -> int:  # fmt: skip
    """One query, by its m best buckets of each world; gives the distinct labels in them.

    `sums`, `counts` and `seen` are `(L,)`; counts are zero and left so.
    """
    num_seen = 0
    for world in range(best.shape[0]):
        for bucket in best[world]:
            score = scores[world, bucket]
            for position in range(offsets[world, bucket], offsets[world, bucket + 1]):
                label = lists[world, position]
                if counts[label] == 0:
                    seen[num_seen] = label
                    num_seen += 1
                    sums[label] = score
                else:
                    sums[label] += score
                counts[label] += 1
    # As many as asked for, at the highest count that leaves enough.
    needed = min_count
    while needed > 1:
        num_kept = 0
        for position in range(num_seen):
            num_kept += counts[seen[position]] >= needed
        if num_kept >= heap_labels.shape[0]:
            break
        needed -= 1
    clear_heap(heap_scores, heap_labels)
    for position in range(num_seen):
        label = seen[position]
        if counts[label] >= needed:
            offer(heap_scores, heap_labels, sums[label], label)
        counts[label] = 0
    sort_heap(heap_scores, heap_labels)
    return num_seen


@njit(cache=True, nogil=True, parallel=True)
def _answer_queries(
    scores: Any, best: Any, lists: Any, offsets: Any, min_count: int, sums: Any, counts: Any,
    seen: Any, out_scores: Any, out_labels: Any, num_scored: Any,
) -> None:  # fmt: skip
    num_parts = sums.shape[0]
    for part in prange(num_parts):
        for query in range(part, scores.shape[0], num_parts):
            num_scored[query] = _answer(
                scores[query], best[query], lists, offsets, min_count, sums[part], counts[part],
                seen[part], out_scores[query], out_labels[query],
            )  # fmt: skip
