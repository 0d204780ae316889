"""The `filtered` decode: one world decides which labels are scored by all; approximate.

Of the first world the m best buckets are kept; only their labels are scored, by all worlds. A label
that this world ranks low is lost, whatever the others give: precision at the top hardly suffers,
recall does. It costs m/B of a scan.

Source: N-MACH of shubh1905/dissertation_UOE (`PAPER.md` section 9.1).
"""

from __future__ import annotations

from typing import Any

import torch
from numba import prange
from torch import Tensor

from bench.mach.decode import Reduction, check_scores, label_scores_block
from bench.mach.decode.index import IndexCache
from bench.mach.decode.kernels import NO_LABEL, clear_heap, offer, sort_heap
from bench.store.kernels import njit

# Label scores that plain torch holds at a time, in floats.
_BLOCK_FLOATS = 1 << 24
_PREPARED_QUERIES = 2
_indexes = IndexCache()


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, *, num_best_buckets: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels among those of the first world's best buckets.

    Args:
        bucket_scores: `(N, R, B)` float32.
        table: `(R, L)` integers, bucket of each label in each world, on the same device.
        k: labels wanted, 1 to L.
        num_best_buckets: m, 1 to B.
        reduction: of a label's scores over worlds, see `bench.mach.decode.top_k`.

    Returns:
        Scores `(N, k)` float32, best first, and labels `(N, k)` int64; equal scores by ascending
        label id. −inf and −1 where the buckets hold fewer than k labels.

    Raises:
        UnrankableError: as `bench.mach.decode.top_k`.
        ValueError: k or m is out of range.
    """
    num_queries, _, num_buckets = bucket_scores.shape
    for name, value, most in (
        ("k", k, table.shape[1]),
        ("num_best_buckets", num_best_buckets, num_buckets),
    ):
        if not 1 <= value <= most:
            raise ValueError(f"{name} is {value}; expected 1 to {most}")
    check_scores(bucket_scores, reduction)
    best = bucket_scores[:, 0].topk(num_best_buckets, dim=1, sorted=False).indices
    if reduction != "sum" or bucket_scores.device.type != "cpu":
        return _masked_top_k(bucket_scores, table, k, best, reduction)
    index = _indexes.get(table, num_buckets)
    scores = torch.empty(num_queries, k)
    labels = torch.empty(num_queries, k, dtype=torch.int64)
    _answer_queries(
        bucket_scores.contiguous().numpy(), best.numpy(), index.rows, index.lists[0],
        index.offsets[0], scores.numpy(), labels.numpy(),
    )  # fmt: skip
    return scores, labels.masked_fill_(labels == NO_LABEL, -1)


def prepare(
    table: Tensor, num_buckets: int, k: int, *, num_best_buckets: int, reduction: Reduction
) -> None:
    """Compile the kernel and build the table's index; see `bench.mach.decode.prepare`."""
    shape = (_PREPARED_QUERIES, table.shape[0], num_buckets)
    scores = torch.zeros(shape, device=table.device)
    top_k(scores, table, k, num_best_buckets=num_best_buckets, reduction=reduction)


def _masked_top_k(
    bucket_scores: Tensor, table: Tensor, k: int, best: Tensor, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The same by scoring all labels, block by block of queries, and leaving out the others."""
    num_queries, _, num_buckets = bucket_scores.shape
    block = max(_BLOCK_FLOATS // table.shape[1], 1)
    first_world = table[0].long()
    found = []
    for start in range(0, num_queries, block):
        part = slice(start, start + block)
        is_best = torch.zeros(
            best[part].shape[0], num_buckets, dtype=torch.bool, device=best.device
        ).scatter_(1, best[part], True)
        is_kept = is_best[:, first_world]
        scores = label_scores_block(bucket_scores[part], table, reduction)
        ranked, labels = scores.masked_fill(~is_kept, -torch.inf).sort(
            dim=1, descending=True, stable=True
        )
        ranked, labels = ranked[:, :k], labels[:, :k]
        found.append((ranked, labels.masked_fill(~is_kept.gather(1, labels), -1)))
    if not found:
        return bucket_scores.new_empty(0, k), best.new_empty(0, k)
    return torch.cat([each[0] for each in found]), torch.cat([each[1] for each in found])


@njit(cache=True, nogil=True, parallel=True)
def _answer_queries(
    scores: Any, best: Any, rows: Any, labels: Any, offsets: Any, out_scores: Any, out_labels: Any
) -> None:
    """Score the labels of each query's best buckets of the first world."""
    for query in prange(scores.shape[0]):
        heap_scores, heap_labels = out_scores[query], out_labels[query]
        clear_heap(heap_scores, heap_labels)
        for bucket in best[query]:
            for position in range(offsets[bucket], offsets[bucket + 1]):
                label = labels[position]
                total = scores[query, 0, rows[label, 0]]
                for world in range(1, scores.shape[1]):
                    total += scores[query, world, rows[label, world]]
                offer(heap_scores, heap_labels, total, label)
        sort_heap(heap_scores, heap_labels)
