"""What a row is called, in tables, figures and on a terminal; cards declare how options look."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bench.methods import cards
from bench.methods.card import LOSS_OF_TASK, TRAINING_ENTRY, Card, KindName, OptionFormat
from bench.settings import SettingsError, TrainSpec, Trial

_WIDTHS = OptionFormat(name="hidden_dims", text="H={}")
_MODEL = (OptionFormat(name="encoder", text="{}", words={"mlp": ""}), _WIDTHS)
_TRAINING = (
    OptionFormat(name="batch_size", text="batch={}", is_always=False),
    OptionFormat(name="learning_rate", text="lr={}", is_always=False),
    OptionFormat(
        name="optimizer",
        text="{}",
        words={"adam": "Adam", "row_adam": "row Adam", "tf_adam": "TensorFlow's Adam"},
        is_always=False,
    ),
    OptionFormat(
        name="schedule",
        words={
            "constant": "constant rate",
            "linear_decay": "decaying rate",
            "step_decay": "rate in steps",
        },
        is_always=False,
    ),
    OptionFormat(
        name="keep_best",
        words={True: "best checkpoint", False: ""},
        default=False,
        is_always=False,
        usual=False,
    ),
    OptionFormat(name="precision", text="{}", is_always=False),
    OptionFormat(name="adam_epsilon", text="ε={}", is_always=False, usual=1e-8),
    OptionFormat(name="weight_decay", text="decay={}", is_always=False),
)
# They hold for every method that is trained by steps.
_OF_TRAINING = {entry.name for entry in dataclasses.fields(TrainSpec)}
# Columns show it; named only where nothing else distinguishes two rows.
_LENGTH = (
    OptionFormat(name="num_steps", text="steps={}"),
    OptionFormat(name="num_epochs", text="epochs={}"),
)
# Shown elsewhere, or no property of a row.
_NEVER = {"loss", "num_steps", "num_epochs", "budget_seconds", "num_validations"}
_NEVER |= {"trial_timeout_seconds"}


def card_of(method: str, kind: str) -> Card:
    """A method's card; one whose card is not at hand keeps its name and has a plain look."""
    try:
        return cards.card(method, cast(KindName, kind))
    except SettingsError:
        name = method or "unnamed"
        return Card(name=name, version=1, label=name, group=name, kind=cast(KindName, kind))


def flatten(settings: Mapping[str, Any], card: Card, task: str) -> dict[str, Any]:
    """Every setting of a model and its training under its own name, with defaults of options.

    Options without effect beside another setting are left out.
    """
    model = dict(settings.get("model") or {})
    del model["method"]
    options = model.pop("options", None) or {}
    defaults = {shown.name: shown.default for shown in card.options if shown.name not in model}
    flat = {**model, **(settings.get("train") or {}), **defaults, **options}
    flat["hidden_dims"] = "-".join(str(width) for width in flat.get("hidden_dims") or ()) or None
    if flat.get("loss") is None:
        flat["loss"] = LOSS_OF_TASK.get(task)
    for shown in card.options:
        if shown.hidden_by and flat.get(shown.hidden_by[0]) in shown.hidden_by[1]:
            del flat[shown.name]
    return flat


def in_words(card: Card, values: Mapping[str, Any]) -> str:
    """Given settings of a method in short, all of them, in the order of its tables."""
    known = (*_MODEL, *card.options, *_TRAINING)
    others = [OptionFormat(name=name) for name in values if name not in {k.name for k in known}]
    words = [shown.write(values[shown.name]) for shown in (*known, *others) if shown.name in values]
    return ", ".join(word for word in words if word)


