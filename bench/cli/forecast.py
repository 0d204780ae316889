"""How long what has not run will take, by what has: by kind of trial, and robustly."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from bench.settings import Trial

# Until so much is done, or so many seconds are seen, steps are no measure: the first ones compile.
_LEAST_SHARE, _LEAST_SECONDS = 0.02, 10.0


@dataclass(frozen=True)
class Guess:
    """How long a trial may take.

    Attributes:
        seconds: None as long as nothing is known.
        is_close: from trials of the same configuration, rather than of others.
    """

    seconds: float | None = None
    is_close: bool = False


class Forecast:
    """Guesses from finished trials: medians over those that are most like the one in question.

    Most like are replicates; then what has one cost a step, by its length; then the same method on
    the same data; then the same data; then any trial.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, ...], list[float]] = {}

    def add(self, trial: Trial, seconds: float) -> None:
        """A trial has finished."""
        for key, length in _likenesses(trial):
            self._seconds.setdefault(key, []).append(seconds / length)

    def guess(self, trial: Trial | None, before: float | None = None) -> Guess:
        """How long a trial (None: of unknown settings) may take; `before`, if it has run before."""
        if before is not None:
            return Guess(before, is_close=True)
        likenesses = [(("any",), 1.0)] if trial is None else list(_likenesses(trial))
        for index, (key, length) in enumerate(likenesses):
            if key in self._seconds:
                seconds = length * statistics.median(self._seconds[key])
                return Guess(seconds, is_close=trial is not None and index < _NUM_CLOSE)
        return Guess()


_NUM_CLOSE = 2


def _likenesses(trial: Trial) -> Iterator[tuple[tuple[str, ...], float]]:
    """What a trial has in common with others, most first, and the length that seconds grow with."""
    yield ("row", dataclasses.replace(trial, replicate=0).trial_id), 1.0
    train = trial.train
    unit = "steps" if train.num_steps is not None else "epochs"
    yield ("cost", trial.cost_id, unit), float(train.num_steps or train.num_epochs or 1.0)
    yield ("method", trial.model.method, trial.data.name), 1.0
    yield ("data", trial.data.name), 1.0
    yield ("any",), 1.0


class Running:
    """The rest of a trial that runs: what was guessed, more and more by its own progress."""

    def __init__(self, guess: Guess, began_at: float) -> None:
        self._guess = guess
        self.began_at = began_at
        self._first: tuple[float, float] | None = None
        self._last: tuple[float, float] | None = None

    def reached(self, share: float, now: float) -> None:
        """A share of the training, in [0, 1], is done."""
        self._first = self._first or (share, now)
        self._last = (share, now)

    def seconds_left(self, now: float) -> float | None:
        """The rest; None as long as nothing is known."""
        total = self._guess.seconds
        guessed = None if total is None else max(0.0, total - (now - self.began_at))
        by_steps = self._by_steps(now)
        if by_steps is None:
            return guessed
        if guessed is None or self._last is None or not self._guess.is_close:
            return by_steps
        share = self._last[0]
        return share * by_steps + (1.0 - share) * guessed

    def _by_steps(self, now: float) -> float | None:
        """By the steps since the first known one, which had waited for compilation."""
        if self._first is None or self._last is None:
            return None
        (first, began_at), (last, reached_at) = self._first, self._last
        done, seconds = last - first, reached_at - began_at
        if done <= 0 or (done < _LEAST_SHARE and seconds < _LEAST_SECONDS):
            return None
        return max(0.0, (1.0 - last) * seconds / done - (now - reached_at))
