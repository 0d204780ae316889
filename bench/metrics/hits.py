"""Which predicted labels are relevant, found without a dense `(N, L)` matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class SparseLabels(NamedTuple):
    """Relevant labels of N points in CSR form; a pair of tensors in this order will do.

    Attributes:
        offsets: `(N + 1,)` int64; point i owns `ids[offsets[i]:offsets[i + 1]]`.
        ids: `(M,)` int64 in [0, L), each label at most once a point, in any order.
    """

    offsets: Tensor
    ids: Tensor


def point_ids(targets: SparseLabels) -> Tensor:
    """`(M,)` int64: the point that each entry of `targets.ids` belongs to."""
    offsets, ids = targets
    return torch.repeat_interleave(offsets.diff(), output_size=ids.numel())


def find_entries(
    top_labels: Tensor, targets: SparseLabels, *, num_labels: int | None = None
) -> Tensor:
    """Entry of the targets that each prediction hits, by binary search among keys.

    A key is point · L + label.

    Args:
        top_labels: predicted label ids, best first, `(N, K)` of an integer dtype. A negative id is
            padding: always a miss. Padding may repeat, labels may not.
        targets: relevant labels, CSR over `(N, L)`.
        num_labels: L, to have ids at or above it refused; None takes any id.

    Returns:
        `(N, K)` int64, indices into `targets.ids`, −1 for misses; on the device of the arguments.

    Raises:
        ValueError: shapes disagree, a label is predicted or relevant twice for one point (it would
            be counted twice), a target is negative, or an id is L or more.

    >>> targets = SparseLabels(torch.tensor([0, 2, 2]), torch.tensor([7, 3]))
    >>> find_entries(torch.tensor([[3, 5, 7], [3, 7, -1]]), targets)
    tensor([[ 1, -1,  0],
            [-1, -1, -1]])
    """
    offsets, ids = targets
    if offsets.shape != (top_labels.shape[0] + 1,) or ids.shape != (int(offsets[-1]),):
        raise ValueError(
            f"offsets have shape {tuple(offsets.shape)} and end at {int(offsets[-1])}, label ids "
            f"have shape {tuple(ids.shape)}; expected those of {top_labels.shape[0]} points"
        )
    if top_labels.numel():
        _check_predictions(top_labels, num_labels)
    if top_labels.numel() == 0 or ids.numel() == 0:
        return torch.full_like(top_labels, -1, dtype=torch.int64)
    if int(ids.min()) < 0:
        raise ValueError(f"target label {int(ids.min())} is negative; expected ids from 0")
    largest = int(ids.max())
    if num_labels is not None and largest >= num_labels:
        raise ValueError(f"target label {largest} is out of range; expected ids below {num_labels}")
    stride = max(largest, int(top_labels.max())) + 1
    keys, entries = (point_ids(targets) * stride + ids).sort()
    if bool((keys[1:] == keys[:-1]).any()):
        raise ValueError("a point lists the same target label twice; expected each label once")
    rows = torch.arange(top_labels.shape[0], device=top_labels.device).unsqueeze(1)
    wanted = (rows * stride + top_labels).contiguous()
    nearest = torch.searchsorted(keys, wanted).clamp_(max=keys.numel() - 1)
    return torch.where((keys[nearest] == wanted) & (top_labels >= 0), entries[nearest], -1)


def best_gains(targets: SparseLabels, weights: Tensor, k: int) -> Tensor:
    """Weights of each point's k heaviest relevant labels: the gains of a perfect prediction.

    Args:
        targets: relevant labels, CSR over `(N, L)`.
        weights: `(M,)` float, of each entry of `targets.ids`.
        k: ranks to fill.

    Returns:
        `(N, k)` of the weights' dtype, falling along a row, 0 beyond the point's labels.

    >>> targets = SparseLabels(torch.tensor([0, 3, 4]), torch.tensor([0, 1, 2, 1]))
    >>> best_gains(targets, torch.tensor([1.0, 3.0, 2.0, 4.0]), 2)
    tensor([[3., 2.],
            [4., 0.]])
    """
    offsets, ids = targets
    points = point_ids(targets)
    by_gain = weights.argsort(descending=True, stable=True)
    by_point_then_gain = by_gain[points[by_gain].argsort(stable=True)]
    ranks = torch.arange(ids.numel(), device=ids.device) - offsets[points]
    kept = ranks < k
    best = weights.new_zeros(offsets.numel() - 1, k)
    best[points[kept], ranks[kept]] = weights[by_point_then_gain[kept]]
    return best


def _check_predictions(top_labels: Tensor, num_labels: int | None) -> None:
    largest = int(top_labels.max())
    if num_labels is not None and largest >= num_labels:
        raise ValueError(
            f"predicted label {largest} is out of range; expected ids below {num_labels}"
        )
    ordered = top_labels.sort(dim=1).values
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if bool(repeated.any()):
        row, column = repeated.nonzero()[0].tolist()
        raise ValueError(
            f"point {row} of the batch predicts label {int(ordered[row, column])} twice; "
            "expected each label once (pad with -1)"
        )
