"""The table of studies without data: each number beside what the papers print, and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.published import TAGS, has_options
from bench.report.columns import Column, recorded
from bench.report.format import GAP, number
from bench.report.notes import notes_of
from bench.report.select import Row, Section
from bench.report.syntax import Cell, Table
from bench.report.tables import marked, status_text
from bench.report.values import dig, group_by
from bench.theory.published import Claim

_MEANING = (
    "±: standard error over draws; difference: measured − published; ratio: measured ÷ published; "
    "÷ in a setting: the first one's number over the second one's; verdict: within what the "
    "published number can be read to, or within 4 standard errors; GB = 10⁹ bytes; "
    f"{GAP} nothing published, or not measured."
)
_SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))


@dataclass(frozen=True)
class Line:
    """One quantity of a row, and what is published of it.

    Attributes:
        row: None: nothing was run of what the claim names.
        over: row whose quantity is divided by this one's.
    """

    row: Row | None
    quantity: str
    claim: Claim | None = None
    over: Row | None = None

    @property
    def value(self) -> float | None:
        """Median over replicates."""
        own = _value(self.row, self.quantity)
        if self.claim is None or not self.claim.over:
            return own
        other = _value(self.over, self.quantity)
        return other / own if other is not None and own else None

    @property
    def standard_error(self) -> float | None:
        """Of one replicate's draws; None where there are several, whose range tells."""
        if self.row is None or len(self.row.done) != 1:
            return None
        found = dig(self.row.done[0], "estimators", "standard_errors", self.quantity)
        return None if found is None else float(found)

    @property
    def agrees(self) -> bool | None:
        """Whether the two numbers do; None where one is missing."""
        if self.claim is None or self.value is None:
            return None
        return self.claim.agrees(self.value, self.standard_error)

    @property
    def name(self) -> str:
        """The claim in the paper's words, and the quantity."""
        label = self.claim.label if self.claim else ""
        return f"{label}: {self.quantity}" if label else self.quantity

    def text(self, value: float, write: Callable[[float], str] | None = None) -> str:
        """A value of this quantity for readers, four digits unless written otherwise.

        >>> Line(None, "parameter bytes").text(1.352e9)
        '1.352 GB'
        """
        write = write or _measured
        if self.claim is not None and self.claim.over:
            return f"{write(value)}×"
        scales = _BYTES if "bytes" in self.quantity else _SCALES
        is_count = "bytes" in self.quantity or "parameters" in self.quantity
        for size, unit in scales if is_count else ():
            if abs(value) >= size:
                return f"{write(value / size)} {unit}"
        return write(value)


def _measured(value: float, digits: int = 4) -> str:
    sign = "−" if value < 0 else ""
    is_whole = value == int(value) and abs(value) < 1e6
    return sign + (f"{abs(int(value)):,}" if is_whole else number(abs(value), digits))


def _digits(value: float, error: float | None) -> int:
    """Digits down to the second one of a standard error; four without one."""
    if not error or not value:
        return 4
    return max(2, math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 2)


def _printed(value: float) -> str:
    """As published: no more digits than there are."""
    return f"{value:,.0f}" if value >= 1e5 else f"{value:.4g}"


def _value(row: Row | None, quantity: str) -> float | None:
    summary = row.quality(quantity) if row is not None else None
    return summary.median if summary else None


def options_of(row: Row) -> dict[str, Any]:
    """A row's options of data and model, each under its own name."""
    return {**row.flat, **(dig(row.settings, "data", "options") or {})}


def setting_of(row: Row) -> str:
    """What tells a row from the others of its section, data included."""
    options = options_of(row)
    words = [
        shown.write(_grouped(options[shown.name]))
        for shown in row.card.options
        if shown.is_always and options.get(shown.name) is not None
    ]
    if row.flat.get("hidden_dims"):
        words.append(f"H={row.flat['hidden_dims']}")
    return ", ".join(filter(None, words)) or row.setting


