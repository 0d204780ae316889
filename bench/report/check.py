"""Are the tables and figures those of the records, and the records those of today's versions?"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from bench.report.load import MachineResults, load_results
from bench.report.readme import read_audits, readme_problems
from bench.report.render import counted
from bench.report.sections import Section
from bench.report.tables.tuning import write_tuning
from bench.report.write import beside, write_results
from bench.store import costs, record
from bench.store.budgets import BudgetError, read_budgets
from bench.store.costs import CostLine
from bench.store.lines import RecordError
from bench.store.record import Record, machine_key
from bench.studies.study import repeats
from bench.studies.tuned import TunedError

_MARK = re.compile(rb"mach-bench report; matplotlib (\S+); facts ([0-9a-f]{16})")


@dataclass(frozen=True)
class Findings:
    """What a check found, one sentence each.

    Attributes:
        problems: what must not be published.
        notes: what a mark explains to readers.
    """

    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def check(results_dir: Path, reference_dir: Path | None = None) -> Findings:
    """Compare a results folder and the README beside it with what its records give.

    Rebuilds everything elsewhere and compares bytes. A figure that another version of Matplotlib
    drew is compared by what it shows instead.
    """
    problems = check_lines(results_dir)
    try:
        loaded = load_results(results_dir, None, reference_dir)
        if not any(results.num_records for results in loaded):
            return Findings((*problems, f"{results_dir.name}: holds no records"))
        with tempfile.TemporaryDirectory() as scratch:
            for results in loaded:
                write_results(results, Path(scratch), beside(results, reference_dir))
            write_tuning(results_dir, Path(scratch))
            problems += _differences(Path(scratch), results_dir)
        problems += readme_problems(results_dir.parent / "README.md", results_dir)
    except (RecordError, BudgetError, TunedError) as error:
        # Nothing can be rebuilt; what broke a line is among the problems already.
        return Findings(tuple(problems or [str(error)]))
    return Findings(tuple(problems), tuple(_stale(loaded)))


def check_lines(results_dir: Path) -> list[str]:
    """Torn lines, lines of another schema, files that mix studies or machines, contradictions.

    These are records of one trial by machines of one kind that differ in quality.
    """
    problems: list[str] = []
    records: dict[Path, Sequence[Record]] = {}
    for pattern, read in _READERS.items():
        for path in sorted(results_dir.glob(pattern)):
            name = path.relative_to(results_dir).as_posix()
            lines: Sequence[Record | CostLine] = ()
            try:
                lines, warnings = read(path)
            except (RecordError, BudgetError) as error:
                warnings = [str(error)]
            problems += [warning.replace(str(path), name, 1) for warning in warnings]
            foreign = {line.study for line in lines} - {path.parent.name}
            problems += [f"{name}: holds lines of study {study!r}" for study in sorted(foreign)]
            machines = {machine_key(line.machine) for line in lines}
            problems += [f"{name}: mixes {len(machines)} machines"] if len(machines) > 1 else []
            if read is record.read:
                records[Path(name)] = cast(Sequence[Record], lines)
    problems += record.contradictions(records, repeats)
    return problems


def _read_audits(path: Path) -> tuple[Sequence[Record], list[str]]:
    return (), read_audits(path)[1]


def _read_budgets(path: Path) -> tuple[Sequence[Record], list[str]]:
    read_budgets(path)
    return (), []


#: Files → what reads their lines, and a warning for each line that is none.
_READERS: Mapping[str, Callable[[Path], tuple[Sequence[Record | CostLine], list[str]]]] = {
    "records/*/*.jsonl": record.read,
    "tuning/records/*/*.jsonl": record.read,
    "costs/*/*.jsonl": costs.read_costs,
    "audits/*.jsonl": _read_audits,
    "budgets/*.json": _read_budgets,
    "tuning/budgets/*.json": _read_budgets,
}


def _stale(loaded: Sequence[MachineResults]) -> list[str]:
    notes = []
    for results in loaded:
        rows = [row for section in results.sections for row in section.rows if row.is_stale]
        for method, count in sorted(Counter(row.card.name for row in rows).items()):
            notes.append(
                f"{results.study.name} on {results.machine}: "
                f"{counted(count, 'configuration')} of {method} made by older versions (†)"
            )
        count = sum(map(_num_older, results.sections))
        if count:
            notes.append(
                f"{results.study.name} on {results.machine}: "
                f"{counted(count, 'configuration')} with metrics that are computed otherwise today "
                "(† at the metric)"
            )
    return notes


def _num_older(section: Section) -> int:
    """Rows with such a metric among those that the tables show."""
    published = {metric for entry in section.published for metric in entry.metrics}
    shown = {*section.metrics, *published}
    return sum(any(map(row.has_older, shown)) for row in section.rows)


def _differences(fresh: Path, kept: Path) -> list[str]:
    """Files of `tables/` and `figures/` that are missing, left over, or differ."""
    wanted, found = _files(fresh), _files(kept)
    problems = [f"{name}: missing; run the report" for name in sorted(wanted - found)]
    problems += [f"{name}: no record accounts for it" for name in sorted(found - wanted)]
    for name in sorted(wanted & found):
        new, old = (fresh / name).read_bytes(), (kept / name).read_bytes()
        if new != old and not _shows_the_same(new, old):
            problems.append(f"{name}: differs from what the records give")
    return problems


def _files(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for kind in ("tables", "figures")
        for path in (folder / kind).rglob("*")
        if path.is_file()
    }


def _shows_the_same(new: bytes, old: bytes) -> bool:
    """Whether two versions of Matplotlib drew one and the same data."""
    marks = _MARK.search(new), _MARK.search(old)
    if marks[0] is None or marks[1] is None:
        return False
    return marks[0][1] != marks[1][1] and marks[0][2] == marks[1][2]
