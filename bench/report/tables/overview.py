"""The overview: of each study and group of methods the row that ended best on validation.

Rows are never picked by the test split, whose numbers are what is printed; nor is one group marked
as the best, for the settings of the groups are not tuned alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bench.methods import cards
from bench.report.columns import model_bytes
from bench.report.render import GAP, Cell, Table, megabytes, percent
from bench.report.sections import Row, Section, best_row
from bench.report.tables.papers import preset_of
from bench.studies.published import Published
from bench.studies.tuning import standard_error

#: Study → its sections in the same results.
SectionsOf = Callable[[str], Sequence[Section]]


def overview_table(
    sections: Sequence[Section], sections_of: SectionsOf = lambda study: ()
) -> Table:
    """A line for each section, a column for each group of methods that its rows belong to.

    Our own runs of published set-ups are looked up by `sections_of`.
    """
    known = [card.group for card in cards.cards()]
    present = [row.card.group for section in sections for row in section.rows]
    groups = [group for group in dict.fromkeys(known + present) if group and group in present]
    elsewhere = [_elsewhere(section, sections_of) for section in sections]
    heads = ["study", *groups, *(["measured elsewhere"] if any(elsewhere) else [])]
    lines = []
    for section, text in zip(sections, elsewhere, strict=True):
        last = [Cell(text or GAP)] if any(elsewhere) else []
        lines.append((Cell(_name(section)), *_leaders(section, groups), *last))
    return Table("Best on validation", tuple(heads), (tuple(lines),), num_words=1)


def _leaders(section: Section, groups: Sequence[str]) -> list[Cell]:
    metric = section.metrics[0]
    chosen = [
        best_row([row for row in section.rows if row.card.group == group], metric)
        for group in groups
    ]
    found = [row.quality(metric) if row else None for row in chosen]
    cells = []
    for row, summary in zip(chosen, found, strict=True):
        if row is None or summary is None:
            cells.append(Cell(GAP))
            continue
        size = model_bytes(row)
        text = percent(summary.median) + ("†" if row.is_stale else "")
        text += f" ({megabytes(size.median)} MB)" if size else ""
        cells.append(Cell(text))
    return cells


def leaders_text(section: Section) -> str:
    """Who is ahead in a section, in a sentence: of each method the row that leads on validation.

    How sure the lead is, replicates say, or where one has none the test points' standard errors.
    """
    metric = section.metrics[0]
    by_label: dict[str, list[Row]] = {}
    for row in section.rows:
        by_label.setdefault(row.label, []).append(row)
    best = [best_row(rows, metric) for rows in by_label.values()]
    known = [(row, found) for row in best if row and (found := row.quality(metric))]
    ranked = sorted(known, key=lambda pair: -pair[1].median)
    if not ranked:
        return f"{_name(section)}: not measured yet."
    texts = []
    for row, found in ranked:
        spread = f" ({percent(found.low)}–{percent(found.high)})" if len(row.done) > 1 else ""
        texts.append(f"{row.label} {percent(found.median)}{spread}")
    text = f"**{_name(section)}**, {metric} on test: {', '.join(texts)}."
    if len(ranked) > 1:
        (first, one), (second, two) = ranked[:2]
        ahead = (
            f"{first.label} is {percent(one.median - two.median)} points ahead of {second.label}"
        )
        if min(len(first.done), len(second.done)) > 1:
            is_sure, spread = one.low > two.high, "the spread of their replicates"
        else:
            points = int(section.facts.get("num_test_points") or 1)
            error = math.hypot(*(standard_error(each.median, points) for each in (one, two)))
            is_sure, spread = one.median - two.median > 2 * error, "two standard errors of the test"
        text += f" {ahead}, {'beyond' if is_sure else 'within'} {spread}."
    return text


def _elsewhere(section: Section, sections_of: SectionsOf) -> str:
    metric = section.metrics[0]
    return "; ".join(
        f"{percent(entry.metrics[metric])} {entry.label}{_own_run(entry, metric, sections_of)}"
        for entry in section.published
        if metric in entry.metrics
    )


def _own_run(entry: Published, metric: str, sections_of: SectionsOf) -> str:
    """What a published set-up came to in our own run of it, where there is one."""
    if entry.repeated is None:
        return ""
    study, preset = entry.repeated
    rows = [row for section in sections_of(study) for row in section.rows]
    found = [row.quality(metric) for row in rows if preset_of(row) == preset]
    texts = [percent(summary.median) for summary in found if summary]
    return f", run here {' or '.join(texts)}" if texts else ""


def _name(section: Section) -> str:
    num_labels = section.facts.get("num_labels")
    return section.study.name + (f", L = {num_labels:,}" if num_labels else "")
