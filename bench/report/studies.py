"""What reports know of a study, and whether a record is of today's versions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data.source import DataError
from bench.methods.kinds import KINDS
from bench.methods.versions import current_versions, is_older
from bench.report.sections import IsStale, StudyView
from bench.report.summary import Record
from bench.settings import SettingsError, Trial
from bench.store.budgets import Budgets, budgets_path, read_budgets, resolve
from bench.studies.study import Study, StudyError, load_study


def find_view(name_or_path: str, *folders: Path) -> StudyView:
    """View of a study; one that accepts every record where the name is not registered.

    A user's study lives in a file of his own, so its records may stand here without it.

    Args:
        name_or_path: as `bench.studies.study.load_study` takes it.
        folders: results folders whose budgets tell how long rows are trained; later ones win.

    Raises:
        StudyError: no such file, or it defines no study.
        BudgetError: a file of budgets holds something else.
    """
    try:
        study = load_study(name_or_path)
    except StudyError:
        if name_or_path.endswith(".py"):
            raise
        return StudyView(name=name_or_path)
    budgets: Budgets = {}
    for folder in folders:
        budgets = {**budgets, **read_budgets(budgets_path(folder, study.name))}
    return view_study(study, budgets)


def view_study(study: Study, budgets: Budgets) -> StudyView:
    """View of a study; the smoke trials belong to it too, they only ever have folders of their own.

    Raises:
        StudyError: the study asks for one trial twice.
    """
    by_profile = {
        str(profile): resolve(study.build_trials(profile), budgets)[0] for profile in study.profiles
    }
    # Nobody has to have brought optional data.
    expected = {
        name: frozenset(t.trial_id for t in trials if t.data.name not in study.optional_data)
        for name, trials in by_profile.items()
    }
    known = {trial.trial_id for trials in by_profile.values() for trial in trials}
    smoke = frozenset(trial.trial_id for trial in study.build_smoke())
    return StudyView(
        name=study.name,
        metrics=tuple(study.primary_metrics),
        trial_ids=smoke | known,
        expected=expected,
        part_of=functools.partial(_part_of, study),
        published=study.published,
        curves=study.curves,
        quantities=study.quantities,
        figures=study.figures,
        kind=study.kind.name,
        shown_as=study.shown_as,
    )


def _part_of(study: Study, settings: Mapping[str, Any]) -> str:
    try:
        return study.part(Trial.from_dict(settings))
    except SettingsError:
        return ""


def staleness(kind: str) -> IsStale:
    """Tells whether a record was made by an older version of its method, source or protocol.

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
