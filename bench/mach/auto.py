"""The `auto` decode: the walk of `pruned` or the scan of `dense`, whichever will take less time.

What a scan costs follows from the sizes; what a walk costs depends on how peaked the scores are,
and shows only when it is tried. Both are priced with unit costs fitted on this machine. A walk
gives up when its own forecast exceeds the price of a scan; when walks keep losing, queries go to
the scan at once, and a few are tried again after a growing number of others. Labels are the same
either way.
"""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from bench.mach import dense, pruned
from bench.mach.decode import Reduction
from bench.mach.dense_kernel import COARSE_TILE, TILE
from bench.mach.hashing import build_hash
from bench.mach.index import BucketIndex, build_index
from bench.provenance import machine, machine_slug

_FORMAT = 2  # of the file that keeps costs
# Queries tried when nothing is known, and when walks have lost before.
_FIRST_TRY = 8
_RETRY = 2
_FIRST_PAUSE = 64
_LONGEST_PAUSE = 4096
# A label's row is fetched from memory; each world of it is a read from cache.
_ROW_IN_WORLDS = 8.0


@dataclass(frozen=True)
class Costs:
    """Unit costs of this machine, in seconds of wall time with all threads at work.

    Attributes:
        table_sizes: R · B of the calibration points, ascending.
        tile_gather: of one label in one world of a scan for `COARSE_TILE` queries together, at
            those sizes: all worlds' scores are read side by side.
        bucket_counts: B of the calibration points, ascending.
        single_gather: as `tile_gather` for a single query, at those B: a few worlds' scores are
            read at a time, and up to 256 of them by other instructions.
        select: of one bucket score in the search for a world's best buckets.
        visit: of one world of a label scored by a walk; fetching the label's row counts as
            8 worlds.
    """

    table_sizes: tuple[int, ...]
    tile_gather: tuple[float, ...]
    bucket_counts: tuple[int, ...]
    single_gather: tuple[float, ...]
    select: float
    visit: float

    def scan_seconds(self, num_queries: int, index: BucketIndex, reduction: Reduction) -> float:
        """A query's share of a scan over all labels."""
        size = index.num_worlds * index.num_buckets
        # A tile of float32 takes about as long as one of bytes, for fewer queries.
        tile = COARSE_TILE if reduction == "sum" else TILE
        shared = _between(size, self.table_sizes, self.tile_gather)
        single = _between(index.num_buckets, self.bucket_counts, self.single_gather)
        gather = min(shared / max(min(num_queries, tile), 1), single)
        return gather * index.num_labels * index.num_worlds

    def label_seconds(self, num_queries: int, worlds: int) -> float:
        """Scoring one label in a walk."""
        return self.visit * (worlds + _ROW_IN_WORLDS) * _threads_per_walk(num_queries)

    def select_seconds(self, num_queries: int, worlds: int, buckets: int) -> float:
        """Finding the best buckets."""
        return self.select * worlds * buckets * _threads_per_walk(num_queries)


def _threads_per_walk(num_queries: int) -> float:
    """A walk takes one thread: with fewer queries than threads the others are idle."""
    threads = torch.get_num_threads()
    return threads / min(max(num_queries, 1), threads)


def _between(at: int, places: tuple[int, ...], known: tuple[float, ...]) -> float:
    """Interpolates on logarithmic scales; beyond the ends the end's value."""
    logs = [math.log(place) for place in places]
    return math.exp(np.interp(math.log(at), logs, [math.log(value) for value in known]))


@dataclass
class _Experience:
    """What walks over one index have come to."""

    pause: int = 0
    next_pause: int = _FIRST_PAUSE
    num_to_try: int = _FIRST_TRY


_costs: Costs | None = None
_experiences: WeakKeyDictionary[BucketIndex, dict[tuple[int, Reduction], _Experience]] = (
    WeakKeyDictionary()
)


def costs() -> Costs:
    """The unit costs in force; the first to ask has them fitted, once on a machine."""
    if _costs is not None:
        return _costs
    path = kept_costs_path()
    try:
        return calibrate(path)
    except ValueError as error:
        warnings.warn(f"{error}; fitted anew", stacklevel=2)
        return calibrate(path, again=True)


def use_costs(chosen: Costs | None) -> None:
    """Put unit costs in force, such as those of an earlier calibration; None: ask again."""
    global _costs
    _costs = chosen


