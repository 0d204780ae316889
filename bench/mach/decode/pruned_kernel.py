"""Numba kernels of the `pruned` decode: the threshold algorithm over sums of bucket scores.

Each world's buckets are read from its best one down, in order of what they lower the bound of the
labels not encountered yet by; why that is exact stands in `bench.mach.decode`.

Scoring a label fetches its row from memory and R scores; encountering it in a list fetches nothing
more. Sums are therefore left until a label is encountered a second time. One encountered once is in
no read bucket of any other world, and a few more buckets prove that all of those are out.

Sources: Fagin, Lotem, Naor 2003 (threshold algorithm).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import prange, types
from numba.extending import intrinsic

from bench.mach.decode.kernels import (
    NO_LABEL,
    clear_heap,
    data_of,
    lowest_bit,
    offer,
    prefetch,
    replace_root,
    sort_heap,
    splat,
)
from bench.store.kernels import njit

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
#: Columns of a search's counts.
NUM_SCORED, NUM_READ, IS_PROVEN, NUM_ENCOUNTERED = range(4)
# What is known of a label in a search, in two bits.
_ENCOUNTERED, _SCORED = 1, 2
# Labels scored when first encountered: they give the search something to compare with.
NUM_IMMEDIATE = 64
# Reading on, once no label that was not encountered can win, costs about as much as scoring so many
# labels: a bucket, and for each label in it. It may take a share of what scoring the labels
# encountered once would take.
_BUCKET_EFFORT = 4.0
_ENCOUNTER_EFFORT = 1 / 16
_EFFORT_SHARE = 0.25
# Share of its limit that a search takes before the first forecast of its end; then at each
# doubling. A forecast after a few buckets knows too little: 8 of 100 searches over 2.8 million
# labels were given up after four that would have ended after 35.
_FIRST_FORECAST = 1 / 16
# Buckets read, for each world, until the k best labels so far can be taken for nearly the final
# ones: peaked scores in 8 to 32 worlds took one to two.
_SETTLED = 2
# Unit roundoff of float32, doubled: a generous bound on the error of one addition.
_ROUNDOFF = 2.0**-23
_SMALLEST_NORMAL = 2.0**-126


class Frontier(NamedTuple):
    """How far each world's buckets have been read.

    Attributes:
        values: `(R, B)` float32, scores of its best buckets, best first, as far as `listed`.
        ids: `(R, B)` int32, these buckets.
        listed: `(R,)` int64, buckets found so far, at least one more than read.
        depths: `(R,)` int64, buckets read.
        nexts: `(R,)` float32, score of the best bucket not read; −inf where none is left.
        gains: `(R,)` float64, worth of reading that bucket, see :func:`_gain`.
    """

    values: Any
    ids: Any
    listed: Any
    depths: Any
    nexts: Any
    gains: Any


class Lists(NamedTuple):
    """A table's index, see `bench.mach.decode.index`; `flat_rows` are its rows in one run."""

    rows: Any
    flat_rows: Any
    lists: Any
    offsets: Any