@dataclass(frozen=True)
class Named:
    """A configuration that is to be named among others.

    Attributes:
        flat: settings of model and training, see `flatten`.
        data: settings of the data and options of its source.
    """

    card: Card
    flat: Mapping[str, Any]
    data: Mapping[str, Any]

    @classmethod
    def of(cls, settings: Mapping[str, Any], kind: str, task: str) -> Named:
        """From a trial's settings."""
        card = card_of(str((settings.get("model") or {}).get("method")), kind)
        data = dict(settings.get("data") or {})
        return cls(
            card, flatten(settings, card, task), {**data, **(data.pop("options", None) or {})}
        )

    @property
    def label(self) -> str:
        """Of its method under its loss."""
        return self.card.name_for(self.flat.get("loss"))

    @property
    def key(self) -> str:
        """The same for replicates alone."""
        return json.dumps([self.card.name, {**self.flat}, {**self.data}], sort_keys=True)


def describe_rows(
    rows: Sequence[Named], *, is_distinct: bool = True, shows_common: bool = True
) -> list[str]:
    """Short text for each configuration: what always matters, and what distinguishes it.

    This alone names rows: in tables, legends, live lines and errors. The model and its training are
    compared over all trained methods; a method's own options only among its own rows. No two rows
    of a method are alike.

    Args:
        rows: all that are named together.
        is_distinct: no two are alike; False where a column shows what problem a row is of.
        shows_common: also what always matters, though all rows have it.
    """
    names = [(row.label, ", ".join(_words(row, rows))) for row in rows]
    texts = []
    for row, name in zip(rows, names, strict=True):
        words = _words(row, rows, shows_common=shows_common)
        same = [other for other, its in zip(rows, names, strict=True) if its == name]
        texts.append(", ".join([*words, *_differences(row, same)] if is_distinct else words))
    return texts


def _differences(own: Named, same: Sequence[Named]) -> list[str]:
    """Every setting in which rows differ that look alike so far."""
    known = {shown.name: shown for shown in (*_MODEL, *own.card.options, *_TRAINING, *_LENGTH)}
    lengths = {shown.name for shown in _LENGTH}
    words = []
    for part in ("flat", "data"):
        settings = [getattr(other, part) for other in same]
        for name in sorted({name for each in settings for name in each}):
            if len({json.dumps(each.get(name), sort_keys=True) for each in settings}) > 1:
                shown = known.get(name) or OptionFormat(name=name)
                value = getattr(own, part).get(name)
                missing = "" if name in lengths else f"no {name.replace('_', ' ')}"
                words.append(shown.write(value) or missing)
    return [word for word in words if word]


def _learns_by_steps(card: Card) -> bool:
    return card.kind == "training" and card.has_steps and not card.is_trivial


def _is_trained_by_us(card: Card) -> bool:
    """Whether settings of training apply to a method: a peer has its own training."""
    return _learns_by_steps(card) and card.entry == TRAINING_ENTRY


def _formats(card: Card, flat: Mapping[str, Any]) -> list[OptionFormat]:
    """Formats of a row's settings, in order; of training only where it learns by steps."""
    known = {shown.name for shown in (*_MODEL, *card.options, *_TRAINING)} | _NEVER
    others = [OptionFormat(name=name, is_always=False) for name in sorted(set(flat) - known)]
    if not _learns_by_steps(card):
        return [*card.options, *others]
    if not _is_trained_by_us(card):
        return [_WIDTHS, *card.options, *others]
    return [*_MODEL, *card.options, *others, *_TRAINING]


def _words(own: Named, rows: Sequence[Named], *, shows_common: bool = True) -> list[str]:
    """What distinguishes a row among others, in words."""
    words = []
    for shown in _formats(own.card, own.flat):
        if shown in _MODEL or shown.name in _OF_TRAINING:
            peers = [row.flat for row in rows if _is_trained_by_us(row.card)]
        else:
            peers = [row.flat for row in rows if row.card.name == own.card.name]
        values = {json.dumps(flat.get(shown.name), sort_keys=True) for flat in peers}
        is_common = shown.is_always or shown.is_unusual(own.flat.get(shown.name))
        if shown.name in own.flat and (len(values) > 1 or (shows_common and is_common)):
            words.append(shown.write(own.flat[shown.name]))
    return [word for word in words if word]


