"""Running what a plan says: each trial in a process of its own, each record kept at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from bench.runner.engine import Engine, OnEvent, View, build_job
from bench.runner.local import LocalEngine
from bench.runner.plan import Plan, Planned, RunError, RunOptions, plan_run
from bench.runner.preparation import prepare_apart
from bench.store import provenance, record
from bench.store.locks import claimed, measuring
from bench.store.record import Record
from bench.studies.study import Study

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
        engine = (build_engine or partial(local_engine, options))(progress.on_event)
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
    # Else the first trial's memory peak would be that of parsing. Sources of a user's study file
    # are registered in the trials' processes alone.
    if plan.study.kind.prepares_data and plan.study.file is None:
        trials = (planned.trial for planned in to_run)
        prepare_apart(trials, options.context, progress.note)
    source = provenance.collect(accelerator=plan.machine["accelerator"])
    new = []
    try:
        with closing(_claimed(plan, plan.shared, progress)) as shared:
            for planned in shared:
                _take_over(plan, planned, progress)
        with closing(_claimed(plan, to_run, progress)) as mine:
            for planned in mine:
                [outcome] = engine.run([build_job(plan.study, planned.trial, plan.machine, source)])
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


def _take_over(plan: Plan, planned: Planned, progress: View) -> None:
    """Append what another study has recorded of the same trial."""
    old = planned.previous
    assert old is not None, "that is what makes it shared"
    record.append(plan.records_path, record.parse({**old.raw, "study": plan.study.name}))
    progress.pass_over(old, f"in the study {old.study}")


def run_study(study: Study, options: RunOptions, progress: View | None = None) -> list[Record]:
    """Plan and run a study; the new records."""
    return run_plan(plan_run(study, options), options, progress)


def local_engine(options: RunOptions, on_event: OnEvent) -> LocalEngine:
    """The default engine for a run's options."""
    return LocalEngine(options.context, on_event)
