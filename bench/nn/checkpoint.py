"""What a checkpoint of ours holds, beside Lightning's: all that it takes, and no pickled class.

Settings are Lightning's hyperparameters. Here are the facts of the data, what distinguishes this
model's weights from those of another (hash functions, losses), and the states of its generators, so
that a checkpoint alone gives the model, a resumed training ends with the weights of an
uninterrupted one, and weights never come into a model that means something else by them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import IO, Any, ClassVar, Self, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor, distributed, nn

from bench.nn.options import keywords
from bench.nn.rng import Generator

_KEY = "extreme_classifier"
_EXTRA_STATE = "_extra_state"  # torch's name for what `get_extra_state` gives
_Plain = dict[str, Any]
# What files call a head's parameters, whose others go by their own names: as when models had none.
_IN_FILES = {"weight": "output", "bias": "output_bias"}


class SelfDescribing(nn.Module):
    """A model or a head whose `state_dict` describes its weights' meaning, checkpoint or not.

    Its identity stands there as JSON in a tensor `(bytes,)` of uint8, as all else is a tensor: what
    copies, averages or writes state dicts takes it.
    """

    def get_extra_state(self) -> Tensor:
        """What :meth:`identity` gives."""
        text = json.dumps(_plain_identity(self), sort_keys=True)
        return torch.tensor(list(text.encode()), dtype=torch.uint8, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing is taken over: it was compared before any weight was loaded."""

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Refuse weights that mean something else here, before torch copies any of them.

        Raises:
            ValueError: what differs, with both values.
        """
        state = state_dict.get(f"{prefix}{_EXTRA_STATE}")
        if state is not None:
            theirs = json.loads(bytes(state.cpu().tolist()))
            _refuse_differences(_plain_identity(self), theirs, "loaded weights")
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _plain_identity(module: Any) -> _Plain:
    found: _Plain = as_plain(dict(module.identity()))
    return found


class Restorable(L.LightningModule):
    """A model that a checkpoint describes completely; a base of :class:`ExtremeClassifier`.

    Attributes:
        facts: dataclass of plain values and tensors, the first argument of the constructor; the
            others are keywords and in `hparams`.
        facts_type: its class.
    """

    facts: Any
    facts_type: ClassVar[type[Any]]
    _states: list[_Plain] | None = None
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
        known = keywords(type(self), Restorable)
        for name, value in list(self.hparams.items()):
            is_default = name in known and value == known[name][0]
            if name not in self._given and not is_default:
                del self.hparams[name]
            else:
                self.hparams[name] = as_plain(value)

    def identity(self) -> Mapping[str, object]:
        """Plain values that must be the same for weights to mean the same."""
        raise NotImplementedError

    def optimizer_settings(self) -> Mapping[str, object]:
        """Settings that the state of an optimiser holds, too."""
        raise NotImplementedError

    def generators(self) -> dict[str, Generator]:
        """The generators of training, by a name each."""
        raise NotImplementedError

    def kept_parameters(self) -> dict[str, nn.Parameter]:
        """All parameters, by the names that files have them under."""
        return {_in_files(name): parameter for name, parameter in self.named_parameters()}

    def state_dict(self, *arguments: Any, prefix: str = "", **options: Any) -> Any:
        """As torch's, with a head's parameters by the names that files have them under."""
        found = super().state_dict(*arguments, prefix=prefix, **options)
        for name in [name for name in found if name.startswith(f"{prefix}head.")]:
            value = found.pop(name)
            if not name.endswith(_EXTRA_STATE):  # the model says it
                found[prefix + _in_files(name.removeprefix(prefix))] = value
        return found

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Give a head its parameters by their own names."""
        head = self._modules.get("head")
        for name in () if head is None else head.state_dict():
            own = f"head.{name}"
            if name == _EXTRA_STATE:
                state_dict[prefix + own] = cast(SelfDescribing, head).get_extra_state()
            elif prefix + _in_files(own) in state_dict:
                state_dict[prefix + own] = state_dict.pop(prefix + _in_files(own))
        super()._load_from_state_dict(state_dict, prefix, *rest)

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
        own = own_part(checkpoint)
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
            "places": _of_all_processes(self._random_states()),
        }
        for name, value in checkpoint.items():
            if name != "state_dict":
                checkpoint[name] = as_plain(value)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights that mean something else in this model, before they are loaded.

        Raises:
            ValueError: what differs, with both values.
        """
        own = own_part(checkpoint)
        for field in dataclasses.fields(self.facts):
            mine, theirs = getattr(self.facts, field.name), own["facts"].get(field.name)
            if isinstance(mine, Tensor):
                if not torch.equal(mine.cpu(), theirs.cpu()):
                    raise ValueError(f"{field.name} of the data differ from the checkpoint's")
            elif mine != theirs and None not in (mine, theirs):
                raise ValueError(_difference(field.name, mine, theirs))
        _refuse_differences(self.identity(), own["identity"])
        if isinstance(self, SelfDescribing):
            # A file from before weights described themselves was compared just now.
            checkpoint["state_dict"].setdefault(_EXTRA_STATE, self.get_extra_state())
        self._refuse_other_rate(checkpoint)
        _take_up_pass(checkpoint)
        self._states = own["places"]

    def _refuse_other_rate(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to train on with an optimiser whose state has another rate than the model.

        The state is what counts: training would go on at the checkpoint's, and the next checkpoint
        name the model's.
        """
        trainer = self._trainer
        if trainer is None or trainer.state.fn != "fit":
            return
        settings = checkpoint.get(self.CHECKPOINT_HYPER_PARAMS_KEY, {})
        for name, mine in self.optimizer_settings().items():
            theirs = settings.get(name, mine)
            if mine != theirs:
                raise ValueError(
                    f"{_difference(name, mine, theirs)} to go on with its optimizer; to train on "
                    f"with another, fit {type(self).__name__}.load_from_checkpoint(path, "
                    f"{name}={mine!r}) without ckpt_path"
                )

    def on_train_start(self) -> None:
        """Go on with the random numbers of the checkpoint that training is resumed from.

        Raises:
            ValueError: it was trained by another number of processes.
        """
        states, self._states = self._states, None
        # A model that was loaded for itself begins a training of its own.
        if states is None or self.trainer.ckpt_path is None:
            return
        if len(states) != self.trainer.world_size:
            raise ValueError(
                f"the checkpoint is of {len(states)} processes; expected as many to go on, not "
                f"{self.trainer.world_size}"
            )
        state = states[self.trainer.global_rank]
        torch.set_rng_state(state["torch"].cpu())
        if self.device.type == "cuda" and state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"].cpu(), self.device)
        for name, generator in self.generators().items():
            generator.resume(state["streams"][name], self.device)

    def _random_states(self) -> _Plain:
        """Of all generators, torch's own (an own encoder's dropout) included."""
        on_gpu = self.device.type == "cuda"
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if on_gpu else None,
            "streams": {name: each.state for name, each in self.generators().items()},
        }


