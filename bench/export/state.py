"""What of a model a folder keeps: settings that build it, and the state that training gave it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.export.folder import ModelError
from bench.methods.card import TRAINING
from bench.methods.cards import cards, current_versions, method_class
from bench.nn.checkpoint import as_plain
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial

# Training points of each label, kept where a method's tables need them.
_COUNTS = "facts.label_counts"
# torch's name for what a model adds to its `state_dict`: lists of lengths that its fit decides, of
# closed forms; of others their identity, which `model.json` has.
_EXTRA = "_extra_state"


def class_named(name: str) -> type[ExtremeClassifier]:
    """The class of a registered method.

    Raises:
        ModelError: no card names it.
    """
    for card in cards():
        if card.target.partition(":")[2] == name:
            found: type[ExtremeClassifier] = method_class(card.name)
            return found
    raise ModelError(
        f"{name} is no registered method; expected one, or a bench.Card of it that names its class "
        "and is registered wherever the folder is loaded, too"
    )


def method_of(kind: type[ExtremeClassifier]) -> str:
    """The registered method of a class; raises as :func:`class_named`."""
    if class_named(kind.__name__) is not kind:
        raise ModelError(f"{kind} is not the registered class of its name; expected that one")
    return next(each.name for each in cards() if each.target.endswith(f":{kind.__name__}"))


def built(method: str, settings: Mapping[str, Any], facts: DataFacts) -> ExtremeClassifier:
    """A model of these settings without weights, of which nothing is allocated; with its tables.

    Raises:
        ModelError: the method is not known here, or not with these settings.
    """
    try:
        with torch.device("meta"):
            model: ExtremeClassifier = method_class(method)(facts, **settings)
    except (SettingsError, TypeError) as error:
        raise ModelError(f"the exported model cannot be built: {error}") from error
    model.fill_tables()
    return model.eval().requires_grad_(False)


def settings_of(model: ExtremeClassifier) -> dict[str, Any]:
    """Keywords of the constructor, as plain values of JSON.

    Raises:
        ModelError: its encoder is a module of the user's own.
    """
    if model.encoder_kind == "own":
        raise ModelError(
            "the encoder is a module of your own, whose code a folder does not hold; expected "
            "encoder='mlp' or 'linear' (a Lightning checkpoint keeps the others' weights)"
        )
    found: dict[str, Any] = json.loads(json.dumps(as_plain(dict(model.hparams))))
    return found


def identity_of(model: ExtremeClassifier) -> dict[str, Any]:
    """What gives weights their meaning, hash functions among it, as plain values of JSON."""
    found: dict[str, Any] = json.loads(json.dumps(as_plain(dict(model.identity()))))
    return found


def state_of(model: ExtremeClassifier) -> dict[str, Tensor]:
    """All that training or a fit gave a model, by name."""
    state = dict(model.state_dict())
    extra = state.pop(_EXTRA, None)
    lists = extra if isinstance(extra, dict) else {}
    if model.tables_need_counts:
        state[_COUNTS] = model.facts.label_counts
    return state | {f"{_EXTRA}.{name}": values for name, values in lists.items()}


def label_counts(state: Mapping[str, Tensor], num_labels: int) -> Tensor:
    """`(L,)` int64: training points of each label, zeros where no table needs them."""
    return state.get(_COUNTS, torch.zeros(num_labels, dtype=torch.int64))


def give_state(model: ExtremeClassifier, state: Mapping[str, Tensor], path: Path) -> None:
    """Give a model of :func:`built` its state, which is not copied.

    Raises:
        ModelError: a tensor is missing, or of another shape or type.
    """
    extra = {name: values for name, values in state.items() if name.startswith(f"{_EXTRA}.")}
    weights = {name: state[name] for name in state if name not in extra and name != _COUNTS}
    own = {name: value for name, value in model.state_dict().items() if name != _EXTRA}
    for name in sorted(own.keys() | weights.keys()):
        expected, found = (
            None if name not in each else f"{each[name].dtype} {tuple(each[name].shape)}"
            for each in (own, weights)
        )
        if found != expected:
            raise ModelError(f"{path}: {name} is {found}; expected {expected} by its settings")
    model.load_state_dict(weights, strict=False, assign=True)
    if extra:
        model.set_extra_state({name.removeprefix(f"{_EXTRA}."): extra[name] for name in extra})


def versions_today(spec: DataSpec, method: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """Versions of method, source and protocol, as a record would hold them now."""
    options = {
        name: value
        for name, value in settings.items()
        if isinstance(value, bool | int | float | str | None)
    }
    model = ModelSpec(method=method, options=options)
    return current_versions(Trial(data=spec, model=model, train=TrainSpec()), TRAINING)
