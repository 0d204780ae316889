"""The metrics that a data set's settings ask for: the same for our methods and for peers."""

from __future__ import annotations

import numpy as np
import torch

from bench.data.csr import Dataset, Int64s
from bench.metrics.groups import frequency_groups
from bench.metrics.propensity import PROPENSITY
from bench.metrics.torchmetric import RankingMetrics
from bench.settings import DataSpec


def metrics_of_data(spec: DataSpec, dataset: Dataset, *, most: int) -> RankingMetrics:
    """Metrics of one of a data set's splits.

    Args:
        spec: its settings.
        dataset: propensities go by the whole training file, whatever of it is held back for
            validation; groups by what was trained on.
        most: labels that are ranked; cut-offs above are left out.
    """
    is_scored = dataset.task == "multilabel"
    trained = dataset.train_labels.column_counts()
    return RankingMetrics(
        ks=tuple(k for k in spec.ks if k <= most),
        task=dataset.task,
        label_counts=torch.from_numpy(_known_of_all(dataset.file_label_counts(), dataset)),
        num_train_points=dataset.num_file_points if is_scored else None,
        propensity=PROPENSITY[spec.propensity] if is_scored else None,
        groups=frequency_groups(torch.from_numpy(_known_of_all(trained, dataset))),
        weighted=dataset.test_labels.values is not None,
    )


def _known_of_all(counts: Int64s, dataset: Dataset) -> Int64s:
    """Counts of the L labels, and none of those that only test points have."""
    return np.pad(counts, (0, dataset.test_labels.num_columns - counts.size))
