"""Numba kernels of the `dense` decode in float32: every label scored, a tile of queries at a time.

Bucket scores are packed query-minor, `(R · B, TILE)`, so that one cache line holds one bucket's
scores for `TILE` queries and a label costs R contiguous reads for all of them. A label's running
sum lives in vector registers and is compared with the queries' current k-th scores at once;
insertions are rare.

Arguments that all scans share, here and in `bench.mach.decode.coarse_kernel`:

    table: `(R, L)` integer buckets.
    coefficients: `(R, 2)` int64 of a universal hash, which is recomputed then and the table
        `(R, 0)`; or `(0, 2)`.
    bounds: `(num_ranges + 1,)` int64, ascending; a thread scans one range of labels.
    heap_scores, heap_labels: `(num_ranges, queries, k)` float32 and int32, free heaps that are
        filled with each range's k best.
    is_good: `(num_ranges,)` bool; False where a bucket lay outside [0, B).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from bench.mach.decode.kernels import data_of, lowest_bit, offer
from bench.store.kernels import njit

TILE = 16  # queries: 16 float32 fill one 64-byte cache line
BLOCK = 256  # labels staged at a time; their (BLOCK, R) row numbers stay in L1
SUM, MIN, MEDIAN = 0, 1, 2

_VECTOR = ir.VectorType(ir.FloatType(), TILE)
_INT64 = ir.IntType(64)
_alloca: Any = cgutils.alloca_once


def _vector_at(builder: Any, data: Any, index: Any) -> Any:
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _smaller(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", right, left), right, left)


def _make_reduce(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """Intrinsic `(scores, rows, first, num_rows, threshold, start, out) -> mask`.

    Combines the rows `rows[first : first + num_rows]` of `scores`, in that order, into
    `out[:TILE]`; bit t of the mask is set where entry t exceeds `threshold[start + t]`.
    """

    def declare(
        typing_context: Any, scores: Any, rows: Any, first: Any, num_rows: Any, threshold: Any,
        start: Any, out: Any,
    ) -> Any:  # fmt: skip
        signature = types.uint64(scores, rows, types.intp, types.intp, threshold, types.intp, out)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            scores_data = data_of(context, builder, sig.args[0], arguments[0])
            rows_data = data_of(context, builder, sig.args[1], arguments[1])
            first_, num_rows_ = arguments[2], arguments[3]
            threshold_data = data_of(context, builder, sig.args[4], arguments[4])
            out_data = data_of(context, builder, sig.args[6], arguments[6])
            zero = ir.Constant(_INT64, 0)

            def load_row(position: Any) -> Any:
                at = builder.gep(rows_data, [builder.add(first_, position)])
                row = builder.sext(builder.load(at), _INT64)
                index = builder.mul(row, ir.Constant(_INT64, TILE))
                return builder.load(_vector_at(builder, scores_data, index), align=4)

            total = _alloca(builder, _VECTOR)
            builder.store(load_row(zero), total)
            one = ir.Constant(_INT64, 1)
            with cgutils.for_range_slice(builder, one, num_rows_, one) as (position, _):
                builder.store(combine(builder, builder.load(total), load_row(position)), total)
            vector = builder.load(total)
            builder.store(vector, _vector_at(builder, out_data, zero), align=4)
            thresholds = builder.load(_vector_at(builder, threshold_data, arguments[5]), align=4)
            is_above = builder.fcmp_ordered(">", vector, thresholds)
            return builder.zext(builder.bitcast(is_above, ir.IntType(TILE)), _INT64)

        return signature, generate

    return intrinsic(declare)


_reduce_sum = _make_reduce(lambda builder, left, right: builder.fadd(left, right))
_reduce_min = _make_reduce(_smaller)


def _declare_exchange(typing_context: Any, rows: Any, low: Any, high: Any) -> Any:
    """Intrinsic `(rows, low, high)`: sorts two `TILE`-long rows of a flat array, lane by lane."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = data_of(context, builder, sig.args[0], arguments[0])
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
    """Comparators `(P, 2)` that move the middle ones of `num_rows` values to their sorted places.

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
def _median_of_rows(
    scores: Any, rows: Any, network: Any, thresholds: Any, query: int, scratch: Any, total: Any
) -> Any:
    """As `_reduce_sum` for medians of a label's rows, `(R,)`, sorted by a network in scratch."""
    num_worlds = rows.shape[0]
    lower, upper = (num_worlds - 1) // 2, num_worlds // 2
    for world in range(num_worlds):
        row = rows[world] * TILE
        for lane in range(TILE):
            scratch[world * TILE + lane] = scores[row + lane]
    for pair in range(network.shape[0]):
        _exchange(scratch, network[pair, 0], network[pair, 1])
    mask = np.uint64(0)
    for lane in range(TILE):
        middle = scratch[lower * TILE + lane]
        if lower != upper:
            middle = (middle + scratch[upper * TILE + lane]) * np.float32(0.5)
        total[lane] = middle
        mask |= np.uint64(middle > thresholds[query + lane]) << np.uint64(lane)
    return mask


