"""The table of studies without data: each number beside what the papers print, and the verdict."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from bench.report.columns import Column, recorded
from bench.report.render import GAP, Cell, Table, number
from bench.report.sections import Row, Section
from bench.report.summary import dig, group_by
from bench.report.tables.papers import options_of, rows_beside
from bench.report.tables.tables import marked, notes_of, status_text
from bench.studies.published import TAGS, Claim, has_options

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
    def published(self) -> float | None:
        """The published number."""
        return self.claim.metrics[self.quantity] if self.claim else None

    @property
    def value(self) -> float | None:
        """Median over replicates."""
        own, other = (_value(row, self.quantity) for row in (self.row, self.over))
        if self.claim is None or not self.claim.over:
            return own
        return other / own if other is not None and own else None

    @property
    def standard_error(self) -> float | None:
        """Of one replicate's draws; None where there are several, whose range is shown."""
        if self.row is None or len(self.row.done) != 1:
            return None
        found = dig(self.row.done[0], "estimators", "standard_errors", self.quantity)
        return None if found is None else float(found)

    @property
    def agrees(self) -> bool | None:
        """Whether the two numbers do; None where one is missing."""
        if self.claim is None or self.value is None:
            return None
        return self.claim.agrees(self.quantity, self.value, self.standard_error)

    @property
    def setting(self) -> str:
        """The row, or two whose quantities are divided; what a claim names where none was run."""
        if self.row is None:
            beside = self.claim.beside if self.claim else {}
            return ", ".join(f"{name}={value}" for name, value in beside.items())
        own = marked(self.row, self.row.setting)
        return f"{self.over.setting} ÷ {own}" if self.over else own

    def text(self, value: float, write: Callable[[float], str] | None = None) -> str:
        """A value of this quantity for readers, four digits unless written otherwise.

        >>> Line(None, "parameter bytes").text(1.352e9)
        '1.352 GB'
        """
        write = write or _digits
        if self.claim is not None and self.claim.over:
            return f"{write(value)}×"
        is_bytes = "bytes" in self.quantity
        for size, unit in _BYTES if is_bytes else _SCALES:
            if (is_bytes or "parameters" in self.quantity) and abs(value) >= size:
                return f"{write(value / size)} {unit}"
        return write(value)

    def cells(self) -> tuple[str, ...]:
        """Texts of `HEADS`, after the setting."""
        value, error, published = self.value, self.standard_error, self.published
        verdict = {None: GAP, True: "agrees", False: "differs"}[self.agrees]
        measured = status_text(self.row) if self.row and not self.row.done else GAP
        if value is not None:
            measured = self.text(value, partial(_digits, digits=_num_digits(value, error)))
            measured += f" ± {number(error, 2)}" if error else ""
        if self.claim is None or published is None:
            return (self.quantity, GAP, verdict, GAP, measured, GAP, GAP)
        gap = None if value is None else value - published
        sign = "" if not gap else "+" if gap > 0 else "−"
        relation = "" if self.claim.relation == "=" else f"{self.claim.relation} "
        why = f": {self.claim.why}" if self.claim.why and self.agrees is False else ""
        return (
            ": ".join(filter(None, [self.claim.label, self.quantity])),
            f"{self.claim.source} [{self.claim.tag}]",
            verdict + why,
            relation + self.text(published, _printed),
            measured,
            GAP if gap is None else sign + self.text(abs(gap)),
            GAP if value is None or not published else number(value / published),
        )


HEADS = ("quantity", "published in", "verdict", "published", "measured", "difference", "ratio")


def _value(row: Row | None, quantity: str) -> float | None:
    summary = row.quality(quantity) if row is not None else None
    return summary.median if summary else None


def _digits(value: float, digits: int = 4) -> str:
    sign = "−" if value < 0 else ""
    is_integer = value == int(value) and abs(value) < 1e6
    return sign + (f"{abs(int(value)):,}" if is_integer else number(abs(value), digits))


def _num_digits(value: float, error: float | None) -> int:
    """Digits down to the second one of a standard error; four without one."""
    if not error or not value:
        return 4
    return max(2, math.floor(math.log10(abs(value))) - math.floor(math.log10(error)) + 2)


def _printed(value: float) -> str:
    """As published: no more digits than there are."""
    return f"{value:,.0f}" if value >= 1e5 else f"{value:.4g}"


