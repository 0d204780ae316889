"""Decoding studies: which problem each row solved, and the table of what that took."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.report.columns import HOST_PEAK, LOAD, Column, Value, recorded, shown_columns, timed
from bench.report.render import GAP, Cell, Table, megabytes, number
from bench.report.sections import Row, Section, card_order
from bench.report.summary import Number, Record, Summary, clean, dig, group_by, summarize
from bench.report.tables.tables import cells, count_text, marked, notes_of, spare_of

_MEANING = (
    "From hidden vector: with the output layer's product, H = 128; alone and batch: from bucket "
    "scores (a softmax: with its product); ×: the reference's time ÷ this method's; labels scored: "
    "by the median query, of all L; recall: share of the exact top k found, rounded down; index: "
    "what is kept for decoding, MB = 10⁶ bytes; bold: the fastest that found every query's exact "
    "top k; – not measured."
)
_MEANING_IN_FULL = (
    "Times: best of rounds (range over all of them); load: processor time that others took, in the "
    "timed phase where it was largest; OOM: out of memory (predicted need)."
)
_SIZES = ("num_labels", "num_worlds", "num_buckets")  # in the order of a problem's fields
#: What one number stands for a method's speed: batches of 64, from the hidden vectors on.
HEADLINE = "hidden-64"
BATCHED = "batch-64"


@dataclass(frozen=True, order=True)
class Problem:
    """Sizes of what is decoded; 0 where no record has them.

    Attributes:
        more: what else distinguishes it from a problem of these sizes.
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
        return replace(self, num_labels=0)


def _extent(letter: str, size: int) -> str:
    return f"{letter} = {size:,}" if size else f"{letter} {GAP}"


@dataclass(frozen=True)
class Entry:
    """A row of a section with its problem.

    Attributes:
        k: labels wanted; 0 where the settings lack it.
        index: 0 for a method's first setting in the section, 1 for the next.
    """

    row: Row
    problem: Problem
    k: int
    index: int

    @property
    def is_exact(self) -> bool:
        """Whether it found the exact top k of every query in every finished replicate."""
        recall = self.row.at("test", "recall") if self.row.done else None
        return recall is not None and recall.low >= 1 and not self.row.card.is_approximate

    def median(self, value: Value) -> float | None:
        """Median of a quantity; None where it lacks it or did not finish."""
        summary = value(self.row) if self.row.done else None
        return summary.median if summary else None


def entries_of(section: Section) -> list[Entry]:
    """The rows of a section: by problem and k, then method, rivals first."""
    order = card_order("decoding")
    problems = _problems(section.rows)
    entries = []
    for same in group_by(section.rows, lambda row: row.card.name).values():
        settings = sorted({row.setting for row in same}, key=natural)
        for row in same:
            k, index = int(row.flat.get("k") or 0), settings.index(row.setting)
            entries.append(Entry(row, problems[_data_key(row)], k, index))
    return sorted(
        entries,
        key=lambda e: (e.problem, e.k, order.get(e.row.card.name, len(order)), e.index, e.row.name),
    )


def _data_key(row: Row) -> str:
    return json.dumps(dig(row.settings, "data"), sort_keys=True)


def _problems(rows: Sequence[Row]) -> dict[str, Problem]:
    """Problem of each of the rows' data settings."""
    groups = group_by(rows, _data_key)
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


def _more(own: dict[str, Any], peers: Sequence[dict[str, Any]]) -> str:
    keys = [key for key in {*own} - {*_SIZES} if len({str(p.get(key)) for p in peers}) > 1]
    return ", ".join(f"{key.replace('_', ' ')}={clean(str(own[key]))}" for key in sorted(keys))


def natural(text: str) -> list[tuple[float, str]]:
    """Sorts numbers in a text as numbers.

    >>> sorted(["k = 100", "k = 5"], key=natural)
    ['k = 5', 'k = 100']
    """
    parts = re.findall(r"\d+(?:\.\d+)?|\D+", text)
    return [(float(part), "") if part[0].isdecimal() else (math.inf, part) for part in parts]


def arrange(sections: Sequence[Section]) -> tuple[Section, ...]:
    """Sections by part, then planted scores from uniform to most peaked, then models' scores."""

    def key(section: Section) -> tuple[Any, ...]:
        peak = peak_of(section)
        return (natural(section.part), peak is None, peak or 0.0, section.data_name)

    return tuple(sorted(sections, key=key))


def peak_of(section: Section) -> float | None:
    """How peaked planted scores are, 0 for uniform ones; None for scores of a model."""
    data = dig(section.rows[0].settings, "data") or {}
    if data.get("source") != "planted_scores":
        return None
    return float(dig(data, "options", "peak") or 0)


def _scored_share(record: Record) -> Number | None:
    num_scored = summarize(dig(record, "inference", "num_scored") or ())
    num_labels = dig(record, "data", "num_labels")
    return num_scored.median / num_labels if num_scored and num_labels else None


