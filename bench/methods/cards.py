"""Methods by name: their cards in the order of tables, their classes, and today's versions.

Versions are those of method, data source, protocol and metrics that a trial would be run with. A
record holds those that it was made with, by name; a name that it lacks was at 1.

Never imports torch; what a card names is imported only when it is asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import re
from collections.abc import Mapping
from typing import Any

from bench.methods.card import Card, Kind, KindName
from bench.settings import ModelSpec, SettingsError, TrainSpec, Trial

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


def choices_of(trial: Trial, kind: Kind) -> list[Trial]:
    """What a trial can become by the memory at hand, see `Card.choices`; itself, mostly."""
    own = card(trial.model.method, kind.name)
    return [dataclasses.replace(trial, model=model) for model in own.choices(trial.model)]


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


#: Of what all trained methods share: encoder, optimisers, order of batches, dropout, and those
#: metrics that have no version of their own. Golden runs detect when it must rise (`tests/golden`).
PROTOCOL = 1

#: Of metrics that have one of their own: when it rises, the others of a record still hold.
#:
#: `psp`: since 2 propensities are those of the complete training file; at 1 validation points had
#: been left out of the counts.
METRIC_VERSIONS: Mapping[str, int] = {"psp": 2}
_METRICS: Mapping[str, re.Pattern[str]] = {"psp": re.compile(r"PS(P|nDCG)@")}


def current_versions(trial: Trial, kind: Kind) -> dict[str, int]:
    """Versions that a record of this trial would hold if it ran now."""
    own = card(trial.model.method, kind.name)
    versions = {
        "method": own.version,
        "protocol": PROTOCOL,
        **own.versions_of_options(trial.model.options),
        **METRIC_VERSIONS,
    }
    if kind.sources:
        sources = importlib.import_module(kind.sources)
        versions["source"] = int(sources.source_version(trial.data))
    return versions


def of_behaviour(versions: Mapping[str, int]) -> dict[str, int]:
    """Those of them that decide what is trained and answered, not how answers are scored."""
    return {name: version for name, version in versions.items() if name not in METRIC_VERSIONS}


def is_older(versions: Mapping[str, int], current: Mapping[str, int]) -> bool:
    """Whether a record was made by code that has trained or answered differently since.

    Metrics with a version of their own are judged one by one, see :func:`is_metric_older`.

    >>> is_older({"method": 1}, {"method": 1, "sampler=in_batch": 2})
    True
    >>> is_older({"method": 1}, {"method": 1, "protocol": 1, "psp": 2})
    False
    """
    return any(versions.get(name, 1) < version for name, version in of_behaviour(current).items())


def is_metric_older(metric: str, record: Mapping[str, Any]) -> bool:
    """Whether today's code would make another value of the answers that a record's metric is of."""
    family = next((name for name, known in _METRICS.items() if known.match(metric)), None)
    if family is None:
        return False
    versions = record.get("versions") or {}
    # Where no validation points were carved out, both versions count the same.
    has_validation = bool((record.get("data") or {}).get("num_validation_points"))
    return has_validation and versions.get(family, 1) < METRIC_VERSIONS[family]


def without_older_metrics(value: Any, *records: Mapping[str, Any]) -> Any:
    """A part of a record without the metrics that are older in one of some records.

    Also without the curve where one of them has none of a method that is not trained by steps:
    trivial baselines once had no validation.
    """
    if isinstance(value, Mapping):
        return {
            name: without_older_metrics(each, *records)
            for name, each in value.items()
            if not any(is_metric_older(str(name), record) for record in records)
            and not (name == "curve" and any(map(_is_not_validated, records)))
        }
    if isinstance(value, list | tuple):
        return [without_older_metrics(each, *records) for each in value]
    return value


def _is_not_validated(record: Mapping[str, Any]) -> bool:
    training = record.get("training") or {}
    return training.get("num_steps") == 0 and not training.get("curve")
