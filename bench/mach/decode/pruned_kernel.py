"""Numba kernels of the `pruned` decode: best buckets first, until no unseen label can win.

Each world's buckets are walked from its best one down, in order of what they buy. An unseen label
lies in no walked bucket, so that its score is at most the reduction of the worlds' next scores: the
bound. Additions are rounded monotonically, hence the bound, summed in world order like every
label's score, holds for the rounded sums too, and the labels returned are exactly those of `dense`.

Scoring a label fetches its row from memory and R scores; meeting it in a list fetches nothing more.
Sums are therefore left until a label is met a second time. One that is met once is in no walked
bucket of any other world, and a few more buckets prove that all of those are out.

Sources: Fagin, Lotem, Naor 2003 (threshold algorithm). All in one file because Numba's cache
watches only the file of the function that it compiled.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import prange, types
from numba.extending import intrinsic

from bench.store.kernels import njit

SUM, MIN, MEDIAN = 0, 1, 2

# Best buckets of a world found by the first pass; each further one finds `_GROWTH` times as many.
_FIRST_DEPTH = 8
_GROWTH = 8
# Scores compared with the worst kept at once; most blocks hold none that is better.
_SCAN_BLOCK = 32
# Steps that a bucket is valued over: behind a small drop there may be a large one.
_LOOKAHEAD = 4
# Worlds summed between two looks at whether a label can still win.
_LOOK_EVERY = 8
_PREFETCH_AHEAD = 12
#: Columns of a walk's counts.
NUM_SCORED, NUM_WALKED, IS_PROVEN, NUM_MET = range(4)
# What is known of a label in a walk, in two bits.
_MET, _SCORED = 1, 2
# Labels that are scored when first met: they give the walk something to compare with.
NUM_IMMEDIATE = 64
# Walking on, once no unseen label can win, costs about as much as scoring so many labels: a bucket,
# and for each label in it. It may take a share of what scoring the labels met once would take.
_BUCKET_EFFORT = 4.0
_MEETING_EFFORT = 1 / 16
_EFFORT_SHARE = 0.25
# Share of its limit that a walk takes before the first forecast of its end; then at each doubling.
# A forecast after a few buckets knows too little: 8 of 100 walks over 2.8 million labels were given
# up after four that would have ended after 35.
_FIRST_FORECAST = 1 / 16
# Buckets walked, for each world, until the k best labels so far can be taken for nearly the final
# ones: peaked scores in 8 to 32 worlds took one to two.
_SETTLED = 2
# Unit roundoff of float32, doubled: a generous bound on the error of one addition.
_ROUNDOFF = 2.0**-23
_SMALLEST_NORMAL = 2.0**-126


def _declare_prefetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Intrinsic `(flat array, index)`: asks for the cache line of an element, to be read once."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, arguments[0]).data
        place = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(prefetch, [place, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


_prefetch: Any = intrinsic(_declare_prefetch)


def _declare_above(typing_context: Any, scores: Any, start: Any, worst: Any) -> Any:
    """Intrinsic `(flat float32 array, start, worst) -> mask` of the `_SCAN_BLOCK` scores above."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, arguments[0]).data
        block = ir.VectorType(ir.FloatType(), _SCAN_BLOCK)
        place = builder.bitcast(builder.gep(data, [arguments[1]]), block.as_pointer())
        one = builder.insert_element(
            ir.Constant(block, ir.Undefined), arguments[2], ir.Constant(ir.IntType(32), 0)
        )
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), _SCAN_BLOCK), [0] * _SCAN_BLOCK)
        every = builder.shuffle_vector(one, ir.Constant(block, ir.Undefined), lanes)
        is_above = builder.fcmp_ordered(">", builder.load(place, align=4), every)
        mask = builder.bitcast(is_above, ir.IntType(_SCAN_BLOCK))
        return builder.zext(mask, ir.IntType(64))

    return types.uint64(scores, types.intp, types.float32), generate