@njit(cache=True, nogil=True)
def _scan_tiles(
    packed: Any, rows: Any, network: Any, reduction: int, start: int, origin: int,
    num_rows: int, heap_scores: Any, heap_labels: Any, thresholds: Any, scratch: Any,
) -> None:  # fmt: skip
    """Scores `num_rows` staged labels, the first of which is `start`, for every tile of queries.

    `origin` is the first label of this thread's range: its first k labels are taken as they come.
    """
    num_worlds = rows.shape[1]
    k = heap_scores.shape[1]
    total = scratch[num_worlds * TILE :]
    for tile in range(packed.shape[0]):
        scores = packed[tile]
        first = tile * TILE
        for position in range(num_rows):
            at = position * num_worlds
            if reduction == SUM:
                mask = _reduce_sum(scores, rows, at, num_worlds, thresholds, first, total)
            elif reduction == MIN:
                mask = _reduce_min(scores, rows, at, num_worlds, thresholds, first, total)
            else:
                mask = _median_of_rows(
                    scores, rows[position], network, thresholds, first, scratch, total
                )
            label = start + position
            if label < origin + k:
                mask = np.uint64((1 << TILE) - 1)
            while mask != 0:
                lane = lowest_bit(mask)
                mask &= mask - np.uint64(1)
                query = first + lane
                thresholds[query] = offer(
                    heap_scores[query], heap_labels[query], total[lane], label
                )


@njit(cache=True, nogil=True)
def are_buckets(ids: Any, num_buckets: int) -> Any:
    """Whether all ids are in [0, B); no early exit, so that the loop is vectorised.

    In the ids' own type: 32 bytes are compared at once.
    """
    lowest, highest = ids[0], ids[0]
    for position in range(ids.shape[0]):
        bucket = ids[position]
        lowest = bucket if bucket < lowest else lowest
        highest = bucket if bucket > highest else highest
    return lowest >= 0 and highest < num_buckets


@njit(cache=True, nogil=True)
def hash_block(coefficients: Any, world: int, start: int, ids: Any, num_buckets: int) -> None:
    """Buckets ((a·x + b) mod p) mod B, p = 2³¹ − 1, of consecutive labels.

    Both remainders without a division: p's by adding up digits to the base 2³¹, B's from a quotient
    that a float64 gives, or one less.
    """
    prime = (np.int64(1) << 31) - 1
    slope, shift = coefficients[world, 0], coefficients[world, 1]
    inverse = 1.0 / num_buckets
    for position in range(ids.shape[0]):
        value = slope * (start + position) + shift
        value = (value & prime) + (value >> 31)
        value = (value & prime) + (value >> 31)
        value -= prime * np.int64(value >= prime)
        bucket = value - np.int64(value * inverse) * num_buckets
        bucket -= num_buckets * np.int64(bucket >= num_buckets)
        ids[position] = bucket


