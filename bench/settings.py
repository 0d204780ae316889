"""Settings of a trial: frozen values, validated on construction, identified by their hash.

A trial is fully described by what stands here: which data, which method, how it is trained, and
which replicate. Two trials with equal settings are the same trial; see :attr:`Trial.trial_id`.

A setting that is added later and has a default is marked `metadata=LATER`: it joins the hash, and
the record, only where it differs from that default, so that it orphans no record.

Values are taken as the annotations say: what is plainly meant is taken, the rest is named. A NumPy
integer is an integer, a `Path` is its text, a width alone is a tuple of one; `2.24` is no integer,
`"1e-3"` no number and NaN no setting.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import numbers
import os
import types
import typing
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Union, cast, get_args, get_origin

from bench.errors import UserError

Scalar = bool | int | float | str | None
Encoder = Literal["linear", "mlp"]
Optimizer = Literal["adam", "row_adam", "tf_adam"]
Schedule = Literal["constant", "linear_decay", "step_decay"]
Order = Literal["points", "batches", "file"]
Propensity = Literal["default", "wikipedia", "amazon"]
FeatureWeighting = Literal["raw", "binary", "tfidf"]

_EMPTY: Mapping[str, Any] = MappingProxyType({})

#: Of a field that came after the first records: see the module's docstring.
LATER: Mapping[str, Any] = MappingProxyType({"is_later": True})
# Of a field that changes no result, such as a limit that a trial may hit.
_NO_RESULT: Mapping[str, Any] = MappingProxyType({"is_identity": False})


class SettingsError(UserError):
    """A setting has a value that no trial can run with."""


def _require(claim: bool, message: str) -> None:
    if not claim:
        raise SettingsError(message)


def _require_least(spec: object, **least: int) -> None:
    """Refuse a spec's numbers below some; None is none."""
    for name, bound in least.items():
        value = getattr(spec, name)
        _require(
            value is None or value >= bound,
            f"{type(spec).__name__}.{name} is {value}; expected at least {bound}",
        )


