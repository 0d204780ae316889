"""The `auto` decode: the search of `pruned` or the scan of `dense`, whichever takes less time.

What a scan costs follows from the sizes; what a search costs depends on how peaked the scores are,
and shows only when it is tried. Both are priced with unit costs fitted on this machine. A search
gives up when its own forecast exceeds the price of a scan; when searches keep losing, queries go to
the scan at once, and a few are tried again after a growing number of others. Labels are the same
either way.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bench.mach.decode import Reduction, dense, pruned
from bench.mach.decode.coarse_kernel import COARSE_TILE
from bench.mach.decode.index import BucketIndex, build_index
from bench.mach.decode.pruned import SearchBudget, SearchPrices, SearchTotals
from bench.mach.hashing import build_hash

# Queries tried when nothing is known, and when searches have lost before.
_FIRST_TRY = 8
_RETRY = 2
_FIRST_PAUSE = 64
_LONGEST_PAUSE = 4096
# Searches that count in full; at as many, what was is halved.
_REMEMBERED = 64
# Queries that `dense` always scans together.
_BATCH = 8
# Seconds, where noise would have a cost vanish.
_LEAST = 1e-9
# Of the calibration's searches: worlds, queries, and labels that stand out, so few that no world's
# best buckets are looked for twice, or so many that they are.
_FIT_WORLDS = 16
_FIT_QUERIES = 32
_FEW = 6
_MANY = 16
# Least that encountering a label is taken to cost, as a share of scoring it.
_LEAST_ENCOUNTER = 1 / 32
# A label's row is fetched from memory; each world of it is a read from cache.
_ROW_IN_WORLDS = 8.0


@dataclass(frozen=True)
class Costs:
    """Unit costs of this machine, in seconds of wall time with all threads at work; in records.

    Attributes:
        table_sizes: R · B of the calibration points, ascending.
        tile_gather: of one label in one world of a scan for `COARSE_TILE` queries together, at
            those sizes: all worlds' scores are read side by side.
        bucket_counts: B of the calibration points, ascending.
        single_gather: as `tile_gather` for a single query, at those B: a few worlds' scores are
            read at a time, and up to 256 of them by other instructions.
        pack: of one bucket score of each query before a scan of several together.
        single_pack: as `pack` for a single query; one that is not packed is as slow to fetch.
        select: of one bucket score in finding a world's best buckets.
        row_bytes: R · L of the calibration points, ascending, times the bytes of a bucket.
        visit: of one world of a label scored by a search, at those; fetching the label's row counts
            as 8 worlds.
        meet: of a label encountered in a bucket, at those, scored or not.
        bucket: of a bucket read, but for its labels; finding further buckets included.
    """

    table_sizes: tuple[int, ...]
    tile_gather: tuple[float, ...]
    bucket_counts: tuple[int, ...]
    single_gather: tuple[float, ...]
    pack: float
    single_pack: float
    select: float
    row_bytes: tuple[int, ...]
    visit: tuple[float, ...]
    meet: tuple[float, ...]
    bucket: float

    def scan_seconds(self, num_queries: int, num_labels: int, worlds: int, buckets: int) -> float:
        """A query's share of a scan over all labels."""
        size, lookups = worlds * buckets, worlds * num_labels
        shared = _between(size, self.table_sizes, self.tile_gather) * lookups
        shared = shared / max(min(num_queries, COARSE_TILE), 1) + self.pack * size
        if num_queries >= _BATCH:
            return shared
        single = _between(buckets, self.bucket_counts, self.single_gather) * lookups
        return min(shared, single + self.single_pack * size)

    def search_prices(self, num_queries: int, worlds: int, row_bytes: int) -> SearchPrices:
        """Seconds of what a search does, but for the selection."""
        threads = _threads_per_search(num_queries)
        visit = _between(row_bytes, self.row_bytes, self.visit)
        return SearchPrices(
            bucket=threads * self.bucket,
            encounter=threads * _between(row_bytes, self.row_bytes, self.meet),
            score=threads * visit * (worlds + _ROW_IN_WORLDS),
        )

    def select_seconds(self, num_queries: int, worlds: int, buckets: int) -> float:
        """Finding the best buckets."""
        return self.select * worlds * buckets * _threads_per_search(num_queries)


