"""Losses of a stacked output layer, with logits that need not all exist at once.

One function serves full softmax, one-vs-all and every world of MACH: G independent output layers
of C columns over `(G, N, H)` hidden vectors. Full softmax is G = 1 and C = L, MACH is G = R and
C = B, so that a difference between them is never a difference in the loss.

The value is the mean over points of the *sum* over layers and columns. For the papers' BCE, a mean
over batch × B, that is the same gradient up to a constant, which Adam cancels but for its ε; with
their mean the per-weight gradients come near ε = 1e-8 (B·N is 2·10⁵ to 10⁷ in their runs).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

LossKind = Literal["softmax", "bce"]


@dataclass(frozen=True)
class Positives:
    """The positive columns of each point in each of G output layers.

    Attributes:
        columns: `(G, M)` int64 in [0, C).
        point_ids: `(M,)` int64 in [0, N), ascending.
        weights: `(G, M)` float32; 0 drops an entry (two labels in one bucket count once).
        offsets: `(N + 1,)` int64; point i owns entries `offsets[i]:offsets[i + 1]`.
    """

    columns: Tensor
    point_ids: Tensor
    weights: Tensor
    offsets: Tensor

    def point_mass(self, num_points: int) -> Tensor:
        """`(G, N)` float32: total weight of each point's positives."""
        mass = self.weights.new_zeros(self.weights.shape[0], num_points)
        return mass.index_add_(1, self.point_ids, self.weights)


def build_positives(
    columns: Tensor, offsets: Tensor, point_ids: Tensor, num_columns: int, kind: LossKind
) -> Positives:
    """Positives from the columns of every label, duplicates of a point dropped (OR, never counts).

    With `softmax` the weights of a point sum to one, which for a single label is cross-entropy.

    Args:
        columns: `(G, M)` int64, the column of each label in each layer.
        offsets: `(N + 1,)` int64 over the labels.
        point_ids: `(M,)` int64, which point each label belongs to.
        num_columns: C.
        kind: the loss they are for.

    Returns:
        The positives; their columns are sorted within a point if a point has several labels.
    """
    num_points = offsets.numel() - 1
    single = columns.shape[1] == num_points
    if single and bool((offsets.diff() == 1).all()):
        return Positives(columns, point_ids, torch.ones_like(columns, dtype=torch.float32), offsets)
    keys = (point_ids * num_columns + columns).sort(dim=1).values
    weights = torch.ones_like(keys, dtype=torch.float32)
    weights[:, 1:] = (keys[:, 1:] != keys[:, :-1]).float()
    positives = Positives(keys % num_columns, point_ids, weights, offsets)
    if kind == "softmax":
        mass = positives.point_mass(num_points).clamp_(min=1.0)
        weights = weights / mass.gather(1, point_ids.expand_as(columns))
        positives = Positives(positives.columns, point_ids, weights, offsets)
    return positives


def prior_bias(counts: Tensor, num_points: int, kind: LossKind) -> Tensor:
    """Output biases with which an untrained model predicts the training frequencies.

    A model over very many columns otherwise spends its first hundreds of steps on learning that
    nearly all of them are nearly always absent.

    Args:
        counts: `(…, C)` training points of each column.
        num_points: training points, N.
        kind: `softmax` gives log shares, `bce` log odds; both smoothed, so that a column without
            points is finite.

    Returns:
        `(…, C)` float32.
    """
    smoothed = counts.double() + 0.5
    if kind == "softmax":
        return (smoothed / smoothed.sum(dim=-1, keepdim=True)).log().float()
    share = (smoothed / (num_points + 1.0)).clamp(max=0.99)
    return torch.logit(share).float()


def loss_of_logits(logits: Tensor, positives: Positives, kind: LossKind) -> Tensor:
    """Loss of logits that are all in memory, by ordinary autograd: the reference.

    Args:
        logits: `(G, N, C)`.
        positives: see :func:`build_positives`.
        kind: `softmax` (cross-entropy) or `bce` (Σ softplus(z) − Σ positive z: no dense targets).

    Returns:
        Scalar: mean over the N points, sum over layers.
    """
    num_points = logits.shape[1]
    index = positives.point_ids * logits.shape[2] + positives.columns
    hits = (logits.flatten(1).gather(1, index) * positives.weights).sum()
    if kind == "softmax":
        mass = positives.point_mass(num_points)
        return ((torch.logsumexp(logits, dim=2) * mass).sum() - hits) / num_points
    return (F.softplus(logits).sum() - hits) / num_points


def fused_loss_of_logits(logits: Tensor, positives: Positives, kind: LossKind) -> Tensor:
    """:func:`loss_of_logits` with the gradient made in the forward pass, in one buffer.

    For models whose logits come straight from sparse features. The logits are used up.
    """
    value = cast(Any, _LogitsLoss).apply(logits, positives, kind)
    return cast(Tensor, value)


class _LogitsLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, positives: Positives, kind: LossKind) -> Tensor:
        num_layers, num_points, _ = logits.shape
        everything = (slice(0, num_layers), slice(0, num_points))
        loss, grad = _chunk_gradient(logits.contiguous(), positives, kind, *everything, num_points)
        ctx.save_for_backward(grad)
        ctx.num_points = num_points
        return (loss / num_points).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * (grad_outputs[0] / ctx.num_points), None, None


