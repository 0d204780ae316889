"""Data prepared before the first trial, so that set-up and memory peaks of trials are their own."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from bench.data.prepared import load_dataset
from bench.measure.experiment import Context
from bench.runner.child import Child, ChildFailed
from bench.settings import Trial


def prepare_apart(
    trials: Iterable[Trial], context: Context, note: Callable[[str], None] = lambda text: None
) -> None:
    """Prepare the data of trials in processes of their own; what is bad is left to the trials.

    Args:
        trials: whose data, each once.
        context: its cache takes the prepared data.
        note: takes what a person should know, such as that a damaged entry is built again.
    """

    def emit(event: Mapping[str, Any]) -> None:
        if event["event"] == "note":
            note(str(event.get("text")))

    for trial in {repr(trial.data): trial for trial in trials}.values():
        log = context.cache_dir / "logs" / f"data-{trial.trial_id}.log"
        quiet = dataclasses.replace(context, accelerator="cpu", emit=emit)
        with suppress(ChildFailed), Child(trial, __name__, quiet, log=log) as child:
            child.wait_for("result", math.inf)


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """What the process does: find a trial's data in the cache, or build it."""
    load_dataset(trial.data, context.data_dir, context.cache_dir)
    return {}
