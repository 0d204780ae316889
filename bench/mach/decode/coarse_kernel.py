"""Numba kernels of the `dense` decode's coarse scan: a byte decides which labels get a float32.

A byte for a score, rounded up to one of 256 levels, lets a cache line serve 64 queries. A label
whose sum of levels stays below what the k-th score needs cannot be among the best (see
`bench.mach.decode`), and only the others are scored exactly. A single query's levels of up to 256
buckets are looked up 32 labels at a time by shuffles of registers, those of more buckets one after
the other.

Arguments that all scans share are in `bench.mach.decode.dense_kernel`, the others of both here:

    scores: `(n, R · B)` float32, of a single query `(R, B)`.
    bases, steps: `(n,)` float64 and float32: no label's score exceeds
        `base + step · sum of its levels`.
    most_exact: exact scores that a range may take before the scan gives up.
    is_worthwhile: `(num_ranges,)` bool; False where the scan gave up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import prange, types
from numba.core import cgutils, config
from numba.extending import intrinsic

from bench.mach.decode.dense_kernel import BLOCK, TILE, are_buckets, hash_block, stage
from bench.mach.decode.kernels import data_of, emit_prefetch, lowest_bit, offer, splat
from bench.store.kernels import njit

COARSE_TILE = 64  # queries: 64 coarse scores of a byte fill one 64-byte cache line
#: A coarse score is one of 256 levels.
TOP_LEVEL = 255
#: Worlds whose levels can be summed in 16 bits, and still differ from "no score will do".
MOST_COARSE_WORLDS = 256
_UNREACHABLE = 65_535
_PACK_ROWS = 512
# Levels of a tile that stay in a core's own caches.
_CACHED_BYTES = 1 << 17

_VECTOR = ir.VectorType(ir.FloatType(), TILE)
_INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
_alloca: Any = cgutils.alloca_once
_function: Any = cgutils.get_or_insert_function


def _make_reduce_coarse(prefetches: bool) -> Any:
    """Intrinsic `(levels, rows, first, num_rows, least, start) -> mask`.

    Adds up the rows `rows[first : first + num_rows]` of `COARSE_TILE` levels and finds which sums
    reach `least[start : start + COARSE_TILE]`. May ask for the next `num_rows` rows meanwhile: a
    label's additions fill the processor's window, which else sees too few of the next one's misses.
    """

    def declare(
        typing_context: Any, levels: Any, rows: Any, first: Any, num_rows: Any, least: Any,
        start: Any,
    ) -> Any:  # fmt: skip
        signature = types.uint64(levels, rows, types.intp, types.intp, least, types.intp)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            narrow = ir.VectorType(ir.IntType(8), COARSE_TILE)
            wide = ir.VectorType(ir.IntType(16), COARSE_TILE)
            levels_data = data_of(context, builder, sig.args[0], arguments[0])
            rows_data = data_of(context, builder, sig.args[1], arguments[1])
            least_data = data_of(context, builder, sig.args[4], arguments[4])

            def row_at(position: Any) -> Any:
                row = builder.load(builder.gep(rows_data, [position]))
                index = builder.mul(builder.sext(row, _INT64), ir.Constant(_INT64, COARSE_TILE))
                return builder.gep(levels_data, [index])

            def load_row(offset: Any) -> Any:
                position = builder.add(arguments[2], offset)
                if prefetches:
                    emit_prefetch(builder, row_at(builder.add(position, arguments[3])))
                row = builder.bitcast(row_at(position), narrow.as_pointer())
                return builder.zext(builder.load(row, align=1), wide)

            total = _alloca(builder, wide)
            builder.store(load_row(ir.Constant(_INT64, 0)), total)
            one = ir.Constant(_INT64, 1)
            with cgutils.for_range_slice(builder, one, arguments[3], one) as (offset, _):
                builder.store(builder.add(builder.load(total), load_row(offset)), total)
            at = builder.bitcast(builder.gep(least_data, [arguments[5]]), wide.as_pointer())
            least_sums = builder.load(at, align=2)
            reaches = builder.icmp_unsigned(">=", builder.load(total), least_sums)
            return builder.bitcast(reaches, _INT64)

        return signature, generate

    return intrinsic(declare)


_reduce_coarse = _make_reduce_coarse(prefetches=False)
_reduce_coarse_ahead = _make_reduce_coarse(prefetches=True)


def _declare_round_up(
    typing_context: Any, scores: Any, first: Any, floor: Any, inverse: Any, out: Any
) -> Any:
    """Intrinsic `(scores, first, floor, inverse, out)`: `TILE` scores from `first` on to levels.

    As the loop of :func:`_levels`, which compiles to less than vectors throughout.
    """
    signature = types.void(scores, types.intp, types.float32, types.float32, out)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        scores_data = data_of(context, builder, sig.args[0], arguments[0])
        out_data = data_of(context, builder, sig.args[4], arguments[4])
        at = builder.bitcast(builder.gep(scores_data, [arguments[1]]), _VECTOR.as_pointer())
        floor, inverse = (splat(builder, arguments[number], _VECTOR) for number in (2, 3))
        level = builder.fmul(builder.fsub(builder.load(at, align=4), floor), inverse)
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        level = builder.call(_function(builder.module, kind, f"llvm.ceil.v{TILE}f32"), [level])
        lowest = ir.Constant(_VECTOR, [0.0] * TILE)
        highest = ir.Constant(_VECTOR, [float(TOP_LEVEL)] * TILE)
        level = builder.select(builder.fcmp_ordered(">", level, lowest), level, lowest)
        level = builder.select(builder.fcmp_ordered("<", level, highest), level, highest)
        level = builder.fptosi(level, ir.VectorType(_INT32, TILE))
        narrow = ir.VectorType(ir.IntType(8), TILE)
        out_at = builder.bitcast(out_data, narrow.as_pointer())
        builder.store(builder.trunc(level, narrow), out_at, align=1)
        return context.get_dummy_value()

    return signature, generate


_round_up: Any = intrinsic(_declare_round_up)


@njit(cache=True, nogil=True)
def _levels(scores: Any, floor: Any, inverse: Any, out: Any) -> None:
    num_tiled = scores.shape[0] // TILE * TILE
    for position in range(0, num_tiled, TILE):
        _round_up(scores, position, floor, inverse, out[position:])
    for position in range(num_tiled, scores.shape[0]):
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
            data = data_of(context, builder, sig.args[array], arguments[array])
            offset = builder.mul(step, ir.Constant(_INT64, number))
            at = builder.gep(data, [builder.add(base, offset)])
            return builder.bitcast(at, row.as_pointer())

        def order(start: int) -> Any:
            lanes = [at for lane in range(start, start + half) for at in (lane, _SQUARE + lane)]
            return ir.Constant(ir.VectorType(_INT32, _SQUARE), lanes)

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
                out = by_query[lane * _PACK_ROWS + row - start :]
                _levels(scores[lane, row:end], floors[lane, world], inverse, out)
                row = end
        last = start + (stop - start) // _SQUARE * _SQUARE
        for row in range(start, last, _SQUARE):
            for lane in range(0, COARSE_TILE, _SQUARE):
                first = lane * _PACK_ROWS + row - start
                _transpose(by_query, first, _PACK_ROWS, levels, row * COARSE_TILE + lane)
        for row in range(last, stop):
            for lane in range(COARSE_TILE):
                levels[row * COARSE_TILE + lane] = by_query[lane * _PACK_ROWS + row - start]


@njit(cache=True, nogil=True)
def least_sum(threshold: float, base: float, step: float) -> Any:
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
    """As `dense_kernel.scan_tiles` for sums, with exact scores only where the coarse ones allow it.

    `levels` is `(G, R · B · COARSE_TILE)` as `pack_coarse` gives it, with heaps of
    `G · COARSE_TILE` queries.
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
            if not stage(table, coefficients, start, stop, num_buckets, hashed, rows):
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
                        query = first + lowest_bit(mask)
                        mask &= mask - np.uint64(1)
                        total = scores[query, rows[position, 0]]
                        for world in range(1, num_worlds):
                            total += scores[query, rows[position, world]]
                        num_exact += 1
                        threshold = offer(
                            heap_scores[part, query], heap_labels[part, query], total, label
                        )
                        least[query] = least_sum(threshold, bases[query], steps[query])


