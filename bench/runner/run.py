"""From a study to its records: what is there already stays, the rest runs, each result is kept."""

from __future__ import annotations

import hashlib
import importlib
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench.errors import UserError
from bench.measure.experiment import Accelerator, Context
from bench.methods.cards import card, check_options
from bench.methods.kinds import TRAINING, Kind
from bench.methods.labels import RowNames
from bench.methods.versions import current_versions, is_older
from bench.runner.engine import Engine, Job, OnEvent, View
from bench.runner.local import LocalEngine
from bench.runner.preparation import prepare_apart
from bench.settings import DataSpec, SettingsError, Trial
from bench.store import provenance, record
from bench.store.budgets import Budgets, budgets_path, read_budgets, resolve
from bench.store.lines import RecordError
from bench.store.locks import claimed, measuring
from bench.store.record import Record
from bench.studies.study import Profile, Study, study_names

#: Outcomes that would be the same again; an error may be gone.
SETTLED = ("done", "oom", "timeout")

BuildEngine = Callable[[OnEvent], Engine]

State = Literal[
    "new", "stale", "other data", "retry", "again", "kept", "shared", "other shard", "no data"
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
        results_dir: records go to `records/<study>/<machine>.jsonl` below it.
        cache_dir: prepared data, weights and the trials' logs.
        profile: which of the study's grids, and what it computes on.
        is_smoke: the study's tiny grid instead.
        only: methods to run; empty for all.
        where: names of settings of data, model or training, and the values, as text, that trials
            must have; of an option and a setting of one name the option counts.
        replicates: run only replicates below this number; None for all of the study.
        shard: (i, n): every n-th trial, from the i-th on, counted from 1.
        rerun: run also what is there already.
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

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 1 <= index <= count:
            raise RunError(f"shard is {index}/{count}; expected i/n with 1 ≤ i ≤ n")
        if self.replicates is not None and self.replicates < 1:
            raise RunError(f"replicates is {self.replicates}; expected at least 1")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial, and whether it will run.

    Attributes:
        trial: the trial, by steps.
        versions: of method, source and protocol that it will be run with.
        state: `new`; `stale` (the code behaves differently since); `other data` (the data has
            changed); `retry` (an error); `again` (asked for); `kept` (settled, not run); `shared`
            (settled in another study's records, whose line is taken over); `other shard` (not run
            here); `no data` (of a published set that nobody has brought).
        previous: its latest record on this machine.
    """

    trial: Trial
    versions: Mapping[str, int]
    state: State
    previous: Record | None

    @property
    def will_run(self) -> bool:
        """Whether it is run now."""
        return self.state in _STATES_TO_RUN


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All trials of a study that were asked for, in the study's order.

    Attributes:
        study: the study.
        trials: its trials and what becomes of them.
        unbudgeted: trials whose budget in seconds nobody has turned into steps yet.
        machine: the record's `machine` block.
        records_path: file that the records go to.
        warnings: lines that could not be read, of that file and of other studies' that may hold the
            same trials; what such a line holds is run again.
        absent: names of the study's optional data sets that nobody has brought.
        names: what the rows of the whole study are called, also where few of them were asked for.
    """

    study: Study
    trials: tuple[Planned, ...]
    unbudgeted: tuple[Trial, ...]
    machine: Mapping[str, Any]
    records_path: Path
    warnings: tuple[str, ...]
    absent: tuple[str, ...] = ()
    names: RowNames = field(default_factory=RowNames)

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

    Raises:
        BudgetError: a file holds something else.
    """
    found = {} if study.file is not None else read_budgets(budgets_path(REFERENCE, study.name))
    return found | read_budgets(budgets_path(results_dir, study.name))


def machine_of(profile: Profile) -> dict[str, Any]:
    """The record's `machine` block for a profile; `paper` takes a GPU where there is one.

    Raises:
        RunError: the profile wants a GPU, and there is none.
    """
    accelerator = None if profile == "cpu" else provenance.accelerator_name()
    if profile == "gpu" and accelerator is None:
        raise RunError("profile is 'gpu', but torch finds no CUDA device on this machine")
    return provenance.machine(accelerator=accelerator)


def accelerator_of(profile: Profile) -> Accelerator:
    """What a profile computes on."""
    if profile == "paper":
        return "gpu" if provenance.accelerator_name() else "cpu"
    return profile


def absent_data(study: Study, trials: Iterable[Trial], options: RunOptions) -> list[str]:
    """Names of a study's optional data sets whose files are not there."""
    fingerprint = _fingerprints(study.kind, options)
    specs = {
        trial.data.name: trial.data for trial in trials if trial.data.name in study.optional_data
    }
    return [name for name, spec in specs.items() if fingerprint(spec) is None]


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


def timed_trials(study: Study, options: RunOptions) -> list[Trial]:
    """A study's trials that were asked for, by steps where their budgets have been written down.

    Raises:
        RunError: see :func:`chosen_trials`.
        StudyError: the study has no such profile.
        BudgetError: a file of budgets holds something else.
    """
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
        if name in each and _is_said(each[name], value)
    ]
    if not found:
        raise RunError(f"no trial has {name} = {value!r}; there are {', '.join(known)}")
    return found