@njit(cache=True, nogil=True)
def stage(
    table: Any, coefficients: Any, start: int, stop: int, num_buckets: int, hashed: Any, rows: Any
) -> bool:
    """Writes the packed row numbers of labels `start:stop` to `(BLOCK, R)`; False if any is bad.

    Where there are coefficients, the buckets are those of the hash and the table is not read.
    """
    num_worlds = rows.shape[1]
    if coefficients.shape[0] > 0:
        for world in range(num_worlds):
            hash_block(coefficients, world, start, hashed[: stop - start], num_buckets)
            first = np.int32(world * num_buckets)
            for position in range(stop - start):
                rows[position, world] = first + hashed[position]
        return True
    for world in range(num_worlds):
        ids = table[world, start:stop]
        if not are_buckets(ids, num_buckets):
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
    packed: Any, table: Any, coefficients: Any, num_buckets: int, network: Any, reduction: int,
    bounds: Any, heap_scores: Any, heap_labels: Any, is_good: Any,
) -> None:  # fmt: skip
    """Finds the k best labels of each range of labels and query; shared arguments see above.

    `packed` is `(G, R · B · TILE)` as `pack` gives it, with heaps of `G · TILE` queries, and
    `network` a `median_network`, read for `MEDIAN` only.
    """
    num_worlds = table.shape[0]
    for part in prange(bounds.shape[0] - 1):
        rows = np.empty((BLOCK, num_worlds), np.int32)
        hashed = np.empty(BLOCK, np.int32)
        scratch = np.empty((num_worlds + 1) * TILE, np.float32)
        thresholds = np.full(packed.shape[0] * TILE, -np.inf, np.float32)
        for start in range(bounds[part], bounds[part + 1], BLOCK):
            stop = min(start + BLOCK, bounds[part + 1])
            if not stage(table, coefficients, start, stop, num_buckets, hashed, rows):
                is_good[part] = False
                break
            _scan_tiles(
                packed, rows, network, reduction, start, bounds[part], stop - start,
                heap_scores[part], heap_labels[part], thresholds, scratch,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _add_four(scores: Any, table: Any, world: int, start: int, stop: int, total: Any) -> None:
    """Adds four worlds' scores to the totals of labels `start:stop`, one world after the other.

    Four at a time, so that a total is loaded and stored once for all of them.
    """
    first, second = table[world, start:stop], table[world + 1, start:stop]
    third, fourth = table[world + 2, start:stop], table[world + 3, start:stop]
    for position in range(stop - start):
        # Unsigned: a signed index costs a test for "counts from the end" at each read.
        value = total[position] + scores[world, np.uint32(first[position])]
        value += scores[world + 1, np.uint32(second[position])]
        value += scores[world + 2, np.uint32(third[position])]
        value += scores[world + 3, np.uint32(fourth[position])]
        total[position] = value


@njit(cache=True, nogil=True)
def _total_of_query(
    scores: Any, table: Any, reduction: int, start: int, stop: int, total: Any
) -> bool:
    """Reduces the scores of labels `start:stop` over worlds; False if a bucket is bad."""
    num_worlds, num_buckets = scores.shape
    for world in range(num_worlds):
        if not are_buckets(table[world, start:stop], num_buckets):
            return False
    ids = table[0, start:stop]
    for position in range(stop - start):
        total[position] = scores[0, np.uint32(ids[position])]
    world = 1
    while reduction == SUM and world + 4 <= num_worlds:
        _add_four(scores, table, world, start, stop, total)
        world += 4
    for last in range(world, num_worlds):
        ids = table[last, start:stop]
        for position in range(stop - start):
            score = scores[last, np.uint32(ids[position])]
            if reduction == SUM:
                total[position] += score
            else:
                total[position] = min(total[position], score)
    return True


@njit(cache=True, nogil=True, parallel=True)
def scan_query(
    scores: Any, table: Any, coefficients: Any, reduction: int, bounds: Any, heap_scores: Any,
    heap_labels: Any, is_good: Any,
) -> None:  # fmt: skip
    """As `scan_tiles` for a single query, `(R, B)`: `SUM` or `MIN` over a block of labels."""
    num_worlds, num_buckets = scores.shape
    num_hashed, k = coefficients.shape[0], heap_scores.shape[1]
    for part in prange(bounds.shape[0] - 1):
        total = np.empty(4 * BLOCK, np.float32)
        hashed = np.empty((num_hashed, 4 * BLOCK), np.int32)
        threshold: Any = np.float32(-np.inf)
        for start in range(bounds[part], bounds[part + 1], 4 * BLOCK):
            stop = min(start + 4 * BLOCK, bounds[part + 1])
            if num_hashed > 0:
                for world in range(num_worlds):
                    ids = hashed[world, : stop - start]
                    hash_block(coefficients, world, start, ids, num_buckets)
                _total_of_query(scores, hashed, reduction, 0, stop - start, total)
            elif not _total_of_query(scores, table, reduction, start, stop, total):
                is_good[part] = False
                break
            for position in range(stop - start):
                label = start + position
                if total[position] > threshold or label < bounds[part] + k:
                    threshold = offer(heap_scores[part], heap_labels[part], total[position], label)