def _declare_above(typing_context: Any, scores: Any, start: Any, worst: Any) -> Any:
    """Intrinsic `(flat float32 array, start, worst) -> mask` of the `_SCAN_BLOCK` scores above."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        data = data_of(context, builder, sig.args[0], arguments[0])
        block = ir.VectorType(ir.FloatType(), _SCAN_BLOCK)
        at = builder.bitcast(builder.gep(data, [arguments[1]]), block.as_pointer())
        worst = splat(builder, arguments[2], block)
        is_above = builder.fcmp_ordered(">", builder.load(at, align=4), worst)
        mask = builder.bitcast(is_above, ir.IntType(_SCAN_BLOCK))
        return builder.zext(mask, ir.IntType(64))

    return types.uint64(scores, types.intp, types.float32), generate


_above: Any = intrinsic(_declare_above)


# ---------------------------------------------------------------------------------------------
# The best buckets of a world, and which one to read next
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _best_buckets(scores: Any, depth: int, values: Any, ids: Any) -> None:
    """Writes the `depth` best of `scores` and their positions, best first.

    Equal scores need an order of their own: a longer list must begin with the shorter one.
    """
    num_buckets = scores.shape[0]
    values, ids = values[:depth], ids[:depth]
    clear_heap(values, ids)
    for position in range(depth):
        offer(values, ids, scores[position], position)
    worst = values[0]
    start = depth
    while start + _SCAN_BLOCK <= num_buckets:
        mask = _above(scores, start, worst)
        while mask != 0:
            position = start + lowest_bit(mask)
            mask &= mask - np.uint64(1)
            if scores[position] > worst:  # a call for each would take as long as all else
                replace_root(values, ids, depth, scores[position], position)
                worst = values[0]
        start += _SCAN_BLOCK
    for position in range(start, num_buckets):
        worst = offer(values, ids, scores[position], position)
    sort_heap(values, ids)


@njit(cache=True, nogil=True)
def _grow(frontier: Frontier, scores: Any, world: int) -> None:
    """Finds more of a world's best buckets."""
    num_buckets = scores.shape[1]
    depth = min(frontier.listed[world] * _GROWTH, num_buckets)
    if 2 * depth > num_buckets:  # what is left is a full sort
        depth = num_buckets
        order = np.argsort(-scores[world], kind="mergesort")
        for position in range(num_buckets):
            frontier.ids[world, position] = order[position]
            frontier.values[world, position] = scores[world, order[position]]
    else:
        _best_buckets(scores[world], depth, frontier.values[world], frontier.ids[world])
    frontier.listed[world] = depth


@njit(cache=True, nogil=True)
def _is_used_up(frontier: Frontier, world: int) -> Any:
    """Whether more buckets of a world are to be found before its frontier is where it is."""
    listed = frontier.listed[world]
    return frontier.depths[world] + 1 >= listed and listed < frontier.values.shape[1]


@njit(cache=True, nogil=True)
def _gain(frontier: Frontier, world: int) -> Any:
    """How fast the bound falls along a world's next few buckets; −1 where none is left."""
    values, depth = frontier.values, frontier.depths[world]
    num_buckets = values.shape[1]
    if depth >= num_buckets:
        return -1.0
    here = np.float64(values[world, depth])
    if here == -np.inf:
        return 0.0
    last = min(depth + _LOOKAHEAD, frontier.listed[world] - 1)
    best = 0.0
    for later in range(depth + 1, last + 1):
        value = np.float64(values[world, later])
        if value == -np.inf:
            return np.inf
        best = max(best, (here - value) / (later - depth))
    if last == num_buckets - 1 and last < depth + _LOOKAHEAD:
        return np.inf  # its end is in sight, and beyond it every label has been encountered
    return best


@njit(cache=True, nogil=True)
def _update(frontier: Frontier, world: int) -> None:
    """Sets a world's next score and gain by its depth."""
    values, depth = frontier.values, frontier.depths[world]
    is_left = depth < values.shape[1]
    frontier.nexts[world] = values[world, depth] if is_left else np.float32(-np.inf)
    frontier.gains[world] = _gain(frontier, world)


@njit(cache=True, nogil=True)
def start_frontier(scores: Any, values: Any, ids: Any) -> Frontier:
    """No bucket read, the few best of each world found; `values` and `ids` are its room."""
    num_worlds, num_buckets = scores.shape
    depth = min(_FIRST_DEPTH, num_buckets)
    frontier = Frontier(
        values,
        ids,
        np.full(num_worlds, depth, np.int64),
        np.zeros(num_worlds, np.int64),
        np.empty(num_worlds, np.float32),
        np.empty(num_worlds, np.float64),
    )
    for world in range(num_worlds):
        _best_buckets(scores[world], depth, values[world], ids[world])
        _update(frontier, world)
    return frontier


@njit(cache=True, nogil=True)
def advance(frontier: Frontier, scores: Any, world: int) -> Any:
    """Counts a world's next bucket as read; whether further ones had to be found."""
    frontier.depths[world] += 1
    has_grown = _is_used_up(frontier, world)
    if has_grown:
        _grow(frontier, scores, world)
    _update(frontier, world)
    return has_grown


@njit(cache=True, nogil=True)
def _choose(gains: Any) -> int:
    best = 0
    for world in range(1, gains.shape[0]):
        if gains[world] > gains[best]:
            best = world
    return best


# ---------------------------------------------------------------------------------------------
# Bounds
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def bound(nexts: Any) -> Any:
    """Best score of a label not encountered, rounded as a label's score is."""
    total = nexts[0]
    for world in range(1, nexts.shape[0]):
        total += nexts[world]
    return total


