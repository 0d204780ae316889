"""Joins worlds that were trained apart into one model, and takes one apart; they share nothing."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.mach.hashing import build_hash
from bench.mach.module import Mach
from bench.nn.layers import Encoder
from bench.settings import derive_seed

# Steps that all worlds have taken.
_OF_ALL_WORLDS = frozenset({"head.lean.num_updates"})


@dataclass(frozen=True)
class Worlds:
    """What a model has for its worlds.

    Attributes:
        ids: their numbers.
        seeds: of each.
        tensors: parameters and buffers, by name; each has an equal part for each world.
        dims: along which dimension.
    """

    ids: tuple[int, ...]
    seeds: tuple[int, ...]
    tensors: Mapping[str, Tensor]
    dims: Mapping[str, int]

    def part(self, start: int, stop: int) -> Worlds:
        """A copy of some of them, from the one at place `start` to before `stop`."""
        tensors = {}
        for name, tensor in self.tensors.items():
            size = tensor.shape[self.dims[name]] // len(self.ids)
            own = tensor.narrow(self.dims[name], start * size, (stop - start) * size)
            tensors[name] = own.clone(memory_format=torch.contiguous_format)
        return Worlds(self.ids[start:stop], self.seeds[start:stop], tensors, self.dims)


def worlds_of(model: Mach) -> Worlds:
    """The worlds of a model, whose memory they share.

    Raises:
        ValueError: they share an encoder.
    """
    encoder = model.encoder
    if model.is_shared or not isinstance(encoder, Encoder):
        raise ValueError("worlds share an encoder and cannot be parted; expected their own")
    named = itertools.chain(model.named_parameters(), model.named_buffers())
    tensors = {name: each.detach() for name, each in named if name not in _OF_ALL_WORLDS}
    dims = dict.fromkeys(tensors, 0)
    if encoder.num_hashed_features is None:  # otherwise each copy has rows of its own
        dims["encoder.first.weight"] = 1
    return Worlds(model.head.world_ids, model.head.world_seeds, tensors, dims)


def give_worlds(model: Mach, worlds: Worlds) -> None:
    """Make these the worlds of a model; its parameters stay the same objects."""
    for name, tensor in worlds.tensors.items():
        owner, _, own_name = name.rpartition(".")
        module = model.get_submodule(owner)
        if own_name in module._buffers:
            setattr(module, own_name, tensor)
        else:
            parameter = module.get_parameter(own_name)
            parameter.data, parameter.grad = tensor, None
    head, encoder = model.head, model.encoder
    family, seed = _hash(model)
    hashes = build_hash(family, model.num_labels, head.num_buckets, max(worlds.ids) + 1, seed)
    head.hashes = hashes.subset(worlds.ids)
    head.world_ids, head.world_seeds = worlds.ids, worlds.seeds
    if head.lean is not None:
        head.lean.seeds = tuple(derive_seed("rounding", seed) for seed in worlds.seeds)
    if isinstance(encoder, Encoder):
        encoder.num_copies = len(worlds.ids)
    model.hparams.update(first_world=worlds.ids[0], num_worlds=len(worlds.ids))


def merge_worlds(models: Sequence[Mach]) -> Mach:
    """One model of all the worlds of several, equal to training them together.

    Args:
        models: trained on the same data with the same settings but for `first_world` and
            `num_worlds`; any order. Each has encoders of its own.

    Returns:
        A model whose worlds are ordered by number. The given models stay as they are.

    Raises:
        ValueError: no models, a world stands twice, an encoder is shared by worlds, or sizes, hash
            families or their seeds disagree.
    """
    if not models:
        raise ValueError("no models to merge; expected at least one")
    ordered = sorted(models, key=lambda model: model.head.world_ids)
    first = ordered[0]
    worlds = tuple(world for model in ordered for world in model.head.world_ids)
    if len(set(worlds)) != len(worlds):
        raise ValueError(f"a world stands twice among {worlds}; expected each once")
    for model in ordered:
        if _shape(model) != _shape(first):
            raise ValueError(f"sizes disagree: {_shape(model)} and {_shape(first)}")
        if _hash(model) != _hash(first):
            raise ValueError(f"hashes disagree: {_hash(model)} and {_hash(first)}")
    parts = [worlds_of(model) for model in ordered]
    seeds = tuple(seed for part in parts for seed in part.seeds)
    dims = parts[0].dims
    tensors = {
        name: torch.cat([part.tensors[name] for part in parts], dim=dim)
        for name, dim in dims.items()
    }
    merged = copy.deepcopy(first)
    give_worlds(merged, Worlds(worlds, seeds, tensors, dims))
    return merged


def _hash(model: Mach) -> tuple[str, int]:
    """Family and seed."""
    words = model.head.hashes.to_dict()
    return words["family"], words["seed"]


def _shape(model: Mach) -> tuple[object, ...]:
    return (
        model.num_features,
        model.num_labels,
        model.head.num_buckets,
        model.encoder_kind,
        model.hidden_dims,
        model.head.loss_kind,
        model.encoder.num_hashed_features,
        model.hparams["update"],
        model.hparams["weight_type"],
    )
