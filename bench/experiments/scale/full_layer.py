"""Full layers at the papers' largest sizes: trained where they fit, counted where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from bench.data.stream_source import STREAM
from bench.experiments import training as trained
from bench.experiments.scale.batches import load_points
from bench.measure.phases import Visit
from bench.methods.classes import check_options
from bench.settings import Trial

Emit = Callable[[dict[str, Any]], None]


def execute(
    trial: Trial, *, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    """Train a full layer on a data set; on a stream only count its bytes.

    As `bench.experiments.training.execute`.

    Args:
        trial: its method is one of those that train whole.
        data_dir: where data sets lie.
        cache_dir: for prepared data and weights.
        accelerator: `cpu` or `gpu`.
        emit: takes progress events.

    Raises:
        PredictedOutOfMemory: by arithmetic it does not fit.
        SettingsError: options that the method or the source does not have.
    """
    if trial.data.source != STREAM:
        return trained.execute(
            trial, data_dir=data_dir, cache_dir=cache_dir, accelerator=accelerator, emit=emit
        )
    return _counted(trial, data_dir, cache_dir, accelerator, emit)


def attend(
    trial: Trial,
    *,
    data_dir: Path,
    cache_dir: Path,
    accelerator: str,
    emit: Emit,
    visits: Iterator[Visit],
) -> Mapping[str, Any]:
    """Take part in rounds of timing; on a stream nothing is timed.

    As `bench.experiments.training.attend`.

    Args:
        trial: the row.
        data_dir: where data sets lie.
        cache_dir: for prepared data and weights.
        accelerator: `cpu` or `gpu`.
        emit: takes progress events.
        visits: the row's turns.

    Raises:
        PredictedOutOfMemory: by arithmetic it does not fit.
        SettingsError: options that the method or the source does not have.
    """
    if trial.data.source != STREAM:
        return trained.attend(
            trial,
            data_dir=data_dir,
            cache_dir=cache_dir,
            accelerator=accelerator,
            emit=emit,
            visits=visits,
        )
    found = _counted(trial, data_dir, cache_dir, accelerator, emit)
    for _ in visits:
        pass
    return {"weights": None, "fingerprint": found["data"]["fingerprint"]}


def _counted(
    trial: Trial, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    check_options(trial.model)
    points = load_points(trial, data_dir, cache_dir)
    memory = trained.predicted_memory(trial, points.described, points.entries_per_point)
    emit({"event": "partial", "data": points.facts, "memory": memory})
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    trained.refuse_what_cannot_fit(memory, device)
    return {"data": points.facts, "memory": memory}
