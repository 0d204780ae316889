"""Every method trains by every optimiser, and by what its name says."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from batches import facts, perturb, random_batch
from torch import nn

from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.two_tower import TwoTower
from bench.mach.module import Mach
from bench.nn.classifier import ExtremeClassifier

D, L, N, RATE, EPSILON = 60, 40, 4, 0.03, 1e-4
WORLDS = {"num_buckets": 7, "num_worlds": 3}
SAMPLE = {"num_samples": 6, "sampler": "uniform"}
METHODS: dict[str, tuple[type[ExtremeClassifier], dict[str, Any]]] = {
    "full softmax": (FullSoftmax, {}),
    "linear full softmax": (FullSoftmax, {"encoder": "linear"}),
    "sampled softmax": (SampledSoftmax, SAMPLE),
    "sampled BCE": (SampledBce, SAMPLE),
    "two towers": (TwoTower, SAMPLE),
    "MACH": (Mach, WORLDS),
    "MACH, shared encoder": (Mach, WORLDS | {"share_encoder": True, "hidden_dims": (5, 4)}),
    "MACH, hashed features": (Mach, WORLDS | {"num_hashed_features": 30}),
    "linear MACH": (Mach, WORLDS | {"encoder": "linear"}),
}


def build(name: str, optimizer: str, **options: Any) -> ExtremeClassifier:
    kind, own = METHODS[name]
    shared = {"hidden_dims": (6,), "learning_rate": RATE, "adam_epsilon": EPSILON} | own | options
    model = kind(facts(D, L, "multilabel"), optimizer=optimizer, **shared)
    perturb(model)
    return model


def gradients(model: ExtremeClassifier, steps: int = 6) -> Iterator[bool]:
    """Gives a model the gradients of batch after batch; whether any was row-sparse."""
    for step in range(steps):
        model.zero_grad()
        model.training_loss(random_batch(N, D, L, "multilabel", seed=step)).backward()
        yield any(p.grad is not None and p.grad.is_sparse for p in model.parameters())


def parts(model: ExtremeClassifier) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights and biases as parameters of their own, MACH's bias rows among them."""
    weights, biases = [], []
    for name, parameter in model.named_parameters():
        held = [parameter.detach().clone()]
        if isinstance(model, Mach) and name == "head.weight":
            held = [held[0][:, :-1].clone(), held[0][:, -1:].clone()]
        is_bias = name.endswith("bias") or ".biases." in name
        (biases if is_bias else weights).append(nn.Parameter(held[0]))
        biases += [nn.Parameter(part) for part in held[1:]]
    return weights, biases


def take(reference: list[list[nn.Parameter]], model: ExtremeClassifier) -> None:
    """The model's gradients, dense."""
    grads = copy.deepcopy(model)
    for mine, own in zip(model.parameters(), grads.parameters(), strict=True):
        own.data = mine.grad.to_dense()
    for group, found in zip(reference, parts(grads), strict=True):
        for parameter, grad in zip(group, found, strict=True):
            parameter.grad = grad.data


@pytest.mark.parametrize("weight_decay", [0.0, 0.2])
@pytest.mark.parametrize("name", METHODS)
def test_adam_is_torchs_adam_on_dense_gradients(name, weight_decay):
    model = build(name, "adam", weight_decay=weight_decay)
    optimizer = model.configure_optimizers()
    reference = parts(model)
    groups = [
        {"params": reference[0], "weight_decay": weight_decay},
        {"params": reference[1], "weight_decay": 0.0},
    ]
    # By ordinary operations: neither fused nor ours.
    plain = torch.optim.AdamW(groups, lr=RATE, eps=EPSILON, foreach=False, fused=False)
    for is_sparse in gradients(model):
        assert is_sparse
        take(reference, model)
        optimizer.step()
        plain.step()
        for found, wanted in zip(parts(model), reference, strict=True):
            for mine, own in zip(found, wanted, strict=True):
                torch.testing.assert_close(mine, own, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_only_row_adam_leaves_rows_without_a_gradient_alone(name):
    for optimizer, is_dense in (("adam", True), ("tf_adam", True), ("row_adam", False)):
        model = build(name, optimizer)
        steps = model.configure_optimizers()
        first = model.encoder.first.weight
        batches = gradients(model)
        next(batches)
        seen = first.grad._indices()[0]
        steps.step()
        next(batches)
        steps.step()
        before = first.detach().clone()
        next(batches)
        own = first.grad._indices()[0]
        steps.step()
        gone = [row for row in seen.tolist() if row not in own.tolist()]
        assert gone
        assert not torch.equal(first[own], before[own])
        assert bool((first[gone] != before[gone]).any()) is is_dense


@pytest.mark.parametrize("update", ["sgd", "row_adagrad"])
def test_a_lean_layer_decays_as_torchs_sgd_does(update):
    model, still = (
        build("full softmax", "adam", update=update, weight_decay=decay, output_rate=0.5)
        for decay in (0.2, 0.0)
    )
    weight, bias = (p.detach().clone() for p in (model.head.weight, model.head.bias))
    for each in (model, still):
        next(gradients(each))
    torch.testing.assert_close(model.head.weight.data, still.head.weight.data - 0.5 * 0.2 * weight)
    assert torch.equal(model.head.bias, still.head.bias)
    assert not torch.equal(model.head.bias, bias)
