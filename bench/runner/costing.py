"""Costs of a study's rows: which are on record, timing the others, and budgets made of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.methods.cards import current_versions, is_older
from bench.methods.labels import RowNames
from bench.runner.plan import SETTLED, RunOptions, installed, machine_of, trials_by_steps
from bench.runner.timing import Group, OnRepetition, Session, groups_of
from bench.settings import Trial
from bench.store import budgets, costs
from bench.store.budgets import Budget, BudgetError, budgets_path
from bench.store.costs import CostLine
from bench.store.hosts import path_of_kind
from bench.store.locks import measuring
from bench.store.provenance import machine_slug
from bench.studies.study import Study

# Of a budget, whose steps would be too few if all of a row's rounds were disturbed.
_EXTRA_ROUNDS = 5


def costs_path(study: Study, options: RunOptions) -> Path:
    """File of a study's costs on this host."""
    slug = machine_slug(machine_of(options.profile))
    return costs.costs_path(options.results_dir, study.name, slug)


def recorded_costs(study: Study, options: RunOptions) -> tuple[list[CostLine], list[str]]:
    """Costs on this host, after those of its kind from before hosts had ids, and warnings."""
    path = costs_path(study, options)
    old, warnings = costs.read_costs(path_of_kind(path))
    own, more = costs.read_costs(path)
    return [*old, *own], [*warnings, *more]


def are_timed(
    lines: Iterable[CostLine], study: Study, trials: Sequence[Trial], *, for_steps: bool = False
) -> bool:
    """Whether costs of all trials are on record, made by code of today's behaviour.

    What failed in the newest session of its table is not, whatever an older one has. For seconds a
    step alone (`for_steps`) any weights will do.
    """
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for line in costs.newest_costs(lines):
        for row in line.rows:
            if row["status"] in SETTLED:
                rows.setdefault(row["cost_id"], []).append(row)
    shared = costs.shared_costs(trials)

    def is_timed(trial: Trial) -> bool:
        current = current_versions(trial, study.kind)
        return any(
            not is_older(row["versions"], current)
            and (for_steps or costs.is_of_weights(row, trial, shared))
            for row in rows.get(trial.cost_id, ())
        )

    return all(map(is_timed, trials))


def time_groups(
    study: Study,
    groups: Sequence[Group],
    options: RunOptions,
    num_rounds: int,
    on_repetition: OnRepetition,
    *,
    num_extra_rounds: int = 0,
) -> Iterator[CostLine]:
    """A line for each group of rows, as soon as its rounds are over; alone on this machine."""
    session = Session(
        study=study,
        context=options.context,
        machine=machine_of(options.profile),
        num_rounds=num_rounds,
        num_extra_rounds=num_extra_rounds,
        on_repetition=on_repetition,
    )
    # What is tiny and not recorded is no measurement.
    with measuring("cost", study.name, alone=not options.is_smoke):
        yield from session.measure(groups)


def time_and_record(
    study: Study,
    trials: Sequence[Trial],
    options: RunOptions,
    num_rounds: int,
    on_repetition: OnRepetition,
) -> Iterator[tuple[Group, CostLine, bool]]:
    """Time trials group by group; each group, its line, and whether that was recorded.

    A part of a table's rows is not; those of peers that are not installed belong to none.
    """
    everything = replace(options, only=(), where=())
    complete = groups_of(study, installed(study, trials_by_steps(study, everything)))
    groups = groups_of(study, trials)
    lines = time_groups(study, groups, options, num_rounds, on_repetition)
    for group, line in zip(groups, lines, strict=True):
        if group in complete:
            costs.append(costs_path(study, options), line)
        yield group, line, group in complete


def set_budgets(
    study: Study,
    trials: Sequence[Trial],
    options: RunOptions,
    names: RowNames,
    recorded: Sequence[CostLine],
    on_repetition: OnRepetition,
) -> list[Budget]:
    """Turn budgets into steps and write them down; by costs on record where all are there.

    Raises:
        BudgetError: a configuration could not be timed; budgets of the others are written down.
    """
    described: dict[str, str] = {}
    for trial in trials:  # the first of a row's replicates
        described.setdefault(trial.cost_id, names.full(trial))
    lines: Iterable[CostLine] = recorded
    if not are_timed(recorded, study, trials, for_steps=True):
        groups = groups_of(study, trials, is_for_steps=True)
        lines = time_groups(
            study,
            groups,
            options,
            study.kind.num_rounds,
            on_repetition,
            num_extra_rounds=_EXTRA_ROUNDS,
        )
    found, problems = budgets.set_budgets(trials, lines, described)
    path = budgets_path(options.results_dir, study.name)
    kept = budgets.read_budgets(path) | {budget.key: budget for budget in found}
    if found:
        budgets.write_budgets(path, study.name, kept.values())
    if problems:
        raise BudgetError("; ".join(problems))
    return found
