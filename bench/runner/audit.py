"""Audits: quality records drawn at random are made again, and must come out the same.

On the machine that a record was made on, with as many threads, a trial repeats to the bit; what
does not is `differs`, with the largest difference of a metric.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import UserError
from bench.methods.cards import card, current_versions, is_older, without_older_metrics
from bench.runner.child import build_job
from bench.runner.run import Engine
from bench.settings import Trial
from bench.store import provenance, record
from bench.store.lines import Outcome
from bench.store.locks import measuring
from bench.store.record import Record, quality
from bench.studies.study import Study


@dataclass(frozen=True)
class Candidate:
    """A record that can be made again."""

    study: Study
    old: Record
    trial: Trial


@dataclass(frozen=True)
class Finding:
    """What became of it.

    Attributes:
        candidate: what was made again.
        outcome: `found`: every metric that is computed as it was then, and every loss, is the same
            to the last digit.
        largest_difference: between two metrics or losses; None where nothing could be compared.
        reason: of a failure.
    """

    candidate: Candidate
    outcome: Outcome
    largest_difference: float | None
    reason: str | None = None

    def to_json(self) -> str:
        """A line for `results/audits/<machine>-<host>.jsonl`."""
        commit, is_dirty = provenance.git_state()
        return json.dumps(
            {
                "at": provenance.utc_now(),
                "study": self.candidate.study.name,
                "trial_id": self.candidate.trial.trial_id,
                "outcome": self.outcome,
                "largest_difference": self.largest_difference,
                "reason": self.reason,
                "commit": commit,
                "is_dirty": is_dirty,
            }
        )


def candidates(
    studies: Sequence[Study],
    results_dir: Path,
    machine: Mapping[str, Any],
    warn: Callable[[str], object] = lambda warning: None,
) -> list[Candidate]:
    """Finished records of this kind of machine that today's code should give again."""
    found = []
    slug = provenance.machine_slug(machine)
    for study in studies:
        path = results_dir / "records" / study.name / f"{slug}.jsonl"
        records, warnings = record.read_kind(path)
        for warning in warnings:
            warn(warning)
        for old in record.latest(records):
            try:
                trial = Trial.from_dict(old.settings)
                current = current_versions(trial, study.kind)
            except UserError:
                continue  # of a method, a source or a setting that is no more
            if not card(trial.model.method, study.kind.name).is_repeatable:
                continue
            same_machine = record.machine_key(old.machine) == record.machine_key(machine)
            if old.status == "done" and same_machine and not is_older(old.versions, current):
                found.append(Candidate(study, old, trial))
    return found


def audit(
    chosen: Sequence[Candidate], engine: Engine, *, machine: Mapping[str, Any], path: Path
) -> Iterator[Finding]:
    """Make records again, one by one, and append to a file what became of each."""
    source = provenance.collect(accelerator=machine["accelerator"])
    names = {candidate.study.name for candidate in chosen}
    with measuring("audit", f"of {len(names)} studies" if len(names) > 1 else "".join(names)):
        for candidate in chosen:
            [new] = engine.run([build_job(candidate.study, candidate.trial, machine, source)])
            finding = compared(candidate, new)
            record.append_line(path, finding.to_json())
            yield finding


def draw(
    found: Sequence[Candidate], *, seed: str, count: int | None, minutes: float | None
) -> list[Candidate]:
    """Some of the records, at random: so many, or as many as took so long before."""
    shuffled = random.Random(seed).sample(list(found), len(found))
    if minutes is not None:
        kept: list[Candidate] = []
        seconds = 0.0
        for candidate in shuffled:
            seconds += candidate.old.wall_seconds or 0.0
            if seconds > 60 * minutes and kept:
                break
            kept.append(candidate)
        shuffled = kept
    return shuffled[:count]


def compared(candidate: Candidate, new: Record) -> Finding:
    """A record beside the one that was made again."""
    old = candidate.old
    if new.status != "done":
        return Finding(candidate, "failed", None, new.reason)
    if old.block("data").get("fingerprint") != new.block("data").get("fingerprint"):
        return Finding(candidate, "failed", None, "the data is not what the record was made on")
    before, after = (
        dict(_numbers(without_older_metrics(quality(each), old.raw, new.raw)))
        for each in (old, new)
    )
    if set(before) != set(after):
        return Finding(candidate, "differs", None, "other metrics")
    difference = max((_distance(before[name], after[name]) for name in before), default=0.0)
    if math.isinf(difference):  # a number on one side alone
        return Finding(candidate, "differs", None, "a number is missing")
    return Finding(candidate, "found" if difference == 0 else "differs", difference)


def _numbers(value: Any, name: str = "") -> Iterator[tuple[str, float | None]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{name}/{index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)
    else:
        yield name, None


def _distance(before: float | None, after: float | None) -> float:
    if before is None or after is None:
        return 0.0 if before is after else math.inf
    return abs(before - after)