# ---------------------------------------------------------------------------------------------
# A single query
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
        typing_context: Any, levels: Any, table: Any, start: Any, num_worlds: Any, sums: Any,
        at: Any, highest: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(levels, table, types.intp, types.intp, sums, types.intp, highest)

        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            if not HAS_SHUFFLE:  # never called then; but compiled it is
                return context.get_dummy_value()
            levels_data = data_of(context, builder, sig.args[0], arguments[0])
            columns = context.make_array(sig.args[1])(context, builder, arguments[1])
            num_labels = builder.extract_value(columns.shape, 1)
            sums_data = data_of(context, builder, sig.args[4], arguments[4])
            kind = ir.FunctionType(narrow, [narrow, narrow])
            shuffle = _function(builder.module, kind, _SHUFFLE)

            def splat(vector: Any, value: int) -> Any:
                return ir.Constant(vector, [value] * vector.count)

            def bytes_at(data: Any, index: Any) -> Any:
                at = builder.bitcast(builder.gep(data, [index]), narrow.as_pointer())
                return builder.load(at, align=1)

            def look_up(world: Any) -> Any:
                # Shuffles of all segments, narrowed down bit by bit.
                position = builder.add(builder.mul(world, num_labels), arguments[2])
                # R runs are read at once, more than the processor recognises by itself.
                ahead = builder.add(position, ir.Constant(_INT64, _SHUFFLED_AHEAD))
                emit_prefetch(builder, builder.gep(columns.data, [ahead]))
                ids = bytes_at(columns.data, position)
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
                    # The bit that decides, moved to where a blend reads it: the byte's sign.
                    up = 7 - (_SEGMENT * number).bit_length() + 1
                    sign = builder.bitcast(builder.shl(halves, splat(half, up)), narrow)
                    is_upper = builder.icmp_signed("<", sign, splat(narrow, 0))
                    return builder.select(is_upper, upper, low)

                return builder.bitcast(narrow_down(0, segments), half)

            highest_data = data_of(context, builder, sig.args[6], arguments[6])
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
            all_sums = builder.shuffle_vector(builder.load(even), builder.load(odd), mask)
            sums_at = builder.gep(sums_data, [arguments[5]])
            builder.store(all_sums, builder.bitcast(sums_at, all_sums.type.as_pointer()), align=2)
            highest_at = builder.bitcast(highest_data, narrow.as_pointer())
            builder.store(builder.load(most), highest_at, align=1)
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