def scored_share(row: Row) -> Summary | None:
    """Share of all labels that the median query looked at."""
    return row.summarize(_scored_share)


def decode_columns(reference: Row | None = None) -> tuple[Column, ...]:
    """Columns of a problem; without the row of a reference method, speeds have no ratio."""
    ratio = reference.card.ratio_title if reference else "× reference"

    def speedup(phase: str) -> Callable[[Row], Summary | None]:
        def value(row: Row) -> Summary | None:
            if reference is None or reference.timing is None or row.timing is None:
                return None
            return row.timing.speedup(reference.timing, phase)

        return value

    def milliseconds(phase: str, title: str, *, is_compact: bool = False) -> Column:
        return Column(phase, title, timed(phase, 1e3), is_compact=is_compact)

    return (
        milliseconds(HEADLINE, "from hidden vector, batch 64, ms/query", is_compact=True),
        milliseconds("hidden-1", "from hidden vector, alone, ms"),
        Column("speedup", f"{ratio}, from hidden", speedup(HEADLINE), is_compact=True),
        milliseconds("batch-1", "alone, ms", is_compact=True),
        milliseconds(BATCHED, "batch 64, ms/query", is_compact=True),
        milliseconds("batch-1024", "batch 1,024, ms/query"),
        Column("decode_speedup", f"{ratio}, batch 64", speedup(BATCHED), is_compact=True),
        Column("scored", "labels scored %", scored_share, _share, is_compact=True),
        Column("recall", "recall %", recorded("test", "recall"), recall_text, is_compact=True),
        Column("index", "index MB", recorded("memory", "decode_bytes"), megabytes, is_compact=True),
        HOST_PEAK,
        LOAD,
    )


def _share(share: float) -> str:
    return number(100 * share)  # of millions of labels, so three digits rather than one decimal


def recall_text(share: float) -> str:
    """Recall in percent, rounded down: 100 only where nothing was missed.

    >>> recall_text(1.0), recall_text(0.99996), recall_text(0.5)
    ('100', '99.9', '50.0')
    """
    return "100" if share >= 1 else f"{math.floor(1000 * share + 1e-9) / 10:.1f}"


def build_decode_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: a group for each problem, rivals before our methods."""
    entries = entries_of(section)
    references = [entry.row for entry in entries if entry.row.card.ratio_title]
    heads = decode_columns(references[0] if references else None)
    names = {c.name for c in shown_columns(heads, section.rows, is_compact=is_compact)}
    groups = []
    for same in group_by(entries, lambda entry: (entry.problem, entry.k)).values():
        reference = next((entry.row for entry in same if entry.row.card.ratio_title), None)
        columns = [column for column in decode_columns(reference) if column.name in names]
        groups.append(_group(same, columns))
    shown = [column for column in heads if column.name in names]
    meaning = _MEANING if is_compact else f"{_MEANING} {_MEANING_IN_FULL}"
    return Table(
        title=section.name,
        columns=("problem", "method", "n", *(column.title for column in shown)),
        groups=tuple(groups),
        notes=notes_of(section, _queries_note(section), meaning),
        spare=spare_of(shown),
    )


def _group(entries: Sequence[Entry], columns: Sequence[Column]) -> tuple[tuple[Cell, ...], ...]:
    best = _fastest([entry for entry in entries if entry.is_exact], columns)
    lines = []
    for entry in entries:
        bold = [c for c in best if entry.is_exact and c.median(entry.row) == best[c]]
        # A problem is named once: its rows read as a group where no rule sets groups apart.
        problem = entry.problem.text if entry is entries[0] else ""
        words = (problem, marked(entry.row, entry.row.name), count_text(entry.row))
        lines.append((*map(Cell, words), *cells(entry.row, columns, bold)))
    return tuple(lines)


def _fastest(exact: Sequence[Entry], columns: Sequence[Column]) -> dict[Column, str | None]:
    """The speed that decides and the best one as printed, so that all that print alike are bold."""
    for column in (column for column in columns if column.name in (HEADLINE, BATCHED)):
        known = [(s.median, e.row) for e in exact if (s := column.value(e.row))]
        if known:
            return {column: column.median(min(known, key=lambda pair: pair[0])[1])}
    return {}


def _queries_note(section: Section) -> str:
    """How many queries, and how sure the worlds are of them."""
    counts = {dig(record, "data", "num_queries") for record in section.records} - {None}
    shares = {dig(record, "data", "peak_share") for record in section.records} - {None}
    texts = []
    if counts:
        texts.append(" or ".join(f"{count:,}" for count in sorted(counts)) + " queries")
    if shares:
        ends = dict.fromkeys((number(min(shares)), number(max(shares))))
        texts.append(f"the best bucket's median probability is {' to '.join(ends)}")
    return "; ".join(texts) + "." if texts else ""
