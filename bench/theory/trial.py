"""A trial of what the papers state, inside its own process: one measurement, no training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.cards import card
from bench.measure.clock import Clocks
from bench.measure.memory import HostPeak, host_current_bytes
from bench.registry import resolve
from bench.settings import SettingsError, Trial, derive_seed
from bench.theory.outcome import Outcome
from bench.theory.sources import data_fingerprint

Emit = Callable[[dict[str, Any]], None]
Measure = Callable[[Trial, int], Outcome]


def execute(
    trial: Trial, *, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    """Measure what the trial's card names and return the parts of its record.

    All draws come from the trial's replicate: the same trial gives the same numbers to the bit.

    Args:
        trial: `data` and `model` hold the options of the measurement; `train` is unused.
        data_dir: unused; nothing is read.
        cache_dir: unused.
        accelerator: `cpu`.
        emit: takes progress events.

    Raises:
        SettingsError: an unknown source, method or option, or another accelerator.
    """
    if accelerator != "cpu":
        raise SettingsError(f"accelerator is {accelerator!r}; expected 'cpu'")
    host_peak = HostPeak()
    fingerprint = data_fingerprint(trial.data, data_dir, cache_dir)
    clocks = Clocks(lambda: None)
    with clocks.measure("setup"):
        emit({"event": "phase", "phase": "build"})
        measure: Measure = resolve(card(trial.model.method, "theory").target)
    baseline = host_current_bytes()
    emit({"event": "phase", "phase": "measure"})
    with clocks.measure("evaluation"):
        found = measure(trial, derive_seed("theory", trial.replicate))
    return {
        "data": dict(found.facts) | {"fingerprint": fingerprint},
        "memory": {
            "host_baseline_bytes": baseline,
            "host_peak_bytes": host_peak.total_bytes(),
        },
        "clock": clocks.to_record(),
        "test": dict(found.test),
        "estimators": {"standard_errors": found.standard_errors, "curves": found.curves},
    }
