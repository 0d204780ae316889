"""Bytes that a trial takes: the host's from the kernel, the device's from its allocator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from bench.measure.cgroups import Group, groups_of

_STATUS = Path("/proc/self/status")
_MEMINFO = Path("/proc/meminfo")
_VMSTAT = Path("/proc/vmstat")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# cgroup v1 writes "no limit" as the largest multiple of a page; nothing has an exbibyte.
_NO_LIMIT_BYTES = 1 << 60


class PredictedOutOfMemory(Exception):  # noqa: N818 - an outcome of a trial, not a mistake
    """The bytes that a trial needs, by arithmetic, exceed those that the machine has.

    Args:
        predicted_bytes: what training needs at its peak.
        available_bytes: what the machine can give.
        parts: prediction by part, under the names of a record's `memory` block.
    """

    def __init__(
        self,
        predicted_bytes: int,
        available_bytes: int,
        parts: Mapping[str, int | None] = MappingProxyType({}),
    ) -> None:
        super().__init__(
            f"predicted {predicted_bytes} bytes exceed the available {available_bytes} bytes"
        )
        self.predicted_bytes = predicted_bytes
        self.available_bytes = available_bytes
        self.parts = dict(parts)


def refuse_beyond(available_bytes: int | None, parts: Mapping[str, int | None]) -> None:
    """Refuse what by arithmetic needs more than there is, where both are known.

    Args:
        available_bytes: what the machine or device can give.
        parts: a record's `memory` block, of which `predicted_bytes` counts.
    """
    predicted = parts["predicted_bytes"]
    if predicted is not None and available_bytes is not None and predicted > available_bytes:
        raise PredictedOutOfMemory(predicted, available_bytes, parts)


def host_peak_bytes() -> int | None:
    """Largest resident size of this process so far (`VmHWM`); None where the kernel has none.

    Not `ru_maxrss`: a child process starts with its parent's.
    """
    return _status_bytes("VmHWM")


def host_current_bytes() -> int | None:
    """Resident size of this process now (`VmRSS`)."""
    return _status_bytes("VmRSS")


def host_data_bytes() -> int | None:
    """Private writable address space of this process (`VmData`), what `RLIMIT_DATA` limits."""
    return _status_bytes("VmData")


def reset_host_peak() -> bool:
    """Bring `VmHWM` down to the present resident size; False where that is not permitted."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return host_peak_bytes() is not None


class HostPeak:
    """Host peak of the process and, where the kernel permits a reset, of its present phase."""

    def __init__(self) -> None:
        self._earlier_bytes = 0
        self._can_reset = True

    def begin_phase(self) -> None:
        """Forget the phases so far in :meth:`phase_bytes`, not in :meth:`total_bytes`."""
        self._earlier_bytes = max(self._earlier_bytes, host_peak_bytes() or 0)
        self._can_reset = reset_host_peak()

    def phase_bytes(self) -> int | None:
        """Peak since :meth:`begin_phase`; None where it could not be told apart."""
        return host_peak_bytes() if self._can_reset else None

    def total_bytes(self) -> int | None:
        """Peak since the process began."""
        peak = host_peak_bytes()
        return None if peak is None else max(self._earlier_bytes, peak)


def total_memory_bytes() -> int | None:
    """Memory of the machine, or of the control group that this process is confined to."""
    known = [_meminfo_bytes("MemTotal"), *(limit for limit, _ in _cgroup_limits())]
    return min((value for value in known if value is not None), default=None)


def available_memory_bytes() -> int | None:
    """Memory that this process can still take without swapping, being killed or refused it."""
    known = [_meminfo_bytes("MemAvailable"), _left_of_limit()]
    known += [max(0, limit - used) for limit, used in _cgroup_limits()]
    return min((value for value in known if value is not None), default=None)


def _left_of_limit() -> int | None:
    """What `RLIMIT_DATA` leaves to this process; None without a limit."""
    import resource  # not on Windows

    limit, used = resource.getrlimit(resource.RLIMIT_DATA)[0], host_data_bytes()
    return None if limit == resource.RLIM_INFINITY or used is None else max(0, limit - used)


def num_oom_kills() -> int | None:
    """Processes that the kernel has killed for want of memory so far; None where it is silent.

    Those of this process's control group, in which its child processes are too; of the machine
    only where there is no such group.
    """
    for group in groups_of("memory"):
        kills = group.entry(
            "memory.events" if group.is_unified else "memory.oom_control", "oom_kill"
        )
        if kills is not None:
            return kills
    return Group(_VMSTAT.parent, is_unified=False).entry(_VMSTAT.name, "oom_kill")


def reset_device_peaks() -> None:
    """Forget the device allocator's peaks; nothing without a CUDA device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()


def device_peak_bytes() -> tuple[int | None, int | None]:
    """Allocated and reserved peaks of the device since the reset; None without a CUDA device."""
    import torch

    if not torch.cuda.is_available():
        return None, None
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def available_device_bytes() -> int | None:
    """Bytes that the present CUDA device can still give; None without one.

    What the allocator has reserved but not handed out counts as free.
    """
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def _status_bytes(name: str) -> int | None:
    return _kibibytes(_STATUS, name)


def _meminfo_bytes(name: str) -> int | None:
    return _kibibytes(_MEMINFO, name)


def _kibibytes(path: Path, name: str) -> int | None:
    try:
        text = path.read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, non-reclaimable use) in bytes of every control group that confines this process."""
    return [found for group in groups_of("memory") if (found := _limit_of(group)) is not None]


def _limit_of(group: Group) -> tuple[int, int] | None:
    if group.is_unified:
        names = ("memory.max", "memory.current", "inactive_file")
    else:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, usage = group.number(names[0]), group.number(names[1])
    if limit is None or usage is None or limit >= _NO_LIMIT_BYTES:
        return None
    return limit, max(0, usage - (group.entry("memory.stat", names[2]) or 0))
