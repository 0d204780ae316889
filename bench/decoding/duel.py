"""Contenders of a decode study timed in turns, in one process: load from elsewhere meets them all.

The study's trials have a process each, minutes apart, so that a slow minute can meet one of them
alone. A claim about the ratio of two contenders is checked here, round by round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bench.decoding.contenders import CONTENDERS, Contender, build_contender
from bench.decoding.scores import Problem, build_problem
from bench.settings import DataSpec, ModelSpec, Scalar, SettingsError, Trial

#: Queries that a contender is handed at once, and how often in a turn, after once untimed.
TURNS: Mapping[int, int] = {64: 2, 1: 20}
# A pair goes on until one of them is reached, but for a few rounds in any case.
_MAX_ROUNDS = 25
_MAX_SECONDS = 15.0
_MIN_ROUNDS = 5

Now = Callable[[], float]


@dataclass(frozen=True)
class Duel:
    """Contenders that meet at one problem.

    Attributes:
        data: the problem.
        k: labels wanted.
        models: two or more; the first is the reference.
    """

    data: DataSpec
    k: int
    models: tuple[ModelSpec, ...]

    @property
    def settings(self) -> dict[str, Scalar]:
        """What tells the problem from others."""
        own: dict[str, Scalar] = {"scores": self.data.name, "k": self.k}
        return own | dict(self.data.options)


@dataclass(frozen=True)
class Outcome:
    """A contender against the reference.

    Attributes:
        batch_size: queries at once.
        reference_seconds: of the reference, a query; median of the turns.
        seconds: of the contender, a query; median of the turns.
        ratio: contender's time ÷ reference's; median of the rounds.
        spread: first and third quartile of the rounds' ratios.
    """

    batch_size: int
    reference_seconds: float
    seconds: float
    ratio: float
    spread: tuple[float, float]


def duels_of(
    trials: Sequence[Trial], methods: Sequence[str] = (), where: Mapping[str, str] | None = None
) -> list[Duel]:
    """The problems at which several of the methods are tried.

    Args:
        trials: of a study of kind `decoding`.
        methods: contenders, the reference first; none: all, in the order of their registry.
        where: setting of a problem (see :attr:`Duel.settings`) → the value it must have, as text.

    Raises:
        SettingsError: no trial has such a method, no problem such a setting, or none is left.
    """
    tried = {trial.model.method for trial in trials}
    for method in methods:
        if method not in tried:
            raise SettingsError(
                f"no trial of method {method!r}; there are {', '.join(sorted(tried))}"
            )
    order = {name: place for place, name in enumerate(methods or CONTENDERS)}
    groups: dict[tuple[str, int], list[Trial]] = {}
    for trial in trials:
        if trial.model.method in order:
            key = (repr(trial.data), int(str(trial.model.options["k"])))
            groups.setdefault(key, []).append(trial)
    duels = [
        Duel(same[0].data, k, tuple(sorted((t.model for t in same), key=lambda m: _rank(m, order))))
        for (_, k), same in groups.items()
        if len(same) > 1
    ]
    if not duels:
        raise SettingsError("no problem is tried with two of these contenders")
    for name, value in (where or {}).items():
        known = {str(duel.settings[name]) for duel in duels if name in duel.settings}
        if not known:
            names = sorted({name for duel in duels for name in duel.settings})
            raise SettingsError(f"problems have no setting {name!r}; expected {', '.join(names)}")
        if value not in known:
            raise SettingsError(
                f"no problem of two such contenders has {name} = {value!r}; "
                f"there are {', '.join(sorted(known))}"
            )
        duels = [duel for duel in duels if str(duel.settings.get(name)) == value]
    return duels


def _rank(model: ModelSpec, order: Mapping[str, int]) -> tuple[int, int]:
    """Plain forms of a method before those with options."""
    return order[model.method], len(model.options)


def fight(
    duel: Duel, *, data_dir: Path, cache_dir: Path, now: Now = time.perf_counter
) -> Iterator[tuple[ModelSpec, Outcome]]:
    """Times each contender against the reference, two at a time, at each batch size.

    Only two hold their indexes at once. All are given the same queries.

    Args:
        duel: who meets at what.
        data_dir: where data sets lie.
        cache_dir: where scores of trained models are kept.
        now: clock, in seconds.
    """
    with _flushed_denormals():
        problem = build_problem(duel.data, data_dir, cache_dir)
        first, *others = duel.models
        reference = _prepared(first, problem)
        for model in others:
            pair = reference, _prepared(model, problem)
            for batch_size, num_timed in TURNS.items():
                rounds = list(_rounds(pair, batch_size, num_timed, now))
                yield model, _outcome(batch_size, rounds)


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """As in a trial, which has a process of its own and leaves them so."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _prepared(model: ModelSpec, problem: Problem) -> tuple[Contender, Tensor]:
    """A contender, and the queries as it is handed them."""
    contender = build_contender(model.method, problem, model.options)
    return contender, contender.prepare_queries(problem.scores)


def _rounds(
    pair: Sequence[tuple[Contender, Tensor]], batch_size: int, num_timed: int, now: Now
) -> Iterator[tuple[float, float]]:
    """Seconds a query of reference and rival, in each of the rounds."""
    for turn in (0, 1):  # compiled, and pages touched, off the clock
        _turn(*pair[turn], batch_size, 0, num_timed, now)
    began = now()
    for number in range(_MAX_ROUNDS):
        seconds = [0.0, 0.0]
        # Whoever comes second finds the queries in cache: by turns.
        for turn in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[turn] = _turn(*pair[turn], batch_size, number * num_timed, num_timed, now)
        yield seconds[0], seconds[1]
        if number + 1 >= _MIN_ROUNDS and now() - began > _MAX_SECONDS:
            return


def _turn(
    contender: Contender, queries: Tensor, batch_size: int, start: int, num_timed: int, now: Now
) -> float:
    """Seconds a query of some calls, after an untimed one that finds the caches as it likes."""
    num_batches = max(queries.shape[0] // batch_size, 1)
    taken = []
    for number in range(start - 1, start + num_timed):
        place = number % num_batches * batch_size
        batch = queries[place : place + batch_size]
        began = now()
        contender.top_k(batch)
        taken.append((now() - began) / batch.shape[0])
    return statistics.median(taken[1:])


def _outcome(batch_size: int, rounds: Sequence[tuple[float, float]]) -> Outcome:
    low, ratio, high = statistics.quantiles(
        [own / ours for ours, own in rounds], method="inclusive"
    )
    return Outcome(
        batch_size=batch_size,
        reference_seconds=statistics.median(ours for ours, _ in rounds),
        seconds=statistics.median(own for _, own in rounds),
        ratio=ratio,
        spread=(low, high),
    )


def describe(duel: Duel, model: ModelSpec, outcome: Outcome) -> str:
    """An outcome in a line."""
    low, high = outcome.spread
    return (
        f"{outcome.batch_size:>3} at once: {_name(duel.models[0])} "
        f"{1e3 * outcome.reference_seconds:.3g} ms, {_name(model)} {1e3 * outcome.seconds:.3g} ms, "
        f"ratio {_digits(outcome.ratio)} ({_digits(low)}–{_digits(high)})"
    )


def _digits(ratio: float) -> str:
    return f"{ratio:#.3g}".removesuffix(".")


def _name(model: ModelSpec) -> str:
    options = [f"{name}={value}" for name, value in model.options.items() if name != "k"]
    return " ".join([model.method, *options])