def _in_files(name: str) -> str:
    """A parameter's name in files."""
    own = name.removeprefix("head.")
    return _IN_FILES.get(own, own) if own != name else name


def own_part(checkpoint: Mapping[str, Any]) -> _Plain:
    """What a checkpoint holds beside Lightning's own: class, facts, identity, places."""
    if _KEY not in checkpoint:
        raise ValueError("the checkpoint is of no model of this suite")
    part: _Plain = checkpoint[_KEY]
    return part


def _refuse_differences(
    mine: Mapping[str, object], theirs: Mapping[str, object], source: str = "checkpoint"
) -> None:
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            raise ValueError(_difference(name, mine.get(name), theirs.get(name), source))


def as_plain(value: Any) -> Any:
    """The same of Python's own types alone: what a file holds is read back without a class.

    NumPy's scalars and paths become numbers and texts, and so do enumerations of them.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, str):
        return str.__str__(value)  # of an enumeration its text, not its name
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    if type(value) in (list, tuple):
        return type(value)(map(as_plain, value))
    if type(value) is dict:
        return {as_plain(name): as_plain(part) for name, part in value.items()}
    return value


def _difference(name: str, mine: object, theirs: object, source: str = "checkpoint") -> str:
    return f"{name} is {mine!r}, in the {source} {theirs!r}; expected the same"


def _take_up_pass(checkpoint: dict[str, Any]) -> None:
    """Have a trainer go on in the middle of the pass in which another was stopped.

    Where `max_steps` or `should_stop` end a fit inside of a pass, Lightning counts the pass as done
    and announces the next one, in which it would train as many batches as were left of this. The
    loader's own position shows that it was not: then it is made what it is in a checkpoint that a
    callback writes in the middle of a pass.
    """
    loops = checkpoint.get("loops", {}).get("fit_loop", {})
    loaders = loops.get("state_dict", {}).get("combined_loader", [])
    is_ours = any(isinstance(loader, dict) and loader.get("num_given") for loader in loaders)
    batches = loops.get("epoch_loop.batch_progress", {})
    if not is_ours or batches.get("is_last_batch", True):
        return
    for counts in (loops["epoch_progress"][part] for part in ("total", "current")):
        undone = counts["ready"] - 1
        counts["processed"] = min(counts["processed"], undone)
        counts["completed"] = min(counts["completed"], undone)


def _of_all_processes(state: _Plain) -> list[_Plain]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(states, state)
    return states