_above: Any = intrinsic(_declare_above)


def _declare_lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Intrinsic `mask -> position` of its lowest bit that is set; the mask is not 0."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


_lowest_bit: Any = intrinsic(_declare_lowest_bit)


# ---------------------------------------------------------------------------------------------
# Heaps of the best so far: labels of a query, buckets of a world
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _is_worse(score: float, label: int, other_score: float, other_label: int) -> bool:
    return score < other_score or (score == other_score and label > other_label)


@njit(cache=True, nogil=True)
def _offer(heap_scores: Any, heap_labels: Any, size: int, score: float, label: int) -> int:
    """Offers a label to a heap whose root is the worst; gives the heap's new size."""
    k = heap_scores.shape[0]
    if size < k:
        position = size
        while position > 0:
            parent = (position - 1) // 2
            if not _is_worse(score, label, heap_scores[parent], heap_labels[parent]):
                break
            heap_scores[position] = heap_scores[parent]
            heap_labels[position] = heap_labels[parent]
            position = parent
        heap_scores[position] = score
        heap_labels[position] = label
        return size + 1
    if _is_worse(heap_scores[0], heap_labels[0], score, label):
        _replace_root(heap_scores, heap_labels, k, score, label)
    return size


@njit(cache=True, nogil=True)
def _replace_root(heap_scores: Any, heap_labels: Any, size: int, score: float, label: int) -> None:
    position = 0
    while True:
        child = 2 * position + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _is_worse(
            heap_scores[other], heap_labels[other], heap_scores[child], heap_labels[child]
        ):
            child = other
        if not _is_worse(heap_scores[child], heap_labels[child], score, label):
            break
        heap_scores[position] = heap_scores[child]
        heap_labels[position] = heap_labels[child]
        position = child
    heap_scores[position] = score
    heap_labels[position] = label


@njit(cache=True, nogil=True)
def _sort_heap(heap_scores: Any, heap_labels: Any) -> None:
    """Turns a full heap into a list, best first."""
    for size in range(heap_scores.shape[0] - 1, 0, -1):
        score, label = heap_scores[size], heap_labels[size]
        heap_scores[size], heap_labels[size] = heap_scores[0], heap_labels[0]
        _replace_root(heap_scores, heap_labels, size, score, label)


# ---------------------------------------------------------------------------------------------
# The best buckets of a world
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _best_buckets(scores: Any, depth: int, values: Any, ids: Any) -> None:
    """Writes the `depth` best of `scores` and their positions, best first, equal ones by position.

    Equal scores need an order of their own: a longer list must begin with the shorter one.
    """
    num_buckets = scores.shape[0]
    for position in range(depth):
        _offer(values[:depth], ids[:depth], position, scores[position], position)
    worst = values[0]
    start = depth
    while start + _SCAN_BLOCK <= num_buckets:
        mask = _above(scores, start, worst)
        while mask != 0:
            position = start + _lowest_bit(mask)
            mask &= mask - np.uint64(1)
            if scores[position] > worst:
                _replace_root(values, ids, depth, scores[position], position)
                worst = values[0]
        start += _SCAN_BLOCK
    for position in range(start, num_buckets):
        if scores[position] > worst:
            _replace_root(values, ids, depth, scores[position], position)
            worst = values[0]
    _sort_heap(values[:depth], ids[:depth])


@njit(cache=True, nogil=True)
def _grow(scores: Any, world: int, values: Any, ids: Any, listed: Any) -> None:
    num_buckets = scores.shape[1]
    depth = min(listed[world] * _GROWTH, num_buckets)
    if 2 * depth > num_buckets:
        depth = num_buckets
    if depth == num_buckets:  # what is left is a full sort
        order = np.argsort(-scores[world], kind="mergesort")
        for position in range(num_buckets):
            ids[world, position] = order[position]
            values[world, position] = scores[world, order[position]]
    else:
        _best_buckets(scores[world], depth, values[world], ids[world])
    listed[world] = depth


