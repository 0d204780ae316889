"""The metrics that a data set's settings ask for: the same for our methods and for peers."""

from __future__ import annotations

import torch

from bench.data.csr import Dataset
from bench.metrics.modular import RankingMetrics
from bench.metrics.propensity import PROPENSITY
from bench.settings import DataSpec


def metrics_of_data(spec: DataSpec, dataset: Dataset, *, most: int) -> RankingMetrics:
    """Metrics of one of a data set's splits.

    Args:
        spec: its settings.
        dataset: whose training labels decide propensities and groups.
        most: labels that are ranked; cut-offs above are left out.
    """
    is_scored = dataset.task == "multilabel"
    return RankingMetrics(
        ks=tuple(k for k in spec.ks if k <= most),
        task=dataset.task,
        label_counts=torch.from_numpy(dataset.train_labels.column_counts()),
        num_train_points=dataset.train_features.num_rows if is_scored else None,
        propensity=PROPENSITY[spec.propensity] if is_scored else None,
        weighted=dataset.test_labels.values is not None,
    )
