"""Numba kernel of the `buckets` decode, the MACH authors' approximate one."""

from __future__ import annotations

from typing import Any

from numba import prange

from bench.store.kernels import njit


@njit(cache=True, nogil=True)
def _answer(
    scores: Any, best: Any, lists: Any, offsets: Any, min_count: int, sums: Any, counts: Any,
    seen: Any, out_scores: Any, out_labels: Any,
) -> int:  # fmt: skip
    """One query; gives the number of distinct labels in the buckets looked into."""
    num_seen = 0
    for world in range(best.shape[0]):
        for place in range(best.shape[1]):
            bucket = best[world, place]
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
    k = out_labels.shape[0]
    needed = min_count
    while needed > 1:
        num_kept = 0
        for position in range(num_seen):
            num_kept += counts[seen[position]] >= needed
        if num_kept >= k:
            break
        needed -= 1
    size = 0
    for position in range(num_seen):
        label = seen[position]
        if counts[label] >= needed:
            size = insert(out_scores, out_labels, size, sums[label], label)
    for position in range(num_seen):
        counts[seen[position]] = 0
    return num_seen


@njit(cache=True, nogil=True)
def insert(scores: Any, labels: Any, size: int, score: float, label: int) -> Any:
    """Keeps a list sorted, best first, equal scores by label; gives its new size."""
    k = labels.shape[0]
    if size == k and not (
        score > scores[k - 1] or (score == scores[k - 1] and label < labels[k - 1])
    ):
        return size
    position = min(size, k - 1)
    while position > 0 and (
        score > scores[position - 1]
        or (score == scores[position - 1] and label < labels[position - 1])
    ):
        scores[position] = scores[position - 1]
        labels[position] = labels[position - 1]
        position -= 1
    scores[position] = score
    labels[position] = label
    return min(size + 1, k)


@njit(cache=True, nogil=True, parallel=True)
def answer_queries(
    scores: Any, best: Any, lists: Any, offsets: Any, min_count: int, sums: Any, counts: Any,
    seen: Any, out_scores: Any, out_labels: Any, num_scored: Any,
) -> None:  # fmt: skip
    """The k labels of each query by the authors' rule.

    Args:
        scores: `(N, R, B)` float32.
        best: `(N, R, m)` int64, the m best buckets of each world.
        lists: `(R, L)` int32.
        offsets: `(R, B + 1)` int64.
        min_count: worlds in which a label must be among the m best buckets.
        sums: `(P, L)` float32, scratch of P threads.
        counts: `(P, L)` int32, zero; left so.
        seen: `(P, L)` int32, scratch.
        out_scores: `(N, k)` float32, −inf.
        out_labels: `(N, k)` int64, −1: what too few labels leave empty.
        num_scored: `(N,)` int64.
    """
    num_parts = sums.shape[0]
    for part in prange(num_parts):
        for query in range(part, scores.shape[0], num_parts):
            num_scored[query] = _answer(
                scores[query], best[query], lists, offsets, min_count, sums[part], counts[part],
                seen[part], out_scores[query], out_labels[query],
            )  # fmt: skip
