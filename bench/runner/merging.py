"""Results that machines made apart, joined into one folder; none is changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.errors import UserError
from bench.store import budgets, record
from bench.store.budgets import read_budgets
from bench.store.hosts import has_host
from bench.store.record import Record
from bench.studies.study import repeats

#: Whose records count as one another's where a kind of machine made them.
_RECORDS = ("records", "tuning/records", "worlds/records")
#: Lines that stay those of a host, and say nothing where a file does not tell which.
_OF_HOSTS = ("costs/*/*.jsonl", "audits/*.jsonl")


class MergeError(UserError):
    """Folders of results that cannot be joined."""


def merge_results(folders: Sequence[Path], into: Path) -> tuple[dict[Path, int], list[str]]:
    """Give a results folder the lines and budgets of others that it lacks.

    Of records, what is older than a file's last word on its trial is left out. Costs and audits
    keep the files of their hosts, as a table's costs are of one; those of files without a host stay
    where they are. A budget that the folder has stays.

    Args:
        folders: each with `records/STUDY/MACHINE-HOST.jsonl`, which is such a file's name in all.
        into: likewise; may be empty.

    Returns:
        File → how many lines or budgets it was given; and a sentence for each file that was left
        out, and for budgets that came to other steps there.

    Raises:
        MergeError: a folder has no records, or a line that is none; or two records of a trial, by
            the same versions, data, threads and kind of machine, differ in quality. Nothing has
            been written then.
    """
    files: dict[Path, Sequence[Record]] = {}
    for folder in (into, *folders):
        paths = [path for kind in _RECORDS for path in sorted((folder / kind).glob("*/*.jsonl"))]
        if not paths and folder != into:
            raise MergeError(f"{folder}: no records; expected records/STUDY/MACHINE.jsonl in it")
        for path in paths:
            files[path], warnings = record.read(path)
            _refuse(warnings)
        for path in _of_hosts(folder):
            _refuse(record.read_lines(path, dict)[1])
    for contradiction in record.contradictions(files, repeats):
        raise MergeError(contradiction)
    counts: Counter[Path] = Counter()
    notes: list[str] = []
    for folder in folders:
        for path in files:
            if path.is_relative_to(folder):
                own = into / path.relative_to(folder)
                counts[own] += _append_newer(own, files[path])
        for path in _of_hosts(folder):
            own = into / path.relative_to(folder)
            if has_host(path):
                counts[own] += _append_lacking(own, path)
            else:
                notes.append(f"{path}: left out, as it may be of any host of its kind")
        for path in sorted([*folder.glob("budgets/*.json"), *folder.glob("tuning/budgets/*.json")]):
            own = into / path.relative_to(folder)
            counts[own] += _add_budgets(own, path, notes)
    return {path: count for path, count in counts.items() if count}, notes


def _of_hosts(folder: Path) -> list[Path]:
    return [path for pattern in _OF_HOSTS for path in sorted(folder.glob(pattern))]


def _refuse(warnings: Sequence[str]) -> None:
    if warnings:
        raise MergeError(warnings[0])


def _append_newer(path: Path, records: Sequence[Record]) -> int:
    """Append those that are newer than what a file has of their trials; how many."""
    newest = {each.trial_id: each.raw["started_at"] for each in record.read(path)[0]}
    count = 0
    for each in sorted(records, key=lambda each: str(each.raw["started_at"])):
        if each.raw["started_at"] > newest.get(each.trial_id, ""):
            record.append(path, each)
            newest[each.trial_id] = each.raw["started_at"]
            count += 1
    return count


def _append_lacking(path: Path, other: Path) -> int:
    """Append the whole lines of another file that a file lacks; how many."""
    known = _lines(path) if path.exists() else {}
    lacking = [line for line in _lines(other) if line not in known]
    for line in lacking:
        record.append_line(path, line)
    return len(lacking)


def _lines(path: Path) -> dict[str, None]:
    return dict.fromkeys(filter(str.strip, path.read_text(encoding="utf-8").split("\n")))


def _add_budgets(path: Path, other: Path, notes: list[str]) -> int:
    """Add the budgets of another file that a file lacks; how many."""
    known, found = read_budgets(path), read_budgets(other)
    differing = sum(
        key in known and known[key].num_steps != budget.num_steps for key, budget in found.items()
    )
    if differing:
        notes.append(f"{other}: {differing} budgets came to other steps than in {path}, which stay")
    lacking = {key: budget for key, budget in found.items() if key not in known}
    if lacking:
        budgets.write_budgets(path, path.stem, (lacking | known).values())
    return len(lacking)