@njit(cache=True, nogil=True)
def slack_of(num_worlds: int) -> float:
    """Share of the addends' magnitude that float32 may add to or take from a sum of R."""
    return (num_worlds + 1) * _ROUNDOFF


@njit(cache=True, nogil=True)
def fill_rest(nexts: Any, rest: Any) -> None:
    """Sets `rest[r]` to what worlds r … R − 1 add at most to the score of a label just encountered.

    It is in no bucket read so far, so that a world adds no more than its next bucket's score.
    """
    num_worlds = nexts.shape[0]
    slack = slack_of(num_worlds)
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
def excess_of(frontier: Frontier) -> Any:
    """What a label's being in one bucket read before adds at most to its `rest`."""
    values, depths, nexts = frontier.values, frontier.depths, frontier.nexts
    most = 0.0
    magnitude = 0.0
    for world in range(nexts.shape[0]):
        if depths[world] > 0:
            best = np.float64(values[world, 0])
            most = max(most, best - np.float64(nexts[world]))
            magnitude = max(magnitude, abs(best))
    return most + slack_of(nexts.shape[0]) * magnitude


@njit(cache=True, nogil=True)
def bound_encountered_once(nexts: Any, world: int, value: float) -> Any:
    """Best sum of a label in a bucket of `value` in one world and in no read one of the others.

    Rounded up by more than the label's own sum in float32 can be.
    """
    num_worlds = nexts.shape[0]
    total = value
    magnitude = abs(value)
    for other in range(num_worlds):
        if other != world:
            total += np.float64(nexts[other])
            magnitude += abs(np.float64(nexts[other]))
    # Where a world has nothing left the magnitude is no number to round by.
    if total == -np.inf:
        return total
    return total + slack_of(num_worlds) * magnitude + num_worlds * _SMALLEST_NORMAL


@njit(cache=True, nogil=True)
def _best_encountered_once(frontier: Frontier) -> Any:
    """Bound of all labels that are in a single read bucket."""
    values, depths, nexts = frontier.values, frontier.depths, frontier.nexts
    best = -np.inf
    for world in range(nexts.shape[0]):
        if depths[world] > 0:
            value = np.float64(values[world, 0])
            best = max(best, bound_encountered_once(nexts, world, value))
    return best


@njit(cache=True, nogil=True)
def score_label(
    flat_scores: Any, row: Any, num_buckets: int, rest: Any, excess: float, threshold: float
) -> Any:
    """Score of a label and whether it was finished: False where it cannot win.

    `excess` is what an earlier encounter may add to `rest`.
    """
    num_worlds = row.shape[0]
    slack = slack_of(num_worlds)
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


# ---------------------------------------------------------------------------------------------
# Reading buckets
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _state_of(states: Any, label: int) -> Any:
    return (states[label >> 5] >> np.uint64(2 * (label & 31))) & np.uint64(_ENCOUNTERED | _SCORED)


@njit(cache=True, nogil=True)
def _mark(states: Any, label: int, mark: int) -> None:
    states[label >> 5] |= np.uint64(mark) << np.uint64(2 * (label & 31))


@njit(cache=True, nogil=True)
def _read_bucket(
    labels: Any, index: Lists, flat_scores: Any, num_buckets: int, rest: Any, excess: float,
    num_immediate: int, states: Any, heap_scores: Any, heap_labels: Any, counts: Any,
) -> None:  # fmt: skip
    """Encounters a bucket's labels: scores those encountered before, and the first few others."""
    rows, flat_rows = index.rows, index.flat_rows  # once: a field counts its references
    num_worlds, num_listed = rows.shape[1], labels.shape[0]
    num_scored = counts[NUM_SCORED]
    num_encountered = 0
    threshold = heap_scores[0]
    for position in range(num_listed):
        if position + _PREFETCH_AHEAD < num_listed:
            ahead: Any = np.int64(labels[position + _PREFETCH_AHEAD])
            if num_scored < num_immediate or _state_of(states, ahead) != 0:
                prefetch(flat_rows, ahead * num_worlds)
        label: Any = np.int64(labels[position])
        state = _state_of(states, label)
        if state & np.uint64(_SCORED):
            continue
        if not state:
            num_encountered += 1
            _mark(states, label, _ENCOUNTERED)
            if num_scored >= num_immediate and heap_labels[0] != NO_LABEL:
                continue
        _mark(states, label, _SCORED)
        num_scored += 1
        score, is_finished = score_label(
            flat_scores, rows[label], num_buckets, rest, excess if state else 0.0, threshold
        )
        if is_finished:
            threshold = offer(heap_scores, heap_labels, score, label)
    counts[NUM_SCORED] = num_scored
    counts[NUM_ENCOUNTERED] += num_encountered


