"""Tables inside the README, between `<!-- table: STUDY -->` and `<!-- end -->`.

A marker may name a machine too: `<!-- table: STUDY MACHINE -->`; otherwise the machine with most
finished trials is shown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.report.format import escape_markdown
from bench.report.render import MachineResults
from bench.report.tables import build_table, markdown_body

_BLOCK = re.compile(r"(<!-- table: (\S+)(?: (\S+))? -->\n)(.*?)(<!-- end -->)", re.DOTALL)

Find = Callable[[str], "list[MachineResults]"]


def refresh(readme: Path, find: Find) -> list[Path]:
    """Rewrite the marked blocks of a README; returns it if it has any."""
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8")
    fresh = render_readme(text, find)
    if fresh != text:
        readme.write_text(fresh, encoding="utf-8")
    return [readme] if _BLOCK.search(text) else []


def render_readme(text: str, find: Find) -> str:
    """Text of a README with its marked blocks rendered anew."""

    def block(match: re.Match[str]) -> str:
        start, name, machine, _, end = match.groups()
        return f"{start}{_body(find(name), machine)}{end}"

    return _BLOCK.sub(block, text)


def stale_blocks(text: str, find: Find) -> list[str]:
    """Names of the studies whose block differs from the records."""
    return [
        match[2] for match in _BLOCK.finditer(text) if match[4] != _body(find(match[2]), match[3])
    ]


def _body(results: Sequence[MachineResults], machine: str | None) -> str:
    candidates = [
        result
        for result in results
        if result.sections and (machine is None or result.machine == machine)
    ]
    if not candidates:
        return "*Not measured yet.*\n"
    chosen = min(candidates, key=lambda result: (-_num_done(result), result.machine))
    texts = []
    for section in chosen.sections:
        table = build_table(section, is_compact=True)
        notes = " ".join(escape_markdown(note) for note in table.notes)
        texts.append(
            f"**{escape_markdown(table.title)}**\n\n{markdown_body(table)}\n<sub>{notes}</sub>\n"
        )
    return "\n" + "\n".join(texts) + "\n"


def _num_done(results: MachineResults) -> int:
    return sum(
        record.get("status") == "done" for part in results.sections for record in part.records
    )
