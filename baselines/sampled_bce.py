"""One-vs-all whose negatives are sampled: BCE over many labels at the cost of a few."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.sampled_softmax import SampledSoftmax
from baselines.samplers import Negatives
from bench.data.batch import Batch
from bench.nn.losses import LossKind


class SampledBce(SampledSoftmax):
    """BCE on a point's own labels and on a batch-wide sample of the others.

    For point i with labels P and sampled labels S the loss is
    Σ_{y ∈ P} softplus(−z_y) + Σ_{s ∈ S∖P} w_s softplus(z_s), w = times drawn / expected count. Its
    expectation is the sum over all L labels, and with sampler `all` it is one-vs-all itself.

    Arguments are those of :class:`SampledSoftmax`.

    Raises:
        ValueError: the encoder is linear.

    Source: importance sampling as in Bengio & Senécal 2008, applied label by label.
    """

    estimated_loss: ClassVar[LossKind] = "bce"

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of the estimated sum over labels."""
        logits, rows, negatives = self.sampled_logits(batch)
        return sampled_bce_loss(logits, rows, batch, negatives)


def sampled_bce_loss(logits: Tensor, rows: Tensor, batch: Batch, negatives: Negatives) -> Tensor:
    """One-vs-all loss estimated from the logits of some labels.

    Args:
        logits: `(N, U)` of own and sampled labels.
        rows: `(U,)` int64, ascending: the label of each column.
        batch: the points; no label twice in one of them.
        negatives: the sampled labels, all of them in `rows`.

    Returns:
        Scalar: mean over points, sum over labels.
    """
    columns = torch.searchsorted(rows, batch.label_ids)
    weights = logits.new_zeros(rows.numel())
    drawn = torch.searchsorted(rows, negatives.labels)
    weights[drawn] = negatives.log_weights.exp().to(logits.dtype)
    own = logits[batch.label_point_ids, columns]
    # Every sampled label as if absent, then what that took a point's own labels for.
    absent = (F.softplus(logits) @ weights).sum() - (F.softplus(own) * weights[columns]).sum()
    return (absent + F.softplus(-own).sum()) / batch.num_points
