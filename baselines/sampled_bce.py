"""One-vs-all whose negatives are sampled: BCE over many labels at the cost of a few."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.sampled_softmax import SampledSoftmax
from baselines.samplers import Negatives
from bench.data.batch import Batch
from bench.layers import row_lookup
from bench.losses import LossKind, with_ones


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

    def start_from_prior(self, counts: Tensor, kind: LossKind) -> None:
        """Biases at the log odds of each label, not at its share among labels."""
        super().start_from_prior(counts, "bce")

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of the estimated sum over labels."""
        negatives = self.sampler.sample(batch.label_ids, batch.num_points)
        rows = torch.unique(torch.cat([batch.label_ids, negatives.labels]))
        weight = row_lookup(self.output, rows, dense_gradient=self.has_dense_gradients)
        hidden = with_ones(self.encoder(batch)[0])
        return sampled_bce_loss(hidden @ weight.t(), rows, batch, negatives)


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
