"""Softmax whose partition sum is estimated from sampled labels; evaluation is over all labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from baselines.label_layer import LabelLayer
from baselines.sampled_labels import NumSamples, SampledLabels, SamplerName
from baselines.samplers import Negatives
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.layers import row_lookup
from bench.nn.losses import LossKind
from bench.nn.options import Size, check_values
from bench.settings import SettingsError


class SampledSoftmax(SampledLabels, LabelLayer):
    """Cross-entropy over a point's own labels and a batch-wide sample of the others.

    For point i with labels P and sampled labels S, the partition sum is estimated by
    Σ_{y ∈ P} exp(z_y) + Σ_{s ∈ S∖P} w_s exp(z_s): a point's own labels are surely present, so they
    need no correction; sampled ones carry w = times drawn / expected count, and those that are own
    labels of the point (accidental hits) are masked. Its expectation is the full sum, and with
    sampler `all` it is the full softmax.

    Args:
        facts: sizes and label frequencies of the training data.
        sampler: see :func:`baselines.samplers.build_sampler`.
        num_samples: S, drawn anew for each batch.
        power: exponent of the `unigram` sampler.
        **shared: see :class:`LabelLayer`.

    Raises:
        SettingsError: the encoder is linear (its rows are features, not labels: nothing to sample).
    """

    #: The loss that sampling estimates.
    estimated_loss: ClassVar[LossKind] = "softmax"

    def __init__(
        self,
        facts: DataFacts,
        *,
        sampler: SamplerName = "unigram",
        num_samples: NumSamples = 1024,
        power: float = 0.75,
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        check_values(SampledSoftmax.__init__, locals())
        self.refuse_together(shared)
        super().__init__(facts, self.estimated_loss, output_std=output_std, **shared)
        self.sample_by(sampler, facts, num_samples=num_samples, power=power)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """A linear encoder, whose rows are features: there are no labels to sample."""
        super().refuse_together(settings)
        if settings.get("encoder") == "linear":
            raise SettingsError("sampled softmax needs a hidden layer; encoder is 'linear'")

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of log(estimated partition sum) − mean logit of the own labels."""
        logits, rows, negatives = self.sampled_logits(batch)
        return sampled_loss(logits, rows, batch, negatives)

    def sampled_logits(self, batch: Batch) -> tuple[Tensor, Tensor, Negatives]:
        """Logits `(N, U)` of the batch's own and sampled labels, these labels, and the sample."""
        rows, negatives = self.sample(batch)
        weight, bias = (
            row_lookup(parameter, rows, dense_gradient=self.has_dense_gradients)
            for parameter in (self.output, self.output_bias)
        )
        # Corrections of the sample are added to logits: bfloat16 would round them to steps of 0.03.
        return torch.addmm(bias, self.encode(batch), weight.t()).float(), rows, negatives

    def sparse_rows(self, batch_size: int, entries_per_point: float) -> dict[str, int]:
        """Rows of features, and of own and sampled labels."""
        rows = self.touched_labels(batch_size)
        shared = super().sparse_rows(batch_size, entries_per_point)
        return shared | {"output": rows, "output_bias": rows}

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Logits of the sampled labels, their masked copy and their gradient, and gathered rows."""
        rows = self.touched_labels(batch_size)
        hidden = 2 * batch_size * sum(self.hidden_dims)
        return 4 * (3 * batch_size * rows + 2 * rows * self.hidden_dims[-1] + hidden)


def sampled_loss(logits: Tensor, rows: Tensor, batch: Batch, negatives: Negatives) -> Tensor:
    """Sampled-softmax loss from the logits of some labels.

    Args:
        logits: `(N, U)` of own and sampled labels.
        rows: `(U,)` int64, ascending: the label of each column.
        batch: the points.
        negatives: the sampled labels, all of them in `rows`.

    Returns:
        Scalar; points without labels add nothing.
    """
    num_points = batch.num_points
    point_ids = batch.label_point_ids
    own_columns = torch.searchsorted(rows, batch.label_ids)
    # One array of log weights does three things: corrects sampled labels, drops rows that are only
    # another point's own label, and (below) masks accidental hits.
    log_weights = logits.new_full((rows.numel(),), -torch.inf)
    log_weights[torch.searchsorted(rows, negatives.labels)] = negatives.log_weights.to(logits.dtype)
    split = cast(Any, _OwnAndOthers).apply(logits, log_weights, point_ids, own_columns)
    own_logits, negative_part = cast(tuple[Tensor, Tensor], split)
    top = own_logits.detach().new_full((num_points,), -torch.inf)
    top = top.scatter_reduce(0, point_ids, own_logits.detach(), "amax")
    has_labels = torch.isfinite(top)
    shift = torch.where(has_labels, top, torch.zeros_like(top))
    own_sum = torch.zeros_like(shift).index_add(
        0, point_ids, torch.exp(own_logits - shift[point_ids])
    )
    own_part = torch.log(torch.where(has_labels, own_sum, torch.ones_like(own_sum))) + shift
    log_partition = torch.logaddexp(own_part, negative_part)
    counts = batch.label_offsets.diff().clamp(min=1).to(logits.dtype)
    own_mean = torch.zeros_like(shift).index_add(0, point_ids, own_logits) / counts
    return torch.where(has_labels, log_partition - own_mean, torch.zeros_like(shift)).mean()


class _OwnAndOthers(torch.autograd.Function):
    """Own logits `(M,)`, and of each point log Σ exp of the weighted others, `(N,)`.

    What autograd would keep and add up in a dozen arrays of N × U floats, in one that becomes the
    gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, log_weights: Tensor, point_ids: Tensor, columns: Tensor
    ) -> tuple[Tensor, Tensor]:
        others = logits + log_weights
        others[point_ids, columns] = -torch.inf
        total = torch.logsumexp(others, dim=1)
        ctx.others = others
        ctx.save_for_backward(total, point_ids, columns)
        return logits[point_ids, columns], total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.others is None:
            raise RuntimeError("this loss is differentiable once; its gradient is used up")
        grad, ctx.others = ctx.others, None
        total, point_ids, columns = ctx.saved_tensors
        of_own, of_total = grad_outputs
        # A point whose sample are its own labels has no others, and a total of −∞.
        total = total.masked_fill(total.isneginf(), 0.0)
        grad.sub_(total.unsqueeze(1)).exp_().mul_(of_total.unsqueeze(1))
        grad[point_ids, columns] += of_own
        return grad, None, None, None
