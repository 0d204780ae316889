"""Losses over all labels that are estimated from a batch's own and a sample of the others."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.samplers import Negatives
from bench.nn.head import Labelled


def sampled_loss(logits: Tensor, rows: Tensor, batch: Labelled, negatives: Negatives) -> Tensor:
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


def sampled_bce_loss(logits: Tensor, rows: Tensor, batch: Labelled, negatives: Negatives) -> Tensor:
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
