"""Rows of a decoding study: which problem each one solved, what to call it, what was measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.format import GAP
from bench.report.labels import DECODE_NAMES, describe
from bench.report.select import Number, Record, Row, Section, dig

#: Their labels are not the exact top k, whatever share of it they found.
APPROXIMATE = frozenset({"buckets"})
RIVAL = "authors"

_SIZES = ("num_labels", "num_worlds", "num_buckets")  # in the order of a problem's fields


@dataclass(frozen=True, order=True)
class Problem:
    """Sizes of what is decoded; 0 where no record tells.

    Attributes:
        more: what else tells it from another problem of these sizes.
    """

    num_labels: int
    num_worlds: int
    num_buckets: int
    more: str = ""

    @property
    def text(self) -> str:
        """The problem for readers.

        >>> Problem(670_091, 32, 10_000).text
        'L = 670,091, R = 32, B = 10,000'
        """
        return ", ".join(filter(None, [_extent("L", self.num_labels), self.tables_text, self.more]))

    @property
    def tables_text(self) -> str:
        """The size of its tables for readers."""
        return f"{_extent('R', self.num_worlds)}, {_extent('B', self.num_buckets)}"

    @property
    def tables(self) -> Problem:
        """All but the number of labels: what problems share along a line over L."""
        return Problem(0, self.num_worlds, self.num_buckets, self.more)


def _extent(letter: str, size: int) -> str:
    return f"{letter} = {size:,}" if size else f"{letter} {GAP}"


@dataclass(frozen=True)
class Entry:
    """A row of a section with its problem.

    Attributes:
        k: labels wanted; 0 where the settings do not tell.
        name: method, and the options in which the section's rows of the method differ.
        place: 0 for a method's first such row, 1 for the next.
    """

    row: Row
    problem: Problem
    k: int
    name: str
    place: int = 0

    @property
    def method(self) -> str:
        """Registered name of the method."""
        return self.row.method

    @property
    def is_exact(self) -> bool:
        """Whether it found the exact top k of every query in every finished replicate."""
        recall = self.row.at("test", "recall") if self.row.done else None
        return recall is not None and recall.low >= 1 and self.method not in APPROXIMATE

    def median(self, value: Callable[[Record], Number | None]) -> float | None:
        """Median of a quantity over the finished replicates; None if one lacks it or none is."""
        summary = self.row.summarize(value) if self.row.done else None
        return summary.median if summary else None


def entries_of(section: Section) -> list[Entry]:
    """The rows of a section: by problem and k, then method in the order of `DECODE_NAMES`."""
    problems = _problems(section.rows)
    by_place = {name: place for place, name in enumerate(DECODE_NAMES)}
    telling = _telling_options(section.rows)
    named: list[tuple[Problem, int, int, str, Row]] = []
    for row in section.rows:
        # One of the rows may leave an option at its default; the method then says it all.
        words = [describe(key, row.options.get(key)) for key in telling.get(row.method, ())]
        name = ", ".join([DECODE_NAMES.get(row.method, row.method), *filter(None, words)])
        place = by_place.get(row.method, len(by_place))
        num_labels_wanted = int(row.options.get("k") or 0)
        named.append((problems[_data_key(row)], num_labels_wanted, place, name, row))
    named.sort(key=lambda entry: (*entry[:3], _numbers_first(entry[3])))
    variants: dict[str, set[str]] = {}
    for *_, name, row in named:
        variants.setdefault(row.method, set()).add(name)
    ordered = {method: sorted(names, key=_numbers_first) for method, names in variants.items()}
    return [
        Entry(row, problem, k, name, ordered[row.method].index(name))
        for problem, k, _, name, row in named
    ]


def _data_key(row: Row) -> str:
    return json.dumps(dig(row.settings, "data"), sort_keys=True)


def _problems(rows: Sequence[Row]) -> dict[str, Problem]:
    """Problem of each of the rows' data settings."""
    groups = _grouped(rows, _data_key)
    plain = {key: _sized(same) for key, same in groups.items()}
    options = {key: dig(same[0].settings, "data", "options") or {} for key, same in groups.items()}
    return {
        key: replace(own, more=_more(options[key], [options[k] for k in plain if plain[k] == own]))
        for key, own in plain.items()
    }


