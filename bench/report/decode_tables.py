"""Tables of decoding studies: time a query, labels looked at, recall and size by problem."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence

from bench.report.columns import Column
from bench.report.decoding import (
    RIVAL,
    Entry,
    batched_ms,
    entries_of,
    index_bytes,
    scored_share,
    single_ms,
)
from bench.report.format import megabytes, number
from bench.report.notes import load_note, machine_note, origin_note, stale_note
from bench.report.select import Number, Record, Section, dig
from bench.report.tables import Cell, Table, count_text, status_text, summary_cell

_COMPACT = frozenset({"single", "batched", "speedup", "scored", "recall", "index"})
_MEANING = (
    "ms/query: time of a batch ÷ its queries; × authors': their time ÷ this method's, batches of "
    "64; labels scored: by the median query, of all L; recall: share of the exact top k found, "
    "rounded down; index: what is kept for decoding, MB = 10⁶ bytes; bold: the fastest in "
    "batches of 64 that found every query's exact top k; – not measured."
)
_MEANING_IN_FULL = (
    "Median over n replicates (range) of the median time; p99: 99th percentile of single queries; "
    "build: making the index, once; OOM: out of memory (predicted need)."
)


def build_decode_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: a group for each problem, rivals before our methods."""
    groups = []
    words = ("problem", "method") if is_compact else ("problem", "method", "n")
    for _, members in itertools.groupby(entries_of(section), lambda e: (e.problem, e.k)):
        entries = list(members)
        columns = decode_columns(_rival_ms(entries), is_compact=is_compact)
        best = _fastest(entries, columns)
        rows = []
        for entry in entries:
            # A problem is named once: its rows read as a group where no rule sets groups apart.
            problem = entry.problem.text if entry is entries[0] else ""
            name = entry.name + ("†" if entry.row.is_stale else "")
            heads = [problem, name, count_text(entry.row)][: len(words)]
            rows.append((*map(Cell, heads), *_numbers(entry, columns, best)))
        groups.append(tuple(rows))
    titles = [column.title for column in decode_columns(None, is_compact=is_compact)]
    parts = [section.study, section.part, section.data_name]
    return Table(
        title=" · ".join(dict.fromkeys(filter(None, parts))),
        columns=(*words, *titles),
        groups=tuple(groups),
        notes=_notes(section, is_compact=is_compact),
    )


def decode_columns(rival_ms: float | None, *, is_compact: bool = False) -> tuple[Column, ...]:
    """All columns, or those of a compact table.

    Args:
        rival_ms: what the authors' gather takes for a query of the same problem in batches of 64.
        is_compact: leave out what the README does not show.
    """

    def speedup(record: Record) -> Number | None:
        own = batched_ms(record)
        return rival_ms / own if rival_ms and own else None

    columns = (
        Column("single", "batch 1 p50 ms", single_ms),
        Column("single_p99", "batch 1 p99 ms", functools.partial(single_ms, share=0.99)),
        Column("batched", "batch 64 ms/query", batched_ms),
        Column("large", "batch 1,024 ms/query", functools.partial(batched_ms, size=1024)),
        Column("speedup", "× authors'", speedup),
        Column("scored", "labels scored %", scored_share, _share),
        Column("recall", "recall %", lambda record: dig(record, "test", "recall"), recall_text),
        Column("index", "index MB", index_bytes, megabytes),
        Column("build", "build s", lambda record: dig(record, "clock", "setup_seconds")),
        Column("host", "host peak MB", lambda r: dig(r, "memory", "host_peak_bytes"), megabytes),
    )
    return tuple(column for column in columns if not is_compact or column.name in _COMPACT)


def _share(share: float) -> str:
    return number(100 * share)  # of millions of labels, so three digits rather than one decimal


def recall_text(share: float) -> str:
    """Recall in percent, rounded down: 100 only where nothing was missed.

    >>> recall_text(1.0), recall_text(0.99996), recall_text(0.5)
    ('100', '99.9', '50.0')
    """
    return "100" if share >= 1 else f"{math.floor(1000 * share + 1e-9) / 10:.1f}"


def _rival_ms(entries: Sequence[Entry]) -> float | None:
    return next((entry.median(batched_ms) for entry in entries if entry.method == RIVAL), None)


def _fastest(entries: Sequence[Entry], columns: Sequence[Column]) -> str | None:
    """The least time of the exact methods as printed, so that rows that print alike are bold."""
    text = next(column.text for column in columns if column.name == "batched")
    times = [entry.median(batched_ms) for entry in entries if entry.is_exact]
    known = [time for time in times if time is not None]
    return text(min(known)) if known else None


def _numbers(entry: Entry, columns: Sequence[Column], best: str | None) -> list[Cell]:
    cells = []
    for column in columns:
        is_judged = column.name == "batched" and entry.is_exact
        cells.append(summary_cell(entry.row, column, best if is_judged else None))
    if not entry.row.done:
        cells[0] = Cell(status_text(entry.row))
    return cells


def _notes(section: Section, *, is_compact: bool) -> tuple[str, ...]:
    notes = [machine_note(section), origin_note(section), _queries_note(section), _MEANING]
    if not is_compact:
        notes.append(_MEANING_IN_FULL)
    notes += [load_note(section, "the measurement"), stale_note(section)]
    return tuple(note for note in notes if note)


def _queries_note(section: Section) -> str:
    """How many queries, and how sure the worlds are of them."""
    counts = {dig(record, "data", "num_queries") for record in section.records} - {None}
    shares = {dig(record, "data", "peak_share") for record in section.records} - {None}
    texts = []
    if counts:
        texts.append(" or ".join(f"{count:,}" for count in sorted(counts)) + " queries")
    if shares:
        low, high = number(min(shares)), number(max(shares))
        texts.append(
            "the best bucket's median probability is "
            + (low if low == high else f"{low} to {high}")
        )
    return "; ".join(texts) + "." if texts else ""
