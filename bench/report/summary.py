"""Numbers out of records and cost lines: values at a path, medians with their range, best rounds.

And text of both that is fit to be shown.
"""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bench.settings import Trial
from bench.store import costs
from bench.store.costs import CostLine

Record = Mapping[str, Any]
Number = int | float
Item = TypeVar("Item")
Key = TypeVar("Key")


@dataclass(frozen=True)
class Summary:
    """Median and range of a quantity over replicates; of times the best round instead."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Summary:
        """The quantity in another unit."""
        return Summary(self.median * factor, self.low * factor, self.high * factor)

    def inverted(self) -> Summary:
        """Of 1 ÷ the quantity, which is above 0."""
        return Summary(1 / self.median, 1 / self.high, 1 / self.low)


def summarize(values: Iterable[Number | None]) -> Summary | None:
    """Median and range; None when there is no value or any is missing.

    >>> summarize([3, 1, 2])
    Summary(median=2, low=1, high=3)
    >>> summarize([3, None]) is None
    True
    """
    numbers = list(values)
    present = [number for number in numbers if number is not None]
    if not present or len(present) < len(numbers):
        return None
    return Summary(statistics.median(present), min(present), max(present))


def group_by(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by what they have in common; keys and items in the order of first occurrence.

    >>> group_by([3, 1, 4, 6], lambda number: number % 2)
    {1: [3, 1], 0: [4, 6]}
    """
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def dig(record: Mapping[str, Any], *path: str) -> Any:
    """Value at a path of keys; None where the path ends early.

    >>> dig({"memory": {"parameter_bytes": 8}}, "memory", "parameter_bytes")
    8
    >>> dig({"memory": None}, "memory", "parameter_bytes") is None
    True
    """
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def clean(value: Any) -> Any:
    r"""A JSON value whose texts hold no control characters; they become blanks.

    Names come from file names and users; no terminal, page or figure should obey one.

    >>> clean({"name": "a\rb\x1b[2J"})
    {'name': 'a b [2J'}
    """
    if isinstance(value, str):
        return "".join(" " if unicodedata.category(c) in _CONTROLS else c for c in value)
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


# Controls, formats (direction marks too), surrogates, line and paragraph separators.
_CONTROLS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


@dataclass(frozen=True)
class Timing:
    """A row of a cost line, with the session that it was measured in.

    Attributes:
        row: as it stands in the line.
        line: of the session.
        has_inference: whether its inference was timed on the weights of the table's row; else it
            is of another row with the same cost of training, and does not exist here.
    """

    row: Mapping[str, Any]
    line: CostLine
    has_inference: bool = True

    @property
    def repetitions(self) -> Sequence[Mapping[str, Any]]:
        """The row's repetitions, one a round, with the phases that hold."""
        found: Sequence[Mapping[str, Any]] = self.row.get("visits") or ()
        if self.has_inference:
            return found
        return [
            {
                **each,
                "phases": {n: p for n, p in each["phases"].items() if n in costs.TRAINING_PHASES},
            }
            for each in found
        ]

    def rounds(self, phase: str) -> dict[int, float]:
        """Round → seconds for one step or query."""
        found = {v["round"]: costs.seconds_per_unit(v, phase) for v in self.repetitions}
        return {number: seconds for number, seconds in found.items() if seconds is not None}

    def seconds(self, phase: str) -> Summary | None:
        """Seconds for one step or query: of the best round, and the range over all of them."""
        known = self.rounds(phase).values()
        return Summary(min(known), min(known), max(known)) if known else None

    def speedup(self, other: Timing, phase: str) -> Summary | None:
        """The other row's time ÷ this one's, and its range over their common session's rounds."""
        if other.line is not self.line:
            return None
        own, theirs = self.rounds(phase), other.rounds(phase)
        ratios = [theirs[number] / own[number] for number in {*own} & {*theirs}]
        if not ratios:
            return None
        best = min(theirs.values()) / min(own.values())
        return Summary(best, min(best, *ratios), max(best, *ratios))

    @property
    def load(self) -> float | None:
        """Share of the processor time that others took, in the phase in which it was largest."""
        num_cores = dig(self.line.machine, "num_cores")
        row = {**self.row, "visits": self.repetitions}
        return costs.load_share(row, num_cores) if num_cores else None


class Timings:
    """The rows of the session of each group that counts, by part and by what they are of."""

    def __init__(self, lines: Sequence[CostLine]) -> None:
        self._by_cost: dict[tuple[str, str], Timing] = {}
        self._by_weights: dict[tuple[str, str], Timing] = {}
        for line in sorted(lines, key=lambda line: line.started_at):
            for row in line.rows:
                # Without its file at hand, a study's parts have no names.
                for part in ("", str(line.group["part"])):
                    timing = Timing(row, line)
                    self._by_cost[part, row["cost_id"]] = timing
                    if row.get("weights_of") is not None:
                        self._by_weights[part, row["weights_of"]] = timing

    def find(
        self, part: str, trial: Trial, fingerprint: str | None, shared: Collection[str]
    ) -> Timing | None:
        """The row of a trial, or the training of another one that costs the same."""
        timing = self._by_weights.get((part, costs.first_replicate(trial).trial_id))
        timing = timing or self._by_cost.get((part, trial.cost_id))
        if timing is None or len({fingerprint, timing.row.get("fingerprint")} - {None}) > 1:
            return None
        return replace(timing, has_inference=costs.is_of_weights(timing.row, trial, shared))
