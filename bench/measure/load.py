"""How busy other processes kept the processors while a trial was timed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

_STAT = Path("/proc/stat")


def busy_seconds(stat: str, cores: set[int], ticks_per_second: int) -> float | None:
    """CPU seconds that all processes spent on some cores, from the text of `/proc/stat`.

    Time stolen by other virtual machines counts as busy, waiting for a disk does not.

    Returns:
        None if the text does not know one of the cores.
    """
    ticks = 0
    found = 0
    for line in stat.splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, values[:8])
            ticks += user + nice + system + irq + softirq + steal
            found += 1
    return ticks / ticks_per_second if found == len(cores) and ticks else None


def _busy_seconds_now() -> float | None:
    try:
        text = _STAT.read_text()
        return busy_seconds(text, os.sched_getaffinity(0), os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError):
        return None


def _own_seconds_now() -> float:
    times = os.times()  # all threads of this process, and children that it waited for
    return times.user + times.system + times.children_user + times.children_system


class LoadMeter:
    """Processor time that went to other processes between a start and a stop.

    `wall_seconds` is the time between them; `other_cpu_seconds` are the processor seconds of other
    processes in it, None where the kernel is silent.
    """

    def __init__(
        self,
        *,
        busy: Callable[[], float | None] = _busy_seconds_now,
        own: Callable[[], float] = _own_seconds_now,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._busy, self._own, self._now = busy, own, now
        self.wall_seconds = 0.0
        self.other_cpu_seconds: float | None = None

    def start(self) -> None:
        """Begin the interval."""
        self._start = self._busy(), self._own(), self._now()

    def stop(self) -> None:
        """End the interval."""
        busy_before, own_before, began_at = self._start
        busy = self._busy()
        self.wall_seconds = self._now() - began_at
        if busy is not None and busy_before is not None:
            own = self._own() - own_before
            self.other_cpu_seconds = max(0.0, busy - busy_before - own)

    @property
    def other_share(self) -> float | None:
        """Those seconds as a share of what this process's cores had; None likewise."""
        if self.other_cpu_seconds is None:
            return None
        return self.other_cpu_seconds / (self.wall_seconds * len(os.sched_getaffinity(0)))
