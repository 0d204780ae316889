"""Clocks of a trial: set-up, training, validation, evaluation and wall time, kept apart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

ClockName = Literal["setup", "train", "validation", "evaluation"]
CLOCK_NAMES: tuple[ClockName, ...] = get_args(ClockName)


def _nothing() -> None:
    """Stand-in for a device's synchronisation where work is done when a call returns."""


class Stopwatch:
    """Seconds between starts and stops, summed; the device is drained at every edge.

    Args:
        synchronize: waits for queued device work (`torch.cuda.synchronize`); nothing on a CPU.
        now: the time in seconds, monotonic.
    """

    def __init__(
        self,
        synchronize: Callable[[], None] = _nothing,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._synchronize = synchronize
        self._now = now
        self._total_seconds = 0.0
        self._started_at: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether time is being counted."""
        return self._started_at is not None

    @property
    def seconds(self) -> float:
        """Seconds counted so far, without draining the device."""
        if self._started_at is None:
            return self._total_seconds
        return self._total_seconds + self._now() - self._started_at

    def start(self) -> None:
        """Count from here on.

        Raises:
            RuntimeError: it is running already.
        """
        if self._started_at is not None:
            raise RuntimeError("the stopwatch is running already")
        self._synchronize()
        self._started_at = self._now()

    def stop(self) -> float:
        """Count no further; seconds counted so far.

        Raises:
            RuntimeError: it is not running.
        """
        if self._started_at is None:
            raise RuntimeError("the stopwatch is not running")
        self._synchronize()
        self._total_seconds += self._now() - self._started_at
        self._started_at = None
        return self._total_seconds

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count inside a `with` block."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count outside of a `with` block only; a stopwatch that stands still stays so."""
        was_running = self.is_running
        if was_running:
            self.stop()
        try:
            yield
        finally:
            if was_running:
                self.start()


class Clocks:
    """The stopwatches of one trial; wall time runs from construction.

    At most one of them runs at a time: `measure("validation")` inside of `measure("train")` pauses
    training, so that no second is counted twice.
    """

    def __init__(
        self,
        synchronize: Callable[[], None] = _nothing,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._now = now
        self._watches = {name: Stopwatch(synchronize, now) for name in CLOCK_NAMES}
        self._used: set[ClockName] = set()
        self._began_at = now()

    def __getitem__(self, name: ClockName) -> Stopwatch:
        """One stopwatch; using it directly leaves the exclusion to the caller."""
        self._used.add(name)
        return self._watches[name]

    @contextmanager
    def measure(self, name: ClockName) -> Iterator[None]:
        """Count a `with` block on one clock, pausing the one that runs."""
        outer = next((watch for watch in self._watches.values() if watch.is_running), None)
        if outer is self._watches[name]:
            raise RuntimeError(f"the {name} clock is running already")
        self._used.add(name)
        if outer is None:
            with self._watches[name].running():
                yield
            return
        with outer.paused(), self._watches[name].running():
            yield

    @property
    def wall_seconds(self) -> float:
        """Seconds since construction, pauses included."""
        return self._now() - self._began_at

    def to_record(self) -> dict[str, float | None]:
        """The record's `clock` block; None for a clock that was never started."""
        seconds: dict[str, float | None] = {
            f"{name}_seconds": self._watches[name].seconds if name in self._used else None
            for name in CLOCK_NAMES
        }
        return seconds | {"wall_seconds": self.wall_seconds}
