"""Results folders: what was recorded of each study on each machine, selected for reporting.

That is what the study still asks for; `bench.report.sections` makes rows of it.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.data.source import DataError
from bench.errors import StudyError
from bench.methods.card import Kind
from bench.methods.cards import choices_of, current_versions, is_older
from bench.report.render import counted
from bench.report.renderers import rendering_of
from bench.report.sections import Section, select_sections
from bench.report.summary import Record, Timings
from bench.settings import SettingsError, Trial
from bench.store import costs, record
from bench.store.budgets import Budgets, budgets_path, read_budgets, resolve
from bench.store.hosts import files_of_kind, kind_of
from bench.studies.study import Study, load_study


@dataclass(frozen=True)
class MachineResults:
    """One study on one kind of machine.

    Attributes:
        machine: the kind, whose hosts' records are one another's; costs are of one host a table.
        num_records: latest records of distinct trials.
        num_missing: trials of the profile that was begun without a record.
        warnings: one for each line of records or costs that could not be read, and is left out.
        num_failed_sessions: sessions of timing since those shown, in which a row failed.
        num_other_sessions: sessions of timing that would count, but for another host's.
    """

    study: Study
    machine: str
    sections: tuple[Section, ...]
    num_records: int
    num_missing: int = 0
    warnings: tuple[str, ...] = ()
    num_failed_sessions: int = 0
    num_other_sessions: int = 0

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record that the study asks for."""
        return tuple(record for section in self.sections for record in section.records)

    @property
    def has_methods(self) -> bool:
        """Whether any row is more than a trivial baseline."""
        return any(section.trained for section in self.sections)

    @property
    def num_done(self) -> int:
        """Trials that finished."""
        return sum(record.get("status") == "done" for record in self.records)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes about records that are not in the tables."""
        notes = []
        seen = {str(record["trial_id"]) for record in self.records}
        if self.num_missing:
            has = "has" if self.num_missing == 1 else "have"
            notes.append(
                f"{self.num_missing} of the study's trials {has} no record on this machine."
            )
        corrected = [r["correction"]["fields"] for r in self.records if r.get("correction")]
        if corrected:
            names = ", ".join(sorted({name for fields in corrected for name in fields}))
            notes.append(
                f"Corrected without training in {counted(len(corrected), 'record')}: {names}."
            )
        orphans = self.num_records - len(seen)
        if orphans:
            notes.append(
                f"Left out: {counted(orphans, 'trial')} that the study no longer asks for."
            )
        if self.num_failed_sessions:
            notes.append(
                f"Left out: {counted(self.num_failed_sessions, 'later session')} of timing in "
                "which a row failed."
            )
        if self.num_other_sessions:
            notes.append(
                f"Left out: {counted(self.num_other_sessions, 'session')} of timing on other hosts "
                "of this kind."
            )
        return (*notes, *self.damage)

    @property
    def damage(self) -> tuple[str, ...]:
        """How many lines could not be read: any of them may be a row that is not shown."""
        if not self.warnings:
            return ()
        return (f"{counted(len(self.warnings), 'unreadable line')} left out.",)


def load_results(
    results_dir: Path, studies: Sequence[str] | None = None, reference_dir: Path | None = None
) -> list[MachineResults]:
    """One entry for each study and kind of machine with records, in their order.

    Args:
        results_dir: folder with `records/<study>/<machine>-<host>.jsonl`.
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
    found = []
    for study in [find_study(name) for name in (known if studies is None else studies)]:
        trials = trials_of(study, *folders)
        paths = sorted((folder / study.name).glob("*.jsonl"))
        if not paths and studies is not None:
            raise StudyError(f"study {study.name!r} has no records under {folder}")
        kinds = sorted({kind_of(path) for path in paths})
        loaded = [load_machine(results_dir, study, kind, trials) for kind in kinds]
        # Of rows that have left a study, the trivial ones beside them may still be asked for.
        found += [each for each in loaded if each.has_methods] or loaded
    return found


