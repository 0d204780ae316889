"""The README's overview: of each study and method the row that ended best on validation.

Rows are never picked by the test split, whose numbers are what is printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.columns import model_bytes
from bench.report.format import GAP, escape_markdown, megabytes, percent
from bench.report.select import Row, Section

_METRIC = "P@1"
_GROUPS = (
    ("all labels: softmax or one-vs-all", ("full_softmax",)),
    ("sampled softmax or BCE", ("sampled_softmax", "sampled_bce")),
    ("MACH", ("mach",)),
    ("nearest centroid", ("centroid",)),
)


def render_overview(sections: Sequence[Section]) -> str:
    """Markdown table: a line for each section, a column for each group of methods."""
    heads = ["study", *(name for name, _ in _GROUPS), "measured elsewhere"]
    lines = ["| " + " | ".join(heads) + " |", "|:--|" + "--:|" * len(_GROUPS) + ":--|"]
    lines += ["| " + " | ".join(_cells(section)) + " |" for section in sections]
    return "\n".join(lines) + "\n"


def _cells(section: Section) -> list[str]:
    rows = [_leader(section, methods) for _, methods in _GROUPS]
    values = [_quality(row) for row in rows]
    best = max((value for value in values if value is not None), default=None)
    cells = []
    for row, value in zip(rows, values, strict=True):
        if row is None or value is None:
            cells.append(GAP)
            continue
        text = f"**{percent(value)}**" if value == best else percent(value)
        size = row.summarize(model_bytes)
        cells.append(text + (f" ({megabytes(size.median)} MB)" if size else ""))
    elsewhere = [
        f"{percent(entry.metrics[_METRIC])} {escape_markdown(entry.label)}"
        for entry in section.published
        if _METRIC in entry.metrics
    ]
    return [_name(section), *cells, "; ".join(elsewhere) or GAP]


def _name(section: Section) -> str:
    num_labels = section.facts.get("num_labels")
    return f"`{section.study}`" + (f", L = {num_labels:,}" if num_labels else "")


def _leader(section: Section, methods: Sequence[str]) -> Row | None:
    """The methods' row that ended best on validation; those without a curve stand as they are."""
    rows = [row for row in section.rows if row.method in methods and row.done]
    return max(rows, key=lambda row: row.final_validation(_METRIC), default=None)


def _quality(row: Row | None) -> float | None:
    summary = row.at("test", _METRIC) if row is not None else None
    return summary.median if summary else None
