"""Processors: what this machine's are called, and how many of them a process may use."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bench.measure.cgroups import groups_of

_CPUINFO = Path("/proc/cpuinfo")
#: What the threads of torch and of our kernels are counted by.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
# ARM's main ID register names who made a core, and which one it is. Source: the kernel's
# arch/arm64/include/asm/cputype.h. Where a core is not listed its numbers are its name.
_IMPLEMENTERS = {
    0x41: "Arm",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x61: "Apple",
    0x6D: "Microsoft",
    0x70: "Phytium",
    0xC0: "Ampere",
}
_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x43, 0x0AF): "ThunderX2",
    (0x46, 0x001): "A64FX",
    (0x48, 0xD01): "TSV110",
    (0x61, 0x022): "M1",
    (0x61, 0x023): "M1",
    (0x61, 0x024): "M1 Pro",
    (0x61, 0x025): "M1 Pro",
    (0x61, 0x028): "M1 Max",
    (0x61, 0x029): "M1 Max",
    (0x61, 0x032): "M2",
    (0x61, 0x033): "M2",
    (0x61, 0x034): "M2 Pro",
    (0x61, 0x035): "M2 Pro",
    (0x61, 0x038): "M2 Max",
    (0x61, 0x039): "M2 Max",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1A",
}


def cpu_model() -> str:
    """Name of the processor, as the system or its registers have it."""
    try:
        text = _CPUINFO.read_text()
    except OSError:
        text = ""
    # ARM in 32 bits has a "model name" that says no more than the architecture.
    return (
        _arm_name(text)
        or _field(text, "model name")
        or _field(text, "cpu")  # POWER
        or _field(text, "uarch")  # RISC-V
        or _brand_string()
        or platform.processor()
        or platform.machine()
    )


def num_cores() -> int:
    """Cores that this process can keep busy: it may run on them, and its quota lasts for them."""
    usable, quota = _num_usable(), _quota()
    return usable if quota is None else max(1, min(usable, int(quota)))


def num_threads() -> int:
    """Threads that this process computes in: as many as it was given, or else as it has cores."""
    given = os.environ.get(THREAD_VARIABLES[0], "")
    return min(int(given), num_cores()) if given.isdecimal() and int(given) else num_cores()


def thread_limits(environment: Mapping[str, str]) -> dict[str, str]:
    """What a process needs in its environment so as to compute in as many threads as cores.

    Threads are counted by the cores that a process may run on, whatever its quota.

    Args:
        environment: that it has; what a person has set in it stays.
    """
    cores = num_cores()
    if cores >= _num_usable():
        return {}
    return {name: str(cores) for name in THREAD_VARIABLES if name not in environment}


def _num_usable() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on a Mac
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float | None:
    """Processor seconds a second that the tightest group grants; None without a limit."""
    quotas = []
    for group in groups_of("cpu"):
        if group.is_unified:
            quota, period = group.number("cpu.max"), group.number("cpu.max", 1)
        else:
            quota, period = group.number("cpu.cfs_quota_us"), group.number("cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def _field(cpuinfo: str, name: str) -> str | None:
    found = re.search(rf"^{name}[ \t]*:[ \t]*(\S.*)$", cpuinfo, flags=re.MULTILINE | re.IGNORECASE)
    return found[1].strip() if found else None


def _arm_name(cpuinfo: str) -> str | None:
    """Who made the cores, and the kinds of them in the order of their numbers."""
    pairs = re.findall(
        r"^CPU implementer\s*:\s*(0x[0-9a-f]+)$.*?^CPU part\s*:\s*(0x[0-9a-f]+)$",
        cpuinfo,
        flags=re.MULTILINE | re.DOTALL | re.IGNORECASE,
    )
    names: dict[str, None] = {}
    for implementer, part in sorted({(int(maker, 16), int(part, 16)) for maker, part in pairs}):
        maker = _IMPLEMENTERS.get(implementer, f"implementer {implementer:#04x}")
        names[f"{maker} {_PARTS.get((implementer, part), f'part {part:#05x}')}"] = None
    return ", ".join(names) or None


def _brand_string() -> str | None:
    """What a Mac calls its processor."""
    if platform.system() != "Darwin":
        return None
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() or None
