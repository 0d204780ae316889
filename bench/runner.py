"""From a study to its records: what is there already stays, the rest runs, each result is kept."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench import provenance, record
from bench.digest import closure, code_digest, is_own
from bench.engine.base import Engine, Job, OnEvent
from bench.engine.local import LocalEngine
from bench.engine.preparation import prepare_apart
from bench.progress import Progress
from bench.record import Record
from bench.registry import resolve
from bench.settings import Trial
from bench.study import TRAINING, Kind, Profile, Study

# Outcomes that would be the same again; an error may be gone, and a skip costs nothing to retry.
_SETTLED = ("done", "oom", "timeout")

State = Literal["new", "stale", "retry", "again", "disturbed", "kept", "other shard"]
_STATES_TO_RUN: tuple[State, ...] = ("new", "stale", "retry", "again", "disturbed")

Digest = Callable[[Trial], str]


class RunError(ValueError):
    """A run was asked for that makes no sense."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a study is run.

    Attributes:
        data_dir: where data sources find their files.
        results_dir: records go to `records/<study>/<machine>.jsonl` below it.
        cache_dir: prepared data and the trials' logs.
        profile: which of the study's grids, and what it computes on.
        is_smoke: the study's tiny grid instead.
        only: methods to run; empty for all.
        shard: (i, n): every n-th trial, from the i-th on, counted from 1.
        rerun: run also what is there already.
        max_load: run also what was measured while other processes took more than this share of the
            processor time; None: whatever they took.
        entry: what a trial's process calls; None: what the study's kind says.
    """

    data_dir: Path
    results_dir: Path
    cache_dir: Path
    profile: Profile = "cpu"
    is_smoke: bool = False
    only: tuple[str, ...] = ()
    shard: tuple[int, int] = (1, 1)
    rerun: bool = False
    max_load: float | None = None
    entry: str | None = None

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 1 <= index <= count:
            raise RunError(f"shard is {index}/{count}; expected i/n with 1 ≤ i ≤ n")
        if self.max_load is not None and not 0 <= self.max_load < 1:
            raise RunError(f"max_load is {self.max_load}; expected a share from 0 to below 1")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A trial, and whether it will run.

    Attributes:
        trial: the trial.
        code_digest: of the code that its numbers will depend on.
        state: `new`; `stale` (the code has changed); `retry` (an error); `again` (asked for);
            `disturbed` (the machine was busier than asked for); `kept` (settled, not run);
            `other shard` (not run here).
        previous: its latest record on this machine.
    """

    trial: Trial
    code_digest: str
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
        machine: the record's `machine` block.
        records_path: file that the records go to.
        warnings: lines of that file that could not be read.
    """

    study: Study
    trials: tuple[Planned, ...]
    machine: Mapping[str, Any]
    records_path: Path
    warnings: tuple[str, ...]

    @property
    def to_run(self) -> list[Planned]:
        """Trials to run, shuffled by a hash, so that drift of the machine favours no method."""
        chosen = [planned for planned in self.trials if planned.will_run]
        return sorted(chosen, key=lambda planned: _shuffle_key(self.study, planned.trial))


def trial_digest(trial: Trial, kind: Kind = TRAINING) -> str:
    """Digest of the code that a trial's numbers depend on: shared, its method's, its source's.

    Raises:
        RunError: its method, data source or something that an option names is not registered.
    """
    method = _registered(kind.methods, trial.model.method, "method")
    source = _registered(kind.sources, trial.data.source, "data source")
    entries = [kind.entry, method, source]
    for option, registry, default in kind.options:
        if registry.partition(":")[0] in _modules_behind(method):  # then it takes the option
            name = str(trial.model.options.get(option, default))
            entries.append(_registered(registry, name, option))
    return _digest_of(tuple(entries))


# Many trials share their entries; neither function imports what they name.
_digest_of = functools.cache(code_digest)


@functools.cache
def _modules_behind(entry: str) -> frozenset[str]:
    return frozenset(closure([entry])) if is_own(entry) else frozenset()


def _registered(where: str, name: str, what: str) -> str:
    targets: Mapping[str, str] = resolve(where)
    if name not in targets:
        raise RunError(f"unknown {what} {name!r}; known: {', '.join(sorted(targets))}")
    return targets[name]


def plan_run(study: Study, options: RunOptions, *, digest: Digest | None = None) -> Plan:
    """What a run would do; nothing is started or written.

    `digest` defaults to :func:`trial_digest` for the study's kind.

    Raises:
        RunError: no trial of the study uses a method of `only`, or a name is not registered.
        StudyError: the study has no such profile.
        SchemaError: records of another schema are in the way.
    """
    trials = study.build_smoke() if options.is_smoke else study.build_trials(options.profile)
    _check_methods(study, trials, options.only)
    machine = provenance.machine(
        accelerator=provenance.accelerator_name() if options.profile == "gpu" else None
    )
    slug = provenance.machine_slug(machine)
    path = options.results_dir / "records" / study.name / f"{slug}.jsonl"
    records, warnings = record.read(path)
    previous = {old.trial_id: old for old in records}
    index, count = options.shard
    planned = []
    for position, trial in enumerate(trials):
        if options.only and trial.model.method not in options.only:
            continue
        current = digest(trial) if digest else trial_digest(trial, study.kind)
        old = previous.get(trial.trial_id)
        state: State = "other shard"
        if position % count == index - 1:
            state = _state(old, current, options)
        planned.append(Planned(trial=trial, code_digest=current, state=state, previous=old))
    return Plan(
        study=study,
        trials=tuple(planned),
        machine=machine,
        records_path=path,
        warnings=tuple(warnings),
    )


def run_plan(
    plan: Plan,
    options: RunOptions,
    *,
    progress: Progress | None = None,
    build_engine: Callable[[OnEvent], Engine] | None = None,
) -> list[Record]:
    """Run what a plan says, appending each record as soon as it is there; the new records."""
    to_run = plan.to_run
    progress = progress or Progress.silent()
    entry = options.entry or plan.study.kind.entry
    build_engine = build_engine or functools.partial(_local_engine, options, entry)
    progress.open(
        plan.study.name,
        {planned.trial.trial_id: _expected_seconds(planned) for planned in to_run},
        num_kept=sum(planned.state == "kept" for planned in plan.trials),
    )
    source = provenance.collect(code_digest="", accelerator=plan.machine["accelerator"])
    jobs = [
        Job(
            study=plan.study.name,
            trial=planned.trial,
            study_file=plan.study.file,
            provenance=source | {"code_digest": planned.code_digest, "machine": dict(plan.machine)},
        )
        for planned in to_run
    ]
    new = []
    # Else the first trial's memory peak would be that of parsing. Sources of a user's study file
    # are registered in the trials' processes alone.
    if plan.study.kind.prepares_data and options.entry is None and plan.study.file is None:
        trials = (planned.trial for planned in to_run)
        prepare_apart(trials, options.data_dir.resolve(), options.cache_dir.resolve())
    try:
        for outcome in build_engine(progress.on_event).run(jobs):
            record.append(plan.records_path, outcome)
            new.append(outcome)
            progress.finish(outcome)
    finally:
        progress.close()
    return new


def run_study(
    study: Study,
    options: RunOptions,
    *,
    digest: Digest | None = None,
    progress: Progress | None = None,
) -> list[Record]:
    """Plan and run a study; the new records."""
    return run_plan(plan_run(study, options, digest=digest), options, progress=progress)


def _local_engine(options: RunOptions, entry: str, on_event: OnEvent) -> Engine:
    return LocalEngine(
        data_dir=options.data_dir,
        cache_dir=options.cache_dir,
        accelerator=options.profile,
        on_event=on_event,
        entry=entry,
    )


def _state(old: Record | None, current: str, options: RunOptions) -> State:
    if old is None:
        return "new"
    if options.rerun:
        return "again"
    if old.code_digest != current:
        return "stale"
    share = old.block("load").get("other_cpu_share")
    if options.max_load is not None and share is not None and share > options.max_load:
        return "disturbed"
    return "kept" if old.status in _SETTLED else "retry"


def _check_methods(study: Study, trials: Iterable[Trial], only: tuple[str, ...]) -> None:
    methods = {trial.model.method for trial in trials}
    for method in only:
        if method not in methods:
            raise RunError(
                f"study {study.name} has no trial of method {method!r}; "
                f"it has {', '.join(sorted(methods)) or 'no trials'}"
            )


def _expected_seconds(planned: Planned) -> float | None:
    """Wall time that a trial took before, or else its training budget; None if nothing tells."""
    if planned.previous is not None and planned.previous.status in _SETTLED:
        seconds = planned.previous.block("clock").get("wall_seconds")
        if seconds is not None:
            return float(seconds)
    return planned.trial.train.max_train_seconds


def _shuffle_key(study: Study, trial: Trial) -> str:
    return hashlib.sha256(f"{study.name}\x1f{trial.trial_id}".encode()).hexdigest()
