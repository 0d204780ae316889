"""One-vs-all whose negatives are sampled: BCE over many labels at the cost of a few."""

from __future__ import annotations

from typing import ClassVar

from baselines.sampled_softmax import SampledSoftmax
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
