"""A training kept in its middle, so that a trial that is killed goes on from there.

What is kept is a cache entry: complete or absent, with the digest of every file, arrays and JSON.
Its key is all that decides how a training goes on: another trial, code, data, number of threads or
version of a library begins anew.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from torch import Tensor

from bench.data.cache import Entry, cache_key, read, replace
from bench.experiments.weights import ROOM, as_kept
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Context
from bench.methods.card import TRAINING
from bench.methods.cards import current_versions, of_behaviour
from bench.settings import Trial
from bench.store import provenance

#: Seconds from one to the next, at least; a shorter training has none.
EVERY_SECONDS = 300.0
# Of a training's time, the most that they take.
_MOST_SHARE = 0.02
# How fast a disk takes them, until one has been timed.
_BYTES_PER_SECOND = 2e8

_log = logging.getLogger(__name__)
_PLAIN = bool | int | float | str | None


class Store(CheckpointIO):
    """A training's only checkpoint, the last one.

    Args:
        trial: that is trained.
        context: of it; it lies in `checkpoints/` below its cache.
        fingerprint: of the data.
    """

    def __init__(self, trial: Trial, context: Context, fingerprint: str) -> None:
        identity = {
            "versions": of_behaviour(current_versions(trial, TRAINING)),
            "fingerprint": fingerprint,
            "code": provenance.code_digest(),
            "packages": provenance.package_versions(),
            "accelerator": context.accelerator,
            "threads": torch.get_num_threads(),
        }
        self.path = context.checkpoints_dir / f"{trial.trial_id}-{cache_key(identity)}"
        self._found: dict[str, Any] | None = None

    def find(self) -> Path | None:
        """What a trainer goes on from, as its `ckpt_path`; None: from the start."""
        entry = read(self.path)
        if entry is None:
            return None
        self._found = _joined(entry.meta["checkpoint"], entry)
        _log.warning("goes on after step %d, where it was broken off", self._found["global_step"])
        return self.path

    def load_checkpoint(self, path: Any, *_: Any, **__: Any) -> dict[str, Any]:
        """What was found; held no longer than the trainer wants it."""
        found, self._found = self._found, None
        return cast(dict[str, Any], found)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write Lightning's checkpoint in place of the one before."""
        arrays: dict[str, Any] = {}
        meta = {"checkpoint": _parted(checkpoint, arrays)}
        replace(self.path.parent, self.path.name, Entry(arrays, meta))

    def remove_checkpoint(self, path: Any) -> None:
        """Left to whoever writes the trial's record."""


class Checkpoints(L.Callback):
    """Has a trainer write its checkpoint now and then.

    Args:
        store: of the training.
        num_bytes: of a checkpoint, about.
        watch: of the training, which stands still meanwhile.
    """

    def __init__(self, store: Store, num_bytes: int, watch: Stopwatch) -> None:
        self.store = store
        self._num_bytes = num_bytes
        self._watch = watch
        self.interval = _interval_for(num_bytes / _BYTES_PER_SECOND)
        self._last = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin to count."""
        self._last = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Write one where it is due, but for the end's; that a disk is full is logged."""
        began = time.monotonic()
        if began - self._last < self.interval or trainer.global_step == trainer.max_steps:
            return
        folder = self.store.path.parent
        with self._watch.paused():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                if shutil.disk_usage(folder).free < ROOM * self._num_bytes:
                    _log.warning("no checkpoint: the disk has no room for %d times it", ROOM)
                else:
                    trainer.save_checkpoint(self.store.path, weights_only=False)
            except OSError as error:
                _log.warning("no checkpoint: %s", error)
        self._last = time.monotonic()
        self.interval = _interval_for(self._last - began)


def _interval_for(seconds: float) -> float:
    """Seconds from one checkpoint to the next, where one takes so many."""
    return max(EVERY_SECONDS, seconds / _MOST_SHARE)


def _parted(value: Any, arrays: dict[str, Any]) -> Any:
    """A checkpoint as JSON, but for its tensors, which join `arrays`."""
    if isinstance(value, Tensor):
        name = str(len(arrays))
        arrays[name] = as_kept(value.detach()).cpu().numpy()
        return {"tensor": name, "type": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, dict):
        return {"dict": [[_parted(k, arrays), _parted(v, arrays)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_parted(part, arrays) for part in value]}
    if not isinstance(value, _PLAIN):
        raise TypeError(f"a checkpoint holds a {type(value).__name__}; expected plain values")
    return value


def _joined(value: Any, entry: Entry) -> Any:
    """The inverse of :func:`_parted`."""
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        # A copy: the entry's files are mapped, and training changes what it is given.
        kept = torch.from_numpy(np.array(entry.arrays[value["tensor"]]))
        return kept.view(getattr(torch, value["type"]))
    if "dict" in value:
        return {_joined(k, entry): _joined(v, entry) for k, v in value["dict"]}
    [(kind, parts)] = value.items()
    joined = [_joined(part, entry) for part in parts]
    return tuple(joined) if kind == "tuple" else joined
