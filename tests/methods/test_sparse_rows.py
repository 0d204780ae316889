"""The arithmetic of row-sparse gradients against the gradients themselves."""

from __future__ import annotations

import pytest
import torch
from batches import facts, perturb, random_batch

from baselines.adaptive_softmax import AdaptiveSoftmax
from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.two_tower import TwoTower
from bench.experiments.training import predicted_memory
from bench.mach.module import Mach
from bench.nn.classifier import DataFacts
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

# So many features and labels that a batch's are nearly all different.
D, L, N = 100_000, 50_000, 64
WORLDS = {"num_buckets": 7, "num_worlds": 4}


def _batch_and_facts() -> tuple[object, DataFacts, float]:
    batch = random_batch(N, D, L, "multilabel")
    counts = torch.bincount(batch.label_ids, minlength=L)
    known = facts(D, L, "multilabel", num_train_points=N)
    known = DataFacts(D, L, "multilabel", counts, known.num_train_points)
    return batch, known, batch.feature_ids.numel() / N


@pytest.mark.parametrize(
    ("method", "kind", "options"),
    [
        ("mach", Mach, WORLDS),
        ("mach", Mach, WORLDS | {"share_encoder": True}),
        ("mach", Mach, WORLDS | {"num_hashed_features": 30_000}),
        ("mach", Mach, WORLDS | {"num_hashed_features": 30_000, "encoder": "linear"}),
        ("mach", Mach, WORLDS | {"num_hashed_features": 20}),
        ("full_softmax", FullSoftmax, {}),
        ("sampled_softmax", SampledSoftmax, {"num_samples": 200, "sampler": "uniform"}),
        ("sampled_softmax", SampledSoftmax, {"sampler": "in_batch"}),
        ("sampled_softmax", SampledSoftmax, {"num_samples": 200, "sampler": "mixed"}),
        ("adaptive_softmax", AdaptiveSoftmax, {}),
        ("sampled_bce", SampledBce, {"num_samples": 200, "sampler": "uniform"}),
        ("two_tower", TwoTower, {"num_samples": 200, "sampler": "uniform"}),
    ],
)
def test_predicted_gradient_bytes_are_those_of_the_gradients(method, kind, options):
    batch, known, entries = _batch_and_facts()
    model = kind(known, hidden_dims=(6,), **options)
    perturb(model)
    model.training_loss(batch).backward()
    found = 0
    for parameter in model.parameters():
        grad = parameter.grad
        held = grad._values() if grad.is_sparse else grad
        found += held.numel() * held.element_size()
    named = dict(options)
    shape = {"encoder": named.pop("encoder", "mlp"), "hidden_dims": (6,)}
    data = DataSpec(source="planted", name="planted")
    spec = ModelSpec(method=method, **shape, options=named)
    trial = Trial(data=data, model=spec, train=TrainSpec(batch_size=N))
    predicted = predicted_memory(trial, known, entries)["gradient_bytes"]
    # A bound, and a tight one: what two points share counts once in the gradient.
    assert found <= predicted <= 1.03 * found
