"""The table of a section of a study that trains, without a syntax."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bench.report.columns import Column, shown_columns, training_columns, validation_column
from bench.report.footnotes import busy_mark, notes_of
from bench.report.format import GAP, gibibytes, number, percent
from bench.report.render import Cell, Table
from bench.report.sections import Row, Section, best_row

_MEANING = (
    "Quality: median (range) over n replicates; times: best of rounds (range over all of them); "
    "train s: steps × seconds a step; bold: the row that leads on validation; "
)
_MEANING_IN_FULL = (
    "MB = 10⁶ bytes; training MB: parameters, gradients and optimiser state by arithmetic; decode "
    "ms: from the hidden vector to the best labels, a query in batches of 256; load: processor "
    "time that others took, in the timed phase where it was largest; OOM: out of memory (predicted "
    "need); "
)


def build_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: competitors, trivial baselines and ceilings, then published numbers."""
    columns = shown_columns(training_columns(section), section.rows, is_compact=is_compact)
    leaders = leading_rows(section)
    judged = [column for column in columns if column.is_quality or column.name == "validation"]

    def line(row: Row) -> tuple[Cell, ...]:
        name = Cell(marked(row), is_italic=row.is_trivial)
        bold = judged if any(row is leader for leader in leaders) else ()
        return (name, Cell(row.setting), Cell(count_text(row)), *cells(row, columns, bold))

    groups = [
        list(map(line, section.trained)),
        [*map(line, section.trivial), *_ceilings(section, columns)],
        published_lines(section, columns),
    ]
    meaning = _MEANING + ("" if is_compact else _MEANING_IN_FULL) + f"{GAP} not measured."
    return Table(
        title=section.title,
        columns=("method", "setting", "n", *(column.title for column in columns)),
        groups=tuple(tuple(group) for group in groups if group),
        notes=notes_of(
            section,
            _quality_note(section),
            meaning,
            metrics=[column.name for column in columns if column.is_quality],
        ),
        spare=spare_of(columns),
    )


def spare_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """Heads of what a narrow terminal does without: what short tables lack goes first.

    What rows are chosen by and what leads stay.
    """
    kept = [next((column for column in columns if column.is_quality), columns[0])]
    kept += [column for column in columns if column.name == "validation"]
    others = [column for column in reversed(columns) if column not in kept]
    ordered = sorted(others, key=lambda column: column.is_compact)
    return tuple(column.title for column in ordered)


def leading_rows(section: Section) -> list[Row]:
    """The trained rows that end best on validation, all of them where they print alike."""
    column = validation_column(section.metrics[0])
    best = best_row(section.trained, section.metrics[0])
    top = column.median(best) if best else None
    return [row for row in section.trained if top and column.median(row) == top]


def marked(row: Row, name: str = "") -> str:
    """Name of a row's method with the marks that footnotes explain."""
    return (name or row.label) + ("†" if row.is_stale else "") + busy_mark(row)


def cells(row: Row, columns: Sequence[Column], bold: Sequence[Column] = ()) -> list[Cell]:
    """The numbers of a row; its status where its first quality would stand, if it has none.

    Args:
        row: the row.
        columns: its quantities.
        bold: those of them that are set in bold.
    """
    texts = [(column.write(row), column in bold) for column in columns]
    found = [Cell(text, is_bold=is_bold) if text else Cell(GAP) for text, is_bold in texts]
    if not row.done:
        index = next((i for i, column in enumerate(columns) if column.is_quality), 0)
        found[index] = Cell(status_text(row))
    return found


def status_text(row: Row) -> str:
    """Why a row has no quality: `OOM (12.3 GiB)`, `timeout` or `error`."""
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
    bounds = {
        "Ceiling: label seen in training": section.ceiling,
        "Best attainable (Bayes)": section.facts.get("bayes_accuracy"),
    }
    empty = Cell("")
    return [
        (
            Cell(name, is_italic=True),
            empty,
            empty,
            *(Cell(percent(share) if c.name in ("P@1", "top-1") else GAP) for c in columns),
        )
        for name, share in bounds.items()
        if share is not None and section.task == "multiclass"
    ]


def published_lines(section: Section, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    """What others published of the quantities, below our rows."""
    rows = []
    for entry in section.published:
        values = [(column, entry.metrics.get(column.name)) for column in columns]
        texts = [GAP if v is None else (column.text or number)(v) for column, v in values]
        name = Cell(f"elsewhere: {entry.label}", is_italic=True)
        rows.append((name, Cell(entry.source), Cell(""), *map(Cell, texts)))
    return rows


def standard_error(share: float, num_points: int) -> float:
    """Standard error of a share that was counted over points."""
    return math.sqrt(max(share * (1 - share), 0.0) / num_points)


def _quality_note(section: Section) -> str:
    points = section.facts.get("num_test_points")
    if not points:
        return ""
    text = f"{points:,} test points"
    total = section.facts.get("num_test_points_total")
    if total and total != points:
        text += f" of {total:,}"
    metric = section.metrics[0]
    summaries = [row.quality(metric) for row in section.trained]
    best = max((summary.median for summary in summaries if summary), default=None)
    if best is not None:
        error = 100 * standard_error(best, points)
        text += f" (standard error of {metric} at {percent(best)} %: {error:.2f} points)"
    ceiling = section.facts.get("ceiling")
    if ceiling is not None and section.task == "multilabel":
        text += f"; {percent(ceiling)} % of their label occurrences have a label seen in training"
    validation = section.facts.get("num_validation_points")
    return text + (f"; {validation:,} validation points." if validation else ".")
