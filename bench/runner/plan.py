"""What a run of a study would do: which of its trials are on record, and which are to run.

`bench.runner.run` runs these, each as a job of `bench.runner.child`.
"""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError
from bench.measure.experiment import Context
from bench.methods.card import TRAINING, Kind
from bench.methods.cards import card, cards, check_options, current_versions, is_older
from bench.methods.labels import RowNames
from bench.settings import DataSpec, SettingsError, Trial
from bench.store import provenance, record
from bench.store.budgets import Budgets, budgets_path, read_budgets, resolve
from bench.store.hosts import own_path, path_of_kind
from bench.store.lines import RecordError
from bench.store.record import Record
from bench.studies.study import Profile, Study, study_names

#: Outcomes that would be the same again; an error may be gone.
SETTLED = ("done", "oom", "timeout")

State = Literal[
    "new",
    "stale",
    "other data",
    "retry",
    "again",
    "kept",
    "shared",
    "other shard",
    "no data",
    "no library",
]
_STATES_TO_RUN: tuple[State, ...] = ("new", "stale", "other data", "retry", "again")

#: Folder of the committed results, and below it of those of whoever runs the suite.
REFERENCE = Path("results")
OWN = REFERENCE / "own"


class RunError(UserError):
    """A run was asked for that makes no sense."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a study is run.

    Attributes:
        data_dir: where data sources find their files.
        results_dir: records go to `records/<study>/<machine>-<host>.jsonl` below it.
        cache_dir: prepared data, weights and the trials' logs.
        profile: which of the study's grids, and what it computes on.
        is_smoke: the study's tiny grid instead.
        only: methods to run; empty for all.
        where: names of settings of data, model or training, and the values, as text, that trials
            must have; of an option and a setting of one name the option counts.
        replicates: run only replicates below this number; None for all of the study.
        shard: (i, n): every n-th trial, from the i-th on, counted from 1.
        rerun: run also what is there already.
        validation_only: score no test point (`bench.measure.experiment.Context`).
        keep_models: keep the weights of every replicate.
        worlds: (a, b): of rows whose method has parts that are trained apart (MACH's worlds), those
            from a to b − 1; their records lie in `worlds/` below the results, their weights are
            kept. None: whole rows.
        num_threads: that each trial computes in; None: as many as its machine has cores.
    """

    data_dir: Path
    results_dir: Path
    cache_dir: Path
    profile: Profile = "cpu"
    is_smoke: bool = False
    only: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    replicates: int | None = None
    shard: tuple[int, int] = (1, 1)
    rerun: bool = False
    validation_only: bool = False
    keep_models: bool = False
    worlds: tuple[int, int] | None = None
    num_threads: int | None = None

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 1 <= index <= count:
            raise RunError(f"shard is {index}/{count}; expected i/n with 1 ≤ i ≤ n")
        for name in ("replicates", "num_threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise RunError(f"{name} is {value}; expected at least 1")

    @property
    def context(self) -> Context:
        """Where trials find and leave files, and what they compute on."""
        profile = self.profile
        if profile == "paper":
            profile = "gpu" if provenance.accelerator_name() else "cpu"
        return Context(
            data_dir=self.data_dir,
            cache_dir=self.cache_dir,
            accelerator=profile,
            validation_only=self.validation_only,
            keep_models=self.keep_models or self.worlds is not None,
        )

    @property
    def records_dir(self) -> Path:
        """Where records go: those of parts lie apart from the study's own rows."""
        return self.results_dir if self.worlds is None else self.results_dir / "worlds"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial, and whether it will run.

    Attributes:
        trial: the trial, by steps.
        state: `new`; `stale` (the code behaves differently since); `other data` (the data has
            changed); `retry` (an error); `again` (asked for); `kept` (settled, not run); `shared`
            (settled in another study's records, whose line is taken over); `other shard` (not run
            here); `no data` (of a published set that is not there); `no library` (of a
            peer that is not installed).
        previous: its latest record on this kind of machine.
    """

    trial: Trial
    state: State
    previous: Record | None

    @property
    def will_run(self) -> bool:
        """Whether it is run now."""
        return self.state in _STATES_TO_RUN

    @property
    def expected_seconds(self) -> float | None:
        """Wall time that the trial took before; None if it is not known."""
        old = self.previous
        return old.wall_seconds if old is not None and old.status in SETTLED else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All trials of a study that were asked for, in the study's order.

    Attributes:
        study: the study.
        trials: its trials and what becomes of them.
        unbudgeted: trials whose budget in seconds nobody has turned into steps yet.
        machine: the record's `machine` block.
        records_path: file that the records go to; those of its kind count as well.
        warnings: lines that could not be read, of these files and of other studies' that may hold
            the same trials; what such a line holds is run again.
        absent: names of the study's optional data sets that are not there.
        uninstalled: libraries of peers that are not there.
        names: what all rows of the study are called, also where few of them were asked for.
    """

    study: Study
    trials: tuple[Planned, ...]
    unbudgeted: tuple[Trial, ...]
    machine: Mapping[str, Any]
    records_path: Path
    warnings: tuple[str, ...]
    absent: tuple[str, ...] = ()
    uninstalled: tuple[str, ...] = ()
    names: RowNames = field(default_factory=RowNames)

    @property
    def claims_path(self) -> Path:
        """What runners on all hosts of the kind claim trials by."""
        return path_of_kind(self.records_path)

    @property
    def shared(self) -> list[Planned]:
        """Trials whose records are another study's."""
        return [planned for planned in self.trials if planned.state == "shared"]

    @property
    def to_run(self) -> list[Planned]:
        """Trials to run, replicate by replicate, shuffled by a hash within each."""
        chosen = [planned for planned in self.trials if planned.will_run]
        return sorted(
            chosen,
            key=lambda planned: (planned.trial.replicate, _shuffle_key(self.study, planned.trial)),
        )


def study_budgets(study: Study, results_dir: Path) -> Budgets:
    """Steps that a study's budgets have come to.

    Those that were set in the results folder itself go before those of the reference, which a
    built-in study falls back to: so that own runs train what the reference trained.
    """
    found = {} if study.file is not None else read_budgets(budgets_path(REFERENCE, study.name))
    return found | read_budgets(budgets_path(results_dir, study.name))


def machine_of(profile: Profile) -> dict[str, Any]:
    """The record's `machine` block for a profile; `paper` takes a GPU where there is one."""
    accelerator = None if profile == "cpu" else provenance.accelerator_name()
    if profile == "gpu" and accelerator is None:
        raise RunError("profile is 'gpu', but torch finds no CUDA device on this machine")
    return provenance.machine(accelerator=accelerator)


def uninstalled_libraries(study: Study, trials: Iterable[Trial]) -> list[str]:
    """Libraries of a study's peers that cannot be imported here."""
    libraries = (card(trial.model.method, study.kind.name).library for trial in trials)
    return [name for name in dict.fromkeys(libraries) if name and find_spec(name) is None]


def installed(study: Study, trials: Iterable[Trial]) -> list[Trial]:
    """Trials but for those of peers that are not here."""
    kept = list(trials)
    missing = uninstalled_libraries(study, kept)
    return [t for t in kept if card(t.model.method, study.kind.name).library not in missing]


def absent_data(study: Study, trials: Iterable[Trial], options: RunOptions) -> list[str]:
    """Names of a study's optional data sets whose files are not there."""
    fingerprint = _fingerprints(study.kind, options)
    specs = {
        trial.data.name: trial.data for trial in trials if trial.data.name in study.optional_data
    }
    return [name for name, spec in specs.items() if fingerprint(spec) is None]


def require_training(study: Study) -> None:
    """Refuse a study whose trials train nothing.

    Raises:
        RunError: it is of another kind.
    """
    if study.kind.name != TRAINING.name:
        raise RunError(f"study {study.name} is of {study.kind.name}; expected one that trains")


def chosen_trials(study: Study, options: RunOptions) -> list[Trial]:
    """A study's trials that were asked for, in its order, budgets not yet resolved.

    Raises:
        RunError: no trial has a method of `only` or a setting of `where`.
        StudyError: the study has no such profile.
    """
    trials = study.build_smoke() if options.is_smoke else study.build_trials(options.profile)
    methods = {trial.model.method for trial in trials}
    for method in options.only:
        if method not in methods:
            raise RunError(
                f"study {study.name} has no trial of method {method!r}; "
                f"it has {', '.join(sorted(methods)) or 'no trials'}"
            )
    if options.only:
        trials = [trial for trial in trials if trial.model.method in options.only]
    for name, value in options.where:
        trials = _with_setting(trials, name, value)
    most = options.replicates
    return [trial for trial in trials if most is None or trial.replicate < most]


def trials_by_steps(study: Study, options: RunOptions) -> list[Trial]:
    """A study's trials that were asked for, by steps where their budgets have been written down."""
    chosen = chosen_trials(study, options)
    if options.is_smoke:
        return chosen
    resolved, missing = resolve(chosen, study_budgets(study, options.results_dir))
    return [*resolved, *missing]


def _with_setting(trials: Sequence[Trial], name: str, value: str) -> list[Trial]:
    """Trials in which a setting of data, model or training has a value, given as text."""
    settings = [_settings_of(trial) for trial in trials]
    known = sorted({str(each[name]) for each in settings if name in each})
    if not known:
        names = sorted({name for each in settings for name in each})
        raise RunError(f"no trial has a setting {name!r}; expected {', '.join(names)}")
    found = [
        trial
        for trial, each in zip(trials, settings, strict=True)
        if name in each and _is_written(each[name], value)
    ]
    if not found:
        raise RunError(f"no trial has {name} = {value!r}; there are {', '.join(known)}")
    return found


def _settings_of(trial: Trial) -> dict[str, Any]:
    specs = (vars(spec) for spec in (trial.train, trial.data, trial.model))
    found = dict(itertools.chain.from_iterable(spec.items() for spec in specs))
    found |= {**trial.data.options, **trial.model.options}
    return {name: value for name, value in found.items() if name != "options"}


def _is_written(value: Any, text: str) -> bool:
    """Whether a text is a value as Python writes it, or the same number written otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) == text
    try:
        return float(text) == value
    except ValueError:
        return False


def names_of_rows(study: Study, options: RunOptions, records: Sequence[Record] = ()) -> RowNames:
    """What the rows of a study are called, whichever of them were asked for."""
    everything = replace(options, only=(), where=(), replicates=None)
    names = RowNames(trials_by_steps(study, everything), study.kind.name, study.part)
    for old in records:
        if task := old.block("data").get("task"):
            names.tasks[str(old.settings["data"]["name"])] = str(task)
    return names


def plan_run(study: Study, options: RunOptions, machine: Mapping[str, Any] | None = None) -> Plan:
    """What a run would do; nothing is started or written.

    Args:
        study: the study.
        options: which of its trials, and where things are.
        machine: the record's `machine` block, where trials do not run on this one.

    Raises:
        RunError: see :func:`chosen_trials`; there is no GPU for its profile, or a trial's precision
            needs one.
        StudyError: the study has no such profile.
        SettingsError: a method is not known, or does not take its options.
        DataError: a data source is not known.
        SchemaError: records of another schema are in the way.
    """
    missing: list[Trial] = []
    wanted = chosen_trials(study, options)
    _check_precision(wanted, options.profile)
    absent = absent_data(study, wanted, options)
    uninstalled = uninstalled_libraries(study, wanted)
    if not options.is_smoke:
        wanted, missing = resolve(wanted, study_budgets(study, options.results_dir))
    if options.worlds is not None:
        wanted, missing = _parts(wanted, missing, study, options.worlds), []
    machine = machine or machine_of(options.profile)
    slug = provenance.machine_slug(machine)
    path = own_path(options.records_dir / "records" / study.name, slug)
    records, warnings = record.read_kind(path)
    previous = {old.trial_id: old for old in records}
    lacking = {trial.trial_id for trial in wanted} - set(previous)
    elsewhere, more = _records_of_others(study, path, lacking)
    fingerprint = _fingerprints(study.kind, options)
    index, count = options.shard
    planned = []
    for position, trial in enumerate(wanted):
        versions = current_versions(trial, study.kind)
        old = previous.get(trial.trial_id)
        state: State = "other shard"
        if position % count == index - 1:
            state = _state(old, trial, versions, fingerprint, options)
            other = elsewhere.get(trial.trial_id)
            if _state(other, trial, versions, fingerprint, options) == "kept":
                state, old = "shared", other
            if state not in ("kept", "shared"):
                if trial.data.name in absent:
                    state = "no data"
                elif card(trial.model.method, study.kind.name).library in uninstalled:
                    state = "no library"
        planned.append(Planned(trial=trial, state=state, previous=old))
    # What is left out for want of a library is wrong all the same if its settings are.
    checked = [each.trial for each in planned if each.will_run or each.state == "no library"]
    _check_methods(study.kind, [*checked, *missing])
    return Plan(
        study=study,
        trials=tuple(planned),
        unbudgeted=tuple(missing),
        machine=machine,
        records_path=path,
        warnings=(*warnings, *more),
        absent=tuple(absent),
        uninstalled=tuple(uninstalled),
        names=names_of_rows(study, options, records),
    )


def _parts(
    trials: Sequence[Trial], missing: Sequence[Trial], study: Study, worlds: tuple[int, int]
) -> list[Trial]:
    """Some of the worlds of each trial that has any."""
    kind = study.kind.name
    parts = {each.name: each.part for each in cards(kind) if each.part is not None}
    for trial in missing:
        if trial.model.method in parts:
            raise RunError(
                f"budget_seconds of {RowNames(kind=kind).full(trial)} has not been turned into "
                "steps, which each machine would do otherwise; expected num_steps or num_epochs"
            )
    found = []
    for trial in trials:
        if (part := parts.get(trial.model.method)) is not None:
            try:
                found.append(replace(trial, model=part(trial.model, *worlds)))
            except SettingsError as error:
                raise SettingsError(f"{RowNames(kind=kind).full(trial)}: {error}") from None
    if not found:
        raise RunError(
            f"no trial that was asked for has worlds; expected one of {', '.join(parts) or 'none'}"
        )
    return found


def _records_of_others(
    study: Study, path: Path, trial_ids: set[str]
) -> tuple[dict[str, Record], list[str]]:
    """Latest records of trials among those that the other built-in studies have on a machine.

    Those of a user's study file may be of another method or source of the same name. What of the
    others cannot be read is in their way, not in this study's: there is a warning of it.
    """
    found: dict[str, Record] = {}
    warnings: list[str] = []
    if study.file is not None or not trial_ids:
        return found, warnings
    for name in study_names():
        if name == study.name:
            continue
        try:
            records, more = record.read_kind(path.parent.with_name(name) / path.name)
        except RecordError as error:
            warnings.append(str(error))
            continue
        warnings += more
        found |= {each.trial_id: each for each in records if each.trial_id in trial_ids}
    return found, warnings


Fingerprint = Callable[[DataSpec], "str | None"]


def _fingerprints(kind: Kind, options: RunOptions) -> Fingerprint:
    """Fingerprint of a spec's data as it is now; each asked for once."""
    if not kind.sources:
        return lambda spec: None
    sources = importlib.import_module(kind.sources)
    known: dict[str, str | None] = {}

    def fingerprint(spec: DataSpec) -> str | None:
        key = repr(spec)
        if key not in known:
            known[key] = sources.data_fingerprint(spec, options.data_dir, options.cache_dir)
        return known[key]

    return fingerprint


def _state(
    old: Record | None,
    trial: Trial,
    versions: Mapping[str, int],
    fingerprint: Fingerprint,
    options: RunOptions,
) -> State:
    if old is None:
        return "new"
    if options.rerun:
        return "again"
    if is_older(old.versions, versions):
        return "stale"
    was = old.block("data").get("fingerprint")
    if was is not None and fingerprint(trial.data) not in (None, was):
        return "other data"
    if old.status == "timeout":
        limit = old.settings["train"].get("trial_timeout_seconds", 0)
        return "kept" if limit >= trial.train.trial_timeout_seconds else "retry"
    return "kept" if old.status in SETTLED else "retry"


def _check_precision(trials: Iterable[Trial], profile: Profile) -> None:
    if profile == "cpu" and any(trial.train.precision == "16-mixed" for trial in trials):
        raise RunError(
            "a trial's precision is '16-mixed' and the profile 'cpu', which has no float16 "
            "training; expected 'bf16-mixed' or '32-true'"
        )


def _check_methods(kind: Kind, trials: Iterable[Trial]) -> None:
    """Refuse what a method would refuse in the trial's process, before any trial starts."""
    if kind.name != TRAINING.name:
        return
    for trial in trials:
        try:
            check_options(trial.model, trial.train)
        except SettingsError as error:
            name = RowNames(kind=kind.name).full(trial)
            raise SettingsError(f"{name}: {error}") from None


def _shuffle_key(study: Study, trial: Trial) -> str:
    return hashlib.sha256(f"{study.name}\x1f{trial.trial_id}".encode()).hexdigest()
