"""Head, torso and tail: labels grouped by training frequency."""

from __future__ import annotations

import torch
from torch import Tensor

GROUPS = ("head", "torso", "tail")
"""Names of the groups 0, 1 and 2."""

# Far above the rounding of a cut such as 2/3, far below one point of any data set we know of.
_MASS_TOLERANCE = 1e-12


def frequency_groups(
    label_counts: Tensor, *, head_mass: float = 1 / 3, torso_mass: float = 1 / 3
) -> Tensor:
    """Group of each label: 0 head, 1 torso, 2 tail, cut by shares of the training label mass.

    Labels are taken by falling training frequency. A label belongs to the head while the labels
    more frequent than it hold less than `head_mass` of all label occurrences, to the torso while
    they hold less than `head_mass + torso_mass`, else to the tail. By default each group so holds
    about a third of the occurrences. Labels of equal frequency always share a group, so that a
    group's mass can exceed its share and a later group can be empty (all frequencies equal:
    everything is head). Labels never seen in training are tail.

    Args:
        label_counts: training points of each label, `(L,)` integer, 0 or more.
        head_mass: share of the head, above 0.
        torso_mass: share of the torso, 0 or more; with the head at most 1.

    Returns:
        `(L,)` int64 in {0, 1, 2}.

    Raises:
        ValueError: a count is negative, or a share is out of range.

    >>> frequency_groups(torch.tensor([1, 6, 0, 3, 2, 3, 1, 2]))
    tensor([2, 0, 2, 1, 2, 1, 2, 2])
    """
    if label_counts.ndim != 1:
        raise ValueError(f"label_counts have shape {tuple(label_counts.shape)}; expected (L,)")
    if not (head_mass > 0 and torso_mass >= 0 and head_mass + torso_mass <= 1):
        raise ValueError(
            f"head_mass is {head_mass} and torso_mass {torso_mass}; "
            "expected head_mass above 0, torso_mass 0 or more, and at most 1 together"
        )
    if label_counts.is_floating_point():
        raise ValueError(f"label_counts have dtype {label_counts.dtype}; expected integers")
    if label_counts.numel() and int(label_counts.min()) < 0:
        raise ValueError(f"label_counts hold {int(label_counts.min())}; expected 0 or more")
    if label_counts.numel() == 0:
        return label_counts.to(torch.int64)
    num_labels_by_count = label_counts.bincount()
    counts = torch.arange(num_labels_by_count.numel(), device=label_counts.device)
    mass = num_labels_by_count * counts
    total = int(mass.sum())
    more_frequent = (total - mass.cumsum(0)).to(torch.float64)
    group_of_count = torch.full_like(counts, 2)
    for group, cut in ((1, head_mass + torso_mass), (0, head_mass)):
        group_of_count[more_frequent < (cut - _MASS_TOLERANCE) * total] = group
    return group_of_count[label_counts.to(torch.int64)]
