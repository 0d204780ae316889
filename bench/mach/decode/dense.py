"""The `dense` decode: every label is scored, blocked over labels and batched over queries.

On the CPU the Numba kernels of `bench.mach.decode.dense_kernel`: for sums, a scan of scores rounded
up to a byte that leaves few labels to score exactly; else float32 all through. On other devices the
fused kernel of `bench.mach.decode.dense_triton` where it covers the case, else blocks of labels in
plain torch, each merged into a running best k.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.mach.decode import (
    Reduction,
    bad_table,
    check_buckets,
    coarse_kernel,
    dense_kernel,
    label_scores_block,
    ranking_keys,
    scores_and_labels,
)
from bench.mach.decode.coarse_kernel import COARSE_TILE, MOST_COARSE_WORLDS, TOP_LEVEL
from bench.mach.decode.dense_kernel import TILE
from bench.mach.decode.kernels import NO_LABEL
from bench.mach.decode.workspace import empty_aligned
from bench.mach.hashing import UniversalHash

_REDUCTION_CODES = {"sum": dense_kernel.SUM, "min": dense_kernel.MIN, "median": dense_kernel.MEDIAN}
# Packed scores of the tiles that share one staging of labels: half of a core's L2 cache.
_GROUP_BYTES = 1 << 18
_MIN_LABELS_PER_THREAD = 2048
# Below this many queries a pass for each is cheaper than a tile that is mostly empty: measured
# where a packed tile fits a core's L2 cache, and where it is read from beyond (TILE times the
# bytes of one query's scores, so that the passes keep winning for longer).
_MIN_TILE_QUERIES = 4
_MIN_LARGE_TILE_QUERIES = 8
_LARGE_TILE_BYTES = 1 << 20
# Below this many queries a coarse tile, mostly empty, costs more than one of float32. Where both
# are read from beyond the L2 cache they cost the same; a pass for each query is the alternative.
_MIN_COARSE_QUERIES = TILE + 1
_MIN_LARGE_COARSE_QUERIES = 8
# A coarse pass for each query, where there are lookups enough to pay for its preparation: against
# float32 tiles of 8 it breaks even where shuffles look levels up or tiles are large, else at 4.
_MIN_COARSE_LOOKUPS = 1 << 20
_FEW_QUERIES = 8
# Labels for each one wanted: with fewer, most would need their exact score.
_MIN_COARSE_LABELS = 64
# An exact score costs as much as the coarse scan of this many labels, for one query.
_LABELS_PER_EXACT_SCORE = 16
_SAMPLE = 512
_BLOCK_ELEMENTS = 1 << 24
# The fused kernel holds the k best of 16 queries in registers.
_MOST_FUSED_K = 128
_PREPARED_LABELS = 4096
_PREPARED_QUERIES = 2


def top_k(
    bucket_scores: Tensor, table: Tensor | UniversalHash, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by scoring all of them; see `bench.mach.decode.top_k`.

    The buckets of a hash are computed anew: nothing of size L is kept.
    """
    if bucket_scores.device.type == "cpu":
        return _Scan(bucket_scores, table, k, reduction).run()
    if bucket_scores.device.type == "cuda" and isinstance(table, Tensor):
        return top_k_fused(bucket_scores, table, k, reduction)
    return top_k_blocked(bucket_scores, table, k, reduction)


def prepare(table: Tensor, num_buckets: int, k: int, reduction: Reduction) -> None:
    """Compile every way that a call may go, see `bench.mach.decode.prepare`.

    Which one a call goes depends on the number of queries and labels, and on whether few labels
    stand out; here each is run with a few labels of the table.
    """
    shape = _PREPARED_QUERIES, table.shape[0], num_buckets
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if table.device.type != "cpu":
        # Kernels are specialised by sizes: the full table.
        top_k(scores[:1].to(table.device), table, k, reduction)
        return
    # Enough for a coarse scan, where the full table has them.
    few = table[:, : max(_PREPARED_LABELS, _MIN_COARSE_LABELS * k)].contiguous()
    _Scan(scores, few, k, reduction).compile()