def _threads_per_search(num_queries: int) -> float:
    """A search takes one thread: with fewer queries than threads the others are idle."""
    threads = torch.get_num_threads()
    return threads / min(max(num_queries, 1), threads)


@dataclass(frozen=True)
class _Prices:
    """Seconds of a query of a batch; no budget where no search can be shorter than a scan."""

    scan: float
    select: float
    search: SearchPrices
    budget: SearchBudget | None


def _between(at: int, points: tuple[int, ...], known: tuple[float, ...]) -> float:
    """Interpolates on logarithmic scales; beyond the ends the end's value."""
    logs = [math.log(point) for point in points]
    return math.exp(np.interp(math.log(at), logs, [math.log(value) for value in known]))


@dataclass
class _Experience:
    """What searches over one index have come to.

    Attributes:
        num_tried: queries searched since the last pause, the older ones counting less.
        spent: time that they took, as a multiple of a scan's for one.
        num_needed: queries to search before they are judged: one alone means little.
        num_to_try: queries of a batch to search before they are looked at.
        pause: queries to scan at once.
        next_pause: length of the next pause.
    """

    num_tried: float = 0.0
    spent: float = 0.0
    num_needed: int = _FIRST_TRY
    num_to_try: int = _FIRST_TRY
    pause: int = 0
    next_pause: int = _FIRST_PAUSE

    def learn(self, found: pruned.PrunedResult, prices: _Prices) -> None:
        """Search on with more queries after a gain, pause after a loss."""
        total = found.totals()
        num_tried = total.num_queries
        given_up = num_tried - total.num_proven
        seconds = num_tried * prices.select + prices.search.of_search(
            total.num_read, total.num_encountered, total.num_scored
        )
        if self.num_tried >= _REMEMBERED:
            self.num_tried, self.spent = self.num_tried / 2, self.spent / 2
        self.num_tried += num_tried
        self.spent += seconds / prices.scan + given_up
        if self.num_tried < self.num_needed:
            return
        if self.spent <= self.num_tried:
            self.num_to_try = min(4 * max(self.num_to_try, num_tried), 1 << 20)
            self.next_pause = _FIRST_PAUSE
        else:
            self.num_tried = self.spent = 0.0
            self.num_needed = self.num_to_try = _RETRY
            self.pause = self.next_pause
            self.next_pause = min(2 * self.next_pause, _LONGEST_PAUSE)


class _Chooser:
    """What is known for one index and number of threads: costs there, what searches have come to.

    Args:
        index: of the table.
        unit: costs of this machine with so many threads.
    """

    def __init__(self, index: BucketIndex, unit: Costs) -> None:
        self._sizes = index.num_labels, index.num_worlds, index.num_buckets
        self._row_bytes = index.rows.nbytes
        self._unit = unit
        self._prices: dict[int, _Prices] = {}
        self._experiences: dict[tuple[int, int], _Experience] = {}

    def prices(self, num_queries: int) -> _Prices:
        """Of a query of so many."""
        # Beyond a tile, and a search for each thread, nothing depends on the number.
        asked = min(num_queries, max(COARSE_TILE, torch.get_num_threads()))
        known = self._prices.get(asked)
        if known is None:
            known = self._prices[asked] = self._priced(asked)
        return known

    def _priced(self, num_queries: int) -> _Prices:
        num_labels, worlds, buckets = self._sizes
        unit = self._unit
        scan = unit.scan_seconds(num_queries, num_labels, worlds, buckets)
        select = unit.select_seconds(num_queries, worlds, buckets)
        search = unit.search_prices(num_queries, worlds, self._row_bytes)
        budget = SearchBudget(search, scan - select)
        return _Prices(scan, select, search, budget if budget.is_enough(*self._sizes) else None)

    def experience(self, num_queries: int, k: int) -> _Experience:
        """Of about as many queries: alone, a scan is dear, and searches often pay."""
        scale = min(num_queries, COARSE_TILE).bit_length()
        return self._experiences.setdefault((scale, k), _Experience())


#: Costs by the number of threads that they were fitted with.
_known_costs: dict[int, Costs] = {}
#: What is known of each index, by the number of threads: neither costs nor experience outlive it.
_choosers: WeakKeyDictionary[BucketIndex, dict[int, _Chooser]] = WeakKeyDictionary()


