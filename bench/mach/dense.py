"""The `dense` decode: every label is scored, blocked over labels and batched over queries.

On the CPU the Numba kernels of `bench.mach.dense_kernel`; on other devices blocks of labels in
plain torch, each merged into a running best k.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.mach import dense_kernel
from bench.mach.decode import Reduction, label_scores_block
from bench.mach.dense_kernel import TILE

_REDUCTION_CODES = {
    "sum": dense_kernel.SUM,
    "min": dense_kernel.MIN,
    "median": dense_kernel.MEDIAN,
}
# Packed scores of the tiles that share one staging of labels: half of a core's L2 cache.
_GROUP_BYTES = 1 << 18
_MIN_LABELS_A_THREAD = 2048
# Below this many queries a pass for each is cheaper than a tile that is mostly empty: measured
# where a packed tile fits a core's L2 cache, and where it is read from beyond (TILE times the
# bytes of one query's scores, so that the passes keep winning for longer).
_MIN_TILE_QUERIES = 4
_MIN_LARGE_TILE_QUERIES = 8
_LARGE_TILE_BYTES = 1 << 20
_BLOCK_ELEMENTS = 1 << 24


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by scoring all of them; see `bench.mach.decode.top_k`."""
    if bucket_scores.device.type == "cpu":
        return _top_k_numba(bucket_scores, table, k, reduction)
    return top_k_blocked(bucket_scores, table, k, reduction)


def top_k_blocked(
    bucket_scores: Tensor,
    table: Tensor,
    k: int,
    reduction: Reduction,
    *,
    block_elements: int = _BLOCK_ELEMENTS,
) -> tuple[Tensor, Tensor]:
    """The k best labels in plain torch on any device, `block_elements` label scores at a time.

    Ranks 64-bit keys, the score's order-preserving bits above the complemented label id, because
    `torch.topk` breaks ties in no particular order.

    Raises:
        ValueError: a bucket of the table is outside 0 … B − 1.
    """
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    lowest, highest = (int(value) for value in torch.aminmax(table))
    if lowest < 0 or highest >= num_buckets:
        raise _bad_table(num_buckets)
    width = num_queries * (num_worlds if reduction == "median" else 1)
    block = max(block_elements // width, 1)
    best: Tensor | None = None
    for start in range(0, table.shape[1], block):
        columns = table[:, start : start + block]
        # Adding 0.0 turns -0.0 into 0.0: equal scores need equal bits.
        bits = (label_scores_block(bucket_scores, columns, reduction) + 0.0).view(torch.int32)
        order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
        ids = torch.arange(start, start + columns.shape[1], device=table.device)
        keys = (order << 32) | (0xFFFFFFFF - ids)
        if best is not None:
            keys = torch.cat((best, keys), dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    assert best is not None
    labels = 0xFFFFFFFF - (best & 0xFFFFFFFF)
    order = (best >> 32).int()
    return torch.where(order < 0, order ^ 0x7FFFFFFF, order).view(torch.float32), labels


def _top_k_numba(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    num_labels = table.shape[1]
    num_threads = min(torch.get_num_threads(), numba.get_num_threads())
    num_ranges = max(1, min(num_threads, num_labels // _MIN_LABELS_A_THREAD))
    bounds = np.linspace(0, num_labels, num_ranges + 1).astype(np.int64)
    buckets = table.numpy()
    scores = bucket_scores.numpy().reshape(num_queries, num_worlds * num_buckets)
    code = _REDUCTION_CODES[reduction]
    network = dense_kernel.median_network(num_worlds)
    out_scores = np.empty((num_queries, k), dtype=np.float32)
    out_labels = np.empty((num_queries, k), dtype=np.int64)

    tile_length = num_worlds * num_buckets * TILE
    num_tiles = -(-num_queries // TILE)
    group = min(max(_GROUP_BYTES // (4 * tile_length), 1), num_tiles)
    is_large = 4 * tile_length > _LARGE_TILE_BYTES
    min_tile_queries = _MIN_LARGE_TILE_QUERIES if is_large else _MIN_TILE_QUERIES
    packed: NDArray[np.float32] | None = None
    start = 0
    while start < num_queries:
        stop = min(start + group * TILE, num_queries)
        is_single = stop - start < min_tile_queries and reduction != "median"
        if is_single:
            stop = start + 1
        tiles = -(-(stop - start) // TILE)
        heaps = _Heaps(num_ranges, 1 if is_single else tiles * TILE, k)
        if is_single:
            one = scores[start].reshape(num_worlds, num_buckets)
            dense_kernel.scan_query(
                one, buckets, code, bounds, heaps.scores[:, 0], heaps.labels[:, 0], heaps.is_good
            )
        else:
            if packed is None:
                packed = _empty_aligned(group * tile_length).reshape(group, tile_length)
            for tile in range(tiles):
                first = start + tile * TILE
                dense_kernel.pack(scores[first : min(first + TILE, stop)], packed[tile])
            dense_kernel.scan_tiles(
                packed[:tiles], buckets, num_buckets, network, code, bounds,
                heaps.scores, heaps.labels, heaps.is_good,
            )  # fmt: skip
        if not heaps.is_good.all():
            raise _bad_table(num_buckets)
        out_scores[start:stop], out_labels[start:stop] = heaps.best(stop - start)
        start = stop
    return torch.from_numpy(out_scores), torch.from_numpy(out_labels)


class _Heaps:
    """The k best labels of each range and query; unused places sort behind every label."""

    def __init__(self, num_ranges: int, num_queries: int, k: int) -> None:
        self.k = k
        self.scores = np.full((num_ranges, num_queries, k), -np.inf, dtype=np.float32)
        self.labels = np.full((num_ranges, num_queries, k), np.iinfo(np.int32).max, np.int32)
        self.is_good = np.ones(num_ranges, dtype=np.bool_)

    def best(self, num_queries: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`(num_queries, k)` scores and labels over all ranges, best first."""
        scores = _query_major(self.scores)[:num_queries]
        labels = _query_major(self.labels)[:num_queries]
        order = np.lexsort((labels, -scores), axis=-1)[:, : self.k]
        return (
            np.take_along_axis(scores, order, axis=1),
            np.take_along_axis(labels, order, axis=1).astype(np.int64),
        )


def _query_major(heaps: NDArray[Any]) -> NDArray[Any]:
    num_ranges, num_queries, k = heaps.shape
    return heaps.transpose(1, 0, 2).reshape(num_queries, num_ranges * k)


def _empty_aligned(length: int) -> NDArray[np.float32]:
    """Float32 array that starts a cache line, so that no packed row straddles two."""
    raw = np.empty(length + TILE, dtype=np.float32)
    offset = (-raw.ctypes.data % 64) // 4
    return raw[offset : offset + length]


def _bad_table(num_buckets: int) -> ValueError:
    return ValueError(f"a bucket of the table is outside 0 to B - 1 = {num_buckets - 1}")