def _sized(rows: Sequence[Row]) -> Problem:
    num_labels, num_worlds, num_buckets = (_size(rows, name) for name in _SIZES)
    return Problem(num_labels, num_worlds, num_buckets)


def _size(rows: Sequence[Row], name: str) -> int:
    """A size as found; where no trial got that far, as asked for."""
    found = [dig(record, "data", name) for row in rows for record in row.records]
    found.append(dig(rows[0].settings, "data", "options", name))
    return int(next((size for size in found if size), 0))


def _more(own: Mapping[str, Any], peers: Sequence[Mapping[str, Any]]) -> str:
    keys = sorted(key for key in {*own} - {*_SIZES} if len({str(p.get(key)) for p in peers}) > 1)
    return ", ".join(filter(None, (describe(key, own[key]) for key in keys)))


def _telling_options(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Method → options in which its rows differ, of one problem or along a line over several.

    How many labels are wanted tells rows of one problem apart only: tables and figures say it.
    """
    telling = {}
    for method, own in _grouped(rows, lambda row: row.method).items():
        per_problem = [_differing(same) for same in _grouped(own, _data_key).values()]
        telling[method] = sorted((_differing(own) - {"k"}).union(*per_problem))
    return telling


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _differing(rows: Sequence[Row]) -> set[str]:
    keys = {key for row in rows for key in row.options}
    return {key for key in keys if len({str(row.options.get(key)) for row in rows}) > 1}


def _numbers_first(text: str) -> list[tuple[float, str]]:
    """Sorts numbers in a text as numbers.

    >>> sorted(["k = 100", "k = 5"], key=_numbers_first)
    ['k = 5', 'k = 100']
    """
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(float(part), "") if part[0].isdigit() else (math.inf, part) for part in parts]


def arrange(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Sections by part, then planted scores from uniform to most peaked, then models' scores."""
    return tuple(
        sorted(sections, key=lambda s: (_numbers_first(s.part), *scores_order(s), s.data_name))
    )


def scores_order(section: Section) -> tuple[bool, float]:
    """Orders kinds of scores: planted ones by how peaked they are, then those of models."""
    peak = peak_of(section)
    return (peak is None, peak or 0.0)


def peak_of(section: Section) -> float | None:
    """How peaked planted scores are, 0 for uniform ones; None for scores of a model."""
    data = dig(section.rows[0].settings, "data") or {}
    if data.get("source") != "planted_scores":
        return None
    return float(dig(data, "options", "peak") or 0)


def single_ms(record: Record, share: float = 0.5) -> Number | None:
    """Quantile of the times of single queries, in ms."""
    seconds = quantile(dig(record, "inference", "latency_seconds"), share)
    return None if seconds is None else 1e3 * seconds


def batched_ms(record: Record, size: int = 64) -> Number | None:
    """Median time of a batch by the queries in it, in ms."""
    seconds = quantile(dig(record, "inference", "batches", str(size)), 0.5)
    return None if seconds is None else 1e3 * seconds / size


def scored_share(record: Record) -> Number | None:
    """Share of all labels that the median query looked at."""
    num_scored = quantile(dig(record, "inference", "num_scored"), 0.5)
    num_labels = dig(record, "data", "num_labels")
    return num_scored / num_labels if num_scored is not None and num_labels else None


def index_bytes(record: Record) -> Number | None:
    """Bytes that the method keeps for decoding."""
    num_bytes: Number | None = dig(record, "memory", "decode_bytes")
    return num_bytes


def quantile(samples: Sequence[Number | None] | None, share: float) -> float | None:
    """Quantile by linear interpolation; None without samples or where one is missing.

    >>> quantile([4, 1, 2, 3], 0.5), quantile([1, None], 0.5)
    (2.5, None)
    """
    present = sorted(sample for sample in samples or () if sample is not None)
    if not present or len(present) < len(samples or ()):
        return None
    place = share * (len(present) - 1)
    low = math.floor(place)
    high = min(low + 1, len(present) - 1)
    return present[low] + (place - low) * (present[high] - present[low])
