"""What a row of a table is timed in: repetitions, one a round, each with named phases."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from bench.measure.load import LoadMeter

T = TypeVar("T")

#: Inference is timed of so many single queries, and of so many batches of this size.
LATENCY_QUERIES = 100
BATCH_SIZE = 256
NUM_BATCHES = 12
#: A phase takes so long at most, but at least so many samples.
PHASE_SECONDS = 0.3
MIN_SAMPLES = 3


class Repetition:
    """One repetition of one row: raw seconds of its phases, and the load by others during each.

    Args:
        round_number: which round, from 0 on; the first repetition may want a longer warm-up.
    """

    def __init__(self, round_number: int) -> None:
        self.round_number = round_number
        self._phases: dict[str, dict[str, Any]] = {}

    @contextmanager
    def timed(self, phase: str, *, units: int) -> Iterator[list[float]]:
        """A phase, already warm: append the seconds of each sample; nothing else is done inside.

        Args:
            phase: `train`, `latency`, `throughput`, `decode`, `fit`, `batch-64` …
            units: steps, queries … that one sample is of.
        """
        if phase in self._phases:
            raise ValueError(f"phase {phase!r} was measured in this repetition already")
        seconds: list[float] = []
        meter = LoadMeter()
        meter.start()
        yield seconds
        meter.stop()
        self._phases[phase] = {
            "seconds": seconds,
            "units": units,
            "wall_seconds": meter.wall_seconds,
            "other_cpu_seconds": meter.other_cpu_seconds,
        }

    def time_calls(
        self,
        phase: str,
        function: Callable[[T], object],
        inputs: Sequence[T],
        *,
        units: int,
        synchronize: Callable[[], object] = lambda: None,
    ) -> None:
        """Time calls one by one as a phase, after two that warm caches and allocators.

        Args:
            phase: its name.
            function: what is timed.
            inputs: one for each call; the last ones are left out when the phase gets long.
            units: queries of a call.
            synchronize: drains the device, if there is one.
        """
        for warm in inputs[:2]:
            function(warm)
        synchronize()
        with self.timed(phase, units=units) as seconds:
            for number, each in enumerate(inputs):
                if number >= MIN_SAMPLES and sum(seconds) > PHASE_SECONDS:
                    break
                start = time.perf_counter()
                function(each)
                synchronize()
                seconds.append(time.perf_counter() - start)

    def to_record(self) -> dict[str, Any]:
        """The `phases` of a cost line's repetition."""
        return {name: dict(phase) for name, phase in self._phases.items()}
