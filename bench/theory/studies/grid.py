"""Trials of measurements without data."""

from __future__ import annotations

from collections.abc import Mapping

from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial

_TRAIN = TrainSpec(trial_timeout_seconds=1800.0)


def trial_of(
    data: DataSpec,
    method: str,
    options: Mapping[str, Scalar],
    *,
    hidden_dims: tuple[int, ...] = (),
) -> Trial:
    """Trial of a measurement; `hidden_dims` where it is of a model with hidden layers."""
    model = ModelSpec(
        method=method,
        encoder="mlp" if hidden_dims else "linear",
        hidden_dims=hidden_dims,
        options=options,
    )
    return Trial(data=data, model=model, train=_TRAIN)
