"""Own results beside the reference's: was the quality reproduced, and what does it cost here?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bench.methods.cards import without_older_metrics
from bench.report.columns import Column
from bench.report.load import MachineResults, load_results, reference_of
from bench.report.render import GAP, Cell, Table, markdown_body, render_markdown, render_text
from bench.report.renderers import rendering_of
from bench.report.sections import Row, Section
from bench.report.summary import Record, dig, group_by
from bench.report.tables.overview import overview_table
from bench.report.tables.tables import (
    count_text,
    machine_text,
    mark_notes,
    marked,
    status_text,
)
from bench.studies.tuning import standard_error

#: `identical`: every metric and the curve of each replicate, to the last digit. `reproduced`: every
#: leading metric within the reference's replicates, widened. `–`: there is no such row. Metrics
#: that one side alone computes as today are left out.
Verdict = Literal["identical", "reproduced", "differs", "other data", "–"]


@dataclass(frozen=True)
class Pair:
    """An own row and the reference's of the same settings."""

    own: Row
    words: str
    reference: Row | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Own results of a study on one machine beside the reference's.

    Attributes:
        reference: of the machine that the README shows; None: the study has no reference.
        parts: each own section with its rows.
    """

    own: MachineResults
    reference: MachineResults | None
    parts: tuple[tuple[Section, tuple[Pair, ...]], ...]

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The rows of all sections."""
        return tuple(pair for _, pairs in self.parts for pair in pairs)

    @property
    def head(self) -> str:
        """Which machines stand beside each other."""
        own = f"Own results on {_machine(self.own)}"
        if self.reference is None:
            return f"{own}; there is no reference."
        return f"{own} | reference on {_machine(self.reference)}"

    @property
    def count(self) -> str:
        """How many rows were found again.

        Rows without a counterpart, of other data and of trials that did not finish do not count.
        """
        counts: Counter[str] = Counter(pair.verdict for pair in self.pairs)
        identical = counts["identical"]
        found = identical + counts["reproduced"]
        text = f"{found} of {found + counts['differs']} rows reproduced ({identical} identical)"
        for verdict, words in (("other data", "of other data"), (GAP, "without a counterpart")):
            text += f"; {counts[verdict]} {words}" if counts[verdict] else ""
        return f"{text}."


def _machine(results: MachineResults) -> str:
    texts = sorted({machine_text(record) for record in results.records})
    return f"{results.machine}: {'; '.join(texts)}" if texts else results.machine


def compare(
    own_dir: Path, reference_dir: Path, study: str, machine: str | None = None
) -> Comparison | None:
    """Own results of a study on a machine, or else the last ones, beside the reference's.

    Raises:
        SchemaError: lines of another schema.
    """
    names = [study] if study.endswith(".py") or (own_dir / "records" / study).is_dir() else []
    found = [
        results
        for results in load_results(own_dir, names, reference_dir)
        if results.sections and machine in (None, results.machine)
    ]
    if not found:
        return None
    newest = max(found, key=lambda results: max(str(r.get("started_at")) for r in results.records))
    return compare_results(newest, reference_of(reference_dir, newest.study.name))


def compare_results(own: MachineResults, reference: MachineResults | None) -> Comparison:
    """Rows of one machine beside those of another."""
    sections = reference.sections if reference else ()
    known = group_by((r for s in sections for r in s.rows), lambda row: row.trial_id)

    def pair(section: Section, row: Row, words: str) -> Pair:
        matches = known.get(row.trial_id, [])
        same_data = [match for match in matches if match.fingerprint == row.fingerprint]
        match = next(iter(same_data or matches), None)
        return Pair(row, words, match, judge(section, row, match))

    rows = rendering_of(own.study).rows
    shown = (section for section in own.sections if section.rows)
    parts = [(part, tuple(pair(part, *row) for row in rows(part))) for part in shown]
    return Comparison(own, reference, tuple(parts))


def judge(section: Section, own: Row, reference: Row | None) -> Verdict:
    """Whether an own row is the reference's."""
    if reference is None or not own.done or not reference.done:
        return "–"
    if own.fingerprint != reference.fingerprint:
        return "other data"
    replicates = {_replicate(record): record for record in reference.done}
    if all(_is_identical(record, replicates.get(_replicate(record))) for record in own.done):
        return "identical"
    metrics = [
        metric
        for metric in section.metrics
        if reference.at("test", metric) and own.has_older(metric) == reference.has_older(metric)
    ]
    is_within = all(_is_within(section, metric, own, reference) for metric in metrics)
    return "reproduced" if metrics and is_within else "differs"


