"""Where numbers come from: commit, software and machine; never who or which host."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure.memory import total_memory_bytes
from bench.measure.processors import cpu_model, num_cores

PACKAGES = ("torch", "lightning", "torchmetrics", "numpy", "numba", "llvmlite")
_ROOT = Path(__file__).resolve().parents[2]
_CODE = ("bench", "baselines")
_DECIDING = (*_CODE, "pyproject.toml", "constraints.txt")


def collect(*, accelerator: str | None) -> dict[str, Any]:
    """The `provenance` block of a record, but for the flags that only the trial's process knows."""
    commit, is_dirty = git_state()
    return {
        "commit": commit,
        "is_dirty": is_dirty,
        "python": platform.python_version(),
        "packages": package_versions(),
        "machine": machine(accelerator=accelerator),
        "flags": {},
    }


def utc_now() -> str:
    """The time in UTC, to the second: `2026-01-31T12:00:00Z`."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def git_state(root: Path = _ROOT) -> tuple[str | None, bool | None]:
    """Commit of the checkout and whether its files differ from it; None outside of git.

    Only what numbers come from counts: code and pinned packages, not results, tests or words.
    """
    top = _git(root, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != root.resolve():
        return None, None  # a copy without a repository of its own, inside of another's
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_DECIDING)
    return commit or None, None if changes is None else bool(changes)


def package_versions() -> dict[str, str | None]:
    """Installed version of each package, without importing it; None where it is not installed."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def code_digest(root: Path = _ROOT) -> str:
    """Of all that `bench` and `baselines` are made of, wherever they are installed."""
    digest = hashlib.sha256()
    for path in sorted(path for name in _CODE for path in (root / name).rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def machine(*, accelerator: str | None) -> dict[str, Any]:
    """Processor, cores that this process can use, memory in bytes, and the accelerator's name."""
    return {
        "cpu": cpu_model(),
        "num_cores": num_cores(),
        "memory_bytes": total_memory_bytes(),
        "accelerator": accelerator,
    }


@functools.cache
def accelerator_name() -> str | None:
    """Name of the first CUDA device, asked in another process so that this one holds no context."""
    code = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return answer.stdout.strip() or None


@functools.cache
def accelerator_bytes() -> int | None:
    """Memory of the first CUDA device, asked as :func:`accelerator_name`."""
    code = "import torch; print(torch.cuda.get_device_properties(0).total_memory)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return int(answer.stdout) if answer.returncode == 0 else None


def machine_slug(machine: Mapping[str, Any]) -> str:
    """File name of a machine's records.

    >>> machine_slug({"cpu": "AMD EPYC 7B13 64-Core Processor", "num_cores": 2,
    ...               "memory_bytes": 25_282_285_568, "accelerator": None})
    'amd-epyc-7b13-2c-24g'
    """
    noise = r"\((r|tm)\)|@.*$|\b(cpu|processor|\d+-core)\b"
    parts = [re.sub(noise, " ", str(machine["cpu"]).lower()), f"{machine['num_cores']}c"]
    if machine["memory_bytes"] is not None:
        parts.append(f"{round(machine['memory_bytes'] / 2**30)}g")
    if machine["accelerator"]:
        parts.append(str(machine["accelerator"]).lower())
    return re.sub(r"[^a-z0-9]+", "-", " ".join(parts)).strip("-")


def _git(root: Path, *arguments: str) -> str | None:
    # The question is about this folder, whatever repository the caller works in; and it is asked
    # without taking the index' lock, so that the user's own git is never in the way.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    try:
        answer = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
