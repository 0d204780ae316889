"""Budgets in seconds as numbers of steps: measured once, written down, then the row's length.

`results/budgets/<study>.json` holds, for a configuration and a budget, the steps that it came to
and the measurement behind it. Nothing but an explicit command writes it.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.errors import UserError, os_message
from bench.settings import Trial
from bench.store.costs import CostLine, best_seconds
from bench.store.files import replace_file
from bench.store.lines import Duration, Id, Positive, RecordError, check

_SCHEMA = 1


class BudgetError(UserError):
    """A budget is not written down, or what is written is none."""


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a budget came to.

    Attributes:
        cost_id: of the configuration.
        budget_seconds: of training steps.
        num_steps: what the configuration is trained with.
        seconds_per_step: as measured.
        measured: when and where: `started_at`, `commit`, `machine`.
        label: the configuration in words, for people who read the file.
    """

    cost_id: Id
    budget_seconds: Duration
    num_steps: Positive
    seconds_per_step: Duration
    measured: dict[str, Any]
    label: str = ""

    @property
    def key(self) -> tuple[str, float]:
        """What it is looked up by."""
        return self.cost_id, float(self.budget_seconds)


class _File(Struct):
    """A study's budgets."""

    budgets: list[Budget]
    study: str = ""


Budgets = Mapping[tuple[str, float], Budget]


def budgets_path(results_dir: Path, study: str) -> Path:
    """File of a study's budgets."""
    return results_dir / "budgets" / f"{study}.json"


def read_budgets(path: Path) -> dict[tuple[str, float], Budget]:
    """Budgets of a file; none where it does not exist.

    Raises:
        BudgetError: the file holds something else.
    """
    try:
        value = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise BudgetError(
            f"{path}: {os_message(error)}; expected the budgets of a study"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BudgetError(f"{path}: {error}; expected the budgets of a study") from None
    schema = value.get("schema") if isinstance(value, dict) else None
    if type(schema) is not int or schema != _SCHEMA:  # `true` is not 1
        raise BudgetError(f"{path}: schema is {reprlib.repr(schema)}; expected {_SCHEMA}")
    try:
        return {budget.key: budget for budget in check(value, _File).budgets}
    except RecordError as error:
        raise BudgetError(f"{path}: {error}; expected the budgets of a study") from None


def write_budgets(path: Path, study: str, budgets: Iterable[Budget]) -> None:
    """Write a study's budgets, all or none."""
    kept = sorted(budgets, key=lambda budget: (budget.label, budget.key))
    value = {
        "schema": _SCHEMA,
        "study": study,
        "budgets": [msgspec.structs.asdict(budget) for budget in kept],
    }
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    replace_file(path, text.encode())


def resolve(trials: Iterable[Trial], budgets: Budgets) -> tuple[list[Trial], list[Trial]]:
    """Trials by steps, and those whose budget nobody has measured.

    Returns:
        Resolved trials in their order, and the unresolved ones.
    """
    resolved, missing = [], []
    for trial in trials:
        seconds = trial.train.budget_seconds
        if seconds is None:
            resolved.append(trial)
            continue
        budget = budgets.get((trial.cost_id, float(seconds)))
        if budget is None:
            missing.append(trial)
        else:
            train = trial.train.with_steps(budget.num_steps)
            resolved.append(dataclasses.replace(trial, train=train))
    return resolved, missing


def set_budgets(
    trials: Iterable[Trial], lines: Iterable[CostLine], describe: Mapping[str, str]
) -> tuple[list[Budget], list[str]]:
    """Budgets of trials from measured costs; what trains in one piece has one step.

    Args:
        trials: those with a budget count.
        lines: costs, one machine's; of a configuration the last line counts.
        describe: cost id → the configuration in words.

    Returns:
        Budgets, and a sentence for each configuration whose seconds a step have not been measured
        or could not be.
    """
    measured: dict[str, tuple[float, bool, dict[str, Any]]] = {}
    failed: dict[str, str] = {}
    for line in lines:
        origin = {
            "started_at": line.started_at,
            "commit": line.provenance.get("commit"),
            "machine": dict(line.machine),
        }
        for row in line.rows:
            by_steps, fit = best_seconds(row, "train"), best_seconds(row, "fit")
            seconds = fit if by_steps is None else by_steps
            if row["status"] != "done":
                failed[row["cost_id"]] = f": {row['status']}, {row.get('reason')}"
            elif seconds is not None:
                measured[row["cost_id"]] = seconds, by_steps is None, origin
    budgets: dict[tuple[str, float], Budget] = {}
    problems: dict[str, str] = {}
    for trial in trials:
        budget = trial.train.budget_seconds
        if budget is None:
            continue
        label = describe.get(trial.cost_id, "")
        if trial.cost_id not in measured:
            problems[trial.cost_id] = (
                f"seconds a step of {label or trial.cost_id} have not been measured"
                f"{failed.get(trial.cost_id, '')}"
            )
            continue
        seconds, is_one_piece, origin = measured[trial.cost_id]
        found = Budget(
            cost_id=trial.cost_id,
            budget_seconds=float(budget),
            num_steps=1 if is_one_piece else max(1, round(budget / seconds)),
            seconds_per_step=seconds,
            measured=origin,
            label=label,
        )
        budgets[found.key] = found
    return list(budgets.values()), list(problems.values())