def _settings_of(trial: Trial) -> dict[str, Any]:
    specs = (vars(spec) for spec in (trial.train, trial.data, trial.model))
    found = dict(itertools.chain.from_iterable(spec.items() for spec in specs))
    found |= {**trial.data.options, **trial.model.options}
    return {name: value for name, value in found.items() if name != "options"}


def _is_said(value: Any, text: str) -> bool:
    """Whether a text is a value as Python writes it, or the same number written otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value) == text
    try:
        return float(text) == value
    except ValueError:
        return False


def names_of_rows(study: Study, options: RunOptions, records: Sequence[Record] = ()) -> RowNames:
    """What the rows of a study are called, whichever of them were asked for.

    Args:
        study: the study.
        options: tell the profile, and where budgets are.
        records: of the study; they tell the task of data.
    """
    rows = chosen_trials(study, replace(options, only=(), where=(), replicates=None))
    if not options.is_smoke:
        resolved, missing = resolve(rows, study_budgets(study, options.results_dir))
        rows = [*resolved, *missing]
    names = RowNames(rows, study.kind.name, study.part)
    for old in records:
        if task := old.block("data").get("task"):
            names.tasks[str(old.settings["data"]["name"])] = str(task)
    return names


def plan_run(study: Study, options: RunOptions) -> Plan:
    """What a run would do; nothing is started or written.

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
    if not options.is_smoke:
        wanted, missing = resolve(wanted, study_budgets(study, options.results_dir))
    machine = machine_of(options.profile)
    slug = provenance.machine_slug(machine)
    path = options.results_dir / "records" / study.name / f"{slug}.jsonl"
    records, warnings = record.read(path)
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
            if trial.data.name in absent and state not in ("kept", "shared"):
                state = "no data"
        planned.append(Planned(trial=trial, versions=versions, state=state, previous=old))
    to_run = [each.trial for each in planned if each.will_run]
    _check_methods(study.kind, [*to_run, *missing])
    return Plan(
        study=study,
        trials=tuple(planned),
        unbudgeted=tuple(missing),
        machine=machine,
        records_path=path,
        warnings=(*warnings, *more),
        absent=tuple(absent),
        names=names_of_rows(study, options, records),
    )


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
            records, more = record.read(path.parent.with_name(name) / path.name)
        except RecordError as error:
            warnings.append(str(error))
            continue
        warnings += more
        found |= {each.trial_id: each for each in records if each.trial_id in trial_ids}
    return found, warnings


def run_plan(
    plan: Plan,
    options: RunOptions,
    *,
    progress: View | None = None,
    build_engine: BuildEngine | None = None,
) -> list[Record]:
    """Run what a plan says, appending each record as soon as it is there; the new records.

    Other runners of the same records may be at work: each trial is run by one of them. What another
    has in hand is waited for, and run here if it dies.

    Raises:
        RunError: a trial's length is a budget that nobody has measured.
    """
    if plan.unbudgeted:
        raise RunError(
            f"{len(plan.unbudgeted)} trials of {plan.study.name} have a budget in seconds that has "
            f"not been turned into steps, such as {plan.names.full(plan.unbudgeted[0])}; "
            f"`bench budget {plan.study.file or plan.study.name}` measures and writes it down"
        )
    progress = progress or View()
    with measuring("run", plan.study.name) as others:
        for other, command in others.items():
            if command in ("cost", "budget"):
                progress.note(f"{other} measures seconds on this machine, which a run disturbs")
        return _run_divided(plan, options, progress, build_engine or partial(local_engine, options))


