"""What a checkpoint of ours holds, beside Lightning's: all that it takes, and no pickled class.

Settings are Lightning's hyperparameters. Here are the facts of the data, what tells this model's
weights from those of another (hash functions, losses), and where its random streams stand, so that
a checkpoint alone gives the model, a resumed training ends with the weights of an uninterrupted
one, and weights never come into a model that means something else by them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar, Self

import lightning as L
import torch
from torch import Tensor, distributed

from bench.streams import Stream

_KEY = "extreme_classifier"
_Plain = dict[str, Any]


class Restorable(L.LightningModule):
    """A model that a checkpoint describes whole; a base of :class:`ExtremeClassifier`.

    Attributes:
        facts: dataclass of plain values and tensors, the first argument of the constructor; the
            others are keywords and in `hparams`.
        facts_type: its class.
    """

    facts: Any
    facts_type: ClassVar[type[Any]]
    _places: list[_Plain] | None = None
    _given: frozenset[str]

    def __new__(cls, *arguments: Any, **given: Any) -> Self:
        """Remember which settings the caller gave: the others are defaults, or a subclass's own."""
        model = super().__new__(cls)
        model.__dict__["_given"] = frozenset(given)
        return model

    def keep_settings(self, ignore: Sequence[str]) -> None:
        """Make the constructor's keywords hyperparameters, from within the constructor.

        What a subclass decides for itself is left out: it will do so again.
        """
        self.save_hyperparameters(ignore=["facts", *ignore])
        defaults = keyword_defaults(type(self), Restorable)
        for name, value in list(self.hparams.items()):
            is_default = name in defaults and value == defaults[name]
            if name not in self._given and not is_default:
                del self.hparams[name]

    def identity(self) -> Mapping[str, object]:
        """Plain values that must be the same for weights to mean the same."""
        raise NotImplementedError

    def streams(self) -> dict[str, Stream]:
        """The random streams of training, by a name each."""
        raise NotImplementedError

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path | IO[bytes],
        map_location: torch.device | str | None = None,
        *,
        strict: bool = True,
        **changes: Any,
    ) -> Self:
        """The model of a checkpoint, which is read without unpickling any class.

        Args:
            checkpoint_path: written by a `Trainer`.
            map_location: device of the tensors.
            strict: refuse missing and further weights.
            **changes: settings other than the checkpoint's, such as `estimator` or
                `learning_rate`; an own `encoder`, whose code a checkpoint does not hold.

        Raises:
            ValueError: the checkpoint is of another method, or a change would give its weights
                another meaning: another hash, other data.
        """
        checkpoint = torch.load(checkpoint_path, map_location=map_location, weights_only=True)
        own = _own_part(checkpoint)
        if own["method"] not in (kind.__name__ for kind in cls.__mro__):
            raise ValueError(f"the checkpoint is of {own['method']}; expected {cls.__name__}")
        settings = {**checkpoint[cls.CHECKPOINT_HYPER_PARAMS_KEY], **changes}
        facts = settings.pop("facts", None) or cls.facts_type(**own["facts"])
        model = cls(facts, **settings)
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(checkpoint["state_dict"], strict=strict)
        return model if map_location is None else model.to(map_location)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is ours; every process takes part."""
        checkpoint[_KEY] = {
            "method": type(self).__name__,
            "facts": {
                field.name: getattr(self.facts, field.name)
                for field in dataclasses.fields(self.facts)
            },
            "identity": dict(self.identity()),
            "places": _of_all_processes(self._place()),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that mean something else in this model, before they are loaded.

        Raises:
            ValueError: what differs, with both values.
        """
        own = _own_part(checkpoint)
        for field in dataclasses.fields(self.facts):
            mine, theirs = getattr(self.facts, field.name), own["facts"].get(field.name)
            if isinstance(mine, Tensor):
                if not torch.equal(mine.cpu(), theirs.cpu()):
                    raise ValueError(f"{field.name} of the data differ from the checkpoint's")
            elif mine != theirs and None not in (mine, theirs):
                raise ValueError(_difference(field.name, mine, theirs))
        identity = self.identity()
        for name in sorted(identity.keys() | own["identity"].keys()):
            mine, theirs = identity.get(name), own["identity"].get(name)
            if mine != theirs:
                raise ValueError(_difference(name, mine, theirs))
        self._places = own["places"]

    def on_train_start(self) -> None:
        """Go on with the random numbers of the checkpoint that training is resumed from.

        Raises:
            ValueError: it was trained by another number of processes.
        """
        places, self._places = self._places, None
        # A model that was loaded for itself begins a training of its own.
        if places is None or self.trainer.ckpt_path is None:
            return
        if len(places) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint is of {len(places)} processes; expected as many to go on, not "
                f"{self.trainer.world_size}"
            )
        place = places[self.trainer.global_rank]
        torch.set_rng_state(place["torch"].cpu())
        if self.device.type == "cuda" and place["cuda"] is not None:
            torch.cuda.set_rng_state(place["cuda"].cpu(), self.device)
        for name, stream in self.streams().items():
            stream.resume(place["streams"][name], self.device)

    def _place(self) -> _Plain:
        """Where the random streams stand, torch's own (an own encoder's dropout) included."""
        on_gpu = self.device.type == "cuda"
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "streams": {name: stream.place for name, stream in self.streams().items()},
        }


def keyword_defaults(kind: type[Any], base: type[Any]) -> dict[str, Any]:
    """Keyword-only parameters of a class's constructor and of its bases' up to `base`.

    Returns:
        Their defaults; `inspect.Parameter.empty` where there is none.
    """
    known: dict[str, Any] = {}
    for each in kind.__mro__:
        if "__init__" not in vars(each) or not issubclass(each, base):
            continue
        for name, parameter in inspect.signature(vars(each)["__init__"]).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                known.setdefault(name, parameter.default)
    return known


def _own_part(checkpoint: Mapping[str, Any]) -> _Plain:
    if _KEY not in checkpoint:
        raise ValueError("the checkpoint is of no model of this suite")
    part: _Plain = checkpoint[_KEY]
    return part


def _difference(name: str, mine: object, theirs: object) -> str:
    return f"{name} is {mine!r}, in the checkpoint {theirs!r}; expected the same"


def _of_all_processes(place: _Plain) -> list[_Plain]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return [place]
    places: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(places, place)
    return places
