"""Registry of cards: which methods there are, in the order of tables; never imports torch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping

from bench.methods.card import Card, KindName
from bench.settings import SettingsError

#: Modules with the cards of methods, as `CARDS`, in the order of tables.
PLACES = (
    "baselines.cards",
    "bench.mach.card",
    "baselines.peers.cards",
    "bench.experiments.decoding.cards",
    "bench.experiments.cards",
    "bench.experiments.scale.cards",
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
    return tuple(card for place in PLACES for card in importlib.import_module(place).CARDS)


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
    """All cards of a kind, floors last."""
    found = [card for card in (*_own(), *_registered) if card.kind == kind]
    return tuple(sorted(found, key=lambda card: card.is_floor))


def card(name: str, kind: KindName = "training") -> Card:
    """The card of a method.

    Raises:
        SettingsError: unknown name.
    """
    known = {each.name: each for each in cards(kind)}
    if name not in known:
        raise SettingsError(f"{_NOUNS[kind]} is {name!r}; expected one of {', '.join(known)}")
    return known[name]
