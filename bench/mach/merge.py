"""Joins worlds that were trained apart into one model; their training shares nothing."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.mach.hashing import build_hash
from bench.mach.head import MachHead
from bench.mach.module import Mach
from bench.nn.layers import Encoder


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
    encoders = []
    for model in ordered:
        if model.is_shared or not isinstance(model.encoder, Encoder):
            raise ValueError("worlds that share an encoder cannot be merged; expected their own")
        encoders.append(model.encoder)
        if _shape(model) != _shape(first):
            raise ValueError(f"sizes disagree: {_shape(model)} and {_shape(first)}")
        if _hash(model) != _hash(first):
            raise ValueError(f"hashes disagree: {_hash(model)} and {_hash(first)}")
    family, seed = _hash(first)
    merged = copy.deepcopy(first)
    head = merged.head
    head.world_ids = worlds
    head.world_seeds = tuple(seed for model in ordered for seed in model.head.world_seeds)
    hashes = build_hash(family, first.num_labels, head.num_buckets, max(worlds) + 1, seed)
    head.hashes = hashes.subset(worlds)
    head.table = torch.cat([model.head.table for model in ordered])
    merged.hparams.update(first_world=worlds[0], num_worlds=len(worlds))
    if isinstance(merged.encoder, Encoder):
        _merge_encoders(merged.encoder, encoders)
    if merged.encoder_kind == "mlp":
        head.weight = _joined([model.head.weight for model in ordered], dim=0)
        _merge_updates(head, [model.head for model in ordered])
    return merged


def _merge_updates(merged: MachHead, heads: Sequence[MachHead]) -> None:
    """What worlds that are updated while their loss is computed have beside their weights."""
    updates = [head.lean for head in heads if head.lean is not None]
    if merged.lean is None or not updates:
        return
    merged.bias = _joined([head.bias for head in heads], dim=0)
    merged.lean.seeds = tuple(seed for update in updates for seed in update.seeds)
    squares = [update.squares for update in updates if update.squares is not None]
    if squares:
        merged.lean.squares = torch.cat(squares)


def _merge_encoders(merged: Encoder, encoders: Sequence[Encoder]) -> None:
    merged.num_copies = sum(encoder.num_copies for encoder in encoders)
    # Hashed copies have rows of their own, the others columns of their own.
    dim = 1 if merged.num_hashed_features is None else 0
    merged.first.weight = _joined([encoder.first.weight for encoder in encoders], dim=dim)
    merged.first_bias = _joined([encoder.first_bias for encoder in encoders], dim=0)
    for layer in range(len(merged.weights)):
        merged.weights[layer] = _joined([e.weights[layer] for e in encoders], dim=0)
        merged.biases[layer] = _joined([e.biases[layer] for e in encoders], dim=0)
    tables = [encoder.feature_table for encoder in encoders if encoder.feature_table is not None]
    if tables:
        merged.feature_table = torch.cat(tables)


def _joined(tensors: Sequence[Tensor], *, dim: int) -> nn.Parameter:
    joined = torch.cat([tensor.detach() for tensor in tensors], dim=dim)
    return nn.Parameter(joined, requires_grad=tensors[0].requires_grad)


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
