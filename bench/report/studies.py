"""Which trials a study asks for, and whether a record is of today's versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.data.source import DataError
from bench.errors import StudyError
from bench.methods.card import KINDS
from bench.methods.cards import current_versions, is_older
from bench.report.sections import IsStale
from bench.report.summary import Record
from bench.settings import SettingsError, Trial
from bench.store.budgets import Budgets, budgets_path, read_budgets, resolve
from bench.studies.study import Study, load_study


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
    known = {trial.trial_id for trials in profiles for trial in trials}
    kept = [record for record in records if record["trial_id"] in known]
    seen = {str(record["trial_id"]) for record in kept}
    # Nobody has to have imported optional data.
    expected = [
        {t.trial_id for t in trials if t.data.name not in study.optional_data}
        for trials in profiles[:-1]
    ]
    return kept, min((len(ids - seen) for ids in expected if ids & seen), default=0)


def staleness(kind: str) -> IsStale:
    """Predicate: whether a record was made by an older version of its method, source or protocol.

    A record whose settings no longer make a trial is stale as well. Of one whose method or data
    source is not registered (a user's own, in a file that is not at hand) nothing is claimed.
    """

    def is_stale(record: Record) -> bool:
        try:
            trial = Trial.from_dict(record["settings"])
        except SettingsError:
            return True
        try:
            current = current_versions(trial, KINDS[kind])
        except (SettingsError, DataError):
            return False
        return is_older(record.get("versions") or {}, current)

    return is_stale