def _grouped(value: Any) -> Any:
    return f"{value:,}" if isinstance(value, int) and value >= 10_000 else value


def ordered(section: Section) -> list[Row]:
    """The rows by measurement, then by the options of data and model that a reader sees."""
    place = {id(row): i for i, row in enumerate(section.rows)}
    methods = list(dict.fromkeys(row.card.name for row in section.rows))

    def key(row: Row) -> tuple[Any, ...]:
        options = options_of(row)
        shown = [options.get(shown.name) for shown in row.card.options if shown.is_always]
        values = tuple((isinstance(v, str), v if v is not None else -1) for v in shown)
        return (methods.index(row.card.name), *values, place[id(row)])

    return sorted(section.rows, key=key)


def lines_of(section: Section) -> list[Line]:
    """Every claim with its row, in the rows' order; then what nothing was run of.

    A row's quantities that the study leads with stand there without a claim, too.
    """
    claims = [claim for claim in section.published if isinstance(claim, Claim)]
    rows = ordered(section)
    named = {id(claim): _named(claim.beside, rows) for claim in claims}
    lines = []
    for row in rows:
        own = [claim for claim in claims if named[id(claim)] is row]
        lines += [Line(row, c.quantity, c, _named(c.over, rows) if c.over else None) for c in own]
        told = {claim.quantity for claim in own if not claim.over}
        known: Mapping[str, Any] = dig(row.records[-1], "test") or {}
        lines += [Line(row, q) for q in section.metrics if q in known and q not in told]
        if not row.done and not own:
            lines.append(Line(row, section.metrics[0]))
    return lines + [Line(None, c.quantity, c) for c in claims if named[id(c)] is None]


def _named(wanted: Mapping[str, Any], rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if has_options(options_of(row), wanted)), None)


