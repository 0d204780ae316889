"""Results folders: what was recorded of each study on each machine, selected for reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.report.renderers import rendering_of
from bench.report.sections import Section, StudyView, select_sections
from bench.report.studies import find_view, staleness
from bench.report.summary import Record
from bench.report.timings import Timings
from bench.store import costs, record
from bench.studies.study import StudyError


@dataclass(frozen=True)
class MachineResults:
    """One study on one machine.

    Attributes:
        num_records: latest records of distinct trials.
        warnings: one for each line of records or costs that could not be read, and is left out.
        num_failed_sessions: sessions of timing since those shown, in which a row failed.
    """

    view: StudyView
    machine: str
    sections: tuple[Section, ...]
    num_records: int
    warnings: tuple[str, ...] = ()
    num_failed_sessions: int = 0

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record that the study asks for."""
        return tuple(record for section in self.sections for record in section.records)

    @property
    def num_done(self) -> int:
        """Trials that finished."""
        return sum(record.get("status") == "done" for record in self.records)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the tables must say about records that are not in them."""
        notes = []
        seen = {str(record["trial_id"]) for record in self.records}
        begun = [expected for expected in self.view.expected.values() if expected & seen]
        missing = min((len(expected - seen) for expected in begun), default=0)
        if missing:
            notes.append(f"{missing} of the study's trials have no record on this machine.")
        corrected = [r["correction"]["fields"] for r in self.records if r.get("correction")]
        if corrected:
            names = ", ".join(sorted({name for fields in corrected for name in fields}))
            notes.append(f"Corrected without training in {len(corrected)} records: {names}.")
        orphans = self.num_records - len(seen)
        if orphans:
            notes.append(f"Left out: {orphans} trials that the study no longer asks for.")
        if self.num_failed_sessions:
            notes.append(
                f"Left out: {counted(self.num_failed_sessions, 'later session')} of timing in "
                "which a row failed."
            )
        return (*notes, *self.damage)

    @property
    def damage(self) -> tuple[str, ...]:
        """How many lines could not be read: any of them may be a row that is not shown."""
        if not self.warnings:
            return ()
        return (f"{counted(len(self.warnings), 'unreadable line')} left out.",)


def counted(count: int, noun: str) -> str:
    """A number of things in words.

    >>> counted(1, "line"), counted(2, "line")
    ('1 line', '2 lines')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def load_results(
    results_dir: Path, studies: Sequence[str] | None = None, reference_dir: Path | None = None
) -> list[MachineResults]:
    """One entry for each study and machine with records, in their order.

    Args:
        results_dir: folder with `records/<study>/<machine>.jsonl`.
        studies: names, or paths of Python files that define one; None: all that have records.
        reference_dir: whose budgets own rows were trained by.

    Raises:
        StudyError: a study that was asked for is unknown or has no records.
        SchemaError: lines of another schema.
        BudgetError: a file of budgets holds something else.
    """
    folder = results_dir / "records"
    folders = [results_dir] if reference_dir is None else [reference_dir, results_dir]
    known = sorted(path.name for path in folder.glob("*") if path.is_dir())
    views = [find_view(name, *folders) for name in (known if studies is None else studies)]
    found = []
    for view in views:
        paths = sorted((folder / view.name).glob("*.jsonl"))
        if not paths and studies is not None:
            raise StudyError(f"study {view.name!r} has no records under {folder}")
        found += [load_machine(results_dir, view, path.stem) for path in paths]
    return found


def load_machine(results_dir: Path, view: StudyView, machine: str) -> MachineResults:
    """One study on one machine.

    Raises:
        SchemaError: lines of another schema.
    """
    entries, warnings = record.read(results_dir / "records" / view.name / f"{machine}.jsonl")
    lines, more = costs.read_costs(costs.costs_path(results_dir, view.name, machine))
    records = [entry.raw for entry in record.latest(entries)]
    counting = costs.latest_costs(lines)
    timings = Timings(counting)
    sections = select_sections(records, view, machine, timings, staleness(view.kind))
    arranged = rendering_of(view.rendering).arrange(sections)
    return MachineResults(
        view,
        machine,
        arranged,
        len(records),
        warnings=(*warnings, *more),
        num_failed_sessions=costs.num_failed_since(lines, counting),
    )


def reference_of(reference_dir: Path, study: str) -> MachineResults | None:
    """The reference that own results of a study stand beside; None where there is none."""
    if not (reference_dir / "records" / study).is_dir():
        return None
    return shown_first(load_results(reference_dir, [study]))


def shown_first(results: Sequence[MachineResults]) -> MachineResults | None:
    """The machine with most finished trials: the one that the README shows."""
    present = [result for result in results if result.sections]
    return min(present, key=lambda result: (-result.num_done, result.machine), default=None)
