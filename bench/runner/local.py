"""The default engine: one trial at a time, each in a fresh process of this machine."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Iterable, Iterator
from typing import Any

from bench.measure.experiment import Context
from bench.runner.child import Child, ChildFailed, merged
from bench.runner.engine import Event, Job, OnEvent
from bench.store import provenance, record
from bench.store.lines import RecordError
from bench.store.record import Record


def _ignore(job: Job, event: Event) -> None:
    """Listener of those who do not listen."""


class LocalEngine:
    """Runs each trial in a process of its own and gives its record, whatever becomes of it.

    Args:
        context: where and on what trials run.
        on_event: takes each trial's start and the events that it emits.
    """

    def __init__(self, context: Context, on_event: OnEvent = _ignore) -> None:
        self._context = context
        self._on_event = on_event

    def run(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Records in the order of the jobs."""
        for job in jobs:
            emit = functools.partial(self._on_event, job)
            yield run_job(job, dataclasses.replace(self._context, emit=emit))


def run_job(job: Job, context: Context) -> Record:
    """Run a trial in a process of this machine; its record.

    All that an engine needs on the machine where a trial runs: nothing is shared but the folders.
    """
    context.emit({"event": "start"})
    started_at = provenance.utc_now()
    began = time.monotonic()
    log = context.cache_dir / "logs" / f"{job.study}-{job.trial.trial_id}.log"
    limit = job.trial.train.trial_timeout_seconds
    ending: dict[str, Any] = {"status": "done", "reason": None}
    try:
        with Child(job.trial, job.entry, context, log=log, study_file=job.study_file) as child:
            message = child.wait_for("result", limit)
        payload, flags = message["payload"], message.get("flags", {})
    except ChildFailed as failure:
        payload, flags = failure.payload, failure.flags
        ending = {"status": failure.status, "reason": failure.reason}
        if failure.status == "timeout":
            ending["reason"] = f"not done after {limit:g} seconds (trial_timeout_seconds)"
    # With the start of the process, which the trial's own clock does not see.
    payload = merged(payload, {"clock": {"wall_seconds": time.monotonic() - began}})
    common: dict[str, Any] = {
        "study": job.study,
        "trial_id": job.trial.trial_id,
        "settings": job.trial.to_dict(),
        "started_at": started_at,
        "versions": dict(job.versions),
        "provenance": dict(job.provenance) | {"flags": flags},
    }
    try:
        return record.build(payload=payload, **ending, **common)
    except RecordError as error:
        reason = f"the trial's result is no record: {error}"
        return record.build(status="error", reason=reason, payload={}, **common)