def lines_of(section: Section) -> list[Line]:
    """Every claim with its row, in the rows' order; then what nothing was run of.

    A row's quantities that the study leads with stand there without a claim, too.
    """
    claims = [claim for claim in section.published if isinstance(claim, Claim)]
    beside = {id(claim): rows_beside(claim, section.rows) for claim in claims}
    lines = []
    for row in section.rows:
        own = [
            Line(row, quantity, claim, _over(claim, section.rows))
            for claim in claims
            if any(other is row for other in beside[id(claim)])
            for quantity in claim.metrics
        ]
        claimed = {line.quantity for line in own if not line.over}
        known: Mapping[str, object] = dig(row.records[-1], "test") or {}
        own += [Line(row, q) for q in section.metrics if q in known and q not in claimed]
        lines += own or ([] if row.done else [Line(row, section.metrics[0])])
    alone = [claim for claim in claims if not beside[id(claim)]]
    return lines + [Line(None, quantity, claim) for claim in alone for quantity in claim.metrics]


def _over(claim: Claim, rows: Sequence[Row]) -> Row | None:
    found = (row for row in rows if claim.over and has_options(options_of(row), claim.over))
    return next(found, None)


def build_theory_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: published | measured | difference | ratio, for every number.

    A short one has only those that something was published of.
    """
    lines = [line for line in lines_of(section) if line.claim or not is_compact]
    groups = []
    for same in group_by(lines, lambda line: line.row.setting if line.row else "").values():
        # A setting is named once, where it begins.
        settings = [line.setting for line in same]
        texts = [
            ["" if setting == last else setting, *line.cells()]
            for line, setting, last in zip(same, settings, ["", *settings], strict=False)
        ]
        groups.append(tuple(tuple(map(Cell, row)) for row in texts))
    used = {line.claim.tag for line in lines if line.claim}
    tags = [f"[{tag}] {meaning}" for tag, meaning in TAGS.items() if tag in used]
    return Table(
        title=" · ".join(dict.fromkeys(filter(None, [section.study.name, section.part]))),
        columns=("setting", *HEADS),
        groups=tuple(groups),
        notes=notes_of(
            section,
            _counts_note(lines),
            _readings_note(section, lines),
            _seeds_note(section),
            f"Published: {'; '.join(tags)}." if tags else "",
            _MEANING,
        ),
        num_words=4,
        spare=("ratio", "difference", "published in"),
    )


def _counts_note(lines: Sequence[Line]) -> str:
    """How many numbers ours agree with: those that others published, and what we derived."""
    judged = [(line.claim.tag == "I", line.agrees) for line in lines if line.claim]
    texts = []
    for is_ours, what in ((False, "published numbers"), (True, "numbers of our own reckoning")):
        found = [agrees for own, agrees in judged if own is is_ours and agrees is not None]
        texts += [f"{sum(found)} of {len(found)} {what}"] if found else []
    return f"{' and '.join(texts)} agree." if texts else ""


def _seeds_note(section: Section) -> str:
    replicates = sorted({int(dig(r, "settings", "replicate") or 0) for r in section.records})
    draws = sorted({int(n) for row in section.rows if (n := row.flat.get("num_draws"))})
    text = f"Seeds: from replicate {', '.join(map(str, replicates))}"
    return text + (f"; {' or '.join(f'{n:,}' for n in draws)} draws." if draws else ".")


def _readings_note(section: Section, lines: Sequence[Line]) -> str:
    """How far each reading of an estimator is from the published numbers, at its worst.

    Readings stand in the records beside the two estimators of a simulation; another rounding is a
    row of its own.
    """
    misses: dict[str, list[float]] = {}
    for line in lines:
        estimator, _, rest = line.quantity.partition(", ")
        known = _readings(line)
        found = {name: _value(line.row, f"{name}, {rest}") for name in known}
        for row in section.rows if known and line.claim else ():
            rounding = row.flat.get("rounding")
            same = {**line.claim.beside, "rounding": rounding} if line.claim else {}
            if row is not line.row and has_options(options_of(row), same):
                name = f"{estimator}, V/base_prob rounded to {rounding}"
                found[name] = _value(row, line.quantity)
        for name, value in found.items():
            if value is not None and line.published is not None:
                misses.setdefault(name, []).append(abs(value - line.published))
    texts = [f"{name} {number(max(values), 2)}" for name, values in misses.items()]
    return f"Largest difference by reading: {'; '.join(texts)}." if texts else ""


def _readings(line: Line) -> list[str]:
    """Estimators of a simulation that are readings of the one that a line is of."""
    if line.claim is None or line.row is None:
        return []
    known = dig(line.row.records[-1], "estimators", "curves", "reconstruction") or {}
    estimator = line.quantity.partition(", ")[0]
    return [name for name in known if re.search(rf"\b{re.escape(estimator)}\b", name)]


def compared(section: Section) -> list[Column]:
    """Quantities in which own results stand beside the reference's."""
    known = {q for record in section.records for q in dig(record, "test") or {}}
    return [Column(q, q, recorded("test", q)) for q in section.metrics if q in known]
