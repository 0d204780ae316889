"""A stopwatch for training alone: what is measured on the way stops it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds between starts and stops, summed; the device is drained at every edge.

    Args:
        synchronize: waits for queued device work (`torch.cuda.synchronize`); nothing on a CPU.
        now: the time in seconds, monotonic.
    """

    def __init__(
        self,
        synchronize: Callable[[], object] = lambda: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._synchronize = synchronize
        self._now = now
        self._total_seconds = 0.0
        self._started_at: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds counted so far, without draining the device."""
        if self._started_at is None:
            return self._total_seconds
        return self._total_seconds + self._now() - self._started_at

    def add(self, seconds: float) -> None:
        """Count seconds of before, of a process that was broken off."""
        self._total_seconds += seconds

    def start(self) -> None:
        """Count from here on."""
        self._synchronize()
        self._started_at = self._now()

    def stop(self) -> None:
        """Count no further."""
        self._synchronize()
        self._total_seconds, self._started_at = self.seconds, None

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
        """Count outside of a `with` block only; the stopwatch runs before and after it."""
        self.stop()
        try:
            yield
        finally:
            self.start()
