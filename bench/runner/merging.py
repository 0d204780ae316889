"""Records that machines of one kind made apart, joined into one results folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.errors import StudyError, UserError
from bench.methods.cards import card
from bench.runner.audit import quality
from bench.settings import SettingsError
from bench.store import record
from bench.store.record import Record, machine_key
from bench.studies.study import load_study


class MergeError(UserError):
    """Folders of records that cannot be joined."""


def merge_records(folders: Sequence[Path], into: Path) -> dict[Path, int]:
    """Append to a results folder the records of others that it lacks; none is changed.

    What is older than the last word on its trial is left out. Costs stay where they were timed: a
    table's are of one machine.

    Args:
        folders: each with `records/STUDY/MACHINE.jsonl`, which is such a file's name in all.
        into: likewise; may be empty.

    Returns:
        File → how many records it was given.

    Raises:
        MergeError: a folder has no records, or a line that is none; or two records of a trial, by
            the same versions, data, threads and kind of machine, differ in quality. Nothing has
            been appended then.
    """
    found: dict[Path, list[Record]] = {}
    first: dict[tuple[Any, ...], tuple[Path, Record]] = {}
    for folder in (into, *folders):
        paths = sorted((folder / "records").glob("*/*.jsonl"))
        if not paths and folder != into:
            raise MergeError(f"{folder}: no records; expected records/STUDY/MACHINE.jsonl in it")
        for path in paths:
            records, warnings = record.read(path)
            if warnings:
                raise MergeError(warnings[0])
            for each in records:
                where, other = first.setdefault(_identity(each), (path, each))
                if quality(other) != quality(each) and _repeats(each):
                    raise MergeError(
                        f"{path}: trial {each.trial_id} differs from that in {where}; expected "
                        "the same quality of the same versions, data, threads and processors"
                    )
            if folder != into:
                found.setdefault(into / path.relative_to(folder), []).extend(records)
    return {path: count for path, new in found.items() if (count := _append(path, new))}


def _append(path: Path, records: Sequence[Record]) -> int:
    """Append those that are newer than what a file has of their trials; how many."""
    newest = {each.trial_id: each.raw["started_at"] for each in record.read(path)[0]}
    count = 0
    for each in sorted(records, key=lambda each: each.raw["started_at"]):
        if each.raw["started_at"] > newest.get(each.trial_id, ""):
            record.append(path, each)
            newest[each.trial_id] = each.raw["started_at"]
            count += 1
    return count


def _identity(each: Record) -> tuple[Any, ...]:
    """What decides a record's quality; one that is not done stands for itself."""
    if each.status != "done":
        return (each.to_json(),)
    return (
        each.study,
        each.trial_id,
        machine_key(each.machine),
        tuple(sorted(each.versions.items())),
        each.block("data").get("fingerprint"),
        each.provenance["flags"].get("num_threads"),
    )


def _repeats(each: Record) -> bool:
    """Whether its trial gives the same again."""
    try:
        kind = load_study(each.study).kind.name
        return card(each.settings["model"]["method"], kind).is_repeatable
    except (StudyError, SettingsError):  # a person's own, which is not at hand
        return True