def derive_seed(purpose: str, *parts: int | str) -> int:
    """Seed in [0, 2^63) hashed from a purpose and its parts, so that no two uses share a stream.

    >>> derive_seed("shuffle", 0) == derive_seed("shuffle", 0)
    True
    >>> derive_seed("shuffle", 0) == derive_seed("split", 0)
    False
    """
    text = "\x1f".join((purpose, *(str(part) for part in parts)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which points, in which form.

    Attributes:
        source: registered source, see `bench.data.sources`.
        name: what tables call the data set.
        options: keyword arguments of the source (file names, sizes, label base).
        num_top_labels: keep only this many labels, those with most training points, renumbered by
            falling frequency; points left without a label are dropped. None keeps all labels.
        feature_weighting: `raw` values, `binary` 1.0, or `tfidf`:
            (1 + ln tf) · (ln((1 + N)/(1 + df)) + 1), document frequencies df from the training
            split alone.
        normalize_rows: divide every feature row by its L2 norm, after weighting.
        num_validation_points: carved from the training data by a seeded draw.
        max_test_points: score this many test points, a seeded draw; None scores all.
        split_seed: seed of the validation and test draws.
        propensity: constants of the propensity-scored metrics, by kind of data; they differ between
            Wikipedia's labels, Amazon's and all others.
        ks: cut-offs of the metrics, those above L are left out.
    """

    source: str
    name: str
    options: Mapping[str, Scalar] = field(default_factory=lambda: _EMPTY)
    num_top_labels: int | None = None
    feature_weighting: FeatureWeighting = "raw"
    normalize_rows: bool = True
    num_validation_points: int = 2000
    max_test_points: int | None = None
    split_seed: int = 0
    propensity: Propensity = "default"
    ks: tuple[int, ...] = (1, 3, 5, 10)

    def __post_init__(self) -> None:
        coerce_fields(self, SettingsError)
        _require(
            bool(self.ks) and all(k >= 1 for k in self.ks) and 1 in self.ks,
            f"DataSpec.ks is {self.ks}; expected 1 and other positive cut-offs",
        )
        _require(bool(self.source), "DataSpec.source is empty; expected a registered source")
        _require_least(self, num_top_labels=2, num_validation_points=0, max_test_points=1)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Which method, with which encoder.

    Attributes:
        method: registered method, see `bench.methods.cards`.
        encoder: `linear` (features straight to the output layer) or `mlp`.
        hidden_dims: widths of the hidden layers of an `mlp`, the last one is H.
        options: keyword arguments of the method's class (num_buckets, num_worlds, sampler …).
    """

    method: str
    encoder: Encoder = "mlp"
    hidden_dims: tuple[int, ...] = (128,)
    options: Mapping[str, Scalar] = field(default_factory=lambda: _EMPTY)

    def __post_init__(self) -> None:
        coerce_fields(self, SettingsError)
        if self.encoder == "linear":
            object.__setattr__(self, "hidden_dims", ())
        else:
            _require(
                len(self.hidden_dims) >= 1 and all(width >= 1 for width in self.hidden_dims),
                f"ModelSpec.hidden_dims is {self.hidden_dims}; expected positive widths",
            )


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """How a model is trained; the same words for every method.

    The length is one of `num_steps`, `num_epochs` and `budget_seconds`; without any it is one
    epoch. No clock decides anything in a trial: a budget is turned into steps before (see
    `bench.store.budgets`), and a trial with a budget left in it does not run.

    Attributes:
        batch_size: points a step.
        learning_rate: peak rate of the optimiser.
        optimizer: `adam` (dense moments), `row_adam` (moments of a row move only when the row has
            a gradient; the same as `adam` on dense gradients) or `tf_adam` (`adam` with ε where
            TensorFlow 1 has it, as the papers' code; see `bench.nn.optimizers`). All methods have
            all of them.
        schedule: `constant`, `linear_decay` to 0 along the steps, or `step_decay` at
            `decay_epochs`.
        num_steps: length in steps.
        num_epochs: length in passes over the training data (a float: 0.5 is half a pass).
        budget_seconds: length in seconds of training steps, at the measured seconds a step.
        num_validations: times that quality is measured during training, evenly over the steps.
        trial_timeout_seconds: wall-clock limit of the trial.
        precision: Lightning's precision flag.
        adam_epsilon: ε of Adam. The papers' BCE is averaged over batch × B, so their per-weight
            gradients are so small that 1e-8 is not negligible; ours sums over buckets, see
            `bench.nn.losses`.
        weight_decay: AdamW's, of weights and not of biases: a step takes this times the rate of
            them. Under `row_adam` it takes it of the rows that have a gradient.
        decay_epochs: passes after each of which `step_decay` multiplies the rate, ascending.
        decay_factor: by what; above 0, below 1.
        order: how training points are visited: `points` in a random order, another one in each
            pass; `batches` cut once from the file's order and visited in a random one; `file`, the
            same batches in the file's order in every pass.
        drop_last: leave out the incomplete last batch of a pass; in file order its points are never
            trained on.
        keep_best: end with the weights of that validation whose P@1 was best, the first of equals,
            rather than with the last step's. The record says of which step they are.
    """

    batch_size: int = 256
    learning_rate: float = 1e-3
    optimizer: Optimizer = "row_adam"
    schedule: Schedule = "linear_decay"
    num_steps: int | None = None
    num_epochs: float | None = None
    budget_seconds: float | None = None
    num_validations: int = 8
    trial_timeout_seconds: float = field(default=7200.0, metadata=_NO_RESULT)
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    adam_epsilon: float = 1e-8
    weight_decay: float = field(default=0.0, metadata=LATER)
    decay_epochs: tuple[float, ...] = field(default=(), metadata=LATER)
    decay_factor: float = field(default=0.1, metadata=LATER)
    order: Order = field(default="points", metadata=LATER)
    drop_last: bool = field(default=False, metadata=LATER)
    keep_best: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        coerce_fields(self, SettingsError)
        given = [name for name in _LENGTHS if getattr(self, name) is not None]
        if not given:
            object.__setattr__(self, "num_epochs", 1.0)
        _require(len(given) < 2, f"TrainSpec has {' and '.join(given)}; expected one length")
        _require_least(self, batch_size=1, num_validations=0)
        for name in ("learning_rate", "trial_timeout_seconds", "adam_epsilon", *given):
            value = getattr(self, name)
            _require(value > 0, f"TrainSpec.{name} is {value}; expected more than 0")
        _require(
            self.weight_decay >= 0,
            f"TrainSpec.weight_decay is {self.weight_decay}; expected at least 0",
        )
        self._check_decay_and_best()

    def _check_decay_and_best(self) -> None:
        epochs = self.decay_epochs
        _require(
            bool(epochs) == (self.schedule == "step_decay"),
            f"TrainSpec.decay_epochs is {epochs} and schedule {self.schedule!r}; expected both "
            "decay_epochs and 'step_decay', or neither",
        )
        _require(
            epochs == tuple(sorted(set(epochs))) and all(epoch > 0 for epoch in epochs),
            f"TrainSpec.decay_epochs is {epochs}; expected ascending numbers above 0",
        )
        _require(
            0 < self.decay_factor < 1,
            f"TrainSpec.decay_factor is {self.decay_factor}; expected above 0, below 1",
        )
        _require(
            not self.keep_best or self.num_validations > 0,
            "TrainSpec.keep_best is True and num_validations 0; expected a validation to go by",
        )

    def with_steps(self, num_steps: int) -> TrainSpec:
        """The same training, this many steps long."""
        return dataclasses.replace(self, num_steps=num_steps, num_epochs=None, budget_seconds=None)


_LENGTHS = ("num_steps", "num_epochs", "budget_seconds")
# Of training, what the cost of a step depends on; and all of the model and of the data.
_COSTLY = ("batch_size", "optimizer", "precision")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One configuration, one replicate: what an engine runs in a fresh process.

    A replicate draws everything anew: hash functions, initial weights, order and samples.
    """

    data: DataSpec
    model: ModelSpec
    train: TrainSpec
    replicate: int = 0

    def __post_init__(self) -> None:
        coerce_fields(self, SettingsError)
        _require_least(self, replicate=0)
        _require(
            not self.train.keep_best or self.data.num_validation_points > 0,
            "TrainSpec.keep_best is True and DataSpec.num_validation_points 0; expected points to "
            "validate on",
        )

    @property
    def has_validation(self) -> bool:
        """Whether its record has a validation value."""
        return self.data.num_validation_points > 0 and self.train.num_validations > 0

    @property
    def trial_id(self) -> str:
        """First 16 hex digits of the SHA-256 of the settings' canonical JSON."""
        identity = {
            name: _identity(getattr(self, name), value)
            for name, value in self.to_dict().items()
            if name != "replicate"
        }
        return short_hash(identity | {"replicate": self.replicate})

    @property
    def cost_id(self) -> str:
        """The same over what costs depend on.

        Rows that differ in learning rate, length or replicate share one.
        """
        train = {name: getattr(self.train, name) for name in _COSTLY}
        plain = self.to_dict()
        data, model = (_identity(getattr(self, n), plain[n]) for n in ("data", "model"))
        return short_hash({"data": data, "model": model, "train": train})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; :meth:`from_dict` reads them back.

        Later settings that have their default are left out: a record of today and one from before
        that setting are of one configuration, and say the same.
        """
        return {
            "data": _plain(self.data),
            "model": _plain(self.model),
            "train": _plain(self.train),
            "replicate": self.replicate,
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Trial:
        """Trial from :meth:`to_dict`'s value.

        Raises:
            SettingsError: a field is missing, unknown, or has an impossible value.
        """
        try:
            return cls(
                data=DataSpec(**settings["data"]),
                model=ModelSpec(**settings["model"]),
                train=TrainSpec(**settings["train"]),
                replicate=int(settings.get("replicate", 0)),
            )
        except SettingsError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise SettingsError(f"settings do not describe a trial: {error}") from error


def _plain(spec: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for entry in dataclasses.fields(spec):
        value = getattr(spec, entry.name)
        if entry.metadata.get("is_later") and value == entry.default:
            continue
        if isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        plain[entry.name] = value
    return plain


def _identity(spec: Any, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Of a spec's plain values those that distinguish it from others."""
    no_result = {
        e.name for e in dataclasses.fields(spec) if not e.metadata.get("is_identity", True)
    }
    return {name: value for name, value in plain.items() if name not in no_result}


def short_hash(value: Mapping[str, Any]) -> str:
    """16 hex digits of plain JSON values, whatever the order of their names."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class NotOfType(ValueError):  # noqa: N818 - says what a value is not
    """A value is not what an annotation expects; the message says what was expected."""


def coerced(value: Any, hint: Any) -> Any:
    """A value as its annotation says.

    Raises:
        NotOfType: it is plainly something else; the message is what was expected.

    >>> coerced(4.0, int), coerced(3, float), coerced([8, 4], tuple[int, ...])
    (4, 3.0, (8, 4))
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _one_of(value, inner)
    if origin is Literal:
        if not isinstance(value, str) or value not in inner:
            raise NotOfType(" or ".join(map(repr, inner)))
        return str(value)
    if origin is tuple:
        items = value if isinstance(value, list | tuple) else (value,)
        return tuple(coerced(item, inner[0]) for item in items)
    if origin is Mapping:
        if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
            raise NotOfType("values by name")
        return MappingProxyType({str(n): coerced(item, inner[1]) for n, item in value.items()})
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, cast(type, hint)):
            raise NotOfType(f"a {cast(type, hint).__name__}")
        return value
    value = _native(value)
    if hint is float and type(value) is int:
        value = float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not hint or (hint is float and not math.isfinite(value)):
        raise NotOfType(_EXPECTED[hint])
    return value


_EXPECTED = {int: "a whole number", float: "a finite number", bool: "True or False", str: "a text"}


def _one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    """By the member of a union that takes the value as it is, else the first that can."""
    members = [hint for hint in hints if hint is not types.NoneType]
    if len(members) < len(hints) and value is None:
        return None
    own = type(_native(value))
    expected = []
    for hint in sorted(members, key=lambda hint: hint is not own):
        try:
            return coerced(value, hint)
        except NotOfType as error:
            expected.append(str(error))
    names = [*dict.fromkeys(expected), *(["None"] if len(members) < len(hints) else [])]
    raise NotOfType(" or ".join(names))


def _native(value: Any) -> Any:
    """NumPy's numbers and paths as Python's own; anything else as it is."""
    if isinstance(value, bool) or type(value).__name__ in ("bool_", "bool"):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str):
        return str(text)
    return value


def coerce_fields(spec: Any, error: type[Exception]) -> None:
    """Bring every field of a frozen dataclass into its annotation's form, in place.

    Args:
        spec: the instance, in its `__post_init__`.
        error: raised for a value that is something else, with class, field, value and expectation.
    """
    hints = _hints(cast(Hashable, type(spec)))
    for entry in dataclasses.fields(spec):
        value = getattr(spec, entry.name)
        try:
            object.__setattr__(spec, entry.name, coerced(value, hints[entry.name]))
        except NotOfType as problem:
            where = f"{type(spec).__name__}.{entry.name}"
            raise error(f"{where} is {value!r}; expected {problem}") from None


@functools.cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)