def with_ones(hidden: Tensor) -> Tensor:
    """Hidden vectors with a last entry of 1, so that a weight's last row is its bias.

    The bias and its gradient then cost no pass over the `(N, C)` logits of their own.

    Args:
        hidden: `(…, H)`.

    Returns:
        `(…, H + 1)`.
    """
    return torch.cat([hidden, hidden.new_ones(*hidden.shape[:-1], 1)], dim=-1)


def chunked_loss(
    hidden: Tensor,
    weight: Tensor,
    positives: Positives,
    kind: LossKind,
    *,
    points_per_chunk: int | None = None,
    layers_per_chunk: int | None = None,
) -> Tensor:
    """The loss of :func:`loss_of_logits` without the `(G, N, C)` logits.

    Logits of a chunk are turned into their own gradient at once and folded into the gradients of
    hidden vectors and weights, so that memory is two chunks and the arithmetic is that of the
    plain loss: nothing is computed twice.

    Args:
        hidden: `(G, N, H)`, or `(1, N, H)` shared by all G layers.
        weight: `(G, H, C)`; see :func:`with_ones` for a bias.
        positives: see :func:`build_positives`.
        kind: `softmax` or `bce`.
        points_per_chunk: points whose logits exist together; None: all N.
        layers_per_chunk: layers whose logits exist together; None: all G.

    Returns:
        Scalar, differentiable once.

    Raises:
        ValueError: a chunk below 1.
    """
    value = cast(Any, _ChunkedLoss).apply(
        hidden, weight, positives, kind, points_per_chunk, layers_per_chunk
    )
    return cast(Tensor, value)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        positives: Positives,
        kind: LossKind,
        points_per_chunk: int | None,
        layers_per_chunk: int | None,
    ) -> Tensor:
        num_layers = weight.shape[0]
        num_points = hidden.shape[1]
        is_shared = hidden.shape[0] == 1 and num_layers > 1
        grad_hidden = torch.zeros_like(hidden, memory_format=torch.contiguous_format)
        grad_weight = torch.empty_like(weight)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for layers in _spans(num_layers, layers_per_chunk):
            for points in _spans(num_points, points_per_chunk):
                inputs = hidden[:, points] if is_shared else hidden[layers, points]
                if is_shared:
                    inputs = inputs.expand(layers.stop - layers.start, -1, -1)
                logits = torch.bmm(inputs, weight[layers])
                loss, grad = _chunk_gradient(logits, positives, kind, layers, points, num_points)
                del logits
                total += loss
                if points.start == 0:
                    torch.bmm(inputs.transpose(1, 2), grad, out=grad_weight[layers])
                else:
                    grad_weight[layers].baddbmm_(inputs.transpose(1, 2), grad)
                back = torch.bmm(grad, weight[layers].transpose(1, 2))
                if is_shared:
                    grad_hidden[0, points] += back.sum(dim=0)
                else:
                    grad_hidden[layers, points] = back
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.num_points = num_points
        return (total / num_points).to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        # The mean's 1/N is applied here, on H columns rather than on C.
        scale = grad_outputs[0] / ctx.num_points
        return *(grad * scale for grad in ctx.saved_tensors), None, None, None, None


def _spans(length: int, step: int | None) -> Iterator[slice]:
    step = length if step is None else step
    if step < 1:
        raise ValueError(f"a chunk of {step} is asked for; expected at least 1")
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


# Below this a float32 probability has lost digits, and its logarithm with them.
_SMALLEST_PROBABILITY = 1e-30


def _chunk_gradient(
    logits: Tensor,
    positives: Positives,
    kind: LossKind,
    layers: slice,
    points: slice,
    num_points: int,
) -> tuple[Tensor, Tensor]:
    """Summed loss of a contiguous `(g, n, C)` chunk, and the gradient of that sum.

    The logits are used up: flattened views of them, and of what replaces them, are written to.
    """
    if points.start == 0 and points.stop == num_points:
        entries = slice(0, positives.point_ids.numel())
    else:
        entries = slice(int(positives.offsets[points.start]), int(positives.offsets[points.stop]))
    num_columns = logits.shape[2]
    rows = positives.point_ids[entries] - points.start
    index = rows * num_columns + positives.columns[layers, entries]
    weights = positives.weights[layers, entries]
    if kind == "softmax":
        # One pass of exponentials: the loss is read off the probabilities of the positives.
        grad = torch.softmax(logits, dim=2)
        probs = grad.flatten(1).gather(1, index)
        loss = -(probs.clamp(min=_SMALLEST_PROBABILITY).log() * weights).sum(dtype=torch.float64)
        lost = (probs < _SMALLEST_PROBABILITY) & (weights > 0)
        if bool(lost.any()):
            layer, entry = lost.nonzero(as_tuple=True)
            exact = torch.logsumexp(logits[layer, rows[entry]], dim=1)
            exact = exact - logits.flatten(1)[layer, index[layer, entry]]
            correction = exact + math.log(_SMALLEST_PROBABILITY)
            loss = loss + (correction * weights[layer, entry]).sum(dtype=torch.float64)
        mass = weights.new_zeros(logits.shape[:2]).index_add_(1, rows, weights)
        if not bool(((mass - 1).abs() < 1e-6).all()):  # points without labels have no gradient
            grad.mul_(mass.unsqueeze(2))
    else:
        hits = (logits.flatten(1).gather(1, index) * weights).sum(dtype=torch.float64)
        loss = F.softplus(logits).sum(dtype=torch.float64) - hits
        grad = logits.sigmoid_()
    grad.flatten(1).scatter_add_(1, index, -weights.to(grad.dtype))
    return loss, grad
