"""The table of a study that reproduces a paper's: what was published beside what was measured.

Their difference is shown only where both are of the same data.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.columns import Column, papers_columns
from bench.report.render import GAP, Cell, Table, number
from bench.report.sections import Row, Section
from bench.report.summary import dig
from bench.report.tables.tables import build_table, count_text, marked, notes_of, status_text
from bench.studies.presets import PRESETS
from bench.studies.published import TAGS, PaperRow, has_options

_MEANING = (
    "Cells: published [how sure] | measured | difference in points, or measured ÷ published "
    "(range over replicates); measured is the median over n replicates; cells without bars: "
    f"nothing of it is published. {GAP} not published, or not run here."
)
_OTHER_DATA = (
    "Numbers published of other data, as is named there, have no difference: they say nothing of "
    "ours."
)
_COMPACT_SHARES = 3


@dataclass(frozen=True)
class Line:
    """A row of ours with what is published of it; either may be missing.

    Attributes:
        published: rows of one table line, no two of which have a quantity in common.
    """

    row: Row | None
    published: tuple[PaperRow, ...] = ()

    def entry(self, quantity: str) -> PaperRow | None:
        """The published row that has a quantity."""
        return next((entry for entry in self.published if quantity in entry.metrics), None)


def options_of(row: Row) -> dict[str, Any]:
    """Method, and settings of model, training and data, each under its own name."""
    data = {**row.settings["data"], **(dig(row.settings, "data", "options") or {})}
    return {**data, **row.flat, "method": row.card.name}


def rows_beside(entry: PaperRow, rows: Sequence[Row]) -> list[Row]:
    """The rows that published numbers are of."""
    if not entry.beside:
        return []
    return [row for row in rows if has_options(options_of(row), entry.beside)]


def lines_of(section: Section) -> tuple[list[Line], list[Line]]:
    """Rows of ours, each with what is published of it, and what was only published."""
    entries = [entry for entry in section.published if isinstance(entry, PaperRow)]
    beside = {id(entry): rows_beside(entry, section.rows) for entry in entries}
    ours = []
    for row in (*section.trained, *section.trivial):
        own = [entry for entry in entries if any(other is row for other in beside[id(entry)])]
        ours += [Line(row, group) for group in _packed(own)] or [Line(row)]
    alone = [entry for entry in entries if not beside[id(entry)]]
    return ours, [Line(None, (entry,)) for entry in alone]


def _packed(entries: Sequence[PaperRow]) -> list[tuple[PaperRow, ...]]:
    """Published rows in as few lines as hold each quantity once."""
    lines: list[list[PaperRow]] = []
    for entry in entries:
        for line in lines:
            if not any(set(entry.metrics) & set(other.metrics) for other in line):
                line.append(entry)
                break
        else:
            lines.append([entry])
    return [tuple(line) for line in lines]


def build_papers_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: ours beside what is published of it, then what is published alone.

    A short one has the leading metrics, and of what we have no row only how much there is.
    """
    ours, alone = lines_of(section)
    num_alone = len(alone)
    if is_compact and section.rows:
        alone = []
    columns = _columns(section, [*ours, *alone], is_compact=is_compact)
    names = [column.name for column in columns]
    is_published = {name: any(line.entry(name) for line in (*ours, *alone)) for name in names}
    forms = data_forms(section.rows)

    def written(line: Line) -> tuple[Cell, ...]:
        words = _words(line, forms)
        return (*words, *(_cell(section, line, c, is_published[c.name]) for c in columns))

    groups = [[written(line) for line in lines] for lines in (ours, alone)]
    used = {entry.tag for line in (*ours, *alone) for entry in line.published}
    tags = [f"[{tag}] {meaning}" for tag, meaning in TAGS.items() if tag in used]
    left_out = num_alone - len(alone)
    own = (
        f"Left out: {left_out} published rows that we have none beside." if left_out else "",
        _differences_note(ours),
        _weights_note(names),
        _subset_note(section, names),
        _OTHER_DATA if any(e.data for line in ours for e in line.published) else "",
        f"Published: {'; '.join(tags)}." if tags else "",
        _MEANING,
    )
    return Table(
        title=section.title,
        columns=("system", "setting", "published as", "n", *(column.title for column in columns)),
        groups=tuple(tuple(group) for group in groups if group),
        notes=notes_of(section, *own, metrics=names)
        if section.rows
        else (_NOT_RUN, *filter(None, own)),
        num_words=3,
        spare=tuple(column.title for column in reversed(columns))[:-1],
    )


_NOT_RUN = "Not run here."


def _columns(section: Section, lines: Sequence[Line], *, is_compact: bool) -> list[Column]:
    if is_compact:
        return papers_columns((), section.metrics[:_COMPACT_SHARES])
    published = [name for line in lines for entry in line.published for name in entry.metrics]
    known: set[str] = set().union(*(dig(r, "test") or {} for r in section.records))
    leading = [m for m in section.metrics if m in known or m in published]
    return papers_columns([*section.study.quantities, *published], leading)


