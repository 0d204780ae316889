"""From a method's name and options to its class, as its card names it."""

from __future__ import annotations

from typing import Any, cast

from bench.methods.cards import card
from bench.methods.registry import resolve
from bench.nn.options import keywords
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


def check_options(model: ModelSpec, train: TrainSpec | None = None) -> None:
    """Refuse what a method does not take, before any data is read or anything is built.

    Every option is held against what the method's class declares; a method whose class declares
    nothing, or that has none, is left to its own process.

    Args:
        model: method, encoder and options.
        train: training settings that the class is built with, too.

    Raises:
        SettingsError: an unknown option, a required one that is missing, a value or a combination
            that the method does not take.
    """
    target = card(model.method).target
    check = getattr(resolve(target), "check_spec", None) if target else None
    if check is not None:
        check(model, train)


def resolved_options(model: ModelSpec, train: TrainSpec) -> dict[str, Any]:
    """Every keyword that the method's class was built with, defaults included."""
    given = dict(model.options) | {
        "encoder": model.encoder,
        "hidden_dims": list(model.hidden_dims),
        "learning_rate": train.learning_rate,
        "optimizer": train.optimizer,
        "adam_epsilon": train.adam_epsilon,
    }
    from bench.nn.classifier import ExtremeClassifier

    known = keywords(method_class(model.method), ExtremeClassifier)
    return {
        name: given.get(name, default)
        for name, (default, _) in sorted(known.items())
        if name not in ("seed", "ks")
    }
