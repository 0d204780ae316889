"""Numba kernels of the `dense` decode: every label scored, a tile of queries at a time.

Bucket scores are packed query-minor, `(R · B, TILE)`, so that one cache line holds one bucket's
scores for `TILE` queries and a label costs R contiguous reads for all of them. A label's running
sum lives in vector registers and is compared with the queries' current k-th scores at once;
insertions are rare. Everything is in this one file because Numba's cache watches only the file of
the function that it compiled, not the files of what was inlined into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

TILE = 16  # queries: 16 float32 fill one 64-byte cache line
BLOCK = 256  # labels staged at a time; their (BLOCK, R) row numbers stay in L1
SUM, MIN, MEDIAN = 0, 1, 2

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, TILE)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_alloca: Any = cgutils.alloca_once


def _data(context: Any, builder: Any, array_type: Any, array: Any) -> Any:
    return context.make_array(array_type)(context, builder, array).data


def _vector_at(builder: Any, data: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _add(builder: Any, left: Any, right: Any) -> Any:
    return builder.fadd(left, right)


def _smaller(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", right, left), right, left)


def _beats_threshold(builder: Any, vector: Any, threshold: Any) -> Any:
    """Bit t is set where query t's score is above its threshold."""
    is_above = builder.fcmp_ordered(">", vector, threshold)
    return builder.zext(builder.bitcast(is_above, ir.IntType(TILE)), _INT64)