def load_machine(
    results_dir: Path, study: Study, machine: str, trials: Sequence[Sequence[Trial]]
) -> MachineResults:
    """One study on one kind of machine."""
    name = f"{machine}.jsonl"
    entries, warnings = record.read_kind(results_dir / "records" / study.name / name)
    paths = files_of_kind(results_dir / "costs" / study.name / name)
    hosts = [costs.read_costs(path) for path in paths]
    records = [entry.raw for entry in record.latest(entries)]
    kept, num_missing = asked_for(records, study, trials)
    candidates = [costs.latest_costs(lines) for lines, _ in hosts]
    counting = costs.of_one_host(candidates)
    timings = Timings(counting)
    sections = select_sections(kept, study, machine, timings, partial(is_stale, kind=study.kind))
    return MachineResults(
        study,
        machine,
        rendering_of(study).arrange(sections),
        len(records),
        num_missing,
        warnings=(*warnings, *(warning for _, more in hosts for warning in more)),
        num_failed_sessions=sum(
            costs.num_failed_since(lines, own)
            for (lines, _), own in zip(hosts, candidates, strict=True)
        ),
        num_other_sessions=sum(map(len, candidates)) - len(counting),
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


class _UnknownStudy(Study):
    """What stands for a study whose file is not at hand: its name is that of a folder."""

    def __post_init__(self) -> None:
        """Checks nothing."""


def find_study(name_or_path: str) -> Study:
    """A study; one without profiles, whose records are all shown, where the name is not registered.

    A user's study lives in a file of his own, so its records may stand here without it.

    Raises:
        StudyError: no such file, or it defines no study.
    """
    try:
        return load_study(name_or_path)
    except StudyError:
        if name_or_path.endswith(".py"):
            raise
        return _UnknownStudy(
            name=name_or_path, claim="", trials=lambda profile: [], smoke=list, profiles=()
        )


def trials_of(study: Study, *folders: Path) -> list[list[Trial]]:
    """Trials of each profile, and last the smoke trials, which only ever have folders of their own.

    Budgets of the results folders decide how long rows are trained; later ones win.
    """
    budgets: Budgets = {}
    for folder in folders:
        budgets = {**budgets, **read_budgets(budgets_path(folder, study.name))}
    profiles = [resolve(study.build_trials(profile), budgets)[0] for profile in study.profiles]
    return [*profiles, study.build_smoke()]


def asked_for(
    records: Sequence[Record], study: Study, profiles: Sequence[Sequence[Trial]]
) -> tuple[list[Record], int]:
    """Records of the study's trials, and how many trials of the profile that was begun have none.

    All records are those of a study without profiles.
    """
    if not study.profiles:
        return list(records), 0
    made = {record["trial_id"] for record in records}
    profiles = [[_as_made(trial, made, study.kind) for trial in trials] for trials in profiles]
    known = {trial.trial_id for trials in profiles for trial in trials}
    kept = [record for record in records if record["trial_id"] in known]
    seen = {str(record["trial_id"]) for record in kept}
    # Nobody has to have imported optional data.
    expected = [
        {t.trial_id for t in trials if t.data.name not in study.optional_data}
        for trials in profiles[:-1]
    ]
    return kept, min((len(ids - seen) for ids in expected if ids & seen), default=0)


def _as_made(trial: Trial, trial_ids: Container[str], kind: Kind) -> Trial:
    """A trial as its machine's memory had it (`Card.choices`), where it has been run."""
    choices = choices_of(trial, kind)
    return next((each for each in choices if each.trial_id in trial_ids), choices[0])


def is_stale(record: Record, kind: Kind) -> bool:
    """Whether a record was made by an older version of its method, source or protocol.

    A record whose settings no longer make a trial is stale as well. Of one whose method or data
    source is not registered (a user's own, in a file that is not at hand) nothing is claimed.
    """
    try:
        trial = Trial.from_dict(record["settings"])
    except SettingsError:
        return True
    try:
        current = current_versions(trial, kind)
    except (SettingsError, DataError):
        return False
    return is_older(record.get("versions") or {}, current)