def _replicate(record: Record) -> int:
    return int(dig(record, "settings", "replicate") or 0)


def _is_identical(own: Record, reference: Record | None) -> bool:
    """Whether all metrics are that both compute alike, and the curve of the training."""
    if reference is None:
        return False
    first, second = (
        without_older_metrics(
            {"test": dig(each, "test"), "curve": dig(each, "training", "curve")}, own, reference
        )
        for each in (own, reference)
    )
    return bool(first == second)


def _is_within(section: Section, metric: str, own: Row, reference: Row) -> bool:
    found, bounds = own.at("test", metric), reference.at("test", metric)
    leading = reference.at("test", section.metrics[0])
    if found is None or bounds is None or leading is None:
        return False
    num_points = section.facts.get("num_test_points") or section.facts.get("num_queries")
    drawn = dig(reference.done[0], "estimators", "standard_errors", metric) or 0.0
    error = standard_error(leading.median, num_points) if num_points else float(drawn)
    slack = (bounds.high - bounds.low) / 2 + 2 * error
    return bool(bounds.low - slack <= found.median <= bounds.high + slack)


def comparison_tables(comparison: Comparison) -> Iterator[Table]:
    """A table for each section: own | reference of each quantity, and the verdict."""
    for section, pairs in comparison.parts:
        columns = list(rendering_of(comparison.own.study).compared(section))
        lines = [
            (
                Cell(marked(pair.own)),
                Cell(pair.words),
                *(
                    Cell(f"{_marked(column, pair.own)} | {_marked(column, pair.reference)}")
                    for column in columns
                ),
                Cell(_verdict(pair)),
            )
            for pair in pairs
        ]
        # Narrow terminals keep what a row is chosen by, and what leads.
        spare = tuple(column.title for column in reversed(columns[2:]))
        yield Table(
            title=section.title,
            columns=("method", "setting", *(column.title for column in columns), "verdict"),
            groups=(tuple(lines),),
            notes=mark_notes(section, [c.name for c in columns if c.is_quality]),
            spare=spare,
        )


def _verdict(pair: Pair) -> str:
    if not pair.own.done:
        return status_text(pair.own)
    partial = count_text(pair.own)
    return pair.verdict + (f", {partial}" if " of " in partial else "")


def _marked(column: Column, row: Row | None) -> str:
    median = column.median(row) if row else None
    return median + column.mark(row) if row and median else GAP


_MEANING = (
    "identical: every metric and the curve of the same replicates, to the last digit; reproduced: "
    "every leading metric within the reference's replicates, widened by half their range and two "
    "standard errors. Times and memory belong to a machine: they stand beside each other, and no "
    "ratio of them is formed."
)


def render_comparison(comparison: Comparison) -> str:
    """Markdown that goes before the full tables of own results."""
    texts = []
    if comparison.reference is not None:
        tables = [
            f"**{table.title}**\n\n{markdown_body(table)}"
            for table in comparison_tables(comparison)
        ]
        texts += [f"## Own | reference\n\n{comparison.head}", *tables]
        texts.append(f"**{comparison.count}** <sub>{_MEANING}</sub>")
    if rendering_of(comparison.own.study).has_overview:
        texts.append(render_markdown(overview_table(comparison.own.sections)).rstrip())
    return "\n\n".join(text.rstrip() for text in texts) + "\n\n"


def terminal_summary(own_dir: Path, reference_dir: Path, study: str, width: int) -> str:
    """What a person sees at the end of a run: the tables of its page, and where the rest is.

    Beside a reference that is the table own | reference. Rows are those of the page; a narrow
    terminal names the columns that it has no room for.
    """
    comparison = compare(own_dir, reference_dir, study)
    if comparison is None:
        return f"{study}: no own results under {own_dir}\n"
    own = comparison.own
    rendering = rendering_of(own.study)
    if comparison.reference is None:
        tables: Sequence[Table] = [rendering.build_table(s) for s in own.sections if s.rows]
    else:
        tables = list(comparison_tables(comparison))
    texts = [comparison.head, *(render_text(table, width) for table in tables)]
    if comparison.reference is not None:
        texts.append(comparison.count)
    if rendering.has_overview:
        texts.append(render_text(overview_table(own.sections), width))
    paths = {
        "page": own_dir / "tables" / own.study.name / f"{own.machine}.md",
        "figures": own_dir / "figures" / own.study.name / own.machine,
    }
    where = [f"{name + ':':<9}{path}" for name, path in paths.items() if path.exists()]
    return "\n\n".join(text.rstrip("\n") for text in [*texts, "\n".join(where)] if text) + "\n"