@njit(cache=True, nogil=True)
def _score_encountered_once(
    frontier: Frontier, index: Lists, flat_scores: Any, rest: Any, states: Any, heap_scores: Any,
    heap_labels: Any, counts: Any,
) -> None:  # fmt: skip
    """Scores what was left of the labels encountered, with a full heap."""
    values, ids, depths, nexts = frontier.values, frontier.ids, frontier.depths, frontier.nexts
    rows, flat_rows, lists, offsets = index.rows, index.flat_rows, index.lists, index.offsets
    num_worlds, num_buckets = values.shape
    fill_rest(nexts, rest)
    excess = excess_of(frontier)
    for world in range(num_worlds):
        for depth in range(depths[world]):
            value = np.float64(values[world, depth])
            if bound_encountered_once(nexts, world, value) < heap_scores[0]:
                break  # and so are the ones after it
            bucket = ids[world, depth]
            start, stop = offsets[world, bucket], offsets[world, bucket + 1]
            for position in range(start, stop):
                if position + _PREFETCH_AHEAD < stop:
                    ahead = np.int64(lists[world, position + _PREFETCH_AHEAD])
                    if not _state_of(states, ahead) & np.uint64(_SCORED):
                        prefetch(flat_rows, ahead * num_worlds)
                label: Any = np.int64(lists[world, position])
                if _state_of(states, label) & np.uint64(_SCORED):
                    continue
                _mark(states, label, _SCORED)
                counts[NUM_SCORED] += 1
                score, is_finished = score_label(
                    flat_scores, rows[label], num_buckets, rest, excess, heap_scores[0]
                )
                if is_finished:
                    offer(heap_scores, heap_labels, score, label)


@njit(cache=True, nogil=True)
def _num_waiting(frontier: Frontier, offsets: Any, threshold: float, most: int) -> int:
    """Labels, scored ones too, of the buckets that `_score_encountered_once` would look through."""
    values, ids, depths, nexts = frontier.values, frontier.ids, frontier.depths, frontier.nexts
    num_labels = 0
    for world in range(nexts.shape[0]):
        for depth in range(depths[world]):
            value = np.float64(values[world, depth])
            if bound_encountered_once(nexts, world, value) < threshold:
                break
            bucket = ids[world, depth]
            num_labels += offsets[world, bucket + 1] - offsets[world, bucket]
    return min(num_labels, most)


@njit(cache=True, nogil=True)
def _clear(states: Any, frontier: Frontier, index: Lists, counts: Any) -> None:
    """Forgets all labels encountered."""
    if counts[NUM_ENCOUNTERED] * 8 > index.rows.shape[0]:
        states[:] = 0
        return
    ids, depths, lists, offsets = frontier.ids, frontier.depths, index.lists, index.offsets
    for world in range(depths.shape[0]):
        for depth in range(depths[world]):
            bucket = ids[world, depth]
            for position in range(offsets[world, bucket], offsets[world, bucket + 1]):
                states[np.int64(lists[world, position]) >> 5] = 0


# ---------------------------------------------------------------------------------------------
# When to give up
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _beyond(drop: float, gain: float, num_read: int, size: float, most: int) -> int:
    """Labels until the bound has fallen by `drop`, where a bucket of `size` labels gains so much.

    The d-th best of many scores is above the next one by about 1/d times the scale of their tail:
    gains fall as buckets are read, and the bound with the logarithm of their number.
    """
    ratio = drop / (gain * num_read) if gain > 0 else math.inf
    if not ratio < 30:  # not a number where nothing is above −inf
        return most + 1
    return math.floor(min(num_read * math.expm1(ratio) * size, most + 1.0))


