"""Registry of methods: their cards in the order of tables, and from a name to its class.

Never imports torch; what a card names is imported only when it is asked for.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from bench.methods.card import Card, KindName
from bench.settings import ModelSpec, SettingsError, TrainSpec

#: Modules with the cards of methods, as `CARDS`, in the order of tables.
MODULES = (
    "baselines.cards",
    "bench.mach.card",
    "baselines.peers.cards",
    "bench.experiments.cards",
)

_NOUNS: Mapping[KindName, str] = {
    "training": "method",
    "decoding": "decoder",
    "theory": "measurement",
    "scale": "way to train",
}
_registered: list[Card] = []


@functools.cache
def _own() -> tuple[Card, ...]:
    return tuple(card for name in MODULES for card in importlib.import_module(name).CARDS)


def register(card: Card) -> None:
    """Add a method of a user's own; a study file does this when it is imported.

    The same card may be registered again.

    Raises:
        SettingsError: another card of its kind has this name.
    """
    known = {(other.kind, other.name): other for other in (*_own(), *_registered)}
    other = known.get((card.kind, card.name))
    if other is None:
        _registered.append(card)
    elif other != card:
        raise SettingsError(f"a method {card.name!r} exists already: {other.label}")


def cards(kind: KindName = "training") -> tuple[Card, ...]:
    """All cards of a kind, trivial baselines last."""
    found = [card for card in (*_own(), *_registered) if card.kind == kind]
    return tuple(sorted(found, key=lambda card: card.is_trivial))


def card(name: str, kind: KindName = "training") -> Card:
    """The card of a method.

    Raises:
        SettingsError: unknown name.
    """
    known = {each.name: each for each in cards(kind)}
    if name not in known:
        raise SettingsError(f"{_NOUNS[kind]} is {name!r}; expected one of {', '.join(known)}")
    return known[name]


def method_class(name: str, kind: KindName = "training") -> Any:
    """The class behind a method's name, or the function behind a measurement's."""
    target = card(name, kind).target
    if not target:
        raise SettingsError(f"method {name!r} has an entry of its own and no class to build")
    return resolve(target)


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


def resolve(target: str) -> Any:
    """Object that a `module:attribute` target names.

    >>> resolve("math:floor")(2.5)
    2
    """
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
