"""Weights of finished trainings, kept in the cache: to be timed, and to be exported.

How long a decode takes depends on how peaked the scores are; an untrained model's tell nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.cache import Entry, cache_key, read, replace
from bench.methods.cards import of_behaviour
from bench.nn.checkpoint import Restorable

#: A disk is left at least this many times what is written.
ROOM = 4

_log = logging.getLogger(__name__)


def weights_key(trial_id: str, versions: Mapping[str, int], fingerprint: str | None) -> str:
    """Cache key of the weights of a trial, for one version of code and data."""
    behaviour = of_behaviour(versions)
    return cache_key({"trial_id": trial_id, "versions": behaviour, "fingerprint": fingerprint})


def keep_weights(model: Restorable, cache_dir: Path, key: str) -> bool:
    """Keep a model's parameters in place of those kept before; False where there is no room.

    Where they cannot be written this is logged: a finished training's outcome must not be lost.
    """
    folder = cache_dir / "weights"
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(folder).free < ROOM * num_bytes:
            _log.warning("the weights are not kept: the disk has no room for %d times them", ROOM)
            return False
        replace(folder, key, Entry(arrays_of(model), {}))
    except OSError as error:
        _log.warning("the weights are not kept: %s", error)
        return False
    return True


def restore_weights(model: Restorable, cache_dir: Path, key: str) -> bool:
    """Put kept parameters into a model of the same shapes; False where none fit or are complete."""
    entry = read(cache_dir / "weights" / key)
    own = model.kept_parameters()
    if entry is None or {name: value.shape for name, value in entry.arrays.items()} != {
        name: tuple(value.shape) for name, value in own.items()
    }:
        return False
    give_arrays(model, entry.arrays)
    return True


def arrays_of(model: Restorable) -> dict[str, npt.NDArray[Any]]:
    """A model's parameters by name, as the cache keeps them."""
    return {name: as_kept(p.detach()).cpu().numpy() for name, p in model.kept_parameters().items()}


@torch.no_grad()
def give_arrays(model: Restorable, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Put parameters of :func:`arrays_of` into a model of the same shapes."""
    for name, parameter in model.kept_parameters().items():
        as_kept(parameter).copy_(torch.from_numpy(np.array(arrays[name])))


def as_kept(weights: Tensor) -> Tensor:
    """The same memory as NumPy knows it, which has no bfloat16."""
    return weights.view(torch.int16) if weights.dtype == torch.bfloat16 else weights
