"""Numba kernels of the `dense` decode: every label scored, a tile of queries at a time.

Bucket scores are packed query-minor, `(R · B, TILE)`, so that one cache line holds one bucket's
scores for `TILE` queries and a label costs R contiguous reads for all of them. A label's running
sum lives in vector registers and is compared with the queries' current k-th scores at once;
insertions are rare. A byte for a score, rounded up, lets a line serve four times the queries: a
label whose sum of bytes stays below what the k-th score needs cannot be among the best, and only
the others are scored exactly. A single query's bytes of up to 256 buckets are looked up 32 labels
at a time by shuffles of registers, those of more buckets one after the other.

Everything is in this one file because Numba's cache watches only the file of the function that it
compiled, not the files of what was inlined into it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import prange, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numpy.typing import NDArray

from bench.store.kernels import njit

TILE = 16  # queries: 16 float32 fill one 64-byte cache line
COARSE_TILE = 64  # queries: 64 coarse scores of a byte do
#: A coarse score is one of 256 levels.
TOP_LEVEL = 255
#: Worlds whose levels can be summed in 16 bits, and still be told from "no score will do".
MOST_COARSE_WORLDS = 256
_UNREACHABLE = 65_535
_PACK_ROWS = 512
# Levels of a tile that stay in a core's own caches.
_CACHED_BYTES = 1 << 17
BLOCK = 256  # labels staged at a time; their (BLOCK, R) row numbers stay in L1
SUM, MIN, MEDIAN = 0, 1, 2

_FLOAT = ir.FloatType()
_VECTOR = ir.VectorType(_FLOAT, TILE)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_alloca: Any = cgutils.alloca_once
_function: Any = cgutils.get_or_insert_function


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


def _declare_ones_below(typing_context: Any, mask: Any) -> Any:
    """Intrinsic `mask -> position` of its lowest bit that is set; the mask is not 0."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


_lowest_bit: Any = intrinsic(_declare_ones_below)


def _prefetch(builder: Any, place: Any) -> None:
    number = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
    intrinsic_ = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
    builder.call(intrinsic_, [place, number(0), number(3), number(1)])


def _make_reduce_coarse(prefetches: bool) -> Any:
    """Intrinsic `(levels, rows, first, num_rows, least, start) -> mask`.

    Adds up the rows `rows[first : first + num_rows]` of `COARSE_TILE` levels and tells which sums
    reach `least[start : start + COARSE_TILE]`. May ask for the next `num_rows` rows meanwhile: a
    label's additions fill the processor's window, which else sees too few of the next one's misses.
    """

    def declare(
        typing_context: Any,
        levels: Any,
        rows: Any,
        first: Any,
        num_rows: Any,
        least: Any,
        start: Any,
    ) -> Any:
        signature = types.uint64(levels, rows, types.intp, types.intp, least, types.intp)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            narrow = ir.VectorType(ir.IntType(8), COARSE_TILE)
            wide = ir.VectorType(ir.IntType(16), COARSE_TILE)
            levels_data = _data(context, builder, sig.args[0], arguments[0])
            rows_data = _data(context, builder, sig.args[1], arguments[1])
            least_data = _data(context, builder, sig.args[4], arguments[4])

            def row_at(position: Any) -> Any:
                row = builder.load(builder.gep(rows_data, [position]))
                index = builder.mul(builder.sext(row, _INT64), ir.Constant(_INT64, COARSE_TILE))
                return builder.gep(levels_data, [index])

            def load_row(offset: Any) -> Any:
                position = builder.add(arguments[2], offset)
                if prefetches:
                    _prefetch(builder, row_at(builder.add(position, arguments[3])))
                place = builder.bitcast(row_at(position), narrow.as_pointer())
                return builder.zext(builder.load(place, align=1), wide)

            total = _alloca(builder, wide)
            builder.store(load_row(ir.Constant(_INT64, 0)), total)
            one = ir.Constant(_INT64, 1)
            with cgutils.for_range_slice(builder, one, arguments[3], one) as (offset, _):
                builder.store(builder.add(builder.load(total), load_row(offset)), total)
            place = builder.bitcast(builder.gep(least_data, [arguments[5]]), wide.as_pointer())
            least_sums = builder.load(place, align=2)
            reaches = builder.icmp_unsigned(">=", builder.load(total), least_sums)
            return builder.bitcast(reaches, _INT64)

        return signature, generate

    return intrinsic(declare)