def _chooser(index: BucketIndex) -> _Chooser:
    by_threads = _choosers.setdefault(index, {})
    threads = torch.get_num_threads()
    if threads not in by_threads:
        by_threads[threads] = _Chooser(index, costs())
    return by_threads[threads]


def costs() -> Costs:
    """The unit costs of this machine with the present number of threads.

    The first to ask in a process has them fitted, which takes seconds and is best done on an idle
    machine; :func:`prepare` asks. Records keep them: they explain which way `auto` took.
    """
    threads = torch.get_num_threads()
    if threads not in _known_costs:
        _known_costs[threads] = _fit()
    return _known_costs[threads]


def prepare(table: Tensor, num_buckets: int, k: int, reduction: Reduction) -> None:
    """Fit the costs, build the index, compile both ways; see `bench.mach.decode.prepare`."""
    pruned.prepare(table, num_buckets, k, reduction)
    if not pruned.is_dense(table.device, reduction):
        _chooser(pruned.index_of(table, num_buckets))


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by the cheaper way; see `bench.mach.decode.top_k`.

    The table's index is built at its first use.
    """
    if pruned.is_dense(bucket_scores.device, reduction):
        return dense.top_k(bucket_scores, table, k, reduction)
    index = pruned.index_of(table, bucket_scores.shape[2])
    return top_k_indexed(bucket_scores, table, index, k)


def top_k_indexed(
    bucket_scores: Tensor, table: Tensor, index: BucketIndex, k: int
) -> tuple[Tensor, Tensor]:
    """As :func:`top_k` for sums, with an index at hand."""
    num_queries = bucket_scores.shape[0]
    chooser = _chooser(index)
    experience = chooser.experience(num_queries, k)
    prices = chooser.prices(num_queries)
    if prices.budget is None:
        return dense.top_k(bucket_scores, table, k, "sum")
    if experience.pause == 0 and num_queries <= experience.num_to_try:
        # A single query is answered within 60 µs, of which copies would be a tenth.
        found = pruned.search(bucket_scores, index, k, budget=prices.budget)
        experience.learn(found, prices)
        pruned.complete(found, bucket_scores, table)
        return found.scores, found.labels
    scores = torch.empty(num_queries, k, dtype=torch.float32)
    labels = torch.empty(num_queries, k, dtype=torch.int64)
    scanned: list[Tensor] = []
    start = 0
    while start < num_queries:
        prices = chooser.prices(num_queries - start)
        if prices.budget is None:
            scanned.append(torch.arange(start, num_queries))
            break
        if experience.pause > 0:
            stop = min(start + experience.pause, num_queries)
            experience.pause -= stop - start
            scanned.append(torch.arange(start, stop))
        else:
            stop = min(start + experience.num_to_try, num_queries)
            found = pruned.search(bucket_scores[start:stop], index, k, budget=prices.budget)
            scores[start:stop], labels[start:stop] = found.scores, found.labels
            scanned.append(start + (~found.is_proven).nonzero()[:, 0])
            experience.learn(found, prices)
        start = stop
    pruned.answer_by_dense(scores, labels, torch.cat(scanned), bucket_scores, table)
    return scores, labels


def num_scored(bucket_scores: Tensor, index: BucketIndex, k: int) -> Tensor:
    """`(N,)` labels that each query alone would have scored: by its search, or all of them."""
    budget = _chooser(index).prices(bucket_scores.shape[0]).budget
    if budget is None:
        return torch.full((bucket_scores.shape[0],), index.num_labels)
    found = pruned.search(bucket_scores, index, k, budget=budget)
    return torch.where(found.is_proven, found.num_scored, index.num_labels)


# ---------------------------------------------------------------------------------------------
# Calibration
# ---------------------------------------------------------------------------------------------


def _fit() -> Costs:
    bucket_counts = (32, 256, 320, 2048, 20_000)
    tile: list[float] = []
    single: list[float] = []
    generator = torch.Generator().manual_seed(0)
    worlds, num_labels = 16, 1 << 18
    for buckets in bucket_counts:
        table = build_hash("balanced", num_labels, buckets, worlds, 0).table()
        scores = torch.randn(COARSE_TILE, worlds, buckets, generator=generator)
        # What a scan of few labels takes is nearly all packing; a single query packs for many only.
        tile_start, tile_slope = _line(scores, table, num_labels // 128)
        single_start, single_slope = _line(scores[:1], table, num_labels // 4)
        tile.append(tile_slope / worlds)
        single.append(single_slope / worlds)
    sizes = tuple(worlds * buckets for buckets in bucket_counts)
    label_counts = (1 << 15, 1 << 19)  # of a byte a bucket: in a cache, and beyond
    by_label = [_fit_labels(*sizes) for sizes in zip(label_counts, (64, 256), strict=True)]
    select, bucket = _fit_buckets(1 << 13, by_label[0][0])
    return Costs(
        table_sizes=sizes,
        tile_gather=tuple(tile),
        bucket_counts=bucket_counts,
        single_gather=tuple(single),
        # Of the largest tables, whose packing is the longest.
        pack=max(tile_start / COARSE_TILE, _LEAST) / sizes[-1],
        single_pack=max(single_start, _LEAST) / sizes[-1],
        select=select,
        row_bytes=tuple(_FIT_WORLDS * labels for labels in label_counts),
        visit=tuple(score / (_FIT_WORLDS + _ROW_IN_WORLDS) for score, _ in by_label),
        meet=tuple(encounter for _, encounter in by_label),
        bucket=bucket,
    )


def _line(batch: Tensor, table: Tensor, few: int) -> tuple[float, float]:
    """Start and slope of the seconds of a scan, by those of all labels and of the first `few`."""
    many = table.shape[1]
    few_seconds, many_seconds = (
        _best_seconds(functools.partial(dense.top_k, batch, labels, 5, "sum"))
        for labels in (table[:, :few].contiguous(), table)
    )
    slope = max(many_seconds - few_seconds, 0.1 * many_seconds) / (many - few)
    return few_seconds - slope * few, slope


def _fit_labels(num_labels: int, buckets: int) -> tuple[float, float]:
    """Seconds of scoring a label in `_FIT_WORLDS` worlds, and of encountering one.

    From searches for a label that stands out, and for several; scoring all labels, or few. Of few
    buckets, whose lists are long: beside their labels nothing counts.
    """
    (few_seconds, few), (seconds, many) = _timed(num_labels, buckets, _FEW, num_labels)
    both = max(seconds - few_seconds, 0.1 * seconds) / (many.num_scored - few.num_scored)
    (few_seconds, few), (seconds, many) = _timed(num_labels, buckets, _FEW, 0)
    scored = many.num_scored - few.num_scored
    left = many.num_encountered - few.num_encountered - scored
    encounter = (seconds - few_seconds - both * scored) / left
    encounter = min(max(encounter, _LEAST_ENCOUNTER * both), 0.5 * both)
    return both - encounter, encounter


def _fit_buckets(buckets: int, score: float) -> tuple[float, float]:
    """`select` and `bucket` of `Costs`, from the same with a label in each bucket.

    A bucket's share of finding further ones counts as its own.
    """
    (few_seconds, few), (seconds, many) = _timed(buckets, buckets, _MANY, buckets)
    taken = seconds - few_seconds
    taken = max(taken - score * (many.num_scored - few.num_scored), 0.1 * taken, _LEAST)
    select = few_seconds / (_FIT_QUERIES * _FIT_WORLDS * buckets)
    return select, taken / (many.num_read - few.num_read)


def _timed(
    num_labels: int, buckets: int, several: int, num_immediate: int
) -> list[tuple[float, SearchTotals]]:
    """Seconds and counts of searches for the one label, and for the `several`, that stand out."""
    generator = torch.Generator().manual_seed(1)
    table = build_hash("balanced", num_labels, buckets, _FIT_WORLDS, 0).table()
    index = build_index(table, buckets)
    noise = torch.rand(_FIT_QUERIES, _FIT_WORLDS, buckets, generator=generator)
    found = []
    for wanted in (1, several):
        scores = noise.clone()
        for rank in reversed(range(wanted)):
            labels = torch.randint(num_labels, (_FIT_QUERIES,), generator=generator)
            rows = table[:, labels].T.long().unsqueeze(2)
            scores.scatter_(2, rows, 100.0 - rank)
        search = functools.partial(
            pruned.search, scores, index, wanted, num_immediate=num_immediate
        )
        found.append((_best_seconds(search), search().totals()))
    return found


def _best_seconds(run: Callable[[], object], repeats: int = 9) -> float:
    """The least of several times: other load only ever adds."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
