"""What the README shows of the records, in blocks between a marker and `<!-- end -->`.

`<!-- table: STUDY -->` is the short table of a study on the machine with most finished trials;
`<!-- table: STUDY MACHINE -->` that of a machine; `<!-- table: STUDY | k = 5 · uniform -->` some of
its tables, by part, data set or both. `<!-- overview: STUDY STUDY … -->` has a line for each part
of these studies, see `bench.report.tables.overview`; `<!-- leaders: STUDY STUDY … -->` says in
words who is ahead there, and how settings were found; `<!-- audits -->` counts what audits found
again. Numbers between the blocks are marked one by one, see `bench.report.values`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.report.load import MachineResults, load_results, shown_first
from bench.report.render import counted, escape_markdown, markdown_body, markdown_notes
from bench.report.renderers import rendering_of
from bench.report.sections import Section
from bench.report.tables.overview import leaders_text, overview_table
from bench.report.tables.tuning import rule_text
from bench.report.values import with_values
from bench.store import record
from bench.store.files import replace_file
from bench.store.hosts import kind_of
from bench.store.lines import Audit, check
from bench.studies.tuned import read_tuned, tuned_path

_BLOCK = re.compile(
    r"(<!-- (table|overview|leaders|audits)(?:: ([^\n]+?))? -->\n)(.*?)(<!-- end -->)", re.DOTALL
)
_TABLE = re.compile(r"(\S+)(?: ([^\s|]\S*))?(?: \| (.+))?")
_NOTHING = "*Not measured yet.*\n"

Find = Callable[[str], "list[MachineResults]"]


def refresh(readme: Path, results_dir: Path) -> list[Path]:
    """Rewrite the marked blocks of a README; returns it if it has any."""
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8")
    render = _renderer(results_dir)
    fresh = _BLOCK.sub(lambda match: match[1] + render(match) + match[5], text)
    fresh, _ = with_values(fresh, results_dir)
    if fresh != text:
        replace_file(readme, fresh.encode())
    return [readme] if fresh != text or _BLOCK.search(text) else []


def readme_problems(readme: Path, results_dir: Path) -> list[str]:
    """Blocks that are not those of the records, or show rows of older versions."""
    if not readme.is_file():
        return []
    text = readme.read_text(encoding="utf-8")
    problems = [f"{readme.name}: {problem}" for problem in with_values(text, results_dir)[1]]
    render = _renderer(results_dir)
    for match in _BLOCK.finditer(text):
        name = " ".join(filter(None, [f"the {match[2]}", match[3] and f"of {match[3]}"]))
        body = render(match)
        if match[4] != body:
            problems.append(f"{readme.name}: {name} is not that of the records")
        if "†" in body:
            problems.append(f"{readme.name}: {name} shows rows of older versions (†)")
    return problems


def _renderer(results_dir: Path) -> Callable[[re.Match[str]], str]:
    @functools.cache
    def find(name: str) -> list[MachineResults]:
        has_records = (results_dir / "records" / name).is_dir()
        return load_results(results_dir, [name]) if has_records else []

    def render(match: re.Match[str]) -> str:
        if match[2] == "audits":
            return _audits(results_dir / "audits")
        words = match[3] or ""
        if match[2] == "leaders":
            return _leaders(words, find, results_dir)
        return {"overview": _overview, "table": _table}[match[2]](words, find)

    return render


def _leaders(names: str, find: Find, results_dir: Path) -> str:
    lines = []
    for name in names.split():
        results, outcome = shown_first(find(name)), tuned_path(results_dir, name)
        rule = rule_text(read_tuned(outcome)) if outcome.exists() else "not tuned"
        sections = results.sections if results else ()
        lines += [f"* {leaders_text(section)} Settings: {rule}.\n" for section in sections]
    return "".join(lines) or _NOTHING


def _overview(names: str, find: Find) -> str:
    def sections_of(name: str) -> Sequence[Section]:
        results = shown_first(find(name))
        return results.sections if results else ()

    sections = [section for name in names.split() for section in sections_of(name)]
    return f"\n{markdown_body(overview_table(sections, sections_of))}\n" if sections else _NOTHING


def _table(words: str, find: Find) -> str:
    match = _TABLE.fullmatch(words)
    if match is None:
        return _NOTHING
    name, machine, part = match.groups()
    chosen = shown_first(
        [
            results
            for results in find(name)
            if machine in (None, results.machine) and _sections(results, part)
        ]
    )
    if chosen is None:
        return _NOTHING
    texts = []
    sections = _sections(chosen, part)
    for section in sections:
        table = rendering_of(chosen.study).build_table(section, is_compact=True)
        head = f"**{escape_markdown(table.title)}**"
        if section is sections[-1]:
            table = replace(table, notes=(*table.notes, *chosen.damage))
        texts.append(f"{head}\n\n{markdown_body(table)}\n{markdown_notes(table)}")
    return "\n" + "\n".join(texts) + "\n"


def _sections(results: MachineResults, part: str | None) -> Sequence[Section]:
    """Those that a marker's words after the bar mean; all without such words."""
    return [
        section
        for section in results.sections
        if part in (None, section.part, section.data_name, f"{section.part} · {section.data_name}")
    ]


def read_audits(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Outcomes of audits in a file, and a warning for each line that is none."""
    return record.read_lines(path, _audit)


def _audit(value: Any) -> dict[str, Any]:
    check(value, Audit)
    return dict(value)


def _audits(folder: Path) -> str:
    """How many audited records were found again; of one audited twice the last time counts."""
    found: list[tuple[str, dict[str, Any]]] = []
    num_unreadable = 0
    for path in sorted(folder.glob("*.jsonl")):
        audits, warnings = read_audits(path)
        num_unreadable += len(warnings)
        found += [(kind_of(path), audit) for audit in audits]
    newest = {
        (kind, audit["study"], audit["trial_id"]): audit["outcome"]
        for kind, audit in sorted(found, key=lambda each: str(each[1]["at"]))
    }
    damage = f" {counted(num_unreadable, 'unreadable line')} left out." if num_unreadable else ""
    if not newest:
        return f"*Not audited yet.*{damage}\n"
    num_found = sum(outcome == "found" for outcome in newest.values())
    return f"{num_found} of {len(newest)} audited quality records found again.{damage}\n"