def kept_costs_path() -> Path:
    """JSON file in the user's cache folder that keeps this machine's costs between processes."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mach-bench"
    slug = machine_slug(machine(accelerator=None))
    return folder / f"decode-costs-{_FORMAT}-{slug}-{torch.get_num_threads()}-threads.json"


def top_k(
    bucket_scores: Tensor, table: Tensor, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """The k best labels by the cheaper way; see `bench.mach.decode.top_k`.

    The table's index is built at its first use. On other devices than the CPU this is `dense`.

    Raises:
        ValueError: a bucket of the table is outside 0 … B − 1.
    """
    if bucket_scores.device.type != "cpu":
        return dense.top_k(bucket_scores, table, k, reduction)
    index = pruned.index_of(table, bucket_scores.shape[2])
    return top_k_indexed(bucket_scores, table, index, k, reduction)


def top_k_indexed(
    bucket_scores: Tensor, table: Tensor, index: BucketIndex, k: int, reduction: Reduction
) -> tuple[Tensor, Tensor]:
    """As :func:`top_k` with an index at hand."""
    num_queries = bucket_scores.shape[0]
    scores = torch.empty(num_queries, k, dtype=torch.float32)
    labels = torch.empty(num_queries, k, dtype=torch.int64)
    scanned: list[Tensor] = []
    experience = _experience(index, k, reduction)
    start = 0
    while start < num_queries:
        budget = _budget(index, num_queries - start, reduction)
        if budget == 0:
            scanned.append(torch.arange(start, num_queries))
            break
        if experience.pause > 0:
            stop = min(start + experience.pause, num_queries)
            experience.pause -= stop - start
            scanned.append(torch.arange(start, stop))
        else:
            stop = min(start + experience.num_to_try, num_queries)
            found = pruned.walk(bucket_scores[start:stop], index, k, reduction, max_labels=budget)
            scores[start:stop], labels[start:stop] = found.scores, found.labels
            scanned.append(start + (~found.is_proven).nonzero()[:, 0])
            _learn(experience, found, index, num_queries - start, reduction)
        start = stop
    if scanned:
        left = torch.cat(scanned)
        pruned.answer_by_dense(scores, labels, left, bucket_scores, table, reduction)
    return scores, labels


def num_scored(bucket_scores: Tensor, index: BucketIndex, k: int, reduction: Reduction) -> Tensor:
    """`(N,)` labels that each query alone would have scored: by its walk, or all of them."""
    budget = _budget(index, bucket_scores.shape[0], reduction)
    if budget == 0:
        return torch.full((bucket_scores.shape[0],), index.num_labels)
    found = pruned.walk(bucket_scores, index, k, reduction, max_labels=budget)
    return torch.where(found.is_proven, found.num_scored, index.num_labels)


def _budget(index: BucketIndex, num_queries: int, reduction: Reduction) -> int:
    """Labels that a walk may score; 0 where not even a bucket of each of two worlds would pay."""
    worlds, buckets = index.num_worlds, index.num_buckets
    scan = costs().scan_seconds(num_queries, index, reduction)
    left = scan - costs().select_seconds(num_queries, worlds, buckets)
    budget = int(left / costs().label_seconds(num_queries, worlds))
    return budget if budget >= 2 * max(index.num_labels // buckets, 1) else 0


def _experience(index: BucketIndex, k: int, reduction: Reduction) -> _Experience:
    return _experiences.setdefault(index, {}).setdefault((k, reduction), _Experience())


def _learn(
    experience: _Experience,
    found: pruned.PrunedResult,
    index: BucketIndex,
    num_queries: int,
    reduction: Reduction,
) -> None:
    """Walk on with more queries after a gain, pause after a loss."""
    worlds, buckets = index.num_worlds, index.num_buckets
    num_tried = found.is_proven.numel()
    scan = costs().scan_seconds(num_queries, index, reduction)
    scored = float(found.num_scored.sum()) / num_tried
    walked = costs().select_seconds(num_queries, worlds, buckets)
    walked += scored * costs().label_seconds(num_queries, worlds)
    share_given_up = 1 - float(found.is_proven.float().mean())
    if walked + share_given_up * scan <= scan:
        experience.num_to_try = min(4 * max(experience.num_to_try, num_tried), 1 << 20)
        experience.next_pause = _FIRST_PAUSE
    else:
        experience.num_to_try = _RETRY
        experience.pause = experience.next_pause
        experience.next_pause = min(2 * experience.next_pause, _LONGEST_PAUSE)


def calibrate(path: Path | None = None, *, again: bool = False) -> Costs:
    """Fit the unit costs on this machine, in a few seconds, and put them in force.

    Best done on an idle machine; without it, the first query of `auto` does it.

    Args:
        path: JSON file that holds them between processes; read if it is there, else written. One
            that cannot be written is warned of, and does without.
        again: fit anew whatever is known.

    Raises:
        ValueError: the file does not hold costs.
    """
    if not again:
        if _costs is not None:
            return _costs
        if path is not None and path.is_file():
            use_costs(_read(path))
            return costs()
    use_costs(_fit())
    if path is not None:
        try:
            _write(path, costs())
        except OSError as error:
            warnings.warn(f"costs of decoding are not kept: {error}", stacklevel=2)
    return costs()


def _write(path: Path, found: Costs) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(asdict(found)))
    partial.replace(path)


def _read(path: Path) -> Costs:
    try:
        plain: dict[str, Any] = json.loads(path.read_text())
        pairs = (("table_sizes", "tile_gather"), ("bucket_counts", "single_gather"))
        lists = [name for pair in pairs for name in pair]
        typed: dict[str, Any] = {k: tuple(v) if k in lists else v for k, v in plain.items()}
        found = Costs(**typed)
        lengths = [{len(getattr(found, name)) for name in pair} for pair in pairs]
        values = [*(v for name in lists for v in getattr(found, name)), found.select, found.visit]
        is_good = all(len(both) == 1 and 0 not in both for both in lengths)
        is_good = is_good and all(math.isfinite(value) and value > 0 for value in values)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: {error}; expected the costs of a calibration") from None
    if not is_good:
        raise ValueError(f"{path}: expected positive costs, as many as sizes that they hold at")
    return found


def _fit() -> Costs:
    bucket_counts = (32, 256, 320, 2048, 20_000)
    tile: list[float] = []
    single: list[float] = []
    generator = torch.Generator().manual_seed(0)
    worlds, num_labels = 16, 1 << 18
    for buckets in bucket_counts:
        table = build_hash("balanced", num_labels, buckets, worlds, 0).table()
        scores = torch.randn(COARSE_TILE, worlds, buckets, generator=generator)
        gathers = worlds * num_labels
        for queries, fitted in ((COARSE_TILE, tile), (1, single)):
            fitted.append(_best_seconds(_scan(scores[:queries], table)) / gathers)
    select, visit = _fit_walk()
    sizes = tuple(worlds * buckets for buckets in bucket_counts)
    return Costs(sizes, tuple(tile), bucket_counts, tuple(single), select, visit)


def _scan(batch: Tensor, table: Tensor) -> Callable[[], object]:
    return lambda: dense.top_k(batch, table, 5, "sum")


def _fit_walk() -> tuple[float, float]:
    """Costs of selection and visits: from walks that score few labels, and many."""
    worlds, buckets, num_labels, queries = 16, 4096, 1 << 19, 32
    generator = torch.Generator().manual_seed(1)
    table = build_hash("balanced", num_labels, buckets, worlds, 0).table()
    index = build_index(table, buckets)
    noise = torch.rand(queries, worlds, buckets, generator=generator)
    sure = noise.clone()
    labels = torch.randint(num_labels, (queries,), generator=generator)
    rows = table[:, labels].T.long().unsqueeze(2)
    sure.scatter_(2, rows, 100.0)
    timed = []
    for scores in (sure, noise[:4]):

        def run(scores: Tensor = scores) -> pruned.PrunedResult:
            return pruned.walk(scores, index, 1, "sum")

        timed.append((_best_seconds(run, 3), float(run().num_scored.sum())))
    (few_seconds, few), (many_seconds, many) = timed
    visit = many_seconds / (many * (worlds + _ROW_IN_WORLDS))
    first = few * (worlds + _ROW_IN_WORLDS) * visit
    select = max(few_seconds - first, 0.2 * few_seconds) / (queries * worlds * buckets)
    return select, visit


def _best_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """The least of several times: other load only ever adds."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
