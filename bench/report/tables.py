"""Tables of a study on one machine, as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.report.columns import Column, table_columns
from bench.report.format import GAP, escape_latex, escape_markdown, gibibytes, percent
from bench.report.notes import load_note, machine_note, origin_note, stale_note
from bench.report.select import Row, Section


@dataclass(frozen=True)
class Cell:
    """Text of a cell and how it is set."""

    text: str
    is_bold: bool = False
    is_italic: bool = False


@dataclass(frozen=True)
class Table:
    """A table without a syntax: groups of rows are set apart, notes stand below.

    Attributes:
        title: one line.
        columns: heads; the first two columns hold words, the rest numbers.
        groups: rows by group: competitors, floors and ceilings, published.
        notes: sentences for the footer.
    """

    title: str
    columns: tuple[str, ...]
    groups: tuple[tuple[tuple[Cell, ...], ...], ...]
    notes: tuple[str, ...] = ()


class BuildTable(Protocol):
    """What makes the table of a section; studies of each kind have their own."""

    def __call__(self, section: Section, *, is_compact: bool = False) -> Table:
        """The table, or the short form of it that the README shows."""
        ...


def build_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: competitors, then floors and ceilings, then published numbers."""
    columns = [
        column
        for column in table_columns(section.metrics, is_compact=is_compact)
        if not column.is_optional or any(row.summarize(column.value) for row in section.rows)
    ]
    best = {column.name: _best(section.trained, column) for column in columns if column.is_quality}
    groups = [
        tuple(_row(row, columns, best, section.task) for row in section.trained),
        tuple(_row(row, columns, {}, section.task) for row in section.floors)
        + tuple(_ceilings(section, columns)),
        tuple(_published(section, columns)),
    ]
    return Table(
        title=section.title,
        columns=("method", "setting", "n", *(column.title for column in columns)),
        groups=tuple(group for group in groups if group),
        notes=_notes(section, is_compact=is_compact),
    )


def _best(rows: Sequence[Row], column: Column) -> str | None:
    """The best value as printed, so that rows that print alike are all set in bold."""
    summaries = [row.summarize(column.value) for row in rows if row.done]
    medians = [summary.median for summary in summaries if summary]
    return column.text(max(medians)) if medians else None


def _row(
    row: Row, columns: Sequence[Column], best: dict[str, str | None], task: str
) -> tuple[Cell, ...]:
    name = row.name(task) + ("†" if row.is_stale else "")
    cells = [summary_cell(row, column, best.get(column.name)) for column in columns]
    if not row.done:
        place = next((i for i, column in enumerate(columns) if column.is_quality), 0)
        cells[place] = Cell(status_text(row))
    return (Cell(name, is_italic=row.is_floor), Cell(row.setting), Cell(count_text(row)), *cells)


def summary_cell(row: Row, column: Column, best: str | None) -> Cell:
    """Median of a quantity with its range, in bold where it prints as the best one does."""
    summary = row.summarize(column.value)
    if summary is None:
        return Cell(GAP)
    text = column.text(summary.median)
    is_bold = bool(row.done) and text == best
    low, high = column.text(summary.low), column.text(summary.high)
    if low != high:
        text += f" ({low}–{high})"
    return Cell(text, is_bold=is_bold)


def status_text(row: Row) -> str:
    """Why a row has no quality: `OOM (12.3 GiB)`, `timeout`, `error` or `skipped`."""
    status = str(row.records[-1].get("status"))
    if status != "oom":
        return status
    predicted = row.at("memory", "predicted_bytes")
    return f"OOM ({gibibytes(predicted.median)})" if predicted else "OOM"


def count_text(row: Row) -> str:
    """How many replicates a row has: `3`, or `2 of 3 (OOM)`."""
    done, total = len(row.done), len(row.records)
    if done == total or not done:
        return str(total)
    others = sorted(str(r.get("status")) for r in row.records if r.get("status") != "done")
    return f"{done} of {total} ({', '.join(others)})".replace("oom", "OOM")


