"""The `dense` decode on a GPU: gather, sum and top-k in one Triton kernel.

The `(N, L)` matrix of label scores never leaves registers. Bucket scores are packed query-minor,
`(R · B, TILE)`, so that the sector of memory that one bucket is read from serves a whole tile of
queries. A program scans a span of labels and keeps its k best for every query of its tile; a block
of labels that holds none better costs one comparison. What the programs kept, a few candidates a
query, is merged by `torch.topk`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bench.mach.decode import Reduction, check_buckets, scores_and_labels

#: Queries that share a read: 16 of four bytes fill two sectors of 32.
TILE = 16
_BLOCK = 256
# Programs wanted, if there are labels enough: several for each multiprocessor of a large GPU.
_PROGRAMS = 2048


# Without annotations but `constexpr`: Triton's compiler, unlike its interpreter, looks them up.
@triton.jit  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]
    scores, table, best_keys, num_labels, num_worlds, num_buckets, span, k,
    TILE: tl.constexpr, BLOCK: tl.constexpr, SLOTS: tl.constexpr, IS_SUM: tl.constexpr,
):  # fmt: skip
    """Keeps the k best keys of labels `[span · program, …)` for each query of a tile."""
    lowest = tl.full((SLOTS, TILE), -(2**63), tl.int64)
    lanes = tl.arange(0, TILE)
    slots = tl.arange(0, SLOTS)[:, None]
    # Slots differ, so that a new key replaces one of them; those beyond k are never the worst.
    best = tl.where(slots < k, lowest + slots, 2**63 - 1)
    tile_scores = scores + tl.program_id(1).to(tl.int64) * num_worlds * num_buckets * TILE
    first = tl.program_id(0).to(tl.int64) * span
    for start in range(0, span, BLOCK):
        labels = first + start + tl.arange(0, BLOCK)
        is_label = labels < num_labels
        total = tl.full((BLOCK, TILE), 0.0 if IS_SUM else float("inf"), tl.float32)
        row = table  # moved along: world · L may not fit 32 bits
        for world in range(num_worlds):
            buckets = tl.load(row + labels, mask=is_label, other=0).to(tl.int64)
            row += num_labels
            rows = (world * num_buckets + buckets)[:, None] * TILE + lanes[None, :]
            value = tl.load(tile_scores + rows, mask=is_label[:, None], other=0.0)
            if IS_SUM:
                total += value
            else:
                total = tl.minimum(total, value)
        total += 0.0  # -0.0 and 0.0 are equal scores, and need equal bits
        bits = total.to(tl.int32, bitcast=True)
        order = tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)
        keys = (order << 32) | (0xFFFFFFFF - labels)[:, None]
        keys = tl.where(is_label[:, None], keys, -(2**63))
        largest = tl.max(keys, axis=0)
        worst = tl.min(best, axis=0)
        while tl.sum((largest > worst).to(tl.int32), axis=0) > 0:
            is_better = (largest > worst)[None, :]
            best = tl.where((best == worst[None, :]) & is_better, largest[None, :], best)
            keys = tl.where(keys == largest[None, :], -(2**63), keys)
            largest = tl.max(keys, axis=0)
            worst = tl.min(best, axis=0)
    program = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    at = program.to(tl.int64) * SLOTS * TILE + slots * TILE + lanes[None, :]
    tl.store(best_keys + at, best)


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels of each query by one fused pass over all labels, for `sum` and `min`.

    Raises:
        ValueError: another reduction, or a bucket outside 0 … B − 1.
    """
    if reduction not in ("sum", "min"):
        raise ValueError(f"reduction is {reduction!r}; expected 'sum' or 'min' on a GPU")
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    num_labels = table.shape[1]
    check_buckets(table, num_buckets)
    packed = _pack(bucket_scores)
    num_tiles = packed.shape[0]
    span = -(-num_labels // (_PROGRAMS * _BLOCK)) * _BLOCK
    num_programs = -(-num_labels // span)
    slots = max(triton.next_power_of_2(k), 1)
    keys = torch.empty(
        num_tiles, num_programs, slots, TILE, dtype=torch.int64, device=packed.device
    )
    kernel: Any = _scan
    kernel[(num_programs, num_tiles)](
        packed, table, keys, num_labels, num_worlds, num_buckets, span, k,
        TILE=TILE, BLOCK=_BLOCK, SLOTS=slots, IS_SUM=reduction == "sum",
    )  # fmt: skip
    candidates = keys[:, :, :k].permute(0, 3, 1, 2).reshape(num_tiles * TILE, num_programs * k)
    best = candidates[:num_queries].topk(k, dim=1).values
    return scores_and_labels(best)


def _pack(bucket_scores: Tensor) -> Tensor:
    """`(tiles, R · B, TILE)` of `(N, R, B)` scores; absent queries get 0."""
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    num_tiles = -(-num_queries // TILE)
    padded = bucket_scores.new_zeros(num_tiles * TILE, num_worlds * num_buckets)
    padded[:num_queries] = bucket_scores.reshape(num_queries, -1)
    return padded.view(num_tiles, TILE, -1).transpose(1, 2).contiguous()
