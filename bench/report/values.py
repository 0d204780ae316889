"""Numbers in prose, each with the cell of a table that it is taken from, so that none is typed.

`33.3<!-- = P@1 % of MACH & B=32 in table-multiclass/amd-epyc-2c-24g -->` is what
`results/tables/table-multiclass/amd-epyc-2c-24g.md` has in the first column whose title begins
with `P@1 %`, in the one row in which `MACH` and `B=32` are parts of cells or of the heading.
`A divided by B` is the ratio of two such numbers, of one table where only B names it; `agreed of
Bibtex in TABLE` quotes `K of N published` below the tables with such headings, summed.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.report.render import GAP, number

_VALUE = re.compile(r"(\d[\d.,]*(?: of \d+)?|–)(<!-- = ([^\n]+?) -->)")
_TERM = re.compile(r"(?P<column>.+?) of (?P<words>.+?)(?: in (?P<table>\S+))?")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
_AGREED = re.compile(r"(\d+) of (\d+) published")
_MARKS = re.compile(r"[*†‡]")

#: Path of a page below `results/tables`, or of one that begins with `benchmarks/` below `results`,
#: without its ending → the page; None: there is none.
Read = Callable[[str], "str | None"]


class MarkerError(ValueError):
    """What a marker names is not there, or not once."""


def with_values(text: str, results_dir: Path) -> tuple[str, list[str]]:
    """A text with all marked numbers as the tables have them, and which were not.

    Where a marker names nothing, the number becomes a gap.
    """
    problems: list[str] = []

    @functools.cache
    def read(table: str) -> str | None:
        folder = results_dir if table.startswith("benchmarks/") else results_dir / "tables"
        path = folder / f"{table}.md"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    def value(match: re.Match[str]) -> str:
        try:
            found = _value(match[3], read)
            if found != match[1]:
                problems.append(f"{match[1]} is not {match[3]}, which is {found}")
        except MarkerError as problem:
            problems.append(f"{match[1]} is marked as {match[3]}: {problem}")
            found = GAP
        return found + match[2]

    return _VALUE.sub(value, text), problems


def _value(text: str, read: Read) -> str:
    *over, last = text.split(" divided by ")
    table = _parsed(last)["table"]
    found = [_term(_parsed(term), table, read) for term in (*over, last)]
    if not over:
        return found[0]
    first, second = (float(each.replace(",", "")) for each in found)
    return number(first / second, 2)


def _parsed(term: str) -> re.Match[str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise MarkerError(f"{term!r} is not `COLUMN of WORD & WORD in TABLE`")
    return match


def _term(term: re.Match[str], table: str | None, read: Read) -> str:
    name, words = term["table"] or table, term["words"].split(" & ")
    page = read(name) if name else None
    if page is None:
        raise MarkerError(f"there is no table {name}")
    sections = [section.partition("\n") for section in page.split("\n## ")]
    if term["column"] == "agreed":
        counts = [
            tuple(map(int, counts.groups()))
            for heading, _, body in sections
            if set(words) <= _parts(heading)
            for counts in _AGREED.finditer(body)
        ]
        if not counts:
            raise MarkerError("nothing published is counted there")
        return " of ".join(str(sum(column)) for column in zip(*counts, strict=True))
    found = [
        cell
        for heading, _, body in sections
        for row, cell in _cells(body, term["column"])
        if set(words) <= _parts(heading).union(*map(_parts, row))
    ]
    values = {match[0] for cell in found if (match := _NUMBER.search(_measured(cell)))}
    if len(values) != 1:
        raise MarkerError(f"{len(found)} cells, {len(values)} numbers; expected one")
    return values.pop()


def _cells(body: str, column: str) -> Iterator[tuple[list[str], str]]:
    """Rows of a section's table, each with its cell in a column; empty first cells filled."""
    lines = [_split(line) for line in body.splitlines() if line.startswith("| ")]
    indices = [i for i, title in enumerate(lines[0] if lines else ()) if title.startswith(column)]
    first = ""
    for row in lines[1:]:
        first = row[0] or first
        for index in indices[:1]:
            yield [first, *row[1:]], row[index]


def _split(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
    return [re.sub(r"\\(.)", r"\1", _MARKS.sub("", cell)).strip() for cell in cells]


def _parts(text: str) -> set[str]:
    return {text, *re.split(r", | · ", _MARKS.sub("", text.replace("\\", "")))}


def _measured(cell: str) -> str:
    """Of `published | measured | difference` the second."""
    parts = cell.split(" | ")
    return parts[1] if len(parts) > 1 else cell
