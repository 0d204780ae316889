"""Running what a plan says: each trial in a process of its own, each record kept at once.

`LocalEngine` runs one trial after another here; `bench.runner.child` is what it runs one by. An
engine on other machines calls :func:`bench.runner.child.run_job` there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Protocol

from bench.measure.experiment import Context
from bench.methods.labels import RowNames
from bench.runner.child import Child, ChildFailed, Job, build_job, run_job
from bench.runner.plan import Plan, Planned, RunError, RunOptions, plan_run
from bench.settings import Trial
from bench.store import provenance, record
from bench.store.hosts import files_of_kind
from bench.store.locks import LOOK_SECONDS, Lock, claimed, measuring
from bench.store.record import Record
from bench.studies.study import Study

Event = Mapping[str, Any]
OnEvent = Callable[[Job, Event], None]


class Engine(Protocol):
    """Runs trials and gives one record for each, whatever becomes of it."""

    def prepare(self, trials: Sequence[Trial], note: Callable[[str], None]) -> None:
        """Prepare the trials' data wherever they may run, so that their own peaks are without it.

        Args:
            trials: those to come.
            note: takes what a person should know, such as that a damaged entry is built again.
        """
        ...

    def run(self, jobs: Iterable[Job | None]) -> Generator[Record]:
        """Records as trials end, in any order; closed, it ends the trials that still run.

        A job is asked for when it can start: it is then kept from other runners until its record
        has been given. None in its place: others have what is left in hand, so ask again later.
        """
        ...


class LocalEngine:
    """Runs one trial at a time, each in a fresh process of this machine."""

    def __init__(self, context: Context, on_event: OnEvent = lambda job, event: None) -> None:
        self._context = context
        self._on_event = on_event

    def prepare(self, trials: Sequence[Trial], note: Callable[[str], None]) -> None:
        """Prepare the trials' data here."""
        prepare_apart(trials, self._context, note)

    def run(self, jobs: Iterable[Job | None]) -> Generator[Record]:
        """Records in the order of the jobs."""
        for job in jobs:
            if job is None:
                time.sleep(LOOK_SECONDS)
                continue
            emit = functools.partial(self._on_event, job)
            record = run_job(job, dataclasses.replace(self._context, emit=emit))
            yield record
            # Whoever asks for the next one has written this; a timeout may be given longer.
            if record.status in ("done", "oom"):
                self._context.forget_checkpoints(job.trial)


class View:
    """Follows the trials of one study; shows nothing but what is overridden."""

    def open(
        self,
        name: str,
        expected: Mapping[str, float | None],
        *,
        num_kept: int,
        names: RowNames | None = None,
        trials: Iterable[Trial] = (),
        before: Iterable[tuple[Trial, float]] = (),
    ) -> None:
        """A study begins.

        Args:
            name: of the study.
            expected: trial ids to run → seconds that each took before, None if it did not.
            num_kept: trials that have a record already.
            names: what its rows are called.
            trials: those to run: the seconds of one are a forecast of another's.
            before: finished trials and the seconds that each took.
        """

    def on_event(self, job: Job, event: Event) -> None:
        """A trial has emitted an event."""

    def finish(self, record: Record) -> None:
        """A trial is over."""

    def pass_over(self, record: Record, how: str = "by another runner") -> None:
        """A trial has been done elsewhere."""

    def note(self, text: str) -> None:
        """Something to know that is about no trial's end."""

    def close(self) -> None:
        """The study is over, or was broken off."""


BuildEngine = Callable[[OnEvent], Engine]


