"""The overview: of each study and group of methods the row that ended best on validation.

Rows are never picked by the test split, whose numbers are what is printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench import cards
from bench.report.columns import model_bytes
from bench.report.format import GAP, megabytes, percent
from bench.report.select import Section, best_row
from bench.report.syntax import Cell, Table


def overview_table(sections: Sequence[Section]) -> Table:
    """A line for each section, a column for each group of methods that its rows belong to."""
    known = [card.group for card in cards.cards()]
    met = [row.card.group for section in sections for row in section.rows]
    groups = [group for group in dict.fromkeys(known + met) if group and group in met]
    has_elsewhere = any(_elsewhere(section) for section in sections)
    heads = ["study", *groups, *(["measured elsewhere"] if has_elsewhere else [])]
    lines = []
    for section in sections:
        elsewhere = [Cell(_elsewhere(section) or GAP)] if has_elsewhere else []
        lines.append((Cell(_name(section)), *_leaders(section, groups), *elsewhere))
    return Table("Best on validation", tuple(heads), (tuple(lines),), num_words=1)


def _leaders(section: Section, groups: Sequence[str]) -> list[Cell]:
    metric = section.metrics[0]
    chosen = [
        best_row([row for row in section.rows if row.card.group == group], metric)
        for group in groups
    ]
    found = [row.quality(metric) if row else None for row in chosen]
    values = [summary.median if summary else None for summary in found]
    best = max((value for value in values if value is not None), default=None)
    cells = []
    for row, value in zip(chosen, values, strict=True):
        if row is None or value is None:
            cells.append(Cell(GAP))
            continue
        size = model_bytes(row)
        text = percent(value) + ("†" if row.is_stale else "")
        text += f" ({megabytes(size.median)} MB)" if size else ""
        cells.append(Cell(text, is_bold=value == best))
    return cells


def _elsewhere(section: Section) -> str:
    metric = section.metrics[0]
    return "; ".join(
        f"{percent(entry.metrics[metric])} {entry.label}"
        for entry in section.published
        if metric in entry.metrics
    )


def _name(section: Section) -> str:
    num_labels = section.facts.get("num_labels")
    return section.study + (f", L = {num_labels:,}" if num_labels else "")
