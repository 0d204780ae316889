"""Registry of methods: a new method is one file and one line here."""

from __future__ import annotations

import importlib
import inspect
from typing import Any, cast

from bench.settings import ModelSpec, SettingsError, TrainSpec

METHODS: dict[str, str] = {
    "full_softmax": "baselines.full_softmax:FullSoftmax",
    "sampled_softmax": "baselines.sampled_softmax:SampledSoftmax",
    "sampled_bce": "baselines.sampled_bce:SampledBce",
    "mach": "bench.mach.module:Mach",
    "frequency": "baselines.floors:ClassFrequency",
    "centroid": "baselines.floors:NearestCentroid",
}


def method_class(name: str) -> type[Any]:
    """The `ExtremeClassifier` subclass behind a method's name.

    Raises:
        SettingsError: unknown name.
    """
    if name not in METHODS:
        raise SettingsError(f"method is {name!r}; expected one of {', '.join(METHODS)}")
    module_name, _, class_name = METHODS[name].partition(":")
    return cast(type[Any], getattr(importlib.import_module(module_name), class_name))


def check_options(spec: ModelSpec) -> None:
    """Refuse options that the method's class does not take, before any data is read.

    Raises:
        SettingsError: an unknown option, or a required one is missing.
    """
    known = _keywords(spec.method)
    unknown = sorted(set(spec.options) - set(known) | set(spec.options) & _SET_BY_TRIAL)
    missing = sorted(
        name
        for name, default in known.items()
        if default is inspect.Parameter.empty and name not in spec.options
    )
    if unknown or missing:
        taken = sorted(set(known) - _SET_BY_TRIAL)
        raise SettingsError(
            f"options of method {spec.method!r}: unknown {unknown}, missing {missing}; "
            f"it takes {taken}"
        )


def resolved_options(model: ModelSpec, train: TrainSpec) -> dict[str, Any]:
    """Every keyword that the method's class was built with, defaults included."""
    given = dict(model.options) | {
        "encoder": model.encoder,
        "hidden_dims": list(model.hidden_dims),
        "learning_rate": train.learning_rate,
        "optimizer": train.optimizer,
        "adam_epsilon": train.adam_epsilon,
    }
    known = _keywords(model.method)
    return {
        name: given.get(name, default)
        for name, default in sorted(known.items())
        if name not in ("seed", "ks")
    }


# Given by the trial's other settings, not by a method's options.
_SET_BY_TRIAL = {
    "encoder",
    "hidden_dims",
    "learning_rate",
    "optimizer",
    "adam_epsilon",
    "seed",
    "ks",
}


def _keywords(method: str) -> dict[str, Any]:
    """Keyword-only parameters of a method's class and its bases, with their defaults."""
    known: dict[str, Any] = {}
    for kind in method_class(method).__mro__:
        if "__init__" not in vars(kind) or not issubclass(kind, _shared_class()):
            continue
        for name, parameter in inspect.signature(vars(kind)["__init__"]).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                known.setdefault(name, parameter.default)
    return known


def _shared_class() -> type[Any]:
    from bench.classifier import ExtremeClassifier

    return ExtremeClassifier