def _run_divided(
    plan: Plan, options: RunOptions, progress: View, build_engine: BuildEngine
) -> list[Record]:
    """Run what no other runner of the same records has in hand or done."""
    to_run = plan.to_run
    progress.open(
        plan.study.name,
        {planned.trial.trial_id: _expected_seconds(planned) for planned in to_run}
        | {planned.trial.trial_id: 0.0 for planned in plan.shared},
        num_kept=sum(planned.state == "kept" for planned in plan.trials),
        names=plan.names,
        trials=(planned.trial for planned in to_run),
        before=_seconds_before(plan),
    )
    # Else the first trial's memory peak would be that of parsing. Sources of a user's study file
    # are registered in the trials' processes alone.
    if plan.study.kind.prepares_data and plan.study.file is None:
        trials = (planned.trial for planned in to_run)
        prepare_apart(trials, context_of(options), progress.note)
    engine = build_engine(progress.on_event)
    source = provenance.collect(accelerator=plan.machine["accelerator"])
    new = []
    try:
        with closing(_claimed(plan, plan.shared, progress)) as shared:
            for planned in shared:
                _take_over(plan, planned, progress)
        with closing(_claimed(plan, to_run, progress)) as mine:
            for planned in mine:
                [outcome] = engine.run([_job(plan, planned, source)])
                record.append(plan.records_path, outcome)
                new.append(outcome)
                progress.finish(outcome)
    finally:
        progress.close()
    return new


def _claimed(plan: Plan, trials: Sequence[Planned], progress: View) -> Generator[Planned]:
    """Those of a plan's trials that no other runner has in hand or has recorded since the plan."""
    read_again = _reader(plan.records_path)

    def is_over(planned: Planned) -> bool:
        newest = read_again().get(planned.trial.trial_id)
        before = planned.previous
        if newest is None or (before is not None and newest.raw == before.raw):
            return False
        progress.pass_over(newest)
        return True

    by_id = {planned.trial.trial_id: planned for planned in trials}
    return claimed(plan.records_path, by_id, is_over, progress.note)


def _reader(path: Path) -> Callable[[], Mapping[str, Record]]:
    """Reads the latest record of each trial in a file, anew where that has changed."""
    known: dict[str, Record] = {}
    size = -1

    def read() -> Mapping[str, Record]:
        nonlocal size
        now = path.stat().st_size if path.exists() else 0
        if now != size:
            size = now
            known.update((each.trial_id, each) for each in record.read(path)[0])
        return known

    return read


def _seconds_before(plan: Plan) -> Iterator[tuple[Trial, float]]:
    """Trials of a plan that have finished before, and the seconds that each took."""
    for planned in plan.trials:
        seconds = _expected_seconds(planned)
        if seconds is not None and planned.previous and planned.previous.status == "done":
            yield planned.trial, seconds


def _take_over(plan: Plan, planned: Planned, progress: View) -> None:
    """Append what another study has recorded of the same trial."""
    old = planned.previous
    assert old is not None, "that is what makes it shared"
    record.append(plan.records_path, record.parse({**old.raw, "study": plan.study.name}))
    progress.pass_over(old, f"in the study {old.study}")


def _job(plan: Plan, planned: Planned, source: Mapping[str, Any]) -> Job:
    return Job(
        study=plan.study.name,
        trial=planned.trial,
        entry=card(planned.trial.model.method, plan.study.kind.name).entry,
        versions=planned.versions,
        study_file=plan.study.file,
        provenance={**source, "machine": dict(plan.machine)},
    )


def run_study(study: Study, options: RunOptions, *, progress: View | None = None) -> list[Record]:
    """Plan and run a study; the new records."""
    return run_plan(plan_run(study, options), options, progress=progress)


def local_engine(options: RunOptions, on_event: OnEvent) -> LocalEngine:
    """The default engine for a run's options."""
    return LocalEngine(context_of(options), on_event)


def context_of(options: RunOptions) -> Context:
    """Where and on what trials run."""
    return Context(
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        accelerator=accelerator_of(options.profile),
    )


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


def _expected_seconds(planned: Planned) -> float | None:
    """Wall time that a trial took before; None if nothing tells."""
    if planned.previous is not None and planned.previous.status in SETTLED:
        seconds = planned.previous.block("clock").get("wall_seconds")
        if seconds is not None:
            return float(seconds)
    return None


def _shuffle_key(study: Study, trial: Trial) -> str:
    return hashlib.sha256(f"{study.name}\x1f{trial.trial_id}".encode()).hexdigest()
