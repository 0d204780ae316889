"""What reports know of a study, and whether a record's code is still the current one."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import Any

from bench.report.select import Record, StudyView, dig
from bench.settings import SettingsError, Trial
from bench.study import TRAINING, Kind, Study, StudyError, load_study


def view_study(study: Study) -> StudyView:
    """View of a study; the smoke trials belong to it too, they only ever have folders of their own.

    Raises:
        StudyError: the study asks for one trial twice.
    """
    by_profile = {
        str(profile): frozenset(trial.trial_id for trial in study.build_trials(profile))
        for profile in study.profiles
    }
    smoke = frozenset(trial.trial_id for trial in study.build_smoke())
    return StudyView(
        name=study.name,
        metrics=tuple(study.primary_metrics),
        trial_ids=smoke.union(*by_profile.values()),
        expected=by_profile,
        part_of=functools.partial(_part_of, study),
        published=study.published,
        kind=study.kind,
    )


def find_view(name: str) -> StudyView:
    """View of a registered study; one that accepts every record where the name is not registered.

    A user's study lives in a file of his own, so its records may stand here without it.
    """
    try:
        study = load_study(name)
    except StudyError:
        return StudyView(name=name)
    return view_study(study)


def _part_of(study: Study, settings: Mapping[str, Any]) -> str:
    try:
        return study.part(Trial.from_dict(settings))
    except SettingsError:
        return ""


def kind_of(name: str) -> Kind:
    """Kind of a registered study; a user's own, whose file is not at hand, trains."""
    try:
        return load_study(name).kind
    except StudyError:
        return TRAINING


def staleness() -> Callable[[Record], bool]:
    """Tells whether a record was measured with code that has since changed.

    A record whose settings no longer make a trial is stale as well. Of one whose method or data
    source is not registered (a user's own, in a file that is not at hand) nothing is claimed.
    """
    from bench.runner import RunError, trial_digest

    @functools.cache
    def is_current(study: str, settings: str, digest: str) -> bool:
        try:
            trial = Trial.from_dict(json.loads(settings))
            return trial_digest(trial, kind_of(study)) == digest
        except SettingsError:
            return False
        except RunError:
            return True

    def is_stale(record: Record) -> bool:
        settings = json.dumps(record["settings"], sort_keys=True)
        digest = str(dig(record, "provenance", "code_digest"))
        return not is_current(str(record["study"]), settings, digest)

    return is_stale