def build_theory_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: published | measured | difference | ratio, for every number.

    Args:
        section: rows and claims.
        is_compact: only numbers that something was published of.
    """
    lines = [line for line in lines_of(section) if line.claim or not is_compact]
    groups = []
    for same in group_by(lines, _group).values():
        # A setting is named once, where it begins.
        settings = [_setting(line) for line in same]
        texts = [
            ["" if setting == last else setting, *(write(line) for write in COLUMNS.values())]
            for line, setting, last in zip(same, settings, ["", *settings], strict=False)
        ]
        groups.append(tuple(tuple(map(Cell, row)) for row in texts))
    used = {line.claim.tag for line in lines if line.claim}
    tags = [f"[{tag}] {meaning}" for tag, meaning in TAGS.items() if tag in used]
    return Table(
        title=" · ".join(dict.fromkeys(filter(None, [section.study, section.part]))),
        columns=("setting", *COLUMNS),
        groups=tuple(groups),
        notes=notes_of(
            section,
            counts_note(lines),
            readings_note(section),
            _seeds_note(section),
            f"Published: {'; '.join(tags)}." if tags else "",
            _MEANING,
        ),
        num_words=4,
        spare=("ratio", "difference", "published in"),
    )


def _group(line: Line) -> str:
    return setting_of(line.row) if line.row else _setting(line)


def _setting(line: Line) -> str:
    if line.row is None:
        beside = line.claim.beside if line.claim else {}
        return ", ".join(f"{name}={value}" for name, value in beside.items())
    own = marked(line.row, setting_of(line.row))
    return f"{setting_of(line.over)} ÷ {own}" if line.over else own


def _source(line: Line) -> str:
    return f"{line.claim.source} [{line.claim.tag}]" if line.claim else GAP


def _verdict(line: Line) -> str:
    verdict = {None: GAP, True: "agrees", False: "differs"}[line.agrees]
    why = line.claim.why if line.claim and line.agrees is False else ""
    return f"{verdict}: {why}" if why else verdict


def _published(line: Line) -> str:
    if line.claim is None:
        return GAP
    sign = "" if line.claim.relation == "=" else f"{line.claim.relation} "
    return sign + line.text(line.claim.value, _printed)


def _own(line: Line) -> str:
    value, error = line.value, line.standard_error
    if value is None:
        return status_text(line.row) if line.row and not line.row.done else GAP
    text = line.text(value, partial(_measured, digits=_digits(value, error)))
    return f"{text} ± {number(error, 2)}" if error else text


def _difference(line: Line) -> str:
    if line.claim is None or line.value is None:
        return GAP
    gap = line.value - line.claim.value
    return ("+" if gap > 0 else "−" if gap < 0 else "") + line.text(abs(gap))


def _ratio(line: Line) -> str:
    if line.claim is None or line.value is None or not line.claim.value:
        return GAP
    return number(line.value / line.claim.value)


#: Head → what a line says in that column, after its setting.
COLUMNS: Mapping[str, Callable[[Line], str]] = {
    "quantity": lambda line: line.name,
    "published in": _source,
    "verdict": _verdict,
    "published": _published,
    "measured": _own,
    "difference": _difference,
    "ratio": _ratio,
}


def counts_note(lines: Sequence[Line]) -> str:
    """How many numbers ours agree with: those that others published, and what we derived."""
    judged = [line for line in lines if line.claim and line.agrees is not None]
    kinds = {
        "published numbers": [line.agrees for line in judged if not _is_derived(line)],
        "numbers of our own reckoning": [line.agrees for line in judged if _is_derived(line)],
    }
    texts = [
        f"{sum(map(bool, good))} of {len(good)} {what}" for what, good in kinds.items() if good
    ]
    return f"{' and '.join(texts)} agree." if texts else ""


def _is_derived(line: Line) -> bool:
    return line.claim is not None and line.claim.tag == "I"


def _seeds_note(section: Section) -> str:
    replicates = sorted({int(dig(r, "settings", "replicate") or 0) for r in section.records})
    draws = sorted({int(n) for row in section.rows if (n := row.flat.get("num_draws"))})
    text = f"Seeds: from replicate {', '.join(map(str, replicates))}"
    return text + (f"; {' or '.join(f'{n:,}' for n in draws)} draws." if draws else ".")


def readings_note(section: Section) -> str:
    """How far each reading of an estimator is from the published numbers, at its worst.

    Readings stand in the records beside the two estimators of a simulation; another rounding is a
    row of its own.
    """
    misses: dict[str, list[float]] = {}
    for line in lines_of(section):
        if line.claim is None or line.row is None:
            continue
        estimator, _, rest = line.quantity.partition(", ")
        known = dig(line.row.records[-1], "estimators", "curves", "reconstruction") or {}
        for name in known:
            found = _value(line.row, f"{name}, {rest}")
            if found is not None and re.search(rf"\b{estimator}\b", name):
                misses.setdefault(name, []).append(abs(found - line.claim.value))
        for row in section.rows if known else ():
            rounding = options_of(row).get("rounding")
            same = {**line.claim.beside, "rounding": rounding}
            found = _value(row, line.quantity)
            if row is not line.row and found is not None and has_options(options_of(row), same):
                name = f"{estimator}, V/base_prob rounded to {rounding}"
                misses.setdefault(name, []).append(abs(found - line.claim.value))
    texts = [f"{name} {number(max(found), 2)}" for name, found in misses.items()]
    return f"Largest difference by reading: {'; '.join(texts)}." if texts else ""


def compared(section: Section) -> list[Column]:
    """Quantities in which own results stand beside the reference's."""
    known = {q for record in section.records for q in dig(record, "test") or {}}
    return [Column(q, q, recorded("test", q)) for q in section.metrics if q in known]


def rows_of(section: Section) -> list[tuple[Row, str]]:
    """Rows in order, and what tells each from the others."""
    return [(row, setting_of(row)) for row in ordered(section)]
