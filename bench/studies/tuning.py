"""Equal tuning: which settings are tried, of all methods by one rule, and where more must be.

Every method has as many tries as any other, each as many seconds long. What all trained methods
share (`bench.methods.card.TRAINED`) comes from one sequence of quasi-random points, the same for
all; a method's own settings come from further coordinates of the same points. Its first try is the
study's own row, and half of its tries spread over all that is searched; each of the other half
changes a few settings of its own best by a level. Two tries in a row share a shape (all but rate
and ε), so that few shapes are to be timed.

Where any method is then best at an edge of what was tried, all methods get the reserve of tries:
around their own best once more, and beyond the edge where it is at one.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.errors import StudyError
from bench.methods.card import TRAINED, Card, Dimension
from bench.methods.cards import card, cards
from bench.settings import DataSpec, Encoder, ModelSpec, Scalar, SettingsError, TrainSpec, Trial

Values = Mapping[str, Scalar]

_TRAINING = {"learning_rate", "adam_epsilon", "optimizer"}
# Seconds a step do not depend on these.
_COSTLESS = {"learning_rate", "adam_epsilon"}
_NUM_COORDINATES = 12
# Points looked at for a try before it is given up: settings with few levels repeat.
_MOST_REPEATS = 8
# A point's coordinates are below 1: they choose one of so many levels.
_BELOW_ONE = math.nextafter(1.0, 0.0)

#: Settings of training of what does not train by steps.
PLAIN = TrainSpec(batch_size=4096)


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """How a study is tuned.

    Attributes:
        tries: of each method; half of them spread out, half around its best.
        reserve: tries that each method gets where one is best at an edge.
        seconds: length of a full training; None: the budget of the study's rows.
        first_share: of that, how long the tries are; below 1, the best of them are trained in full
            before the choice.
        num_finalists: how many of a method's tries then are.
        num_replicates: and how often.
        methods: those to tune; () for all of the study's and their rivals.
        seed: of the points.
    """

    tries: int = 12
    reserve: int = 6
    seconds: float | None = None
    first_share: float = 1.0
    num_finalists: int = 2
    num_replicates: int = 2
    methods: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("tries", 1), ("reserve", 0), ("num_finalists", 1)):
            if getattr(self, name) < least:
                raise SettingsError(
                    f"Tuning.{name} is {getattr(self, name)}; expected at least {least}"
                )
        if not 0 < self.first_share <= 1:
            raise SettingsError(
                f"Tuning.first_share is {self.first_share}; expected above 0 and at most 1"
            )
        if self.seconds is not None and not self.seconds > 0:
            raise SettingsError(f"Tuning.seconds is {self.seconds}; expected more than 0")


@dataclass(frozen=True)
class Try:
    """A try and what came of it.

    Attributes:
        trial: with its length as a budget in seconds, if it trains by steps.
        value: validation quality at its best checkpoint; None where there is none.
        seconds: wall time that it took.
        train_seconds: of that, training.
        reason: why there is no value; None if there is.
    """

    trial: Trial
    value: float | None
    seconds: float
    train_seconds: float = 0.0
    reason: str | None = None


def best_of(tries: Iterable[Try]) -> Try | None:
    """The best try, the first of equals; None where none has a value."""
    found = [each for each in tries if each.value is not None]
    return max(found, key=lambda each: each.value or 0.0, default=None)


def standard_error(share: float, num_points: int) -> float:
    """Standard error of a share that was counted over points."""
    return math.sqrt(max(share * (1 - share), 0.0) / max(num_points, 1))


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is searched of a method.

    Attributes:
        card: the method's.
        base: its first try.
        dimensions: what is searched of it; coordinate of a point → dimension.
        num_labels: L.
        limits: setting → the most that a try may have, in smoke runs.
    """

    card: Card
    base: Trial
    dimensions: Mapping[int, Dimension]
    num_labels: int
    limits: Mapping[str, int] = field(default_factory=dict)
    _start: dict[str, Scalar] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._start.update(self.values_of(self.base))

    @property
    def trains_by_steps(self) -> bool:
        """Whether a try has a length."""
        return _trains_by_steps(self.card)

    def levels(self, dimension: Dimension) -> list[Scalar]:
        """Levels of the first tries, in order."""
        return self._of_labels(dimension, dimension.values)

    def ladder(self, dimension: Dimension) -> list[Any]:
        """All levels that may ever be tried, ascending, with the first try's own."""
        values = (*dimension.below, *dimension.values, *dimension.above)
        own = self._start[dimension.name]
        return sorted({*self._of_labels(dimension, values), own}, key=float)

    def _of_labels(self, dimension: Dimension, values: Sequence[Any]) -> list[Scalar]:
        if dimension.divides_labels:
            powers = (max(round(math.log2(self.num_labels / value)), 1) for value in values)
            values = [2**power for power in powers]
        if dimension.name in self.limits:
            values = [min(value, self.limits[dimension.name]) for value in values]
        return list(dict.fromkeys(values))

    def values_of(self, trial: Trial) -> dict[str, Scalar]:
        """The searched settings of a trial of this method."""
        return {each.name: self._value_of(trial, each) for each in self.dimensions.values()}

    def _value_of(self, trial: Trial, dimension: Dimension) -> Scalar:
        name = dimension.name
        if name in _TRAINING:
            value: Scalar = getattr(trial.train, name)
            return value
        if name == "hidden_dims":
            return trial.model.hidden_dims[-1]
        return trial.model.options.get(name, self._default(dimension))

    def _default(self, dimension: Dimension) -> Scalar:
        """What a method does without the option."""
        shown = next((each for each in self.card.options if each.name == dimension.name), None)
        if shown is not None and shown.default is not None:
            value: Scalar = shown.default
            return value
        return dimension.values[0]

    def trial(self, values: Values) -> Trial:
        """The base with other settings."""
        train = {name: value for name, value in values.items() if name in _TRAINING}
        options = dict(self.base.model.options)
        for dimension in self.dimensions.values():
            name = dimension.name
            if name in _TRAINING or name == "hidden_dims":
                continue
            if name in options or values[name] != self._default(dimension):
                options[name] = values[name]
        widths = self.base.model.hidden_dims
        if "hidden_dims" in values:
            widths = (*widths[:-1], int(values["hidden_dims"] or 0))
        return dataclasses.replace(
            self.base,
            model=dataclasses.replace(self.base.model, options=options, hidden_dims=widths),
            train=dataclasses.replace(self.base.train, **train),  # type: ignore[arg-type]
        )

    def first_tries(self, points: Sequence[Sequence[float]], count: int) -> list[Trial]:
        """The base, its shape once more, then shapes two by two; no settings twice."""

        def trials() -> Iterator[Trial]:
            yield self.base
            for index in range(1, len(points)):
                shape = self._start if index < 2 else self._at(points[index // 2])
                own = self._at(points[index])
                yield self.trial(
                    {name: (own if name in _COSTLESS else shape)[name] for name in shape}
                )

        return _distinct(trials(), count, ())

    def _at(self, point: Sequence[float]) -> dict[str, Scalar]:
        found: dict[str, Scalar] = {}
        for coordinate, dimension in self.dimensions.items():
            levels = self.levels(dimension)
            found[dimension.name] = levels[int(point[coordinate] * len(levels))]
        return found

    def edges(self, tries: Sequence[Try], num_points: int) -> dict[str, int]:
        """At which edges of what was tried the best try lies: setting → −1 or 1.

        An edge counts only where there is something beyond it, and where the best try is better
        than all that are off that edge by more than the validation's standard error.
        """
        best = best_of(tries)
        found: dict[str, int] = {}
        if best is None or best.value is None:
            return found
        for dimension in self.dimensions.values():
            if not dimension.is_ordered:
                continue
            name, ladder = dimension.name, self.ladder(dimension)
            own = self.values_of(best.trial)[name]
            tried: list[Any] = [self.values_of(each.trial)[name] for each in tries]
            inner = best_of(t for t, value in zip(tries, tried, strict=True) if value != own)
            margin = best.value - (inner.value or 0.0) if inner else math.inf
            if len(set(tried)) < 2 or margin <= standard_error(best.value, num_points):
                continue
            if own == max(tried) and own != ladder[-1]:
                found[name] = 1
            elif own == min(tried) and own != ladder[0]:
                found[name] = -1
        return found

    def near_tries(
        self,
        tries: Sequence[Try],
        edges: Mapping[str, int],
        points: Sequence[Sequence[float]],
        count: int,
    ) -> list[Trial]:
        """Tries around the best: a third of its settings a level up or down.

        Where it lies at an edge, two of three tries go one or two levels beyond.
        """
        best = best_of(tries)
        centre = self.values_of(best.trial if best else self.base)

        def moved(dimension: Dimension, share: float) -> Scalar:
            own = centre[dimension.name]
            if not dimension.is_ordered:
                others = [level for level in self.levels(dimension) if level != own]
                is_moved = share >= 5 / 6 and bool(others)
                return others[int((share - 5 / 6) * 6 * len(others))] if is_moved else own
            ladder, side = self.ladder(dimension), edges.get(dimension.name, 0)
            step = int(share * 3) * side if side else int(share >= 5 / 6) - int(share < 1 / 6)
            value: Scalar = ladder[min(max(ladder.index(own) + step, 0), len(ladder) - 1)]
            return value

        def trials() -> Iterator[Trial]:
            for index in range(len(points)):
                values = {}
                for coordinate, dimension in self.dimensions.items():
                    is_shape = dimension.name not in _COSTLESS
                    point = points[index - index % 2 if is_shape else index]
                    values[dimension.name] = moved(dimension, point[coordinate])
                yield self.trial(values)

        return _distinct(trials(), count, [each.trial for each in tries])


def _distinct(trials: Iterable[Trial], count: int, before: Iterable[Trial]) -> list[Trial]:
    """The first trials that are unlike each other and those before."""
    seen = {trial.trial_id for trial in before}
    found: list[Trial] = []
    for trial in trials:
        if len(found) == count:
            break
        if trial.trial_id not in seen:
            seen.add(trial.trial_id)
            found.append(trial)
    return found


def spaces_of(
    trials: Sequence[Trial], tuning: Tuning, *, num_labels: int, task: str, is_smoke: bool = False
) -> list[Space]:
    """What is searched of each method, in the order of tables.

    Args:
        trials: of the study; a method's first one is its first try.
        tuning: how long tries are, and of which methods.
        num_labels: L.
        task: of the data.
        is_smoke: sizes stay those of smoke trials.

    Raises:
        StudyError: no method of these can be tuned, or nothing says how many seconds a try has.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(trial.model.method, trial)
    by_steps = [t for t in trials if _trains_by_steps(card(t.model.method))]
    if not by_steps and not tuning.methods:
        raise StudyError("the study has no trained row that could be tuned")
    pattern = (by_steps or list(trials))[0]
    seconds = tuning.seconds or pattern.train.budget_seconds
    if seconds is None and by_steps and not is_smoke:
        raise StudyError(
            "the study's rows have no budget in seconds, which all tries are to have alike; "
            "expected some, by --seconds or Tuning.seconds"
        )
    chosen = [
        each
        for each in cards()
        if each.search is not None
        and num_labels <= (each.most_labels or num_labels)
        and (each.name in tuning.methods if tuning.methods else each.search_task in ("", task))
    ]
    if missing := set(tuning.methods) - {each.name for each in chosen}:
        known = ", ".join(each.name for each in cards() if each.search is not None)
        raise StudyError(f"method {min(missing)!r} cannot be tuned; expected one of {known}")
    found = []
    for each in chosen:
        own = first.get(each.name)
        searched = [
            dimension
            for dimension in each.search or ()
            if dimension.task in ("", task)
            and (dimension.name != "hidden_dims" or (own or pattern).model.hidden_dims)
        ]
        limits = {**each.smoke, "hidden_dims": 8} if is_smoke else {}
        found.append(
            _space(
                each,
                own,
                pattern,
                seconds and seconds * tuning.first_share,
                searched,
                num_labels=num_labels,
                limits=limits,
            )
        )
    return found


def _trains_by_steps(method: Card) -> bool:
    return any(each.name in _TRAINING for each in method.search or ())


def _space(
    method: Card,
    own: Trial | None,
    pattern: Trial,
    seconds: float | None,
    searched: Sequence[Dimension],
    **sizes: Any,
) -> Space:
    """What is searched of a method.

    Args:
        method: its card.
        own: the study's first row of it; None: it has none.
        pattern: a trained row of the study.
        seconds: that a try trains for; None, in smoke runs: as long as the study's row.
        searched: what is searched of it.
        **sizes: further fields of a space.
    """
    shared = [each.name for each in TRAINED]
    coordinates: dict[int, Dimension] = {}
    for each in searched:
        following = max([len(shared) - 1, *coordinates]) + 1
        coordinates[shared.index(each.name) if each.name in shared else following] = each
    is_trained = _trains_by_steps(method)
    if own is None:
        widths = pattern.model.hidden_dims if is_trained else ()
        encoder: Encoder = "mlp" if widths else "linear"
        model = ModelSpec(method=method.name, encoder=encoder, hidden_dims=widths or (1,))
        train = pattern.train if is_trained else PLAIN
        bare = dataclasses.replace(pattern, model=model, train=train)
        space = Space(card=method, base=bare, dimensions=coordinates, **sizes)
        own = space.trial(_middle(space))
    if is_trained:
        own = dataclasses.replace(own, train=_length(own.train, seconds))
    own = dataclasses.replace(own, replicate=0)
    return Space(card=method, base=own, dimensions=coordinates, **sizes)


def _middle(space: Space) -> dict[str, Scalar]:
    """Settings of the middle, but for those with which the study's own rows train."""
    values = space.values_of(space.base)
    for each in space.dimensions.values():
        levels = space.levels(each)
        if each.name not in {*_TRAINING, "hidden_dims"}:
            values[each.name] = levels[len(levels) // 2] if each.is_ordered else levels[0]
    return values


def _length(train: TrainSpec, seconds: float | None) -> TrainSpec:
    """A training of so many seconds that ends with its best checkpoint."""
    length: dict[str, Any] = {}
    if seconds is not None:
        length = {"budget_seconds": seconds, "num_steps": None, "num_epochs": None}
    return dataclasses.replace(
        train, keep_best=True, num_validations=max(train.num_validations, 4), **length
    )


def in_full(trial: Trial, tuning: Tuning, replicate: int) -> Trial:
    """A try of the first rung at full length."""
    seconds = trial.train.budget_seconds
    if seconds is not None:
        train = dataclasses.replace(trial.train, budget_seconds=seconds / tuning.first_share)
        trial = dataclasses.replace(trial, train=train)
    return dataclasses.replace(trial, replicate=replicate)


def points_for(tuning: Tuning) -> list[tuple[float, ...]]:
    """Points of a scrambled Sobol sequence in the unit cube, the same for all methods.

    Raises:
        StudyError: Optuna is not installed.
    """
    optuna = _optuna()
    space = {
        f"x{index:02}": optuna.distributions.FloatDistribution(0.0, 1.0)
        for index in range(_NUM_COORDINATES)
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its sampler counts as experimental
        sampler = optuna.samplers.QMCSampler(seed=tuning.seed, scramble=True)
    study = optuna.create_study(sampler=sampler)
    count = _MOST_REPEATS * (tuning.tries + tuning.reserve)
    points = []
    for _ in range(count):
        asked = study.ask(space)
        study.tell(asked, 0.0)
        points.append(tuple(min(asked.params[name], _BELOW_ONE) for name in space))
    return points


def _optuna() -> Any:
    try:
        optuna = importlib.import_module("optuna")
    except ImportError:
        raise StudyError(
            "tuning draws its points with Optuna, which is not installed; "
            "`pip install 'mach-bench[tune]'` brings it"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def store_in_optuna(storage: str, name: str, space: Space, tries: Sequence[Try]) -> None:
    """Rebuild a method's tries in an Optuna storage, for its dashboard and analyses.

    Args:
        storage: its URL, such as `sqlite:///tries.db`.
        name: of the study there; one of this name is replaced.
        space: of the method.
        tries: that were made, in their order.
    """
    optuna = _optuna()
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    levels = {
        each.name: space.ladder(each) if each.is_ordered else space.levels(each)
        for each in space.dimensions.values()
    }
    state = optuna.trial.TrialState
    for each in tries:
        is_done = each.value is not None
        params = space.values_of(each.trial)
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={
                    name: optuna.distributions.CategoricalDistribution(known)
                    for name, known in levels.items()
                },
                value=each.value,
                state=state.COMPLETE if is_done else state.FAIL,
                user_attrs={"seconds": each.seconds, "reason": each.reason},
            )
        )


def data_of(trials: Sequence[Trial]) -> DataSpec:
    """The data on which a study is tuned: that of its first row."""
    return trials[0].data