def run_plan(
    plan: Plan,
    options: RunOptions,
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
        if build_engine is None:
            engine: Engine = LocalEngine(options.context, progress.on_event)
        else:
            engine = build_engine(progress.on_event)
        return _run_divided(plan, options, progress, engine)


def _run_divided(plan: Plan, options: RunOptions, progress: View, engine: Engine) -> list[Record]:
    """Run what no other runner of the same records has in hand or done."""
    to_run = plan.to_run
    progress.open(
        plan.study.name,
        {planned.trial.trial_id: planned.expected_seconds for planned in to_run}
        | {planned.trial.trial_id: 0.0 for planned in plan.shared},
        num_kept=sum(planned.state == "kept" for planned in plan.trials),
        names=plan.names,
        trials=(planned.trial for planned in to_run),
        before=[
            (planned.trial, seconds)
            for planned in plan.trials
            if (seconds := planned.expected_seconds) is not None
            and planned.previous is not None
            and planned.previous.status == "done"
        ],
    )
    # Sources of a user's study file are registered in the trials' processes alone.
    if plan.study.kind.prepares_data and plan.study.file is None:
        engine.prepare([planned.trial for planned in to_run], progress.note)
    source = provenance.collect(accelerator=plan.machine["accelerator"])
    threads = options.num_threads
    new = []
    held: dict[str, Lock] = {}
    try:
        with closing(_claimed(plan, plan.shared, progress)) as shared:
            for planned in shared:
                if planned is None:
                    time.sleep(LOOK_SECONDS)
                else:
                    _take_over(plan, planned, progress)
        with closing(_claimed(plan, to_run, progress, held)) as mine:
            jobs = (
                None
                if each is None
                else build_job(plan.study, each.trial, plan.machine, source, threads)
                for each in mine
            )
            with closing(engine.run(jobs)) as outcomes:
                for outcome in outcomes:
                    record.append(plan.records_path, outcome)
                    held.pop(outcome.trial_id).release()
                    new.append(outcome)
                    progress.finish(outcome)
    finally:
        for lock in held.values():
            lock.release()
        progress.close()
    return new


def _claimed(
    plan: Plan, trials: Sequence[Planned], progress: View, held: dict[str, Lock] | None = None
) -> Generator[Planned | None]:
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
    return claimed(plan.claims_path, by_id, is_over, progress.note, held)


def _reader(path: Path) -> Callable[[], Mapping[str, Record]]:
    """Reads the latest record of each trial by a kind of machine, anew where a file has changed."""
    known: dict[str, Record] = {}
    sizes: dict[Path, int] = {}

    def read() -> Mapping[str, Record]:
        nonlocal sizes
        now = {each: each.stat().st_size for each in files_of_kind(path)}
        if now != sizes:
            sizes = now
            known.update((each.trial_id, each) for each in record.read_kind(path)[0])
        return known

    return read


def _take_over(plan: Plan, planned: Planned, progress: View) -> None:
    """Append what another study has recorded of the same trial."""
    old = planned.previous
    assert old is not None, "that is what makes it shared"
    record.append(plan.records_path, record.parse({**old.raw, "study": plan.study.name}))
    progress.pass_over(old, f"in the study {old.study}")


def run_study(study: Study, options: RunOptions, progress: View | None = None) -> list[Record]:
    """Plan and run a study; the new records."""
    return run_plan(plan_run(study, options), options, progress)


def prepare_apart(trials: Iterable[Trial], context: Context, note: Callable[[str], None]) -> None:
    """Prepare the data of trials in processes of their own; what is bad is left to the trials.

    So that set-up and memory peaks of the trials are their own.
    """
    for trial in {repr(trial.data): trial for trial in trials}.values():
        with suppress(ChildFailed):
            facts_of(trial, context, note)


def facts_of(
    trial: Trial, context: Context, note: Callable[[str], None], study_file: Path | None = None
) -> Mapping[str, Any]:
    """Facts of a trial's data, as records have them, prepared in a process of its own.

    Raises:
        ChildFailed: it cannot be prepared.
    """

    def emit(event: Mapping[str, Any]) -> None:
        if event["event"] == "note":
            note(str(event.get("text")))

    log = context.cache_dir / "logs" / f"data-{trial.trial_id}.log"
    quiet = dataclasses.replace(context, accelerator="cpu", emit=emit)
    with Child(trial, "bench.data.prepared", quiet, log=log, study_file=study_file) as child:
        payload = child.wait_for("result", math.inf)["payload"]
    facts: Mapping[str, Any] = payload["data"]
    return facts