def top_k_fused(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by one Triton kernel, in plain torch where that is not to be had."""
    if not _has_triton() or reduction == "median" or k > _MOST_FUSED_K:
        return top_k_blocked(bucket_scores, table, k, reduction)
    from bench.mach.decode import dense_triton

    return dense_triton.top_k(bucket_scores, table, k, reduction)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def top_k_blocked(
    bucket_scores: Tensor,
    table: Tensor | UniversalHash,
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
    num_labels = table.shape[1] if isinstance(table, Tensor) else table.num_labels
    if isinstance(table, Tensor):
        check_buckets(table, num_buckets)
    width = num_queries * (num_worlds if reduction == "median" else 1)
    block = max(block_elements // width, 1)
    best: Tensor | None = None
    for start in range(0, num_labels, block):
        ids = torch.arange(start, min(start + block, num_labels), device=bucket_scores.device)
        if isinstance(table, Tensor):
            columns = table[:, start : start + block]
        else:
            columns = table.bucket_ids(ids)
        keys = ranking_keys(label_scores_block(bucket_scores, columns, reduction), ids)
        if best is not None:
            keys = torch.cat((best, keys), dim=1)
        best = keys.topk(min(k, keys.shape[1]), dim=1).values
    assert best is not None
    return scores_and_labels(best)


class _Scan:
    """One call on the CPU: its scores, table and best labels so far."""

    def __init__(
        self, bucket_scores: Tensor, table: Tensor | UniversalHash, k: int, reduction: Reduction
    ) -> None:
        self.num_queries, self.num_worlds, self.num_buckets = bucket_scores.shape
        if isinstance(table, Tensor):
            num_labels = table.shape[1]
            self.buckets = table.numpy(), np.empty((0, 2), dtype=np.int64)
        else:
            num_labels = table.num_labels
            nothing = np.empty((self.num_worlds, 0), dtype=np.int32)
            self.buckets = nothing, table.coefficients().numpy()
        self.k = k
        self.reduction = reduction
        self.scores = bucket_scores.numpy().reshape(self.num_queries, -1)
        num_threads = min(torch.get_num_threads(), numba.get_num_threads())
        num_ranges = max(1, min(num_threads, num_labels // _MIN_LABELS_PER_THREAD))
        self.bounds = np.arange(num_ranges + 1) * num_labels // num_ranges
        is_large = 4 * TILE * self.scores.shape[1] > _LARGE_TILE_BYTES
        self.min_tile_queries = _MIN_LARGE_TILE_QUERIES if is_large else _MIN_TILE_QUERIES
        self.min_coarse_queries = _MIN_LARGE_COARSE_QUERIES if is_large else _MIN_COARSE_QUERIES
        self.is_coarse = (
            reduction == "sum"
            and self.num_worlds <= MOST_COARSE_WORLDS
            and num_labels >= _MIN_COARSE_LABELS * k
        )
        self.is_shuffled = (
            coarse_kernel.HAS_SHUFFLE
            and self.num_buckets <= coarse_kernel.MOST_SHUFFLED_BUCKETS
            and self.buckets[0].dtype == np.uint8
        )
        few = _FEW_QUERIES if self.is_shuffled or is_large else _MIN_TILE_QUERIES
        is_long = num_labels * self.num_worlds >= _MIN_COARSE_LOOKUPS
        self.max_coarse_singles = few - 1 if is_long else 0
        self.packed: NDArray[np.float32] | None = None
        self.levels: NDArray[np.uint8] | None = None

    def run(self) -> tuple[Tensor, Tensor]:
        """Scores and labels of all queries."""
        out_scores = np.empty((self.num_queries, self.k), dtype=np.float32)
        out_labels = np.empty((self.num_queries, self.k), dtype=np.int64)
        start = 0
        while start < self.num_queries:
            heaps = self._next(start)
            if not heaps.is_good.all():
                raise bad_table(self.num_buckets)
            stop = start + heaps.num_queries
            out_scores[start:stop], out_labels[start:stop] = heaps.best()
            start = stop
        return torch.from_numpy(out_scores), torch.from_numpy(out_labels)

    def compile(self) -> None:
        """Run every way that a scan with this reduction may go; the answers do not matter."""
        self._tiles(0, self.num_queries)
        if self.reduction != "median":
            self._single(0)
        if self.is_coarse:
            self._coarse(0, self.num_queries)
            self._coarse_single(0)

    def _next(self, start: int) -> _Heaps:
        """Answers some queries from `start` on, in the way that pays for as many as are left."""
        left = self.num_queries - start
        if self.is_coarse and left >= self.min_coarse_queries:
            stop = min(start + self._group(COARSE_TILE, 1) * COARSE_TILE, self.num_queries)
            heaps = self._coarse(start, stop)
            if heaps is not None:
                return heaps
            self.is_coarse = False
        if self.is_coarse and left <= self.max_coarse_singles:
            heaps = self._coarse_single(start)
            if heaps is not None:
                return heaps
            self.is_coarse = False
        if left < self.min_tile_queries and self.reduction != "median":
            return self._single(start)
        stop = min(start + self._group(TILE, 4) * TILE, self.num_queries)
        return self._tiles(start, stop)

    def _group(self, tile: int, score_bytes: int) -> int:
        """Tiles that share one staging of labels."""
        return max(_GROUP_BYTES // (score_bytes * tile * self.scores.shape[1]), 1)

    def _single(self, query: int) -> _Heaps:
        heaps = _Heaps(self.bounds, 1, self.k)
        dense_kernel.scan_query(
            self.scores[query].reshape(self.num_worlds, self.num_buckets), *self.buckets,
            _REDUCTION_CODES[self.reduction], self.bounds, heaps.scores[:, 0], heaps.labels[:, 0],
            heaps.is_good,
        )  # fmt: skip
        return heaps

    def _coarse_single(self, query: int) -> _Heaps | None:
        """None where float32 is the better way, as for :meth:`_coarse`."""
        scores = self.scores[query : query + 1]
        floors, steps, bases = levels_of(scores.reshape(1, self.num_worlds, -1))
        levels = coarse_kernel.levels_of_query(
            scores.reshape(self.num_worlds, -1), floors[0], steps[0]
        )
        heaps = _Heaps(self.bounds, 1, self.k)
        is_worthwhile = np.ones(len(self.bounds) - 1, dtype=np.bool_)
        coarse_kernel.scan_query_coarse(
            levels, self._shuffled(levels), scores.reshape(self.num_worlds, -1), bases[0], steps[0],
            *self.buckets, self.bounds, self._most_exact(1), heaps.scores[:, 0],
            heaps.labels[:, 0], heaps.is_good, is_worthwhile,
        )  # fmt: skip
        return heaps if is_worthwhile.all() or not heaps.is_good.all() else None

    def _shuffled(self, levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Levels laid out for shuffles; no segments where those cannot serve."""
        if not self.is_shuffled:
            return np.empty((self.num_worlds, 0, coarse_kernel.SHUFFLED), dtype=np.uint8)
        num_segments = coarse_kernel.num_segments(self.num_buckets)
        padded = np.zeros((self.num_worlds, num_segments, 16), dtype=np.uint8)
        padded.reshape(self.num_worlds, -1)[:, : self.num_buckets] = levels
        shape = (self.num_worlds, num_segments, coarse_kernel.SHUFFLED)
        shuffled = empty_aligned(shape, np.dtype(np.uint8))
        shuffled[:, :, :16] = shuffled[:, :, 16:] = padded
        return shuffled

    def _most_exact(self, num_queries: int) -> int:
        """Exact scores that a range of labels may take in a coarse scan."""
        longest = int(np.diff(self.bounds).max())
        return num_queries * (longest // _LABELS_PER_EXACT_SCORE + _MIN_COARSE_LABELS * self.k)

    def _tiles(self, start: int, stop: int) -> _Heaps:
        num_tiles = -(-(stop - start) // TILE)
        length = self.scores.shape[1] * TILE
        if self.packed is None or len(self.packed) < num_tiles:
            self.packed = empty_aligned((num_tiles, length), np.dtype(np.float32))
        for tile in range(num_tiles):
            first = start + tile * TILE
            dense_kernel.pack(self.scores[first : min(first + TILE, stop)], self.packed[tile])
        heaps = _Heaps(self.bounds, stop - start, self.k, TILE)
        dense_kernel.scan_tiles(
            self.packed[:num_tiles], *self.buckets, self.num_buckets, self._network(),
            _REDUCTION_CODES[self.reduction], self.bounds, heaps.scores, heaps.labels,
            heaps.is_good,
        )  # fmt: skip
        return heaps

    def _network(self) -> NDArray[np.int32]:
        """Comparators for a median; none for other reductions."""
        num_worlds = self.num_worlds if self.reduction == "median" else 1
        return dense_kernel.median_network(num_worlds)

    def _coarse(self, start: int, stop: int) -> _Heaps | None:
        """None where so many labels need their exact score that tiles are the better way."""
        scores = self.scores[start:stop]
        floors, steps, bases = levels_of(scores.reshape(stop - start, self.num_worlds, -1))
        num_tiles = -(-(stop - start) // COARSE_TILE)
        if self.levels is None or len(self.levels) < num_tiles:
            length = scores.shape[1] * COARSE_TILE
            self.levels = empty_aligned((num_tiles, length), np.dtype(np.uint8))
        levels = self.levels[:num_tiles]
        for tile in range(num_tiles):
            part = slice(tile * COARSE_TILE, (tile + 1) * COARSE_TILE)
            coarse_kernel.pack_coarse(scores[part], floors[part], steps[part], levels[tile])
        heaps = _Heaps(self.bounds, stop - start, self.k, COARSE_TILE)
        is_worthwhile = np.ones(len(self.bounds) - 1, dtype=np.bool_)
        coarse_kernel.scan_coarse(
            levels, scores, bases, steps, *self.buckets, self.num_buckets, self.bounds,
            self._most_exact(stop - start), heaps.scores, heaps.labels, heaps.is_good,
            is_worthwhile,
        )  # fmt: skip
        return heaps if is_worthwhile.all() or not heaps.is_good.all() else None


def levels_of(
    scores: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]:
    """Floors `(n, R)`, steps `(n,)` and bases `(n,)` for `coarse_kernel.pack_coarse` and its scan.

    Levels end at each world's best score and span about what its scores do: lower ones than a
    sample's lowest few all count as the floor, which no label among the best has often.
    """
    best = torch.from_numpy(scores).amax(2).numpy().astype(np.float64)
    best[best == -np.inf] = 0.0  # no label can have a score; any bound is good
    top = best.max(axis=1)
    flat = scores.reshape(len(scores), -1)
    sample = flat[:, :: max(flat.shape[1] // _SAMPLE, 1)].copy()
    np.copyto(sample, top[:, None], where=sample == -np.inf, casting="same_kind")
    rank = sample.shape[1] // 8
    low = np.partition(sample, rank, axis=1)[:, rank].astype(np.float64)
    least_span = 1e-6 * np.abs(best).max(axis=1) + 1e-30
    steps = (np.maximum(top - low, least_span) / TOP_LEVEL).astype(np.float32)
    floors64 = best - TOP_LEVEL * steps[:, None].astype(np.float64)
    floors = np.maximum(floors64, np.finfo(np.float32).min).astype(np.float32)
    # Roundings: a label's R additions, and its levels' few. Additions are rounded monotonically, so
    # that a score below its floor may be taken for the floor: no larger magnitude counts.
    num_worlds = best.shape[1]
    magnitude = np.maximum(np.abs(best), np.abs(floors)).sum(axis=1)
    bases = floors.astype(np.float64).sum(axis=1) + (num_worlds + 8) * 2.0**-23 * magnitude
    return floors, steps, bases


class _Heaps:
    """The k best labels of each range and query; free places sort behind every label."""

    def __init__(
        self, bounds: NDArray[np.int64], num_queries: int, k: int, multiple: int = 1
    ) -> None:
        """Room for a number of queries, rounded up to full tiles."""
        num_ranges = len(bounds) - 1
        shape = (num_ranges, -(-num_queries // multiple) * multiple, k)
        self.k = k
        self.num_queries = num_queries
        self.scores = np.full(shape, -np.inf, dtype=np.float32)
        self.labels = np.full(shape, NO_LABEL, dtype=np.int32)
        self.is_good = np.ones(num_ranges, dtype=np.bool_)

    def best(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """`(num_queries, k)` scores and labels over all ranges, best first."""
        scores = _query_major(self.scores)[: self.num_queries]
        labels = _query_major(self.labels)[: self.num_queries]
        order = np.lexsort((labels, -scores), axis=-1)[:, : self.k]
        queries = np.arange(self.num_queries)[:, None]
        return scores[queries, order], labels[queries, order].astype(np.int64)


def _query_major(heaps: NDArray[Any]) -> NDArray[Any]:
    num_ranges, num_queries, k = heaps.shape
    return heaps.transpose(1, 0, 2).reshape(num_queries, num_ranges * k)
