"""What training frequencies say of labels: inverse propensities, and head, torso and tail."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

PROPENSITY: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"wikipedia": (0.5, 0.4), "amazon": (0.6, 2.6), "default": (0.55, 1.5)}
)
"""Published (a, b) by kind of data; `default` also covers AmazonCat-13K.

Source: Jain, Prabhu, Varma 2016, and the Extreme Classification Repository.
"""

GROUPS = ("head", "torso", "tail")
"""Names of the groups 0, 1 and 2."""

# Shares of the label mass at which the head and the torso end.
_CUTS = (1 / 3, 2 / 3)
# Far above the rounding of a cut such as 2/3, far below one point of any data set we know of.
_MASS_TOLERANCE = 1e-12


def inverse_propensity(
    label_counts: Tensor, num_train_points: int, *, a: float, b: float
) -> Tensor:
    """Inverse propensity of each label, 1 + C · (n_l + b)^(−a) with C = (ln N − 1)(b + 1)^a.

    Args:
        label_counts: n_l, *training* points of each label, `(L,)`; 0 for labels never seen.
        num_train_points: N, training points (with and without labels).
        a: exponent, see `PROPENSITY`.
        b: offset, see `PROPENSITY`.

    Returns:
        `(L,)` float64, above 1, falling in n_l.

    Raises:
        ValueError: N is below 3: C would be negative.

    Source: Jain, Prabhu, Varma 2016 (propensity-scored losses); agrees with pyxclib and napkinXC.

    >>> a, b = PROPENSITY["wikipedia"]
    >>> inverse_propensity(torch.tensor([0, 1, 100]), 1000, a=a, b=b)
    tensor([12.0524,  6.9078,  1.6976], dtype=torch.float64)
    """
    if num_train_points < 3:
        raise ValueError(f"num_train_points is {num_train_points}; expected at least 3")
    scale = (math.log(num_train_points) - 1.0) * (b + 1.0) ** a
    weights: Tensor = 1.0 + scale * (label_counts.to(torch.float64) + b).pow(-a)
    return weights


def frequency_groups(label_counts: Tensor) -> Tensor:
    """Group of each label: 0 head, 1 torso, 2 tail, cut by thirds of the training label mass.

    Labels are taken by falling training frequency. A label belongs to the head while the labels
    more frequent than it hold less than a third of all label occurrences, to the torso while they
    hold less than two thirds, else to the tail. Labels of equal frequency always share a group, so
    that a group's mass can exceed its share and a later group can be empty (all frequencies equal:
    everything is head). Labels never seen in training are tail.

    Args:
        label_counts: training points of each label, `(L,)` integer, 0 or more.

    Returns:
        `(L,)` int64 in {0, 1, 2}.

    >>> frequency_groups(torch.tensor([1, 6, 0, 3, 2, 3, 1, 2]))
    tensor([2, 0, 2, 1, 2, 1, 2, 2])
    """
    if label_counts.numel() == 0:
        return label_counts.to(torch.int64)
    num_labels_by_count = label_counts.bincount()
    counts = torch.arange(num_labels_by_count.numel(), device=label_counts.device)
    mass = num_labels_by_count * counts
    total = int(mass.sum())
    more_frequent = (total - mass.cumsum(0)).to(torch.float64)
    group_of_count = torch.full_like(counts, 2)
    for group in (1, 0):
        group_of_count[more_frequent < (_CUTS[group] - _MASS_TOLERANCE) * total] = group
    return group_of_count[label_counts.to(torch.int64)]
