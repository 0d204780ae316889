"""Small random batches for the tests of methods."""

from __future__ import annotations

import numpy as np
import torch

from bench.data.batch import Batch
from bench.nn.classifier import DataFacts, ExtremeClassifier, Task


def random_batch(
    num_points: int, num_features: int, num_labels: int, task: Task, seed: int = 0
) -> Batch:
    rng = np.random.default_rng(seed)
    feature_ids, feature_counts, label_ids, label_counts = [], [], [], []
    for point in range(num_points):
        features = np.sort(rng.choice(num_features, size=rng.integers(1, 6), replace=False))
        size = 1 if task == "multiclass" else int(rng.integers(0 if point == 0 else 1, 5))
        labels = np.sort(rng.choice(num_labels, size=size, replace=False))
        feature_ids.append(features)
        feature_counts.append(features.size)
        label_ids.append(labels)
        label_counts.append(labels.size)
    ids = torch.from_numpy(np.concatenate(feature_ids))
    return Batch(
        feature_offsets=torch.from_numpy(np.r_[0, np.cumsum(feature_counts)]),
        feature_ids=ids,
        feature_values=torch.from_numpy(rng.random(ids.numel()).astype(np.float32) + 0.5),
        label_offsets=torch.from_numpy(np.r_[0, np.cumsum(label_counts)]),
        label_ids=torch.from_numpy(np.concatenate(label_ids).astype(np.int64)),
    )


def facts(num_features: int, num_labels: int, task: Task, num_train_points: int = 100) -> DataFacts:
    counts = torch.arange(num_labels, 0, -1)
    return DataFacts(
        num_features=num_features,
        num_labels=num_labels,
        task=task,
        label_counts=counts,
        num_train_points=num_train_points,
    )


def perturb(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every weight a random value: output layers start at zero, where much looks equal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)


def gradients(model: ExtremeClassifier) -> dict[str, torch.Tensor]:
    found = {}
    for name, parameter in model.kept_parameters().items():
        grad = parameter.grad
        assert grad is not None, name
        found[name] = grad.to_dense() if grad.is_sparse else grad
    return found