def _ceilings(section: Section, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    rows = []
    for name, key in (
        ("Ceiling: label seen in training", "ceiling"),
        ("Best attainable (Bayes)", "bayes_accuracy"),
    ):
        share = section.facts.get(key)
        # Of label occurrences, not of points, where a point has several: then it bounds no P@k.
        if share is None or section.task != "multiclass":
            continue
        cells = [
            Cell(percent(share) if column.name in ("P@1", "top-1") else GAP) for column in columns
        ]
        rows.append((Cell(name, is_italic=True), Cell(""), Cell(""), *cells))
    return rows


def _published(section: Section, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    rows = []
    for entry in section.published:
        cells = []
        for column in columns:
            value = entry.metrics.get(column.name) if column.is_quality else None
            cells.append(Cell(GAP if value is None else percent(value)))
        name = Cell(f"elsewhere: {entry.label}", is_italic=True)
        rows.append((name, Cell(entry.source), Cell(""), *cells))
    return rows


def _notes(section: Section, *, is_compact: bool) -> tuple[str, ...]:
    notes = [machine_note(section), origin_note(section), _quality_note(section)]
    if not is_compact:
        notes.append(
            "Median over n replicates (range); MB = 10⁶ bytes; training MB: parameters, gradients "
            "and optimiser state by arithmetic; – not measured; OOM: out of memory (predicted "
            "need)."
        )
    notes += [load_note(section, "training"), stale_note(section)]
    return tuple(note for note in notes if note)


def _quality_note(section: Section) -> str:
    points = section.facts.get("num_test_points")
    if not points:
        return ""
    text = f"{points:,} test points"
    total = section.facts.get("num_test_points_total")
    if total and total != points:
        text += f" of {total:,}"
    summaries = [row.at("test", "P@1") for row in section.trained if row.done]
    best = max((summary.median for summary in summaries if summary), default=None)
    if best is not None:
        error = math.sqrt(max(best * (1 - best), 0.0) / points)
        text += f" (standard error of P@1 at {percent(best)} %: {100 * error:.2f} points)"
    ceiling = section.facts.get("ceiling")
    if ceiling is not None and section.task == "multilabel":
        text += f"; {percent(ceiling)} % of their label occurrences have a label seen in training"
    validation = section.facts.get("num_validation_points")
    if validation:
        text += f"; {validation:,} validation points"
    return text + "."


def render_markdown(table: Table) -> str:
    """The table as Markdown, title as a second-level heading, notes as one small paragraph."""
    return (
        f"## {escape_markdown(table.title)}\n\n{markdown_body(table)}\n"
        f"<sub>{' '.join(escape_markdown(note) for note in table.notes)}</sub>\n"
    )


def markdown_body(table: Table) -> str:
    """The table alone as Markdown."""
    lines = ["| " + " | ".join(map(escape_markdown, table.columns)) + " |"]
    lines.append("|" + "|".join([":--", ":--"] + ["--:"] * (len(table.columns) - 2)) + "|")
    for group in table.groups:
        lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in group]
    return "\n".join(lines) + "\n"


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    if cell.is_bold:
        # The range stays light: the median is what is compared.
        median, _, rest = text.partition(" (")
        text = f"**{median}**" + (f" ({rest}" if rest else "")
    return f"*{text}*" if cell.is_italic and text else text


def render_latex(table: Table, label: str) -> str:
    """The table as a LaTeX float for booktabs and graphicx, with caption and notes."""
    heads = " & ".join(map(escape_latex, table.columns))
    groups = [
        "\n".join(" & ".join(map(_latex_cell, row)) + r" \\" for row in group)
        for group in table.groups
    ]
    notes = " ".join(escape_latex(note) for note in table.notes)
    return "\n".join(
        [
            r"\begin{table*}",
            r"\centering\footnotesize",
            rf"\caption{{{escape_latex(table.title)}}}",
            rf"\label{{tab:{label}}}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{ll{'r' * (len(table.columns) - 2)}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            "\n\\midrule\n".join(groups),
            r"\bottomrule",
            r"\end{tabular}}",
            rf"\par\smallskip\begin{{minipage}}{{\linewidth}}\scriptsize {notes}\end{{minipage}}",
            r"\end{table*}",
            "",
        ]
    )


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    if cell.is_bold:
        median, _, rest = text.partition(" (")
        text = rf"\textbf{{{median}}}" + (f" ({rest}" if rest else "")
    return rf"\emph{{{text}}}" if cell.is_italic and text else text


def render_study(
    sections: Sequence[Section], notes: Sequence[str], build: BuildTable = build_table
) -> tuple[str, str]:
    """Markdown and LaTeX of all sections of a study on one machine, their tables built as told."""
    first = sections[0]
    head = "generated from results/records by `python -m bench report`; do not edit"
    tables = [build(section) for section in sections]
    tables[-1] = replace(tables[-1], notes=(*tables[-1].notes, *notes))
    markdown = f"# {escape_markdown(first.study)}\n\n<!-- {head} -->\n\n"
    latex = f"% {head}\n% needs booktabs and graphicx\n"
    for place, table in enumerate(tables, start=1):
        latex += render_latex(table, f"{first.study}-{first.machine}-{place}")
    return markdown + "\n".join(map(render_markdown, tables)), latex
