"""Tables inside the README, between `<!-- table: STUDY -->` and `<!-- end -->`.

A marker may name a machine too: `<!-- table: STUDY MACHINE -->`; otherwise the machine with most
finished trials is shown. It may also ask for some of the study's tables, by part, data set or both:
`<!-- table: STUDY | k = 5 · uniform -->`. `<!-- overview: STUDY STUDY … -->` is a table with a line
for each part of these studies, see `bench.report.overview`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.report.format import escape_markdown
from bench.report.kinds import rendering_of
from bench.report.overview import render_overview
from bench.report.render import MachineResults
from bench.report.select import Section
from bench.report.tables import markdown_body

_BLOCK = re.compile(
    r"(<!-- table: (\S+)(?: ([^\s|]\S*))?(?: \| ([^\n]+?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL
)

_OVERVIEW = re.compile(r"(<!-- overview: ([^\n]+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Find = Callable[[str], "list[MachineResults]"]


def refresh(readme: Path, find: Find) -> list[Path]:
    """Rewrite the marked blocks of a README; returns it if it has any."""
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8")
    fresh = render_readme(text, find)
    if fresh != text:
        readme.write_text(fresh, encoding="utf-8")
    return [readme] if _BLOCK.search(text) or _OVERVIEW.search(text) else []


def render_readme(text: str, find: Find) -> str:
    """Text of a README with its marked blocks rendered anew."""

    def block(match: re.Match[str]) -> str:
        start, name, machine, part, _, end = match.groups()
        return f"{start}{_body(find(name), machine, part)}{end}"

    def overview(match: re.Match[str]) -> str:
        start, names, _, end = match.groups()
        return f"{start}{_overview(names, find)}{end}"

    return _OVERVIEW.sub(overview, _BLOCK.sub(block, text))


def stale_blocks(text: str, find: Find) -> list[str]:
    """Names of the studies whose block differs from the records."""
    names = [
        match[2]
        for match in _BLOCK.finditer(text)
        if match[5] != _body(find(match[2]), match[3], match[4])
    ]
    overviews = _OVERVIEW.finditer(text)
    return names + [match[2] for match in overviews if match[3] != _overview(match[2], find)]


def _overview(names: str, find: Find) -> str:
    sections: list[Section] = []
    for name in names.split():
        results = [result for result in find(name) if result.sections]
        if results:
            sections += min(results, key=_precedence).sections
    return f"\n{render_overview(sections)}\n" if sections else "*Not measured yet.*\n"


def _body(results: Sequence[MachineResults], machine: str | None, part: str | None) -> str:
    candidates = [
        (result, sections)
        for result in results
        if machine in (None, result.machine) and (sections := _sections(result, part))
    ]
    if not candidates:
        return "*Not measured yet.*\n"
    chosen, sections = min(candidates, key=lambda pair: _precedence(pair[0]))
    texts = []
    build_table = rendering_of(chosen.view.kind).build_table
    for section in sections:
        table = build_table(section, is_compact=True)
        notes = " ".join(escape_markdown(note) for note in table.notes)
        texts.append(
            f"**{escape_markdown(table.title)}**\n\n{markdown_body(table)}\n<sub>{notes}</sub>\n"
        )
    return "\n" + "\n".join(texts) + "\n"


def _sections(results: MachineResults, part: str | None) -> list[Section]:
    """Those that a marker's words after the bar mean; all without such words."""
    return [
        section
        for section in results.sections
        if part in (None, section.part, section.data_name, f"{section.part} · {section.data_name}")
    ]


def _precedence(results: MachineResults) -> tuple[int, str]:
    """The machine with most finished trials comes first."""
    done = sum(
        record.get("status") == "done" for part in results.sections for record in part.records
    )
    return -done, results.machine
