"""From a method's name and options to its class, as its card names it."""

from __future__ import annotations

import inspect
from typing import Any, cast

from bench.cards import card
from bench.registry import resolve
from bench.settings import ModelSpec, SettingsError, TrainSpec


def method_class(name: str) -> type[Any]:
    """The `ExtremeClassifier` subclass behind a method's name.

    Raises:
        SettingsError: unknown name, or a method that is no such class.
    """
    target = card(name).target
    if not target:
        raise SettingsError(f"method {name!r} has an entry of its own and no class to build")
    return cast(type[Any], resolve(target))


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
    from bench.checkpoint import keyword_defaults
    from bench.classifier import ExtremeClassifier

    return keyword_defaults(method_class(method), ExtremeClassifier)