def _make_reduce(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Intrinsic `(scores, rows, first, num_rows, threshold, start, out) -> mask`.

    Combines the rows `rows[first : first + num_rows]` of `scores`, in that order, into
    `out[:TILE]`, and tells which entries exceed `threshold[start : start + TILE]`.
    """

    def declare(
        typing_context: Any,
        scores: Any,
        rows: Any,
        first: Any,
        num_rows: Any,
        threshold: Any,
        start: Any,
        out: Any,
    ) -> Any:
        signature = types.int64(scores, rows, types.intp, types.intp, threshold, types.intp, out)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            scores_data = _data(context, builder, sig.args[0], arguments[0])
            rows_data = _data(context, builder, sig.args[1], arguments[1])
            first_, num_rows_ = arguments[2], arguments[3]
            threshold_data = _data(context, builder, sig.args[4], arguments[4])
            out_data = _data(context, builder, sig.args[6], arguments[6])
            zero = ir.Constant(_INT64, 0)

            def load_row(position: Any) -> Any:
                place = builder.gep(rows_data, [builder.add(first_, position)])
                row = builder.sext(builder.load(place), _INT64)
                index = builder.mul(row, ir.Constant(_INT64, TILE))
                return builder.load(_vector_at(builder, scores_data, index), align=4)

            total = _alloca(builder, _VECTOR)
            builder.store(load_row(zero), total)
            one = ir.Constant(_INT64, 1)
            with cgutils.for_range_slice(builder, one, num_rows_, one) as (position, _):
                builder.store(combine(builder, builder.load(total), load_row(position)), total)
            vector = builder.load(total)
            builder.store(vector, _vector_at(builder, out_data, zero), align=4)
            at_threshold = _vector_at(builder, threshold_data, arguments[5])
            return _beats_threshold(builder, vector, builder.load(at_threshold, align=4))

        return signature, generate

    return intrinsic(declare)


_reduce_sum = _make_reduce(_add)
_reduce_min = _make_reduce(_smaller)


def _declare_exchange(typing_context: Any, rows: Any, low: Any, high: Any) -> Any:
    """Intrinsic `(rows, low, high)`: sorts two `TILE`-long rows of a flat array, lane by lane."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = _data(context, builder, sig.args[0], arguments[0])
        tile = ir.Constant(_INT64, TILE)
        low_at = _vector_at(builder, data, builder.mul(arguments[1], tile))
        high_at = _vector_at(builder, data, builder.mul(arguments[2], tile))
        left, right = builder.load(low_at, align=4), builder.load(high_at, align=4)
        is_inverted = builder.fcmp_ordered("<", right, left)
        builder.store(builder.select(is_inverted, right, left), low_at, align=4)
        builder.store(builder.select(is_inverted, left, right), high_at, align=4)
        return context.get_dummy_value()

    return types.void(rows, types.intp, types.intp), generate


_exchange: Any = intrinsic(_declare_exchange)


def median_network(num_rows: int) -> NDArray[np.int32]:
    """Comparators `(P, 2)` that bring the middle of `num_rows` values to their sorted places.

    Source: Batcher's merge exchange (Knuth, TAOCP 3, 5.2.2, Algorithm M), less the comparators
    that no middle value depends on.
    """
    pairs: list[tuple[int, int]] = []
    span = 1 << max(num_rows - 1, 0).bit_length() >> 1
    top = step = span
    while step > 0:
        stride, remainder, distance = top, 0, step
        while True:
            pairs.extend(
                (i, i + distance) for i in range(num_rows - distance) if i & step == remainder
            )
            if stride == step:
                break
            distance, stride, remainder = stride - step, stride >> 1, step
        step >>= 1
    needed = {(num_rows - 1) // 2, num_rows // 2}
    kept: list[tuple[int, int]] = []
    for low, high in reversed(pairs):
        if low in needed or high in needed:
            needed |= {low, high}
            kept.append((low, high))
    return np.array(kept[::-1], dtype=np.int32).reshape(-1, 2)


@njit(cache=True, nogil=True)
def _sift_down(scores: Any, labels: Any, size: int, score: float, label: int) -> None:
    """Replaces the root of a heap whose root is the worst: lowest score, then largest label."""
    position = 0
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        other = child + 1
        if other < size and (
            scores[other] < scores[child]
            or (scores[other] == scores[child] and labels[other] > labels[child])
        ):
            child = other
        if scores[child] > score or (scores[child] == score and labels[child] < label):
            break
        scores[position] = scores[child]
        labels[position] = labels[child]
        position = child
    scores[position] = score
    labels[position] = label


@njit(cache=True, nogil=True)
def _push(scores: Any, labels: Any, size: int, score: float, label: int) -> None:
    """Adds a label, larger than all present, to a heap of `size` entries."""
    position = size
    while position > 0:
        parent = (position - 1) // 2
        if scores[parent] < score:
            break
        scores[position] = scores[parent]
        labels[position] = labels[parent]
        position = parent
    scores[position] = score
    labels[position] = label


@njit(cache=True, nogil=True)
def _offer(scores: Any, labels: Any, size: int, score: float, label: int) -> Any:
    """Offers a label, larger than all present, to a heap; gives the new score to beat."""
    k = scores.shape[0]
    if size < k:
        _push(scores, labels, size, score, label)
        return scores[0] if size + 1 == k else -np.inf
    if score > scores[0]:
        _sift_down(scores, labels, k, score, label)
    return scores[0]


@njit(cache=True, nogil=True)
def _scan_tiles(
    packed: Any, rows: Any, network: Any, reduction: int, start: int, origin: int,
    num_rows: int, num_worlds: int, heap_scores: Any, heap_labels: Any, thresholds: Any,
    scratch: Any,
) -> None:  # fmt: skip
    """Scores `num_rows` staged labels, the first of which is `start`, for every tile of queries.

    `origin` is the first label of this thread's range: its first k labels are taken as they come.
    """
    k = heap_scores.shape[1]
    lower, upper = (num_worlds - 1) // 2, num_worlds // 2
    total = scratch[num_worlds * TILE :]
    for tile in range(packed.shape[0]):
        scores = packed[tile]
        query = tile * TILE
        for position in range(num_rows):
            first = position * num_worlds
            if reduction == SUM:
                mask = _reduce_sum(scores, rows, first, num_worlds, thresholds, query, total)
            elif reduction == MIN:
                mask = _reduce_min(scores, rows, first, num_worlds, thresholds, query, total)
            else:
                for world in range(num_worlds):
                    row = rows[position, world] * TILE
                    for lane in range(TILE):
                        scratch[world * TILE + lane] = scores[row + lane]
                for pair in range(network.shape[0]):
                    _exchange(scratch, network[pair, 0], network[pair, 1])
                mask = 0
                for lane in range(TILE):
                    middle = scratch[lower * TILE + lane]
                    if lower != upper:
                        middle = (middle + scratch[upper * TILE + lane]) * np.float32(0.5)
                    total[lane] = middle
                    mask |= np.int64(middle > thresholds[query + lane]) << lane
            size = start + position - origin
            if size < k:
                mask = (1 << TILE) - 1
            while mask != 0:
                lane = 0
                while (mask >> lane) & 1 == 0:
                    lane += 1
                mask &= mask - 1
                thresholds[query + lane] = _offer(
                    heap_scores[query + lane], heap_labels[query + lane], size,
                    total[lane], start + position,
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _are_buckets(ids: Any, num_buckets: int) -> Any:
    """Whether all ids are in [0, B); no early exit, so that the loop is vectorised."""
    lowest, highest = np.int32(0), np.int32(0)
    for position in range(ids.shape[0]):
        bucket = np.int32(ids[position])
        lowest, highest = min(lowest, bucket), max(highest, bucket)
    return lowest >= 0 and highest < num_buckets


@njit(cache=True, nogil=True)
def _stage(table: Any, start: int, stop: int, num_buckets: int, rows: Any) -> bool:
    """Writes the packed row numbers of labels `start:stop` to `(BLOCK, R)`; False if any is bad."""
    for world in range(table.shape[0]):
        ids = table[world, start:stop]
        if not _are_buckets(ids, num_buckets):
            return False
        first = np.int32(world * num_buckets)
        for position in range(ids.shape[0]):
            rows[position, world] = first + np.int32(ids[position])
    return True


@njit(cache=True, nogil=True, parallel=True)
def pack(scores: Any, packed: Any) -> None:
    """Transposes `(n ≤ TILE, R · B)` scores into `(R · B · TILE,)`; absent queries get 0."""
    num_queries, num_rows = scores.shape
    for part in prange((num_rows + 255) // 256):
        for row in range(part * 256, min(part * 256 + 256, num_rows)):
            for lane in range(num_queries):
                packed[row * TILE + lane] = scores[lane, row]
            for lane in range(num_queries, TILE):
                packed[row * TILE + lane] = 0.0


@njit(cache=True, nogil=True, parallel=True)
def scan_tiles(
    packed: Any, table: Any, num_buckets: int, network: Any, reduction: int, bounds: Any,
    heap_scores: Any, heap_labels: Any, is_good: Any,
) -> None:  # fmt: skip
    """Fills one heap per label range and query with that range's k best labels.

    Args:
        packed: `(G, R · B · TILE)` float32, see `pack`.
        table: `(R, L)` integer buckets.
        num_buckets: B.
        network: `(P, 2)` from `median_network(R)`; read for `MEDIAN` only.
        reduction: `SUM`, `MIN` or `MEDIAN`.
        bounds: `(num_ranges + 1,)` int64, ascending; a thread scans one range of labels.
        heap_scores: `(num_ranges, G · TILE, k)` float32, −inf.
        heap_labels: `(num_ranges, G · TILE, k)` int32.
        is_good: `(num_ranges,)` bool; False where a bucket lay outside [0, B).
    """
    num_worlds = table.shape[0]
    for part in prange(bounds.shape[0] - 1):
        rows = np.empty((BLOCK, num_worlds), np.int32)
        scratch = np.empty((num_worlds + 1) * TILE, np.float32)
        thresholds = np.full(packed.shape[0] * TILE, -np.inf, np.float32)
        for start in range(bounds[part], bounds[part + 1], BLOCK):
            stop = min(start + BLOCK, bounds[part + 1])
            if not _stage(table, start, stop, num_buckets, rows):
                is_good[part] = False
                break
            _scan_tiles(
                packed, rows, network, reduction, start, bounds[part], stop - start, num_worlds,
                heap_scores[part], heap_labels[part], thresholds, scratch,
            )  # fmt: skip


@njit(cache=True, nogil=True, parallel=True)
def scan_query(
    scores: Any, table: Any, reduction: int, bounds: Any, heap_scores: Any, heap_labels: Any,
    is_good: Any,
) -> None:  # fmt: skip
    """As `scan_tiles` for a single query, `(R, B)`: `SUM` or `MIN` over a block of labels."""
    num_worlds, num_buckets = scores.shape
    for part in prange(bounds.shape[0] - 1):
        total = np.empty(4 * BLOCK, np.float32)
        threshold: Any = np.float32(-np.inf)
        for start in range(bounds[part], bounds[part + 1], 4 * BLOCK):
            stop = min(start + 4 * BLOCK, bounds[part + 1])
            for world in range(num_worlds):
                ids = table[world, start:stop]
                if not _are_buckets(ids, num_buckets):
                    is_good[part] = False
                    break
                # Unsigned: a signed index costs a test for "counts from the end" at each read.
                if world == 0:
                    for position in range(ids.shape[0]):
                        total[position] = scores[world, np.uint32(ids[position])]
                elif reduction == SUM:
                    for position in range(ids.shape[0]):
                        total[position] += scores[world, np.uint32(ids[position])]
                else:
                    for position in range(ids.shape[0]):
                        score = scores[world, np.uint32(ids[position])]
                        total[position] = min(total[position], score)
            if not is_good[part]:
                break
            for position in range(stop - start):
                size = start + position - bounds[part]
                if total[position] > threshold or size < heap_scores.shape[1]:
                    threshold = _offer(
                        heap_scores[part], heap_labels[part], size,
                        total[position], start + position,
                    )  # fmt: skip