def _words(line: Line, forms: Mapping[int, str]) -> tuple[Cell, ...]:
    published = []
    for entry in line.published:
        words = ", ".join(filter(None, [entry.label, entry.data, entry.source]))
        published.append(words + (f" ({entry.why})" if entry.why else ""))
    if line.row is None:
        ((name, data, source),) = {(e.label, e.data, e.source) for e in line.published}
        where = ", ".join(filter(None, [data, source]))
        return Cell(name, is_italic=True), Cell(""), Cell(where), Cell("")
    setting = ", ".join(filter(None, [_setting(line.row), forms[id(line.row)]]))
    return (
        Cell(marked(line.row), is_italic=line.row.is_trivial),
        Cell(setting),
        Cell("; ".join(published)),
        Cell(count_text(line.row)),
    )


def _setting(row: Row) -> str:
    """A published set-up by its name; of other rows what distinguishes them."""
    name = preset_of(row)
    if not name:
        return row.setting
    words = [f"H={row.flat['hidden_dims']}"] if row.flat.get("hidden_dims") else []
    shown_options = (
        shown for shown in row.card.options if shown.is_always and shown.name in row.flat
    )
    words += [shown.write(row.flat[shown.name]) for shown in shown_options]
    return ", ".join(filter(None, [*words, f"preset {name}"]))


def preset_of(row: Row) -> str:
    """Name of the published set-up that a row is; "" where it is none."""
    return _presets().get(row.trial_id, "")


@functools.cache
def _presets() -> Mapping[str, str]:
    return {preset.trial().trial_id: name for name, preset in PRESETS.items()}


def data_forms(rows: Sequence[Row]) -> dict[int, str]:
    """How each row's features are weighed and what validates it, where rows differ in that."""
    forms = {
        id(row): (
            str(dig(row.settings, "data", "feature_weighting")),
            "L2-normalised rows" if dig(row.settings, "data", "normalize_rows") else "",
            f"{dig(row.settings, 'data', 'num_validation_points') or 'no'} validation points",
        )
        for row in rows
    }
    differing = [i for i in range(3) if len({form[i] for form in forms.values()}) > 1]
    return {
        row_id: ", ".join(filter(None, (form[i] for i in differing)))
        for row_id, form in forms.items()
    }


def _cell(section: Section, line: Line, column: Column, is_published: bool) -> Cell:
    entry, row = line.entry(column.name), line.row
    measured, spread = (row and column.parts(row)) or (GAP, "")
    summary = column.value(row) if row else None
    if row and not row.done and not summary and column.name == section.metrics[0]:
        measured = status_text(row)
    if not is_published or (entry is None and measured == GAP):
        return Cell(measured + spread)
    if entry is None:
        return Cell(f"{GAP} | {measured}{spread}")
    published = entry.metrics[column.name]
    texts = [f"{_printed(column, published)} [{entry.tag}]", measured]
    if summary and not entry.data:
        texts.append(_distance(column, summary.median, published))
    return Cell(" | ".join(filter(None, texts)) + spread)


def _printed(column: Column, value: float) -> str:
    """No more digits than there are; of shares two decimals, more where there are more."""
    return f"{100 * value:.3f}".removesuffix("0") if column.is_quality else f"{value:.4g}"


def _distance(column: Column, measured: float, published: float) -> str:
    """Ours beside theirs: points more or less, or how many times as much."""
    if not column.is_quality:
        return f"{number(measured / published)}×" if published else ""
    gap = 100 * (measured - published)
    return f"{'−' if gap < 0 else '+'}{abs(gap):.1f}"


def _differences_note(lines: Sequence[Line]) -> str:
    """How many cells are near what was published."""
    gaps = []
    for line in lines:
        for entry in line.published if line.row is not None and line.row.done else ():
            if entry.data:
                continue
            for name, value in entry.metrics.items():
                found = line.row.at("test", name) if line.row else None
                if found:
                    gaps.append(abs(100 * (found.median - value)))
    if not gaps:
        return ""
    near = sum(gap <= 1.5 for gap in gaps)
    return f"{near} of {len(gaps)} published shares are within 1.5 points of ours."


def _weights_note(names: Sequence[str]) -> str:
    """What a weighted recall is."""
    if not any(name.startswith("wR@") for name in names):
        return ""
    return "wR@k: share of a query's purchases that are of its k best products, mean over queries."


def _subset_note(section: Section, names: Sequence[str]) -> str:
    if not any(", " in name for name in names):
        return ""
    sizes = {
        entry["num_points"]
        for record in section.records
        for entry in record.get("worlds") or ()
        if entry.get("num_points")
    }
    if not sizes:
        return ""
    points = " or ".join(f"{size:,}" for size in sorted(sizes))
    return f"Estimators and fewer worlds are decoded from the same training, on {points} points."


def build_measured_table(section: Section) -> Table | None:
    """What we measured of the rows, sizes and times too: the table of any study that trains."""
    if not section.rows:
        return None
    alone = dataclasses.replace(section.study, published=())
    table = build_table(dataclasses.replace(section, study=alone))
    return dataclasses.replace(table, title=f"{table.title}: all that was measured")