@njit(cache=True, nogil=True)
def _forecast(frontier: Frontier, offsets: Any, threshold: float, most: int) -> int:
    """Labels in the buckets still to read before the bound is below `threshold`, or above `most`.

    Nothing is followed beyond the buckets found so far: to find more costs as much as a search.
    """
    ahead = Frontier(
        frontier.values,
        frontier.ids,
        frontier.listed,
        frontier.depths.copy(),
        frontier.nexts.copy(),
        frontier.gains.copy(),
    )
    num_buckets = frontier.values.shape[1]
    num_labels = 0
    while num_labels <= most:
        highest = bound(ahead.nexts)
        world = _choose(ahead.gains)
        if highest < threshold or ahead.gains[world] < 0:
            break
        bucket = ahead.ids[world, ahead.depths[world]]
        num_labels += offsets[world, bucket + 1] - offsets[world, bucket]
        ahead.depths[world] += 1
        if _is_used_up(ahead, world):
            size = np.float64(offsets[world, num_buckets]) / num_buckets
            drop = np.float64(highest) - threshold
            num_labels += _beyond(drop, ahead.gains[world], ahead.depths.sum(), size, most)
            break
        _update(ahead, world)
    return num_labels


@njit(cache=True, nogil=True)
def _spent(limits: Any, counts: Any) -> Any:
    per_bucket, per_encounter, per_score, _ = limits
    read = counts[NUM_READ] * per_bucket + counts[NUM_ENCOUNTERED] * per_encounter
    return read + counts[NUM_SCORED] * per_score


@njit(cache=True, nogil=True)
def _is_within(
    limits: Any, frontier: Frontier, index: Lists, heap_scores: Any, counts: Any, waits: bool,
    most_waiting: int,
) -> bool:  # fmt: skip
    """Whether a search is forecast to end within its limit.

    Labels that wait to be scored will be, if it takes more than `most_waiting` buckets in all.
    """
    per_bucket, per_encounter, per_score, limit = limits
    num_labels, num_worlds = index.rows.shape
    num_read, spent = counts[NUM_READ], _spent(limits, counts)
    labels_per_bucket = np.float64(num_labels) / frontier.values.shape[1]
    score_at_once = 0.0 if waits else per_score
    goal = heap_scores[0]
    settled = _SETTLED * num_worlds
    settling = per_bucket + labels_per_bucket * (per_encounter + score_at_once)
    if num_read < settled and settled * settling <= limit:
        # Some of the best labels are in buckets that no world has come to: the best label so far
        # says better than the k-th whether a search can be short.
        goal = heap_scores.max()
    per_label = per_encounter + per_bucket / labels_per_bucket + score_at_once
    most = int(min((limit - spent) / max(per_label, _SMALLEST_NORMAL), 1e15))
    needed = _forecast(frontier, index.offsets, goal, most)
    if needed > most:
        return False
    if waits and needed / labels_per_bucket > most_waiting - num_read:
        num_waiting = counts[NUM_ENCOUNTERED] - counts[NUM_SCORED]
        spent += num_waiting * per_score + needed * (per_label + per_score)
    return bool(spent <= limit)


@njit(cache=True, nogil=True)
def _is_way_on_short(
    shortfall: float, gain: float, effort: float, per_bucket: float, num_left: int
) -> bool:
    """Whether reading on until labels encountered once are out is much less work than scoring."""
    if not gain > 0:
        return False
    return effort + shortfall / gain * per_bucket < _EFFORT_SHARE * num_left


