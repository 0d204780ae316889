"""What tables and figures call a method and a setting; methods say it on their cards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from bench import cards
from bench.card import LOSS_OF_TASK, TRAINING_ENTRY, Card, KindName, Shown
from bench.report.values import clean, dig
from bench.settings import SettingsError

_WIDTHS = Shown(name="hidden_dims", text="H={}")
_MODEL = (Shown(name="encoder", text="{}", words={"mlp": ""}), _WIDTHS)
_TRAINING = (
    Shown(name="batch_size", text="batch={}", is_always=False),
    Shown(name="learning_rate", text="lr={}", is_always=False),
    Shown(
        name="optimizer",
        text="{}",
        words={"adam": "Adam", "row_adam": "row Adam", "tf_adam": "TensorFlow's Adam"},
        is_always=False,
    ),
    Shown(
        name="schedule",
        words={
            "constant": "constant rate",
            "linear_decay": "decaying rate",
            "step_decay": "rate in steps",
        },
        is_always=False,
    ),
    Shown(name="precision", text="{}", is_always=False),
    Shown(name="adam_epsilon", text="ε={}", is_always=False),
)
# The columns tell it, unless nothing else tells two rows apart.
_LENGTH = (Shown(name="num_steps", text="steps={}"), Shown(name="num_epochs", text="epochs={}"))
# Told elsewhere, or nothing that a row is.
_NEVER = {"loss", "num_steps", "num_epochs", "budget_seconds", "num_validations"}
_NEVER |= {"trial_timeout_seconds"}


def card_of(method: str, kind: str) -> Card:
    """A method's card; one whose card is not at hand keeps its name and has a plain look."""
    try:
        return cards.card(method, cast(KindName, kind))
    except SettingsError:
        name = clean(method) or "unnamed"
        return Card(name=name, version=1, label=name, group=name, kind=cast(KindName, kind))


def method_of(settings: Mapping[str, Any]) -> str:
    """Registered name of the method that settings name."""
    return str(dig(settings, "model", "method"))


def flatten(settings: Mapping[str, Any], card: Card, task: str) -> dict[str, Any]:
    """Every setting of a model and its training under its own name, defaults of options said.

    Options that say nothing beside another setting are left out.
    """
    model = dict(dig(settings, "model") or {})
    del model["method"]
    options = model.pop("options", None) or {}
    told = {aspect.name: None for aspect in card.aspects if aspect.name not in model}
    told |= {shown.name: shown.default for shown in card.options if shown.name not in model}
    flat = {**model, **(dig(settings, "train") or {}), **told, **options}
    flat["hidden_dims"] = "-".join(str(width) for width in flat.get("hidden_dims") or ()) or None
    if flat.get("loss") is None:
        flat["loss"] = LOSS_OF_TASK.get(task)
    for shown in card.options:
        if shown.hidden_by and flat.get(shown.hidden_by[0]) in shown.hidden_by[1]:
            del flat[shown.name]
    return flat


def describe_rows(rows: Sequence[tuple[Card, Mapping[str, Any]]]) -> list[str]:
    """Short text for each configuration: what always matters, and what tells it from the others.

    The model and its training are compared over all trained methods; a method's own options only
    among its own rows.

    Args:
        rows: card and flattened settings of each.
    """
    texts = [_describe(card, flat, rows) for card, flat in rows]
    labels = [card.name_for(flat["loss"]) for card, flat in rows]
    counts = Counter(zip(labels, texts, strict=True))
    for place, (card, flat) in enumerate(rows):
        if counts[labels[place], texts[place]] > 1 and _learns_by_steps(card):
            length = [shown.write(flat.get(shown.name)) for shown in _LENGTH]
            texts[place] = ", ".join(filter(None, [texts[place], *length]))
    return texts


def _learns_by_steps(card: Card) -> bool:
    return card.kind == "training" and not card.is_floor


def _is_trained_by_us(card: Card) -> bool:
    """Whether the settings of training say anything of a method: a peer trains as it does."""
    return _learns_by_steps(card) and card.entry == TRAINING_ENTRY


def _sayable(card: Card, flat: Mapping[str, Any]) -> list[Shown]:
    """What could be said of a row, in order; how it learns only where it learns by steps."""
    known = {shown.name for shown in (*_MODEL, *card.options, *_TRAINING)} | _NEVER
    others = [Shown(name=name, is_always=False) for name in sorted(set(flat) - known)]
    if not _learns_by_steps(card):
        return [*card.options, *others]
    if not _is_trained_by_us(card):
        return [_WIDTHS, *card.options, *others]
    return [*_MODEL, *card.options, *others, *_TRAINING]


def _describe(
    card: Card, own: Mapping[str, Any], rows: Sequence[tuple[Card, Mapping[str, Any]]]
) -> str:
    words = []
    for shown in _sayable(card, own):
        if shown in _MODEL or shown in _TRAINING:
            peers = [flat for other, flat in rows if _is_trained_by_us(other)]
        else:
            peers = [flat for other, flat in rows if other.name == card.name]
        values = {json.dumps(flat.get(shown.name), sort_keys=True) for flat in peers}
        if shown.name in own and (shown.is_always or len(values) > 1):
            words.append(clean(shown.write(own[shown.name])))
    return ", ".join(filter(None, words))


def sort_key(card: Card, flat: Mapping[str, Any]) -> tuple[Any, ...]:
    """Orders the rows of a method by its model, its options and the rest, numbers as numbers."""
    first = [shown.name for shown in (*_MODEL, *card.options)]
    rest = tuple((name, _comparable(flat[name])) for name in sorted(flat))
    return (*(_comparable(flat.get(name)) for name in first), rest)


def _comparable(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, int | float):
        return (1, float(value), "")
    text = str(value)
    widths = [int(part) for part in text.split("-") if part.isdigit()]
    return (2, float(sum(widths)), text)