class RowNames:
    """What the rows of a study are called where a person sees them run: as their tables call them.

    Args:
        trials: all of the study, or those of a profile.
        kind: of the study.
        part: trial → name of the table that it stands in; None: there is one table.

    Attributes:
        tasks: data set → its task, once that is known: it decides the loss of a trial that leaves
            that open, and with it the name of the method.
    """

    def __init__(
        self,
        trials: Iterable[Trial] = (),
        kind: str = "training",
        part: Callable[[Trial], str] | None = None,
    ) -> None:
        self.tasks: dict[str, str] = {}
        self._kind = kind
        self._part = part
        self._tables: dict[tuple[str, str], list[Trial]] = {}
        self._settings_of: dict[tuple[Any, ...], dict[str, tuple[str, str]]] = {}
        for trial in trials:
            self._tables.setdefault(self._table_of(trial), []).append(trial)

    def _table_of(self, trial: Trial) -> tuple[str, str]:
        return (self._part(trial) if self._part else "", trial.data.name)

    def _named(self, trial: Trial) -> Named:
        return Named.of(trial.to_dict(), self._kind, self.tasks.get(trial.data.name, ""))

    def _rows(self, table: tuple[str, str]) -> list[Named]:
        """Rows of a table, replicates together."""
        rows = map(self._named, self._tables.get(table, ()))
        return list({row.key: row for row in rows}.values())

    def _settings(self, trial: Trial, own: Named) -> tuple[str, str]:
        """A row's setting, with and without what all rows of its table have in common."""
        table = self._table_of(trial)
        table_key = (*table, self.tasks.get(trial.data.name))
        if table_key not in self._settings_of:
            self._settings_of[table_key] = _settings_by_key(self._rows(table))
        found = self._settings_of[table_key].get(own.key)
        if found is None:
            # A budget in seconds is steps by now, or not yet: the same row either way.
            alike = _without_length(own)
            others = [row for row in self._rows(table) if _without_length(row) != alike]
            found = _settings_by_key([own, *others])[own.key]
            self._settings_of[table_key][own.key] = found
        return found

    def full(self, trial: Trial) -> str:
        """Method, setting, data and replicate."""
        own = self._named(trial)
        return _joined(trial, own.label, self._settings(trial, own)[0], trial.data.name)

    def apart(self, trial: Trial) -> str:
        """The same without what all rows of its table have in common."""
        own = self._named(trial)
        is_only = len({name for _, name in self._tables}) < 2
        data = "" if is_only else trial.data.name
        return _joined(trial, own.label, self._settings(trial, own)[1], data)

    def common(self) -> str:
        """What all rows of several have in common; "" where that is nothing, or there is one."""
        rows = [self._named(trial) for same in self._tables.values() for trial in same]
        trained = [row for row in rows if _is_trained_by_us(row.card)]
        words = []
        for shown in (*_MODEL, *_TRAINING) if len({row.key for row in rows}) > 1 else ():
            values = {json.dumps(row.flat.get(shown.name), sort_keys=True) for row in trained}
            if len(values) == 1:
                words.append(shown.write(trained[0].flat.get(shown.name)))
        return ", ".join(filter(None, words))


def _settings_by_key(rows: Sequence[Named]) -> dict[str, tuple[str, str]]:
    """Key of each row → its setting among them, and the same without what all have in common."""
    texts = zip(describe_rows(rows), describe_rows(rows, shows_common=False), strict=True)
    return {row.key: pair for row, pair in zip(rows, texts, strict=True)}


def _joined(trial: Trial, label: str, setting: str, data: str) -> str:
    text = ", ".join(filter(None, [label, setting])) + (f" on {data}" if data else "")
    return text + (f", replicate {trial.replicate}" if trial.replicate else "")


def _without_length(row: Named) -> str:
    lengths = ("num_steps", "num_epochs", "budget_seconds")
    flat = {name: value for name, value in row.flat.items() if name not in lengths}
    return dataclasses.replace(row, flat=flat).key


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