# ---------------------------------------------------------------------------------------------
# Queries
# ---------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def search_query(
    scores: Any, rows: Any, lists: Any, offsets: Any, values: Any, ids: Any, states: Any,
    heap_scores: Any, heap_labels: Any, limits: Any, num_immediate: int, counts: Any,
) -> None:  # fmt: skip
    """Reads one query's buckets until its k best labels are proven, or gives up.

    `values` and `ids` are room for each world's best buckets. `limits` are the prices of a bucket
    read, a label encountered and a label scored, and what the search may take of them. `counts`
    receives the labels scored, the buckets read, whether the labels are proven, and the labels
    encountered.
    """
    num_worlds, num_buckets = scores.shape
    num_labels, k, limit = rows.shape[0], heap_scores.shape[0], limits[3]
    index = Lists(rows, rows.reshape(num_labels * num_worlds), lists, offsets)
    flat_scores = scores.reshape(num_worlds * num_buckets)
    frontier = start_frontier(scores, values, ids)
    rest = np.empty(num_worlds + 1, np.float64)
    clear_heap(heap_scores, heap_labels)
    counts[:] = 0
    effort = 0.0
    bucket_effort = _BUCKET_EFFORT + _ENCOUNTER_EFFORT * num_labels / num_buckets
    next_forecast = _FIRST_FORECAST * limit
    most_waiting = _SETTLED * (num_worlds + k)
    has_grown = False
    while True:
        threshold = heap_scores[0]
        spent = _spent(limits, counts)
        num_left = counts[NUM_ENCOUNTERED] - counts[NUM_SCORED]
        is_full = heap_labels[0] != NO_LABEL
        is_every_label_encountered = counts[NUM_ENCOUNTERED] == num_labels
        is_no_other_better = is_full and (
            is_every_label_encountered or bound(frontier.nexts) < threshold
        )
        is_over = False
        if is_no_other_better:
            shortfall = _best_encountered_once(frontier) - threshold
            if num_left == 0 or shortfall < 0:
                counts[IS_PROVEN] = 1
                break
            is_over = is_every_label_encountered or not _is_way_on_short(
                shortfall, frontier.gains[_choose(frontier.gains)], effort, bucket_effort, num_left
            )
        elif spent > limit:
            break
        # Where fewer than k labels stand out, the k-th is one of those encountered once, and the
        # search would wait for it: a long one catches up, and scores what it encounters from there.
        waits = num_immediate < num_labels
        is_open = is_full and not is_no_other_better
        is_late = is_open and waits and counts[NUM_READ] >= most_waiting
        if is_open and limit < np.inf and (is_late or spent >= next_forecast):
            next_forecast = 2 * spent
            if not _is_within(limits, frontier, index, heap_scores, counts, waits, most_waiting):
                break
        if is_over or is_late:
            num_waiting = _num_waiting(frontier, offsets, threshold, num_left)
            if spent + num_waiting * limits[2] > limit:
                break
            _score_encountered_once(
                frontier, index, flat_scores, rest, states, heap_scores, heap_labels, counts
            )
            if is_over:
                counts[IS_PROVEN] = 1
                break
            num_immediate = num_labels
            continue
        world = _choose(frontier.gains)
        if frontier.gains[world] < 0:
            break  # never before every label is encountered: one world's buckets hold all labels
        fill_rest(frontier.nexts, rest)
        bucket = frontier.ids[world, frontier.depths[world]]
        _read_bucket(
            lists[world, offsets[world, bucket] : offsets[world, bucket + 1]], index, flat_scores,
            num_buckets, rest, excess_of(frontier), num_immediate, states, heap_scores,
            heap_labels, counts,
        )  # fmt: skip
        counts[NUM_READ] += 1
        if is_no_other_better:
            effort += bucket_effort
        if advance(frontier, scores, world) and not has_grown:
            # Where worlds are long, finding their buckets may cost more than the labels so far.
            has_grown = True
            next_forecast = min(next_forecast, spent)
    _clear(states, frontier, index, counts)
    if counts[IS_PROVEN]:
        sort_heap(heap_scores, heap_labels)


@njit(cache=True, nogil=True, parallel=True)
def search_queries(
    scores: Any, rows: Any, lists: Any, offsets: Any, values: Any, ids: Any, states: Any,
    heap_scores: Any, heap_labels: Any, limits: Any, num_immediate: int, counts: Any,
) -> None:  # fmt: skip
    """`search_query` for `(N, R, B)` scores, P of them at a time.

    `values` `(P, R, B)` float32, `ids` `(P, R, B)` int32 and `states` `(P, ⌈L / 32⌉)` uint64, all
    zero and left so, are the room of each thread; heaps are `(N, k)`, `counts` `(N, 4)`.
    """
    num_queries, num_parts = scores.shape[0], states.shape[0]
    for part in prange(num_parts):
        for query in range(part, num_queries, num_parts):
            search_query(
                scores[query], rows, lists, offsets, values[part], ids[part], states[part],
                heap_scores[query], heap_labels[query], limits, num_immediate, counts[query],
            )  # fmt: skip
