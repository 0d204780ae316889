"""Are the tables and figures those of the records, and the records those of the code?"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from pathlib import Path

from bench import record
from bench.record import RecordError, machine_key
from bench.report.readme import stale_blocks
from bench.report.render import MachineResults, load_results, write_results

_MARK = re.compile(rb"mach-bench report; matplotlib (\S+); facts ([0-9a-f]{16})")


def check(results_dir: Path) -> list[str]:
    """Problems of a results folder, one sentence each; empty when all is well.

    Rebuilds everything elsewhere and compares bytes. A figure that another version of Matplotlib
    drew is compared by what it shows instead.
    """
    problems = check_records(results_dir)
    try:
        loaded = load_results(results_dir)
    except RecordError:
        return problems  # nothing can be rebuilt; the reason is among the problems
    problems += _stale_records(loaded)
    with tempfile.TemporaryDirectory() as scratch:
        for results in loaded:
            write_results(results, Path(scratch))
        problems += compare(Path(scratch), results_dir)
    readme = results_dir.parent / "README.md"
    if readme.is_file():
        names = stale_blocks(
            readme.read_text(encoding="utf-8"),
            lambda name: [results for results in loaded if results.view.name == name],
        )
        problems += [
            f"{readme.name}: the table of {name} is not that of the records" for name in names
        ]
    return problems


def check_records(results_dir: Path) -> list[str]:
    """Torn lines, lines of another schema, and files that mix studies or machines."""
    problems: list[str] = []
    for path in sorted((results_dir / "records").glob("*/*.jsonl")):
        name = path.relative_to(results_dir).as_posix()
        try:
            records, warnings = record.read(path)
        except RecordError as error:
            problems.append(_relative(str(error), path, name))
            continue
        problems += [_relative(warning, path, name) for warning in warnings]
        foreign = {entry.study for entry in records} - {path.parent.name}
        problems += [f"{name}: holds records of study {study!r}" for study in sorted(foreign)]
        machines = {machine_key(entry.machine) for entry in records}
        if len(machines) > 1:
            problems.append(f"{name}: mixes {len(machines)} machines")
    return problems


def _relative(text: str, path: Path, name: str) -> str:
    return text.replace(str(path), name, 1)


def _stale_records(loaded: list[MachineResults]) -> list[str]:
    problems = []
    for results in loaded:
        rows = [row for section in results.sections for row in section.rows if row.is_stale]
        counts = Counter(row.method for row in rows)
        for method, count in sorted(counts.items()):
            plural = "s" if count > 1 else ""
            problems.append(
                f"records/{results.view.name}/{results.machine}.jsonl: {count} configuration"
                f"{plural} of {method} measured with code that has changed since"
            )
    return problems


def compare(fresh: Path, kept: Path) -> list[str]:
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