# ---------------------------------------------------------------------------------------------
# Which bucket next, and what is left above it
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _next_value(values: Any, depths: Any, world: int, num_buckets: int) -> Any:
    """Best score that a label outside the walked buckets can have in a world."""
    return values[world, depths[world]] if depths[world] < num_buckets else np.float32(-np.inf)


@njit(cache=True, nogil=True)
def _bound(reduction: int, nexts: Any, scratch: Any) -> Any:
    """Best reduced score of an unseen label, rounded as a label's score is."""
    num_worlds = nexts.shape[0]
    if reduction == SUM:
        total = nexts[0]
        for world in range(1, num_worlds):
            total += nexts[world]
        return total
    if reduction == MIN:
        least = nexts[0]
        for world in range(1, num_worlds):
            least = min(least, nexts[world])
        return least
    scratch[:num_worlds] = nexts
    return _median(scratch, num_worlds)


@njit(cache=True, nogil=True)
def _median(values: Any, size: int) -> Any:
    for position in range(1, size):
        value = values[position]
        place = position
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
    lower, upper = values[(size - 1) // 2], values[size // 2]
    if size % 2:
        return lower
    return (lower + upper) * np.float32(0.5)


@njit(cache=True, nogil=True)
def _gain(
    reduction: int, world: int, values: Any, depths: Any, listed: Any, num_buckets: int,
    threshold: float,
) -> Any:  # fmt: skip
    """Worth of a world's next bucket: the higher, the sooner it is walked; −1 when none is left.

    For sums, how fast the bound falls along the next few buckets. For min and median, where the
    bound falls only when whole worlds sink below the threshold, the world nearest to that.
    """
    depth = depths[world]
    if depth >= num_buckets:
        return -1.0
    here = np.float64(values[world, depth])
    if here == -np.inf:
        return 0.0
    last = min(depth + _LOOKAHEAD, listed[world] - 1)
    if reduction == SUM:
        best = 0.0
        for later in range(depth + 1, last + 1):
            value = np.float64(values[world, later])
            if value == -np.inf:
                return np.inf
            best = max(best, (here - value) / (later - depth))
        if last == num_buckets - 1 and last < depth + _LOOKAHEAD:
            return np.inf  # its end is in sight, and beyond it no label is left unseen
        return best
    if here < threshold:
        return 0.0
    position = depth
    while position < listed[world] and values[world, position] >= threshold:
        position += 1
    return 1.0 / (position - depth)


@njit(cache=True, nogil=True)
def _choose(gains: Any) -> int:
    best = 0
    for world in range(1, gains.shape[0]):
        if gains[world] > gains[best]:
            best = world
    return best


@njit(cache=True, nogil=True)
def _beyond(drop: float, gain: float, num_walked: int, size: float, budget: int) -> int:
    """Labels until the bound has fallen by `drop`, where a bucket of `size` labels gains so much.

    The d-th best of many scores is above the next one by about 1/d times the scale of their tail:
    gains fall as buckets are walked, and the bound with the logarithm of their number.
    """
    ratio = drop / (gain * num_walked) if gain > 0 else math.inf
    if not ratio < 30:  # not a number where nothing is above −inf
        return budget + 1
    return math.floor(min(num_walked * math.expm1(ratio) * size, budget + 1.0))


@njit(cache=True, nogil=True)
def _forecast(
    reduction: int, scores: Any, offsets: Any, values: Any, ids: Any, listed: Any, depths: Any,
    gains: Any, nexts: Any, scratch: Any, threshold: float, budget: int,
) -> int:  # fmt: skip
    """Labels in the buckets still to walk before the bound is below `threshold`.

    Stops above `budget`. Sums are not followed beyond the buckets listed so far: listing more would
    cost as much as a walk.
    Overwrites depths, gains and nexts, which are copies.
    """
    num_buckets = scores.shape[1]
    num_labels = 0
    while num_labels <= budget:
        bound = _bound(reduction, nexts, scratch)
        if bound < threshold:
            break
        world = _choose(gains)
        if gains[world] < 0:
            break
        bucket = ids[world, depths[world]]
        num_labels += offsets[world, bucket + 1] - offsets[world, bucket]
        depths[world] += 1
        if depths[world] + 1 >= listed[world] and listed[world] < num_buckets:
            if reduction == SUM:
                size = np.float64(offsets[world, num_buckets]) / num_buckets
                drop = np.float64(bound) - threshold
                num_labels += _beyond(drop, gains[world], depths.sum(), size, budget)
                break
            _grow(scores, world, values, ids, listed)
        nexts[world] = _next_value(values, depths, world, num_buckets)
        gains[world] = _gain(reduction, world, values, depths, listed, num_buckets, threshold)
    return num_labels


# ---------------------------------------------------------------------------------------------
# One query
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _score(
    reduction: int, flat_scores: Any, row: Any, num_buckets: int, rest: Any, excess: float,
    slack: float, threshold: float, scratch: Any,
) -> Any:  # fmt: skip
    """Reduced score of a label and whether it was finished: False where it cannot win.

    `excess` is what an earlier meeting may add to `rest`.
    """
    num_worlds = row.shape[0]
    if reduction == SUM:
        total = flat_scores[np.uint64(row[0])]
        first = np.uint64(num_buckets)
        start = 1
        while start < num_worlds:
            stop = min(start + _LOOK_EVERY, num_worlds)
            for world in range(start, stop):
                total += flat_scores[first + np.uint64(row[world])]
                first += np.uint64(num_buckets)
            # Whatever the other worlds may add, in float64 and with room for their rounding.
            if total == -np.inf:
                if threshold > -np.inf:
                    return total, False
            elif total + rest[stop] + excess + slack * abs(total) < threshold:
                return total, False
            start = stop
        return total, True
    if reduction == MIN:
        least = flat_scores[np.uint64(row[0])]
        for world in range(1, num_worlds):
            if least < threshold:
                return least, False
            least = min(least, flat_scores[np.uint64(world * num_buckets) + np.uint64(row[world])])
        return least, True
    num_below = 0
    for world in range(num_worlds):
        value = flat_scores[np.uint64(world * num_buckets) + np.uint64(row[world])]
        scratch[world] = value
        num_below += value < threshold
    # The upper middle one is below the threshold.
    if num_below > num_worlds // 2:
        return scratch[0], False
    return _median(scratch, num_worlds), True


@njit(cache=True, nogil=True)
def _rest_of_sum(nexts: Any, slack: float, rest: Any) -> None:
    """Fills `rest[r]` with what worlds r … R − 1 add at most to a label's score.

    The label has not been seen: it is in no bucket walked so far, so that a world adds no more than
    its next bucket's score.
    """
    num_worlds = nexts.shape[0]
    total = 0.0
    magnitude = 0.0
    rest[num_worlds] = 0.0
    for world in range(num_worlds - 1, -1, -1):
        value = np.float64(nexts[world])
        total += value
        if value > -np.inf:
            magnitude += abs(value)
        # Threads that flush denormals to zero may lose that much at each addition.
        rest[world] = total + slack * magnitude + num_worlds * _SMALLEST_NORMAL


@njit(cache=True, nogil=True)
def _excess(values: Any, depths: Any, nexts: Any, slack: float) -> float:
    """What a label adds at most to a bound of unseen ones by lying in one walked bucket."""
    most = 0.0
    magnitude = 0.0
    for world in range(nexts.shape[0]):
        if depths[world] > 0:
            best = np.float64(values[world, 0])
            most = max(most, best - np.float64(nexts[world]))
            magnitude = max(magnitude, abs(best))
    return most + slack * magnitude


@njit(cache=True, nogil=True)
def _met_once_bound(nexts: Any, world: int, value: float, slack: float) -> float:
    """Best sum of a label in a bucket of `value` in one world and in no walked one of the others.

    Rounded up by more than the label's own sum in float32 can be.
    """
    total = value
    magnitude = abs(value)
    for other in range(nexts.shape[0]):
        if other != world:
            total += np.float64(nexts[other])
            magnitude += abs(np.float64(nexts[other]))
    # Where a world has nothing left the magnitude is no number to round by.
    margin = slack * magnitude + nexts.shape[0] * _SMALLEST_NORMAL if total > -np.inf else 0.0
    return total + margin


@njit(cache=True, nogil=True)
def _best_met_once(values: Any, depths: Any, nexts: Any, slack: float) -> Any:
    """Bound of all labels that are in a single walked bucket."""
    best = -np.inf
    for world in range(nexts.shape[0]):
        if depths[world] > 0:
            value = np.float64(values[world, 0])
            best = max(best, _met_once_bound(nexts, world, value, slack))
    return best


@njit(cache=True, nogil=True)
def _is_way_on_short(
    shortfall: float, gain: float, spent: float, bucket_effort: float, num_left: int
) -> bool:
    """Whether walking until labels met once are out is much less work than scoring them."""
    if not gain > 0:
        return False
    return spent + shortfall / gain * bucket_effort < _EFFORT_SHARE * num_left


@njit(cache=True, nogil=True)
def _walk_bucket(
    reduction: int, labels: Any, rows: Any, flat_rows: Any, flat_scores: Any, num_buckets: int,
    rest: Any, excess: float, slack: float, num_immediate: int, states: Any, heap_scores: Any,
    heap_labels: Any, size: int, scratch: Any,
) -> Any:  # fmt: skip
    """Meets a bucket's labels: scores those met before, and the first `num_immediate` others.

    Gives the heap's size, the labels scored and those met for the first time.
    """
    num_worlds, k = rows.shape[1], heap_scores.shape[0]
    threshold: Any = heap_scores[0] if size == k else np.float32(-np.inf)
    num_scored = 0
    num_met = 0
    num_listed = labels.shape[0]
    for place in range(num_listed):
        if place + _PREFETCH_AHEAD < num_listed:
            ahead: Any = np.int64(labels[place + _PREFETCH_AHEAD])
            is_met = (states[ahead >> 5] >> np.uint64(2 * (ahead & 31))) & np.uint64(_MET)
            if is_met or num_scored < num_immediate:
                _prefetch(flat_rows, ahead * num_worlds)
        label: Any = np.int64(labels[place])
        word, shift = label >> 5, np.uint64(2 * (label & 31))
        state = (states[word] >> shift) & np.uint64(_MET | _SCORED)
        if state & np.uint64(_SCORED):
            continue
        if not state:
            num_met += 1
            states[word] |= np.uint64(_MET) << shift
            if num_scored >= num_immediate and size == k:
                continue
        states[word] |= np.uint64(_SCORED) << shift
        num_scored += 1
        score, is_whole = _score(
            reduction, flat_scores, rows[label], num_buckets, rest, excess if state else 0.0,
            slack, threshold, scratch,
        )  # fmt: skip
        if is_whole:
            size = _offer(heap_scores, heap_labels, size, score, label)
            if size == k:
                threshold = heap_scores[0]
    return size, num_scored, num_met


@njit(cache=True, nogil=True)
def _score_met_once(
    scores: Any, rows: Any, flat_rows: Any, flat_scores: Any, lists: Any, offsets: Any,
    values: Any, ids: Any, depths: Any, nexts: Any, rest: Any, slack: float, states: Any,
    heap_scores: Any, heap_labels: Any, scratch: Any,
) -> int:  # fmt: skip
    """Scores what was left, of a sum with a full heap; gives the number of those labels."""
    num_worlds, num_buckets = scores.shape
    k = heap_scores.shape[0]
    _rest_of_sum(nexts, slack, rest)
    excess = _excess(values, depths, nexts, slack)
    num_scored = 0
    for world in range(num_worlds):
        for depth in range(depths[world]):
            value = np.float64(values[world, depth])
            if _met_once_bound(nexts, world, value, slack) < heap_scores[0]:
                break  # and so are the ones after it
            bucket = ids[world, depth]
            start, stop = offsets[world, bucket], offsets[world, bucket + 1]
            for place in range(start, stop):
                if place + _PREFETCH_AHEAD < stop:
                    ahead = np.int64(lists[world, place + _PREFETCH_AHEAD])
                    if not (states[ahead >> 5] >> np.uint64(2 * (ahead & 31))) & np.uint64(_SCORED):
                        _prefetch(flat_rows, ahead * num_worlds)
                label: Any = np.int64(lists[world, place])
                word, shift = label >> 5, np.uint64(2 * (label & 31))
                if (states[word] >> shift) & np.uint64(_SCORED):
                    continue
                states[word] |= np.uint64(_SCORED) << shift
                num_scored += 1
                score, is_whole = _score(
                    SUM, flat_scores, rows[label], num_buckets, rest, excess, slack,
                    heap_scores[0], scratch,
                )  # fmt: skip
                if is_whole:
                    _offer(heap_scores, heap_labels, k, score, label)
    return num_scored


@njit(cache=True, nogil=True)
def _num_waiting(
    offsets: Any, values: Any, ids: Any, depths: Any, nexts: Any, slack: float, threshold: float
) -> int:
    """Labels, scored ones too, of the buckets that `_score_met_once` would look through."""
    num_labels = 0
    for world in range(nexts.shape[0]):
        for depth in range(depths[world]):
            value = np.float64(values[world, depth])
            if _met_once_bound(nexts, world, value, slack) < threshold:
                break
            bucket = ids[world, depth]
            num_labels += offsets[world, bucket + 1] - offsets[world, bucket]
    return num_labels


@njit(cache=True, nogil=True)
def _is_within(
    limits: Any, spent: float, reduction: int, scores: Any, offsets: Any, values: Any, ids: Any,
    listed: Any, depths: Any, gains: Any, nexts: Any, scratch: Any, threshold: float,
    num_waiting: int, waiting_left: int, waits: bool,
) -> bool:  # fmt: skip
    """Whether the forecast of a walk is within its limit.

    `num_waiting` labels are to be scored if it takes more than `waiting_left` further buckets.
    Overwrites depths, gains and nexts, which are copies.
    """
    per_bucket, per_meeting, per_score, limit = limits
    buckets_per_label = np.float64(scores.shape[1]) / np.float64(offsets[0, scores.shape[1]])
    per_label = per_meeting + per_bucket * buckets_per_label + (0.0 if waits else per_score)
    most = int(min((limit - spent) / max(per_label, _SMALLEST_NORMAL), 1e15))
    needed = _forecast(
        reduction, scores, offsets, values, ids, listed, depths, gains, nexts, scratch, threshold,
        most,
    )  # fmt: skip
    if needed > most:
        return False
    whole = spent
    if waits and needed * buckets_per_label > waiting_left:
        whole += num_waiting * per_score + needed * (per_label + per_score)
    return bool(whole <= limit)


@njit(cache=True, nogil=True)
def walk_query(
    reduction: int, scores: Any, rows: Any, lists: Any, offsets: Any, values: Any, ids: Any,
    states: Any, heap_scores: Any, heap_labels: Any, limits: Any, num_immediate: int, counts: Any,
) -> None:  # fmt: skip
    """Walks one query's buckets until its k best labels are proven, or gives up.

    `values` and `ids` are room for each world's best buckets. `limits` are the prices of a bucket
    walked, a label met and a label scored, and what the walk may take of them. `counts` receives
    the labels scored, the buckets walked, whether the labels are proven, and the labels met.
    """
    per_bucket, per_meeting, per_score, limit = limits
    num_worlds, num_buckets = scores.shape
    num_labels, k = rows.shape[0], heap_scores.shape[0]
    flat_rows = rows.reshape(num_labels * num_worlds)
    flat_scores = scores.reshape(num_worlds * num_buckets)
    depths = np.zeros(num_worlds, np.int64)
    listed = np.full(num_worlds, min(_FIRST_DEPTH, num_buckets), np.int64)
    nexts = np.empty(num_worlds, np.float32)
    gains = np.empty(num_worlds, np.float64)
    other_depths = np.empty(num_worlds, np.int64)
    other_nexts = np.empty(num_worlds, np.float32)
    other_gains = np.empty(num_worlds, np.float64)
    scratch = np.empty(num_worlds, np.float32)
    rest = np.empty(num_worlds + 1, np.float64)
    slack = (num_worlds + 1) * _ROUNDOFF
    threshold: Any = np.float32(-np.inf)
    for world in range(num_worlds):
        _best_buckets(scores[world], listed[world], values[world], ids[world])
        nexts[world] = values[world, 0]
        gains[world] = _gain(reduction, world, values, depths, listed, num_buckets, threshold)
    if reduction != SUM:
        num_immediate = num_labels
    size = 0
    num_scored = 0
    num_met = 0
    num_walked = 0
    effort = 0.0
    bucket_effort = _BUCKET_EFFORT + _MEETING_EFFORT * num_labels / num_buckets
    next_forecast = _FIRST_FORECAST * limit
    labels_per_bucket = np.float64(num_labels) / num_buckets
    settled = _SETTLED * num_worlds
    most_waiting = _SETTLED * (num_worlds + k)
    excess = 0.0
    has_grown = False
    is_proven = False
    while True:
        is_no_unseen_better = False
        waits = num_immediate < num_labels
        spent = num_walked * per_bucket + num_met * per_meeting + num_scored * per_score
        if size == k:
            threshold = heap_scores[0]
            is_no_unseen_better = (
                num_met == num_labels or _bound(reduction, nexts, scratch) < threshold
            )
            is_over = False
            if is_no_unseen_better:
                shortfall = _best_met_once(values, depths, nexts, slack) - threshold
                if num_met == num_scored or shortfall < 0:
                    is_proven = True
                    break
                is_over = num_met == num_labels or not _is_way_on_short(
                    shortfall, gains[_choose(gains)], effort, bucket_effort, num_met - num_scored
                )
            if reduction != SUM:  # what a bucket buys depends on the threshold
                for world in range(num_worlds):
                    gains[world] = _gain(
                        reduction, world, values, depths, listed, num_buckets, threshold
                    )
            # Where fewer than k labels stand out, the k-th is one of those met once, and the walk
            # would wait for it: a long one catches up, and scores what it meets from there on.
            is_late = waits and num_walked >= most_waiting and not is_no_unseen_better
            if limit < np.inf and not is_no_unseen_better:
                if spent > limit:
                    break
                if is_late or spent >= next_forecast:
                    next_forecast = 2 * spent
                    other_depths[:] = depths
                    other_gains[:] = gains
                    other_nexts[:] = nexts
                    goal = threshold
                    settling = per_bucket + labels_per_bucket * (
                        per_meeting + (0.0 if waits else per_score)
                    )
                    if num_walked < settled and settled * settling <= limit:
                        # Some of the best labels are in buckets that no world has come to: the best
                        # label so far tells better than the k-th whether a walk can be short.
                        for place in range(k):
                            goal = max(goal, heap_scores[place])
                    if not _is_within(
                        limits, spent, reduction, scores, offsets, values, ids, listed,
                        other_depths, other_gains, other_nexts, scratch, goal,
                        num_met - num_scored, most_waiting - num_walked, waits,
                    ):  # fmt: skip
                        break
            if is_over or is_late:
                num_waiting = _num_waiting(offsets, values, ids, depths, nexts, slack, threshold)
                num_waiting = min(num_waiting, num_met - num_scored)
                if spent + num_waiting * per_score > limit:
                    break
                num_scored += _score_met_once(
                    scores, rows, flat_rows, flat_scores, lists, offsets, values, ids, depths,
                    nexts, rest, slack, states, heap_scores, heap_labels, scratch,
                )  # fmt: skip
                if is_over:
                    is_proven = True
                    break
                num_immediate = num_labels
                continue
        elif spent > limit:
            break
        world = _choose(gains)
        if gains[world] < 0:
            break  # never with num_met < num_labels: one world's buckets hold all labels
        if reduction == SUM:
            _rest_of_sum(nexts, slack, rest)
            excess = _excess(values, depths, nexts, slack)
        bucket = ids[world, depths[world]]
        start, stop = offsets[world, bucket], offsets[world, bucket + 1]
        size, newly_scored, newly_met = _walk_bucket(
            reduction, lists[world, start:stop], rows, flat_rows, flat_scores, num_buckets, rest,
            excess, slack, num_immediate - num_scored, states, heap_scores, heap_labels, size,
            scratch,
        )  # fmt: skip
        num_scored += newly_scored
        num_met += newly_met
        num_walked += 1
        if is_no_unseen_better:
            effort += bucket_effort
        depths[world] += 1
        if depths[world] + 1 >= listed[world] and listed[world] < num_buckets:
            _grow(scores, world, values, ids, listed)
            if not has_grown:  # where worlds are long, theirs may cost more than the labels so far
                has_grown = True
                next_forecast = min(next_forecast, spent)
        nexts[world] = _next_value(values, depths, world, num_buckets)
        gains[world] = _gain(reduction, world, values, depths, listed, num_buckets, threshold)

    if num_met * 8 > num_labels:
        states[:] = 0
    else:
        for world in range(num_worlds):
            for depth in range(depths[world]):
                bucket = ids[world, depth]
                for place in range(offsets[world, bucket], offsets[world, bucket + 1]):
                    states[np.int64(lists[world, place]) >> 5] = 0
    counts[NUM_SCORED] = num_scored
    counts[NUM_WALKED] = num_walked
    counts[IS_PROVEN] = is_proven
    counts[NUM_MET] = num_met
    if is_proven:
        _sort_heap(heap_scores, heap_labels)


@njit(cache=True, nogil=True, parallel=True)
def walk_queries(
    reduction: int, scores: Any, rows: Any, lists: Any, offsets: Any, values: Any, ids: Any,
    states: Any, out_scores: Any, out_labels: Any, limits: Any, num_immediate: int, counts: Any,
) -> None:  # fmt: skip
    """The k best labels of each query, or none where they would take more than a limit.

    Args:
        reduction: `SUM`, `MIN` or `MEDIAN`.
        scores: `(N, R, B)` float32.
        rows: `(L, R)` unsigned.
        lists: `(R, L)` int32.
        offsets: `(R, B + 1)` int64.
        values: `(P, R, B)` float32, room for P threads' sorted scores.
        ids: `(P, R, B)` int32, room for their buckets.
        states: `(P, ⌈L / 32⌉)` uint64, all zero; left so.
        out_scores: `(N, k)` float32.
        out_labels: `(N, k)` int64.
        limits: prices and what a query's walk may take of them, see :func:`walk_query`.
        num_immediate: labels that a query scores when it first meets them.
        counts: `(N, 4)` int64, see :func:`walk_query`.
    """
    num_queries, num_parts = scores.shape[0], states.shape[0]
    for part in prange(num_parts):
        for query in range(part, num_queries, num_parts):
            walk_query(
                reduction, scores[query], rows, lists, offsets, values[part], ids[part],
                states[part], out_scores[query], out_labels[query], limits, num_immediate,
                counts[query],
            )  # fmt: skip