_reduce_coarse = _make_reduce_coarse(prefetches=False)
_reduce_coarse_ahead = _make_reduce_coarse(prefetches=True)


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
def _hash_block(coefficients: Any, world: int, start: int, ids: Any, num_buckets: int) -> None:
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
def _stage(
    table: Any, coefficients: Any, start: int, stop: int, num_buckets: int, hashed: Any, rows: Any
) -> bool:
    """Writes the packed row numbers of labels `start:stop` to `(BLOCK, R)`; False if any is bad.

    Where there are coefficients, the buckets are those of the hash and the table is not read.
    """
    num_worlds = rows.shape[1]
    if coefficients.shape[0] > 0:
        for world in range(num_worlds):
            _hash_block(coefficients, world, start, hashed[: stop - start], num_buckets)
            first = np.int32(world * num_buckets)
            for position in range(stop - start):
                rows[position, world] = first + hashed[position]
        return True
    for world in range(num_worlds):
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
    packed: Any, table: Any, coefficients: Any, num_buckets: int, network: Any, reduction: int,
    bounds: Any, heap_scores: Any, heap_labels: Any, is_good: Any,
) -> None:  # fmt: skip
    """Fills one heap per label range and query with that range's k best labels.

    Args:
        packed: `(G, R · B · TILE)` float32, see `pack`.
        table: `(R, L)` integer buckets.
        coefficients: `(R, 2)` int64 of a universal hash, which is recomputed then and the table
            `(R, 0)`; or `(0, 2)`.
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
        hashed = np.empty(BLOCK, np.int32)
        scratch = np.empty((num_worlds + 1) * TILE, np.float32)
        thresholds = np.full(packed.shape[0] * TILE, -np.inf, np.float32)
        for start in range(bounds[part], bounds[part + 1], BLOCK):
            stop = min(start + BLOCK, bounds[part + 1])
            if not _stage(table, coefficients, start, stop, num_buckets, hashed, rows):
                is_good[part] = False
                break
            _scan_tiles(
                packed, rows, network, reduction, start, bounds[part], stop - start, num_worlds,
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
        if not _are_buckets(table[world, start:stop], num_buckets):
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
    num_hashed = coefficients.shape[0]
    for part in prange(bounds.shape[0] - 1):
        total = np.empty(4 * BLOCK, np.float32)
        hashed = np.empty((num_hashed, 4 * BLOCK), np.int32)
        threshold: Any = np.float32(-np.inf)
        for start in range(bounds[part], bounds[part + 1], 4 * BLOCK):
            stop = min(start + 4 * BLOCK, bounds[part + 1])
            if num_hashed > 0:
                for world in range(num_worlds):
                    _hash_block(
                        coefficients, world, start, hashed[world, : stop - start], num_buckets
                    )
                _total_of_query(scores, hashed, reduction, 0, stop - start, total)
            elif not _total_of_query(scores, table, reduction, start, stop, total):
                is_good[part] = False
                break
            for position in range(stop - start):
                size = start + position - bounds[part]
                if total[position] > threshold or size < heap_scores.shape[1]:
                    threshold = _offer(
                        heap_scores[part], heap_labels[part], size,
                        total[position], start + position,
                    )  # fmt: skip


# ---------------------------------------------------------------------------------------------
# The coarse scan: a byte for a bucket score decides which labels are worth their exact score
# ---------------------------------------------------------------------------------------------


def _declare_round_up(
    typing_context: Any, scores: Any, first: Any, floor: Any, inverse: Any, out: Any
) -> Any:
    """Intrinsic `(scores, first, floor, inverse, out)`: `TILE` scores from `first` on to levels.

    As the loop of :func:`_levels`, which compiles to less than vectors throughout.
    """
    signature = types.void(scores, types.intp, types.float32, types.float32, out)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        scores_data = _data(context, builder, sig.args[0], arguments[0])
        out_data = _data(context, builder, sig.args[4], arguments[4])
        lanes = ir.Constant(ir.VectorType(_INT32, TILE), [0] * TILE)
        undefined = ir.Constant(_VECTOR, ir.Undefined)

        def every(value: Any) -> Any:
            one = builder.insert_element(undefined, value, ir.Constant(_INT32, 0))
            return builder.shuffle_vector(one, undefined, lanes)

        vector = builder.load(_vector_at(builder, scores_data, arguments[1]), align=4)
        level = builder.fmul(builder.fsub(vector, every(arguments[2])), every(arguments[3]))
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        level = builder.call(_function(builder.module, kind, f"llvm.ceil.v{TILE}f32"), [level])
        lowest = ir.Constant(_VECTOR, [0.0] * TILE)
        highest = ir.Constant(_VECTOR, [float(TOP_LEVEL)] * TILE)
        level = builder.select(builder.fcmp_ordered(">", level, lowest), level, lowest)
        level = builder.select(builder.fcmp_ordered("<", level, highest), level, highest)
        level = builder.fptosi(level, ir.VectorType(_INT32, TILE))
        narrow = ir.VectorType(ir.IntType(8), TILE)
        place = builder.bitcast(out_data, narrow.as_pointer())
        builder.store(builder.trunc(level, narrow), place, align=1)
        return context.get_dummy_value()

    return signature, generate


_round_up: Any = intrinsic(_declare_round_up)


@njit(cache=True, nogil=True)
def _levels(scores: Any, floor: Any, inverse: Any, out: Any) -> None:
    whole = scores.shape[0] // TILE * TILE
    for position in range(0, whole, TILE):
        _round_up(scores, position, floor, inverse, out[position:])
    for position in range(whole, scores.shape[0]):
        level = np.ceil((scores[position] - floor) * inverse)
        level = level if level > np.float32(0) else np.float32(0)
        level = level if level < np.float32(TOP_LEVEL) else np.float32(TOP_LEVEL)
        out[position] = np.uint8(np.int32(level))


_SQUARE = 16  # bytes, of 16 rows, that are transposed at once


def _declare_transpose(
    typing_context: Any, source: Any, first: Any, stride: Any, out: Any, start: Any
) -> Any:
    """Intrinsic `(source, first, stride, out, start)`: turns a square of bytes.

    Row i lies at `source[first + i · stride]`, column j goes to `out[start + j · COARSE_TILE]`.
    Interleaving the first half of the rows with the second, four times, is a transposition.
    """
    signature = types.void(source, types.intp, types.intp, out, types.intp)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        row = ir.VectorType(ir.IntType(8), _SQUARE)
        half = _SQUARE // 2

        def row_at(array: int, base: Any, step: Any, number: int) -> Any:
            data = _data(context, builder, sig.args[array], arguments[array])
            offset = builder.mul(step, ir.Constant(_INT64, number))
            place = builder.gep(data, [builder.add(base, offset)])
            return builder.bitcast(place, row.as_pointer())

        def order(start: int) -> Any:
            places = [at for lane in range(start, start + half) for at in (lane, _SQUARE + lane)]
            return ir.Constant(ir.VectorType(_INT32, _SQUARE), places)

        rows = [
            builder.load(row_at(0, arguments[1], arguments[2], number), align=1)
            for number in range(_SQUARE)
        ]
        for _ in range(_SQUARE.bit_length() - 1):
            rows = [
                builder.shuffle_vector(rows[number], rows[number + half], order(start))
                for number in range(half)
                for start in (0, half)
            ]
        step = ir.Constant(_INT64, COARSE_TILE)
        for number, column in enumerate(rows):
            builder.store(column, row_at(3, arguments[4], step, number), align=1)
        return context.get_dummy_value()

    return signature, generate


_transpose: Any = intrinsic(_declare_transpose)


@njit(cache=True, nogil=True)
def levels_of_query(scores: Any, floors: Any, step: Any) -> Any:
    """Levels `(R, B)` uint8 of one query's scores, as :func:`pack_coarse` makes a batch's."""
    levels = np.empty(scores.shape, np.uint8)
    inverse = np.float32(1.0) / step
    for world in range(scores.shape[0]):
        _levels(scores[world], floors[world], inverse, levels[world])
    return levels


@njit(cache=True, nogil=True, parallel=True)
def pack_coarse(scores: Any, floors: Any, steps: Any, levels: Any) -> None:
    """Rounds `(n ≤ COARSE_TILE, R · B)` scores up to levels: `score ≤ floor + step · level`.

    But for the rounding of float32 arithmetic, which the scan's bases leave room for.

    Args:
        scores: float32, at most `floor + TOP_LEVEL · step` of their world; −inf is level 0.
        floors: `(n, R)` float32; a lower score is level 0 as well.
        steps: `(n,)` float32, positive.
        levels: `(R · B · COARSE_TILE,)` uint8; absent queries get 0.
    """
    num_queries, num_rows = scores.shape
    num_buckets = num_rows // floors.shape[1]
    num_parts = (num_rows + _PACK_ROWS - 1) // _PACK_ROWS
    for part in prange(num_parts):
        start, stop = part * _PACK_ROWS, min((part + 1) * _PACK_ROWS, num_rows)
        # Query-major first: arithmetic and transposing are each fast on their own.
        by_query = np.zeros(COARSE_TILE * _PACK_ROWS, np.uint8)
        for lane in range(num_queries):
            inverse = np.float32(1.0) / steps[lane]
            row = start
            while row < stop:
                world = row // num_buckets
                end = min((world + 1) * num_buckets, stop)
                _levels(
                    scores[lane, row:end],
                    floors[lane, world],
                    inverse,
                    by_query[lane * _PACK_ROWS + row - start :],
                )
                row = end
        whole = start + (stop - start) // _SQUARE * _SQUARE
        for row in range(start, whole, _SQUARE):
            for lane in range(0, COARSE_TILE, _SQUARE):
                first = lane * _PACK_ROWS + row - start
                _transpose(by_query, first, _PACK_ROWS, levels, row * COARSE_TILE + lane)
        for row in range(whole, stop):
            for lane in range(COARSE_TILE):
                levels[row * COARSE_TILE + lane] = by_query[lane * _PACK_ROWS + row - start]


@njit(cache=True, nogil=True)
def _least_sum(threshold: float, base: float, step: float) -> Any:
    """Smallest sum of levels of a label that may beat the threshold."""
    if threshold == -np.inf:
        return np.uint16(0)
    # Room for the rounding of this division and of the levels.
    levels = (threshold - base) / step
    levels -= 1e-6 + 1e-9 * abs(levels)
    if levels < 0:
        return np.uint16(0)
    if levels >= _UNREACHABLE:
        return np.uint16(_UNREACHABLE)
    return np.uint16(np.int64(levels) + 1)


@njit(cache=True, nogil=True, parallel=True)
def scan_coarse(
    levels: Any, scores: Any, bases: Any, steps: Any, table: Any, coefficients: Any,
    num_buckets: int, bounds: Any, most_exact: int, heap_scores: Any, heap_labels: Any,
    is_good: Any, is_worthwhile: Any,
) -> None:  # fmt: skip
    """As `scan_tiles` for sums, with exact scores only where the coarse ones leave hope.

    Args:
        levels: `(G, R · B · COARSE_TILE)` uint8, see `pack_coarse`.
        scores: `(n ≤ G · COARSE_TILE, R · B)` float32.
        bases: `(n,)` float64: no label's score exceeds `base + step · sum of its levels`.
        steps: `(n,)` float32.
        table: `(R, L)` integer buckets.
        coefficients: as for `scan_tiles`.
        num_buckets: B.
        bounds: `(num_ranges + 1,)` int64, ascending; a thread scans one range of labels.
        most_exact: exact scores that a range may take before the scan gives up.
        heap_scores: `(num_ranges, G · COARSE_TILE, k)` float32, −inf.
        heap_labels: `(num_ranges, G · COARSE_TILE, k)` int32.
        is_good: `(num_ranges,)` bool; False where a bucket lay outside [0, B).
        is_worthwhile: `(num_ranges,)` bool; False where the scan gave up.
    """
    num_worlds, num_queries = table.shape[0], scores.shape[0]
    is_large = levels.shape[1] > _CACHED_BYTES
    for part in prange(bounds.shape[0] - 1):
        rows = np.zeros((BLOCK + 1, num_worlds), np.int32)  # the last one's next
        hashed = np.empty(BLOCK, np.int32)
        least = np.full(levels.shape[0] * COARSE_TILE, _UNREACHABLE, np.uint16)
        least[:num_queries] = 0
        num_exact = 0
        for start in range(bounds[part], bounds[part + 1], BLOCK):
            stop = min(start + BLOCK, bounds[part + 1])
            if not _stage(table, coefficients, start, stop, num_buckets, hashed, rows):
                is_good[part] = False
                break
            if num_exact > most_exact:
                is_worthwhile[part] = False
                break
            for tile in range(levels.shape[0]):
                first = tile * COARSE_TILE
                for position in range(stop - start):
                    label, at = start + position, position * num_worlds
                    mask: Any = np.uint64(0)
                    if is_large:
                        mask = _reduce_coarse_ahead(
                            levels[tile], rows, at, num_worlds, least, first
                        )
                    else:
                        mask = _reduce_coarse(levels[tile], rows, at, num_worlds, least, first)
                    while mask != 0:
                        query = first + _lowest_bit(mask)
                        mask &= mask - np.uint64(1)
                        total = scores[query, rows[position, 0]]
                        for world in range(1, num_worlds):
                            total += scores[query, rows[position, world]]
                        num_exact += 1
                        threshold = _offer(
                            heap_scores[part, query], heap_labels[part, query],
                            label - bounds[part], total, label,
                        )  # fmt: skip
                        least[query] = _least_sum(threshold, bases[query], steps[query])


# ---------------------------------------------------------------------------------------------
# The coarse scan of a single query
# ---------------------------------------------------------------------------------------------

SHUFFLED = 32  # labels: a register of 32 bytes holds one byte of each
_SEGMENT = 16  # levels that one shuffle chooses from
#: Most buckets whose levels are looked up by shuffles: those that a byte can name.
MOST_SHUFFLED_BUCKETS = 256
_is_native = not any(getattr(config, name, None) for name in ("CPU_NAME", "CPU_FEATURES"))
#: Whether Numba compiles for the processor that it runs on, and that shuffles 32 bytes at once.
HAS_SHUFFLE = _is_native and bool(binding.get_host_cpu_features().get("avx2"))
_SHUFFLE = "llvm.x86.avx2.pshuf.b"
_SHUFFLED_AHEAD = 256
# Labels whose sums are made before any is looked at; sums and buckets stay in L2.
_SINGLE_BLOCK = 4096
# Sums that are compared with the least at once.
_GLANCE = 64


def num_segments(num_buckets: int) -> int:
    """Segments of 16 levels that a world of up to 256 buckets is padded to: 2, 4, 8 or 16."""
    return max(1 << (-(-num_buckets // _SEGMENT) - 1).bit_length(), 2)


def _make_sum_shuffled(segments: int) -> Any:
    """Intrinsic `(levels, table, start, num_worlds, sums, at, highest)`: `SHUFFLED` labels' sums.

    `levels` holds `segments · 32` bytes a world, each segment of 16 levels twice; `table` `(R, L)`
    uint8 buckets; the sums of labels `start …` go to `sums[at : at + SHUFFLED]`, and the highest
    buckets seen, lane by lane, to `highest[:SHUFFLED]`.
    """
    byte, pair = ir.IntType(8), ir.IntType(16)
    narrow = ir.VectorType(byte, SHUFFLED)
    half = ir.VectorType(pair, SHUFFLED // 2)

    def declare(
        typing_context: Any,
        levels: Any,
        table: Any,
        start: Any,
        num_worlds: Any,
        sums: Any,
        at: Any,
        highest: Any,
    ) -> Any:
        signature = types.void(levels, table, types.intp, types.intp, sums, types.intp, highest)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            if not HAS_SHUFFLE:  # never called then; but compiled it is
                return context.get_dummy_value()
            levels_data = _data(context, builder, sig.args[0], arguments[0])
            columns = context.make_array(sig.args[1])(context, builder, arguments[1])
            num_labels = builder.extract_value(columns.shape, 1)
            sums_data = _data(context, builder, sig.args[4], arguments[4])
            kind = ir.FunctionType(narrow, [narrow, narrow])
            shuffle = _function(builder.module, kind, _SHUFFLE)

            def splat(vector: Any, value: int) -> Any:
                return ir.Constant(vector, [value] * vector.count)

            def bytes_at(data: Any, index: Any) -> Any:
                place = builder.gep(data, [index])
                return builder.load(builder.bitcast(place, narrow.as_pointer()), align=1)

            def look_up(world: Any) -> Any:
                # Shuffles of all segments, narrowed down bit by bit.
                place = builder.add(builder.mul(world, num_labels), arguments[2])
                # R runs are read at once, more than the processor recognises by itself.
                ahead = builder.add(place, ir.Constant(_INT64, _SHUFFLED_AHEAD))
                _prefetch(builder, builder.gep(columns.data, [ahead]))
                ids = bytes_at(columns.data, place)
                is_higher = builder.icmp_unsigned(">", ids, builder.load(most))
                builder.store(builder.select(is_higher, ids, builder.load(most)), most)
                within = builder.and_(ids, splat(narrow, _SEGMENT - 1))
                first = builder.mul(world, ir.Constant(_INT64, segments * SHUFFLED))
                halves = builder.bitcast(ids, half)

                def narrow_down(lowest: int, number: int) -> Any:
                    """The level among segments `lowest …`; few registers are live at a time."""
                    if number == 1:
                        offset = ir.Constant(_INT64, lowest * SHUFFLED)
                        choices = bytes_at(levels_data, builder.add(first, offset))
                        return builder.call(shuffle, [choices, within])
                    number //= 2
                    low, upper = narrow_down(lowest, number), narrow_down(lowest + number, number)
                    # The bit that decides, brought to where a blend reads it: the byte's sign.
                    up = 7 - (_SEGMENT * number).bit_length() + 1
                    sign = builder.bitcast(builder.shl(halves, splat(half, up)), narrow)
                    is_upper = builder.icmp_signed("<", sign, splat(narrow, 0))
                    return builder.select(is_upper, upper, low)

                return builder.bitcast(narrow_down(0, segments), half)

            highest_data = _data(context, builder, sig.args[6], arguments[6])
            most = _alloca(builder, narrow)
            builder.store(bytes_at(highest_data, ir.Constant(_INT64, 0)), most)
            even, odd = _alloca(builder, half), _alloca(builder, half)
            builder.store(splat(half, 0), even)
            builder.store(splat(half, 0), odd)
            zero, one = ir.Constant(_INT64, 0), ir.Constant(_INT64, 1)
            with cgutils.for_range_slice(builder, zero, arguments[3], one) as (world, _):
                level = look_up(world)
                of_even = builder.and_(level, splat(half, 0xFF))
                of_odd = builder.lshr(level, splat(half, 8))
                builder.store(builder.add(builder.load(even), of_even), even)
                builder.store(builder.add(builder.load(odd), of_odd), odd)
            order = [i // 2 + (SHUFFLED // 2) * (i % 2) for i in range(SHUFFLED)]
            mask = ir.Constant(ir.VectorType(_INT32, SHUFFLED), order)
            whole = builder.shuffle_vector(builder.load(even), builder.load(odd), mask)
            place = builder.gep(sums_data, [arguments[5]])
            builder.store(whole, builder.bitcast(place, whole.type.as_pointer()), align=2)
            place = builder.bitcast(highest_data, narrow.as_pointer())
            builder.store(builder.load(most), place, align=1)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(declare)


_sum_shuffled_2 = _make_sum_shuffled(2)
_sum_shuffled_4 = _make_sum_shuffled(4)
_sum_shuffled_8 = _make_sum_shuffled(8)
_sum_shuffled_16 = _make_sum_shuffled(16)


@njit(cache=True, nogil=True)
def _sum_one_by_one(levels: Any, table: Any, start: int, stop: int, sums: Any) -> None:
    """Sums of levels of labels `start:stop`, four worlds at a time."""
    num_worlds = levels.shape[0]
    sums[: stop - start] = 0
    world = 0
    while world + 4 <= num_worlds:
        first, second = table[world, start:stop], table[world + 1, start:stop]
        third, fourth = table[world + 2, start:stop], table[world + 3, start:stop]
        for position in range(stop - start):
            value = np.uint32(levels[world, np.uint32(first[position])])
            value += np.uint32(levels[world + 1, np.uint32(second[position])])
            value += np.uint32(levels[world + 2, np.uint32(third[position])])
            value += np.uint32(levels[world + 3, np.uint32(fourth[position])])
            sums[position] += np.uint16(value)
        world += 4
    for last in range(world, num_worlds):
        ids = table[last, start:stop]
        for position in range(stop - start):
            sums[position] += np.uint16(levels[last, np.uint32(ids[position])])


@njit(cache=True, nogil=True, parallel=True)
def scan_query_coarse(
    levels: Any, shuffled: Any, scores: Any, base: float, step: float, table: Any,
    coefficients: Any, bounds: Any, most_exact: int, heap_scores: Any, heap_labels: Any,
    is_good: Any, is_worthwhile: Any,
) -> None:  # fmt: skip
    """As `scan_coarse` for a single query.

    Args:
        levels: `(R, B)` uint8, its scores rounded up.
        shuffled: `(R, segments, 32)` uint8, each segment of 16 levels twice, to be looked up by
            shuffles in a table of uint8; or no segments.
        scores: `(R, B)` float32.
        base: no label's score exceeds `base + step · sum of its levels`.
        step: see there.
        table: `(R, L)` integer buckets.
        coefficients: as for `scan_tiles`.
        bounds: `(num_ranges + 1,)` int64, ascending; a thread scans one range of labels.
        most_exact: exact scores that a range may take before the scan gives up.
        heap_scores: `(num_ranges, k)` float32, −inf.
        heap_labels: `(num_ranges, k)` int32.
        is_good: `(num_ranges,)` bool; False where a bucket lay outside [0, B).
        is_worthwhile: `(num_ranges,)` bool; False where the scan gave up.
    """
    num_worlds, num_buckets = scores.shape
    num_hashed = coefficients.shape[0]
    flat, segments = shuffled.reshape(-1), shuffled.shape[1]
    for part in prange(bounds.shape[0] - 1):
        sums = np.zeros(_SINGLE_BLOCK + _GLANCE, np.uint16)
        highest = np.zeros(SHUFFLED, np.uint8)
        hashed = np.empty((num_hashed, _SINGLE_BLOCK), np.int32)
        least = np.uint16(0)
        num_exact = 0
        for start in range(bounds[part], bounds[part + 1], _SINGLE_BLOCK):
            stop = min(start + _SINGLE_BLOCK, bounds[part + 1])
            size = stop - start
            if num_exact > most_exact:
                is_worthwhile[part] = False
                break
            if num_hashed > 0:
                for world in range(num_worlds):
                    _hash_block(coefficients, world, start, hashed[world, :size], num_buckets)
                _sum_one_by_one(levels, hashed, 0, size, sums)
            else:
                done = 0
                if segments > 0:
                    done = size - size % SHUFFLED
                    for at in range(0, done, SHUFFLED):
                        first = start + at
                        if segments == 2:
                            _sum_shuffled_2(flat, table, first, num_worlds, sums, at, highest)
                        elif segments == 4:
                            _sum_shuffled_4(flat, table, first, num_worlds, sums, at, highest)
                        elif segments == 8:
                            _sum_shuffled_8(flat, table, first, num_worlds, sums, at, highest)
                        else:
                            _sum_shuffled_16(flat, table, first, num_worlds, sums, at, highest)
                    is_good[part] = highest.max() < num_buckets
                for world in range(num_worlds):
                    if done < size and not _are_buckets(
                        table[world, start + done : stop], num_buckets
                    ):
                        is_good[part] = False
                if not is_good[part]:
                    break
                _sum_one_by_one(levels, table, start + done, stop, sums[done:])
            for glance in range(0, size, _GLANCE):
                last = min(glance + _GLANCE, size)
                largest = np.uint16(0)
                for position in range(glance, last):
                    largest = max(largest, sums[position])
                if largest < least:
                    continue
                for position in range(glance, last):
                    if sums[position] < least:
                        continue
                    label = start + position
                    if num_hashed > 0:
                        total = scores[0, hashed[0, position]]
                        for world in range(1, num_worlds):
                            total += scores[world, hashed[world, position]]
                    else:
                        total = scores[0, np.int64(table[0, label])]
                        for world in range(1, num_worlds):
                            total += scores[world, np.int64(table[world, label])]
                    num_exact += 1
                    threshold = _offer(
                        heap_scores[part], heap_labels[part], label - bounds[part], total, label
                    )
                    least = _least_sum(threshold, base, step)
