"""Full layers at the papers' largest sizes: trained where they fit, counted where they do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from bench.data.sources import STREAM
from bench.experiments import training
from bench.experiments.scale.batches import load_points
from bench.measure.experiment import Context
from bench.measure.phases import Repetition
from bench.methods.arithmetic import predict_memory
from bench.methods.cards import check_options
from bench.settings import Trial


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """As `bench.experiments.training.run`; on a stream the model's bytes are only counted."""
    if trial.data.source != STREAM:
        return training.run(trial, context)
    return _counted(trial, context)


def time(trial: Trial, context: Context, repetitions: Iterator[Repetition]) -> Mapping[str, Any]:
    """As `bench.experiments.training.time`; on a stream nothing is timed."""
    if trial.data.source != STREAM:
        return training.time(trial, context, repetitions)
    found = _counted(trial, context)
    for _ in repetitions:
        pass
    return {"weights": None, "fingerprint": found["data"]["fingerprint"]}


def _counted(trial: Trial, context: Context) -> dict[str, Any]:
    check_options(trial.model)
    points = load_points(trial, context)
    predicted = predict_memory(trial, points.sizes, accelerator=context.accelerator)
    memory = predicted.to_record()
    context.partial(data=points.facts, memory=memory)
    device = torch.device("cuda" if context.accelerator == "gpu" else "cpu")
    training.refuse_what_cannot_fit(memory, device)
    return {"data": points.facts, "memory": memory}
