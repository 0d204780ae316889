"""Times left: by kind of trial, and without jumps."""

from __future__ import annotations

import dataclasses
import io
from types import SimpleNamespace
from typing import Any

import pytest

from bench.cli.forecast import Forecast, Guess, Running
from bench.cli.progress import Progress
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial


def trial(method: str, *, replicate: int = 0, steps: int = 100, rate: float = 0.01) -> Trial:
    return Trial(
        data=DataSpec(source="planted", name="tags"),
        model=ModelSpec(method=method),
        train=TrainSpec(num_steps=steps, learning_rate=rate),
        replicate=replicate,
    )


def _seen(*trials: tuple[Trial, float]) -> Forecast:
    forecast = Forecast()
    for of, seconds in trials:
        forecast.add(of, seconds)
    return forecast


def test_a_replicate_takes_what_its_row_took() -> None:
    forecast = _seen((trial("a"), 10.0), (trial("a", rate=0.1), 90.0), (trial("b"), 700.0))
    assert forecast.guess(trial("a", replicate=1)) == Guess(10.0, is_close=True)


def test_what_costs_the_same_a_step_takes_as_long_as_its_steps() -> None:
    forecast = _seen((trial("a", steps=100), 10.0), (trial("b"), 700.0))
    assert forecast.guess(trial("a", steps=300, rate=0.5)).seconds == pytest.approx(30.0)


def test_another_kind_is_a_median_and_not_close() -> None:
    forecast = _seen(
        (trial("a"), 10.0), (trial("b"), 12.0), (trial("c"), 11.0), (trial("d"), 9_000.0)
    )
    assert forecast.guess(trial("e")) == Guess(11.5, is_close=False)


def test_what_it_took_before_goes_before_all_else() -> None:
    assert _seen((trial("a"), 10.0)).guess(trial("a"), before=77.0).seconds == 77.0
    assert Forecast().guess(trial("a")).seconds is None


def test_the_first_steps_which_compile_are_not_counted_on() -> None:
    # The first step took 15 s; each of the 699 others takes 0.1 s.
    running = Running(Guess(), began_at=0.0)
    running.reached(1 / 700, 15.0)
    assert running.seconds_left(15.0) is None  # 2 h 55 min by that step alone
    running.reached(41 / 700, 19.0)
    assert running.seconds_left(19.0) == pytest.approx(65.9)


def test_a_close_guess_gives_way_to_the_trial_s_own_progress() -> None:
    running = Running(Guess(100.0, is_close=True), began_at=0.0)
    running.reached(0.0, 0.0)
    running.reached(0.1, 20.0)
    assert running.seconds_left(20.0) == pytest.approx(0.1 * 180 + 0.9 * 80)
    running.reached(0.9, 180.0)
    assert running.seconds_left(180.0) == pytest.approx(0.9 * 20)


def test_times_left_do_not_jump_at_the_eighth_of_nine_trials() -> None:
    """Three rows of three replicates; the first step of each trial takes as long as a hundred."""
    trials = [trial(m, replicate=i) for i in range(3) for m in ("fast", "middle", "slow")]
    seconds = {"fast": 0.1, "middle": 0.5, "slow": 1.0}
    total = {m: 99 * each + 100 * each for m, each in seconds.items()}
    screen, clock = io.StringIO(), [0.0]
    progress = Progress(screen, is_live=False, now=lambda: clock[0])
    progress.open("nine", {of.trial_id: None for of in trials}, num_kept=0, trials=trials)
    misses = []
    for place, of in enumerate(trials):
        job: Any = SimpleNamespace(trial=of)
        progress.on_event(job, {"event": "start"})
        rest = sum(total[each.model.method] for each in trials[place + 1 :])
        step = seconds[of.model.method]
        for done in range(1, 101):
            clock[0] += step if done > 1 else 100 * step
            left = step * clock[0]  # what a trial says of itself is not looked at
            event = {"event": "step", "fraction": done / 100, "seconds_left": left}
            progress.on_event(job, event)
            told = progress._seconds_left()
            if place >= 3:
                assert told is not None
                misses.append(abs(told - (rest + (100 - done) * step)))
        progress.finish(_done(of))
    # A third of the study is over: what is left is known but for the slow first step.
    assert max(misses) < 100


def _done(of: Trial) -> Any:
    blocks: dict[str, dict[str, Any]] = {}
    return SimpleNamespace(
        trial_id=of.trial_id,
        settings=of.to_dict(),
        status="done",
        reason=None,
        block=lambda name: blocks.get(name, {}),
    )


def test_what_broke_off_tells_nothing_of_the_others() -> None:
    progress = Progress(io.StringIO(), is_live=False, now=lambda: 0.0)
    first, second = trial("a"), trial("a", replicate=1)
    progress.open("s", {each.trial_id: None for each in (first, second)}, num_kept=0)
    failed = _done(first)
    failed.status = "error"
    progress.finish(failed)
    assert progress._seconds_left() is None


def test_what_was_kept_from_before_tells_of_its_kind() -> None:
    progress = Progress(io.StringIO(), is_live=False, now=lambda: 0.0)
    old, new = trial("a"), trial("a", replicate=1)
    progress.open("s", {new.trial_id: None}, num_kept=1, trials=[new], before=[(old, 42.0)])
    assert progress._seconds_left() == 42.0


def test_epochs_and_steps_are_lengths_of_their_own() -> None:
    by_epochs = dataclasses.replace(trial("a"), train=TrainSpec(num_epochs=2.0))
    guess = _seen((trial("a", steps=100), 10.0)).guess(by_epochs)
    assert guess == Guess(10.0, is_close=False)
