"""The `dense` decode on a GPU: gather, sum and top-k in one Triton kernel.

The `(N, L)` matrix of label scores never leaves registers. Bucket scores are packed query-minor,
`(R · B, TILE)`, so that the sector of memory that one bucket is read from serves a whole tile of
queries. A program walks a span of labels and keeps its k best for every query of its tile; a block
of labels that holds none better costs one comparison. What the programs kept, a few candidates a
query, is merged by `torch.topk`.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from bench.mach.decode import Reduction, bad_table
from bench.mach.hashing import MERSENNE_PRIME

#: Queries that share a read: 16 of two bytes fill a sector of 32.
TILE = 16
_BLOCK = 256
# Programs wanted, if there are labels enough: several for each multiprocessor of a large GPU.
_PROGRAMS = 2048
_SCORE_TYPES = (torch.float32, torch.float16, torch.bfloat16)


# Without annotations but `constexpr`: Triton's compiler, unlike its interpreter, looks them up.
@triton.jit  # type: ignore[untyped-decorator]
def _scan(  # type: ignore[no-untyped-def]
    scores, table, best_keys, num_labels, num_worlds, num_buckets, span, k,
    TILE: tl.constexpr, BLOCK: tl.constexpr, SLOTS: tl.constexpr,
    IS_SUM: tl.constexpr, IS_HASHED: tl.constexpr, PRIME: tl.constexpr,
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
            if IS_HASHED:
                slope = tl.load(table + 2 * world)
                shift = tl.load(table + 2 * world + 1)
                buckets = ((slope * labels + shift) % PRIME) % num_buckets
            else:
                buckets = tl.load(row + labels, mask=is_label, other=0).to(tl.int64)
                row += num_labels
            rows = (world * num_buckets + buckets)[:, None] * TILE + lanes[None, :]
            value = tl.load(tile_scores + rows, mask=is_label[:, None], other=0.0).to(tl.float32)
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
    place = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    at = place.to(tl.int64) * SLOTS * TILE + slots * TILE + lanes[None, :]
    tl.store(best_keys + at, best)


def top_k(
    bucket_scores: Tensor,
    table: Tensor,
    k: int,
    reduction: Reduction,
    *,
    score_type: torch.dtype = torch.float32,
    hash_parameters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The k best labels of each query by one fused pass over all labels.

    Sums are float32 additions in world order: with `score_type` float32 the result is that of
    every other method, with a shorter type that of the rounded scores.

    Args:
        bucket_scores: `(N, R, B)` float32.
        table: `(R, L)` integer buckets; only its shape is read where the hash is recomputed.
        k: 1 to L.
        reduction: `sum` or `min`.
        score_type: float32, float16 or bfloat16, what bucket scores are kept as.
        hash_parameters: `(R, 2)` of `UniversalHash.coefficients`; the buckets are then computed on
            the fly and no table is read.

    Raises:
        ValueError: another reduction or score type, or a bucket outside 0 … B − 1.
    """
    if reduction not in ("sum", "min"):
        raise ValueError(f"reduction is {reduction!r}; expected 'sum' or 'min' on a GPU")
    if score_type not in _SCORE_TYPES:
        raise ValueError(f"score type is {score_type}; expected one of {_SCORE_TYPES}")
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    num_labels = table.shape[1]
    if hash_parameters is None:
        lowest, highest = (int(value) for value in torch.aminmax(table))
        if lowest < 0 or highest >= num_buckets:
            raise bad_table(num_buckets)
    packed = _pack(bucket_scores, score_type)
    num_tiles = packed.shape[0]
    span = -(-num_labels // (_PROGRAMS * _BLOCK)) * _BLOCK
    num_programs = -(-num_labels // span)
    slots = max(triton.next_power_of_2(k), 1)
    keys = torch.empty(
        num_tiles, num_programs, slots, TILE, dtype=torch.int64, device=packed.device
    )
    kernel: Any = _scan
    kernel[(num_programs, num_tiles)](
        packed, table if hash_parameters is None else hash_parameters.contiguous(), keys,
        num_labels, num_worlds, num_buckets, span, k, TILE=TILE, BLOCK=_BLOCK, SLOTS=slots,
        IS_SUM=reduction == "sum", IS_HASHED=hash_parameters is not None, PRIME=MERSENNE_PRIME,
    )  # fmt: skip
    candidates = keys[:, :, :k].permute(0, 3, 1, 2).reshape(num_tiles * TILE, num_programs * k)
    best = candidates[:num_queries].topk(k, dim=1).values
    labels = 0xFFFFFFFF - (best & 0xFFFFFFFF)
    order = (best >> 32).int()
    return torch.where(order < 0, order ^ 0x7FFFFFFF, order).view(torch.float32), labels


def _pack(bucket_scores: Tensor, score_type: torch.dtype) -> Tensor:
    """`(tiles, R · B, TILE)` of `(N, R, B)` scores; absent queries get 0."""
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    num_tiles = -(-num_queries // TILE)
    padded = bucket_scores.new_zeros(num_tiles * TILE, num_worlds * num_buckets, dtype=score_type)
    padded[:num_queries] = bucket_scores.reshape(num_queries, -1)
    return padded.view(num_tiles, TILE, -1).transpose(1, 2).contiguous()