@njit(cache=True, nogil=True)
def _sum_shuffled(
    levels: Any, segments: int, table: Any, start: int, size: int, sums: Any, highest: Any
) -> None:
    """Sums of levels of `size` labels, a multiple of `SHUFFLED`, from `start` on."""
    num_worlds = table.shape[0]
    for at in range(0, size, SHUFFLED):
        if segments == 2:
            _sum_shuffled_2(levels, table, start + at, num_worlds, sums, at, highest)
        elif segments == 4:
            _sum_shuffled_4(levels, table, start + at, num_worlds, sums, at, highest)
        elif segments == 8:
            _sum_shuffled_8(levels, table, start + at, num_worlds, sums, at, highest)
        else:
            _sum_shuffled_16(levels, table, start + at, num_worlds, sums, at, highest)


@njit(cache=True, nogil=True)
def _sum_table(
    levels: Any, shuffled: Any, segments: int, table: Any, start: int, stop: int, num_buckets: int,
    sums: Any, highest: Any,
) -> bool:  # fmt: skip
    """Sums of levels of labels `start:stop` by their table; False where a bucket is bad."""
    num_shuffled = 0
    if segments > 0:
        num_shuffled = (stop - start) - (stop - start) % SHUFFLED
        _sum_shuffled(shuffled, segments, table, start, num_shuffled, sums, highest)
        if highest.max() >= num_buckets:
            return False
    rest = start + num_shuffled
    if rest < stop:
        for world in range(levels.shape[0]):
            if not are_buckets(table[world, rest:stop], num_buckets):
                return False
    _sum_one_by_one(levels, table, rest, stop, sums[num_shuffled:])
    return True


@njit(cache=True, nogil=True)
def _score_of(scores: Any, table: Any, column: int) -> Any:
    total = scores[0, np.int64(table[0, column])]
    for world in range(1, scores.shape[0]):
        total += scores[world, np.int64(table[world, column])]
    return total


@njit(cache=True, nogil=True, parallel=True)
def scan_query_coarse(
    levels: Any, shuffled: Any, scores: Any, base: float, step: float, table: Any,
    coefficients: Any, bounds: Any, most_exact: int, heap_scores: Any, heap_labels: Any,
    is_good: Any, is_worthwhile: Any,
) -> None:  # fmt: skip
    """As `scan_coarse` for a single query.

    `levels` is `(R, B)`; `shuffled` `(R, segments, 32)` has each segment of 16 levels twice, to be
    looked up by shuffles in a table of uint8, or no segments.
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
                    hash_block(coefficients, world, start, hashed[world, :size], num_buckets)
                _sum_one_by_one(levels, hashed, 0, size, sums)
            elif not _sum_table(
                levels, flat, segments, table, start, stop, num_buckets, sums, highest
            ):
                is_good[part] = False
                break
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
                        total = _score_of(scores, hashed, position)
                    else:
                        total = _score_of(scores, table, label)
                    num_exact += 1
                    threshold = offer(heap_scores[part], heap_labels[part], total, label)
                    least = least_sum(threshold, base, step)
