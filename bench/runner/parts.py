"""Worlds of one trial as tasks of their own: which, what one takes, what it leaves, its record.

An engine runs a trial with `Context.worlds`, once for each task, and moves what that left in the
cache to wherever the whole trial is run afterwards, which then trains nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.store import record
from bench.store.locks import own_name
from bench.store.record import Record

#: Key of a world in the cache → its files, by name. Their digests are checked where they are read.
Shard = Mapping[str, Mapping[str, npt.NDArray[np.uint8]]]

_FOLDER = "worlds"
# Of a process beside what its model takes: libraries, batches, and what allocators keep.
_LIBRARY_BYTES = 1 << 30
_ROOM = 1.25


@dataclass(frozen=True, kw_only=True)
class Done:
    """A task that has ended.

    Attributes:
        worlds: the first one's number, and the last one's plus 1.
        node_id: where.
        record: of the task.
    """

    worlds: tuple[int, int]
    node_id: str
    record: Record


def ranges_of(numbers: range, worlds_per_task: int) -> list[tuple[int, int]]:
    """The worlds of each task.

    >>> ranges_of(range(2, 7), 2)
    [(2, 4), (4, 6), (6, 7)]
    """
    starts = numbers[::worlds_per_task]
    return [(first, min(first + worlds_per_task, numbers.stop)) for first in starts]


def host_bytes(memory: Mapping[str, Any]) -> int | None:
    """Bytes that a task takes of a node, by arithmetic; None where nothing was predicted.

    Args:
        memory: block of a record.
    """
    if (predicted := memory.get("training_bytes")) is None:
        return None
    return int(_ROOM * predicted) + (memory.get("host_baseline_bytes") or 0) + _LIBRARY_BYTES


def gpu_share(memory: Mapping[str, Any], device_bytes: int | None) -> float | None:
    """Part of a GPU that a task takes, in ten-thousandths as Ray counts; None: it is not known."""
    predicted = memory.get("training_bytes")
    if predicted is None or not device_bytes:
        return None
    needed = int(_ROOM * predicted) + _LIBRARY_BYTES
    return min(1.0, -(-needed * 10_000 // device_bytes) / 10_000)


def read_shard(cache_dir: Path, keys: Iterable[str]) -> Shard:
    """Worlds that lie in a cache, as bytes."""
    return {
        key: {
            path.name: np.fromfile(path, np.uint8)
            for path in sorted((cache_dir / _FOLDER / key).iterdir())
        }
        for key in keys
    }


def write_shard(cache_dir: Path, shard: Shard) -> None:
    """Put worlds into a cache that lacks them."""
    folder = cache_dir / _FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for key, files in shard.items():
        if (folder / key).exists():
            continue
        partial = folder / f".{key}.{own_name()}"
        partial.mkdir()
        for name, content in files.items():
            content.tofile(partial / name)
        try:
            os.rename(partial, folder / key)  # noqa: PTH104 - `Path.replace` says no more
        except OSError:  # another process was first
            shutil.rmtree(partial)


def forget(cache_dir: Path, keys: Iterable[str]) -> None:
    """Take worlds out of a cache."""
    for key in keys:
        shutil.rmtree(cache_dir / _FOLDER / key, ignore_errors=True)


def joined(whole: Record, parts: Sequence[Done], *, started_at: str, wall_seconds: float) -> Record:
    """The record of a trial whose worlds were trained apart: as if here, and where each was.

    Seconds of training are summed over the devices; peaks are the largest of any process.

    Args:
        whole: of the run that joined the worlds.
        parts: by world.
        started_at: when the first of them began.
        wall_seconds: from then to the end.
    """
    records = [part.record for part in parts]
    memory = dict(whole.block("memory"))
    for name in ("host_peak_bytes", "device_allocated_peak_bytes", "device_reserved_peak_bytes"):
        known = [each.block("memory").get(name) or 0 for each in (whole, *records)]
        memory[name] = max(known) if all(known) else None
    seconds = [each.block("clock").get("train_seconds") for each in records]
    clock = {
        **whole.block("clock"),
        "train_seconds": None if None in seconds else sum(seconds),
        "wall_seconds": wall_seconds,
    }
    nodes = list(dict.fromkeys(part.node_id for part in parts))
    told = [
        {
            "worlds": list(part.worlds),
            "node": nodes.index(part.node_id),
            "machine": dict(part.record.machine),
            "train_seconds": part.record.block("clock").get("train_seconds"),
            "wall_seconds": part.record.wall_seconds,
        }
        for part in parts
    ]
    provenance = {**whole.provenance, "parts": told, "num_nodes": len(nodes)}
    blocks = {"started_at": started_at, "memory": memory, "clock": clock, "provenance": provenance}
    return record.parse({**whole.raw, **blocks})
