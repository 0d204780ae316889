"""What rows leave to the memory of their machine, decided before they run (`Card.choices`).

By the machine's whole memory, not by what is free at the moment: machines of one kind decide alike,
and a row is the same trial tomorrow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from bench.methods.arithmetic import Accelerator, DataSizes, predict_memory
from bench.methods.cards import card, choices_of
from bench.runner.child import ChildFailed
from bench.runner.plan import RunError, RunOptions, machine_of
from bench.runner.run import facts_of
from bench.settings import SettingsError, Trial
from bench.store import provenance
from bench.studies.study import Study

# Of a machine's memory, what a training may need by arithmetic; the rest is for other processes.
_SHARE = 0.5
_GIB = 2**30
_facts: dict[tuple[str, ...], Mapping[str, Any] | None] = {}


def decided(
    study: Study,
    options: RunOptions,
    machine: Mapping[str, Any] | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Study:
    """A study whose trials leave nothing to be decided; the data of those that did is prepared.

    Args:
        study: any.
        options: of the run that is to come.
        machine: the record's `machine` block, where trials do not run on this one.
        note: takes what a person should know of the data.

    Raises:
        RunError: the memory of the accelerator is not known here.
    """
    trials = study.build_smoke() if options.is_smoke else study.build_trials(options.profile)
    if all(choices_of(trial, study.kind) == [trial] for trial in trials):
        return study
    machine = machine or machine_of(options.profile)
    most = _SHARE * _memory_bytes(options, machine)
    accelerator: Accelerator = "cpu" if machine["accelerator"] is None else "gpu"

    def fits(trial: Trial) -> bool:
        own = card(trial.model.method, study.kind.name)
        facts = _facts_of(trial, study, options, note)
        if facts is None:  # it cannot be prepared, as its own process will say
            return True
        if options.worlds is not None and own.part is not None:
            with suppress(SettingsError):
                trial = dataclasses.replace(trial, model=own.part(trial.model, *options.worlds))
        needed = predict_memory(trial, DataSizes.of_facts(facts), accelerator=accelerator)
        return needed.total <= most

    found = []
    for trial in trials:
        *first, least = choices_of(trial, study.kind)
        found.append(next(filter(fits, first), least))
    return dataclasses.replace(study, trials=lambda profile: found, smoke=lambda: found)


def _memory_bytes(options: RunOptions, machine: Mapping[str, Any]) -> float:
    if machine["accelerator"] is not None:
        known = provenance.accelerator_bytes()
        if known is None:
            raise RunError(
                f"the memory of {machine['accelerator']} is not known here, where there is none; "
                "expected a number in place of 'auto'"
            )
        return known
    return float("inf") if machine["memory_bytes"] is None else _whole(machine["memory_bytes"])


def _whole(num_bytes: int) -> float:
    """In GiB, as machines are told apart: a system keeps now more, now less of it for itself."""
    return round(num_bytes / _GIB) * _GIB


def _facts_of(
    trial: Trial, study: Study, options: RunOptions, note: Callable[[str], None]
) -> Mapping[str, Any] | None:
    """Facts of a trial's data, asked for once; None where it cannot be prepared."""
    key = (repr(trial.data), str(options.data_dir), str(options.cache_dir))
    if key not in _facts:
        _facts[key] = None
        with suppress(ChildFailed):
            _facts[key] = facts_of(trial, options.context, note, study.file)
    return _facts[key]
