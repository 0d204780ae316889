"""Tunes a study by its rule (`bench.studies.tuning`): tries are trials, run like all others.

Records, budgets and claims of tries lie in a results folder of their own, `tuning/`, so that a
second command goes on where one was broken off, and several divide the tries. Nothing of the test
split is scored.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import msgspec

from bench.methods.labels import RowNames, in_words
from bench.runner.child import ChildFailed
from bench.runner.costing import set_budgets
from bench.runner.plan import (
    RunError,
    RunOptions,
    chosen_trials,
    machine_of,
    plan_run,
    require_training,
    study_budgets,
)
from bench.runner.run import View, facts_of, run_plan
from bench.runner.timing import OnRepetition
from bench.settings import Trial
from bench.store import provenance, record
from bench.store.budgets import BudgetError, resolve
from bench.store.files import replace_file
from bench.store.locks import Busy
from bench.store.record import Record
from bench.studies.study import Study
from bench.studies.tuned import Tuned, TunedMethod, tuned_path
from bench.studies.tuning import (
    Space,
    Try,
    Tuning,
    best_of,
    data_of,
    in_full,
    points_for,
    spaces_of,
)

#: Of timing the seconds a step of what is tried.
NUM_ROUNDS = 3
_LOOK_SECONDS = 2.0
# What a method without steps may train for at least, all tries together; and how much longer its
# process may live, to set up and to be scored.
_LEAST_SECONDS = 60.0
_SPARE_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class Watcher:
    """Who follows a tuning.

    Attributes:
        view: makes what shows the trials of a phase.
        timing: while it is open, takes repetitions of the rows that it is given the names of.
        note: takes a line.
    """

    view: Callable[[], View]
    timing: Callable[[RowNames], AbstractContextManager[OnRepetition]]
    note: Callable[[str], None]


class Tuner:
    """One command's part in tuning a study.

    Args:
        study: what is tuned.
        tuning: the rule's numbers.
        options: profile and folders of a run; results go into `tuning/` and `tuned/` below its own.
        watcher: who follows.

    Attributes:
        spaces: what is searched, of each method.
        tries: method → its tries of the first rung, once they have been made.
    """

    def __init__(self, study: Study, tuning: Tuning, options: RunOptions, watcher: Watcher) -> None:
        self.study, self.tuning, self.watcher = study, tuning, watcher
        self.results_dir = options.results_dir
        require_training(study)
        start = study.start
        first = study if start is None else replace(study, trials=lambda profile: start())
        trials = chosen_trials(first, options)
        self.options = replace(
            options,
            results_dir=options.results_dir / "tuning",
            only=(),
            where=(),
            replicates=None,
            validation_only=True,
            is_smoke=False,
        )
        self.metric = study.primary_metrics[0]
        data = data_of(trials)
        try:
            facts = facts_of(trials[0], self.options.context, watcher.note, study.file)
        except ChildFailed as failure:
            raise RunError(f"{study.name}: {failure.reason}") from None
        self.num_points = int(facts["num_validation_points"])
        self.spaces = spaces_of(
            [trial for trial in trials if trial.data == data],
            tuning,
            num_labels=int(facts["num_labels"]),
            task=str(facts["task"]),
            is_smoke=options.is_smoke,
        )
        self._points = points_for(tuning)
        self.tries: Mapping[str, Sequence[Try]] = {}

    def tune(self) -> Tuned:
        """Make all tries that are not on record, and write down what they come to."""
        started_at = provenance.utc_now()
        rule = self.tuning
        spread = (rule.tries + 1) // 2
        tries = self._tries(
            {space.card.name: space.first_tries(self._points, spread) for space in self.spaces},
            allowed=spread,
        )
        points = self._points[2 * rule.tries :]
        self._add(tries, {}, points, rule.tries - spread, allowed=rule.tries)
        edges = {s.card.name: s.edges(tries[s.card.name], self.num_points) for s in self.spaces}
        is_wider = bool(rule.reserve) and any(edges.values())
        if is_wider:
            names = [name for name, found in edges.items() if found]
            self.watcher.note(
                f"{self.study.name}: best at an edge: {', '.join(names)}; all methods get "
                f"{rule.reserve} more tries"
            )
            points = self._points[4 * rule.tries :]
            self._add(tries, edges, points, rule.reserve, allowed=rule.tries + rule.reserve)
        self.tries = tries
        finals = self._finals(tries) if self.tuning.first_share < 1 else {}
        outcome = self._outcome(tries, finals, is_wider=is_wider, started_at=started_at)
        path = tuned_path(self.results_dir, self.study.name)
        text = json.dumps(msgspec.to_builtins(outcome), indent=1, ensure_ascii=False)
        replace_file(path, f"{text}\n".encode())
        return outcome

    def _add(
        self,
        tries: dict[str, list[Try]],
        edges: Mapping[str, Mapping[str, int]],
        points: Sequence[Sequence[float]],
        count: int,
        *,
        allowed: int,
    ) -> None:
        """Make further tries of every method, around its best."""
        wanted = {
            space.card.name: space.near_tries(
                tries[space.card.name], edges.get(space.card.name, {}), points, count
            )
            for space in self.spaces
        }
        for name, found in self._tries(wanted, tries, allowed=allowed).items():
            tries[name] += found

    def _seconds(self, count: int) -> float | None:
        """Of training, that so many tries of a method have; None where lengths are no seconds."""
        budgets = (space.base.train.budget_seconds for space in self.spaces)
        seconds = next(filter(None, budgets), None)
        return None if seconds is None else count * seconds

    def _tries(
        self,
        wanted: Mapping[str, Sequence[Trial]],
        before: Mapping[str, Sequence[Try]] | None = None,
        *,
        allowed: int,
    ) -> dict[str, list[Try]]:
        """Tries of every method, in order.

        Args:
            wanted: method → its tries.
            before: those that were made.
            allowed: a method without steps stops once it has trained for as long as so many tries.
        """
        by_steps = {space.card.name for space in self.spaces if space.trains_by_steps}
        found: dict[str, list[Try]] = {name: [] for name in wanted}
        together = [
            trial for name, trials in wanted.items() if name in by_steps for trial in trials
        ]
        for each in self._run(together):
            found[each.trial.model.method].append(each)
        seconds = max(self._seconds(allowed) or float("inf"), _LEAST_SECONDS)
        others = [name for name in wanted if name not in by_steps]
        for index in range(max((len(wanted[name]) for name in others), default=0)):
            turn = []
            for name in others:
                earlier = [*(before or {}).get(name, ()), *found[name]]
                left = seconds - sum(each.train_seconds for each in earlier)
                if index < len(wanted[name]) and left > 0:
                    turn.append(_limited(wanted[name][index], left))
            for each in self._run(turn):
                own = wanted[each.trial.model.method][index]  # without this turn's limit of time
                found[own.model.method].append(dataclasses.replace(each, trial=own))
        return found

    def _run(self, trials: Sequence[Trial]) -> list[Try]:
        """Run trials that are not on record; what came of each, in their order."""
        if not trials:
            return []
        phase = dataclasses.replace(
            self.study,
            trials=lambda profile: list(trials),
            smoke=lambda: list(trials),
            part=lambda trial: "",
            kind=replace(self.study.kind, num_rounds=NUM_ROUNDS),
            published=(),
            optional_data=(),
        )
        reasons = self._budget(phase, trials)
        timed = [trial for trial in trials if trial.trial_id not in reasons]
        found: dict[str, Record] = {}
        if timed:
            phase = dataclasses.replace(phase, trials=lambda profile: timed)
            plan = plan_run(phase, self.options)
            run_plan(plan, self.options, self.watcher.view())
            records, warnings = record.read_kind(plan.records_path)
            for warning in warnings:
                self.watcher.note(warning)
            found = {each.trial_id: each for each in records}
        budgets = study_budgets(self.study, self.options.results_dir)
        tries = []
        for trial in trials:
            resolved, _ = resolve([trial], budgets)
            mine = found.get(resolved[0].trial_id) if resolved else None
            tries.append(self._outcome_of(trial, mine, reasons.get(trial.trial_id)))
        return tries

    def _budget(self, phase: Study, trials: Sequence[Trial]) -> dict[str, str]:
        """Turn budgets into steps, once; trials of which that cannot be done, and why."""
        noted = False
        while True:
            _, missing = resolve(trials, study_budgets(self.study, self.options.results_dir))
            if not missing:
                return {}
            names = RowNames(trials, self.study.kind.name)
            try:
                with self.watcher.timing(names) as on_repetition:
                    set_budgets(phase, missing, self.options, names, (), on_repetition)
            except Busy as busy:
                # Another command times the same rows, or runs their tries.
                if not noted:
                    self.watcher.note(str(busy))
                    noted = True
                time.sleep(_LOOK_SECONDS)
            except BudgetError as error:
                _, missing = resolve(trials, study_budgets(self.study, self.options.results_dir))
                return {trial.trial_id: str(error) for trial in missing}

    def _outcome_of(self, trial: Trial, found: Record | None, reason: str | None) -> Try:
        if found is None:
            return Try(trial, None, 0.0, reason=reason or "it has no record")
        seconds = found.wall_seconds or 0.0
        if found.status != "done":
            return Try(trial, None, seconds, seconds, f"{found.status}: {found.reason}")
        trained = found.block("clock").get("train_seconds") or 0.0
        curve = found.block("training").get("curve") or []
        values = [point["metrics"].get(self.metric) for point in curve]
        known = [value for value in values if value is not None]
        if not known:
            reason = f"{self.metric} was not measured on validation"
            return Try(trial, None, seconds, trained, reason)
        return Try(trial, max(known), seconds, trained)

    def _finals(self, tries: Mapping[str, Sequence[Try]]) -> dict[str, list[Try]]:
        """The best tries of each method at full length, several times."""
        wanted: list[Trial] = []
        for space in self.spaces:
            if not space.trains_by_steps:
                continue
            ranked = sorted(
                (each for each in tries[space.card.name] if each.value is not None),
                key=lambda each: -(each.value or 0.0),
            )
            for each in ranked[: self.tuning.num_finalists]:
                wanted += [
                    in_full(each.trial, self.tuning, replicate)
                    for replicate in range(self.tuning.num_replicates)
                ]
        found: dict[str, list[Try]] = {}
        for each in self._run(wanted):
            found.setdefault(each.trial.model.method, []).append(each)
        return found

    def _outcome(
        self,
        tries: Mapping[str, Sequence[Try]],
        finals: Mapping[str, Sequence[Try]],
        *,
        is_wider: bool,
        started_at: str,
    ) -> Tuned:
        every = [each.trial for found in tries.values() for each in found]
        allowed = self.tuning.tries + (self.tuning.reserve if is_wider else 0)
        methods, failed = [], {}
        for space in self.spaces:
            name = space.card.name
            made = tries[name]
            best = best_of(_means(finals[name]) if name in finals else made)
            if best is None or best.value is None:
                reasons = [each.reason for each in made if each.reason]
                failed[name] = reasons[0] if reasons else "no try was made"
                continue
            curve = [best_of(made[: index + 1]) for index in range(len(made))]
            methods.append(
                TunedMethod(
                    method=name,
                    settings=dataclasses.replace(best.trial, replicate=0).to_dict(),
                    text=in_words(space.card, space.values_of(best.trial)),
                    value=best.value,
                    default=made[0].value,
                    best_so_far=[each.value if each else None for each in curve],
                    num_tries=len(made),
                    num_failed=sum(each.value is None for each in made),
                    seconds=self._seconds(len(made) if space.trains_by_steps else allowed),
                    wall_seconds=sum(each.seconds for each in (*made, *finals.get(name, ()))),
                    edges=space.edges(made, self.num_points),
                    distances=_distances(space, made, best),
                )
            )
        machine = machine_of(self.options.profile)
        return Tuned(
            study=self.study.name,
            metric=self.metric,
            data=data_of(every).name,
            num_validation_points=self.num_points,
            rule={
                **dataclasses.asdict(self.tuning),
                "methods": [space.card.name for space in self.spaces],
                "seconds": self._seconds(1),
                "is_reserve_used": is_wider,
                "points": f"scrambled Sobol of Optuna {version('optuna')}",
            },
            made={
                "started_at": started_at,
                "commit": provenance.collect(accelerator=machine["accelerator"]).get("commit"),
                "machine": machine,
            },
            methods=methods,
            failed=failed,
        )


def _limited(trial: Trial, seconds: float) -> Trial:
    """A trial that may train no longer; its id stays."""
    limit = seconds + _SPARE_SECONDS
    train = dataclasses.replace(trial.train, trial_timeout_seconds=limit)
    return dataclasses.replace(trial, train=train)


def _means(finals: Iterable[Try]) -> list[Try]:
    """Finalists with the mean over their replicates; one that failed once has none."""
    groups: dict[str, list[Try]] = {}
    for each in finals:
        key = dataclasses.replace(each.trial, replicate=0).trial_id
        groups.setdefault(key, []).append(each)
    found = []
    for group in groups.values():
        values = [each.value for each in group if each.value is not None]
        mean = statistics.fmean(values) if len(values) == len(group) else None
        found.append(Try(group[0].trial, mean, sum(each.seconds for each in group)))
    return found


def _distances(space: Space, tries: Sequence[Try], best: Try) -> dict[str, int]:
    found: dict[str, int] = {}
    for dimension in space.dimensions.values():
        if not dimension.is_ordered:
            continue
        tried: list[Any] = [space.values_of(each.trial)[dimension.name] for each in tries]
        levels = sorted(set(tried))
        at = levels.index(space.values_of(best.trial)[dimension.name])
        found[dimension.name] = min(at, len(levels) - 1 - at)
    return found
