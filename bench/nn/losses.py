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
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.nn.tiles import TILE_FLOATS, TILE_FLOATS_ELSEWHERE, Tiling, tiling
from bench.nn.tiles import LossKind as LossKind
from bench.settings import SettingsError

Reduction = Literal["sum", "mean"]
_PRIOR_COLUMNS = 1 << 20


@dataclass(frozen=True)
class Positives:
    """The positive columns of each point in each of G output layers.

    Attributes:
        columns: `(G, M)` int64 in [0, C).
        point_ids: `(M,)` int64 in [0, N), ascending.
        weights: `(G, M)` float32; 0 drops an entry (two labels in one bucket count once).
        offsets: `(N + 1,)` int64; point i owns entries `offsets[i]:offsets[i + 1]`.
        shares: `(N,)` float32, to what a point's weights add up in a softmax: 0 without labels;
            None: 1 of all points.
    """

    columns: Tensor
    point_ids: Tensor
    weights: Tensor
    offsets: Tensor
    shares: Tensor | None

    @property
    def has_labels(self) -> Tensor | None:
        """`(N,)` bool; None: all points have labels."""
        return None if self.shares is None else self.shares > 0

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
    counts = offsets.diff()
    shares = None if bool((counts > 0).all()) else (counts > 0).float()
    if columns.shape[1] == num_points and shares is None:  # one label each
        weights = torch.ones_like(columns, dtype=torch.float32)
        return Positives(columns, point_ids, weights, offsets, None)
    keys = (point_ids * num_columns + columns).sort(dim=1).values
    weights = torch.ones_like(keys, dtype=torch.float32)
    weights[:, 1:] = (keys[:, 1:] != keys[:, :-1]).float()
    positives = Positives(keys % num_columns, point_ids, weights, offsets, shares)
    if kind == "softmax":
        mass = positives.point_mass(num_points).clamp_(min=1.0)
        weights = weights / mass.gather(1, point_ids.expand_as(columns))
        positives = replace(positives, weights=weights)
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
    num_columns = counts.shape[-1]
    # Exact: halves add up without rounding. All columns in 64 bits would be a wide layer's peak.
    total = counts.sum(dim=-1, keepdim=True).double() + 0.5 * num_columns
    biases = counts.new_empty(counts.shape, dtype=torch.float32)
    for start in range(0, num_columns, _PRIOR_COLUMNS):
        stop = start + _PRIOR_COLUMNS
        smoothed = counts[..., start:stop].double() + 0.5
        if kind == "softmax":
            found = (smoothed / total).log()
        else:
            found = torch.logit((smoothed / (num_points + 1.0)).clamp(max=0.99))
        biases[..., start:stop] = found
    return biases


def loss_scale(reduction: Reduction, kind: LossKind, num_columns: int) -> float:
    """What turns a loss summed over columns into the reduction asked for.

    Raises:
        SettingsError: the mean over the columns of a softmax.
    """
    refuse_mean_of_softmax({"loss_reduction": reduction, "loss": kind})
    return 1.0 if reduction == "sum" else 1.0 / num_columns


def refuse_mean_of_softmax(settings: Mapping[str, Any]) -> None:
    """Refuse the mean over columns of a loss that is no sum over them; a loss of None is open yet.

    Raises:
        SettingsError: reduction and loss.
    """
    loss = settings.get("loss")
    if settings.get("loss_reduction") == "mean" and loss not in (None, "bce"):
        raise SettingsError(f"loss_reduction is 'mean' and the loss {loss!r}; expected 'bce'")


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
    """:func:`loss_of_logits` with the gradient made in the forward pass, in the logits' own memory.

    For models whose logits come straight from sparse features. The logits are used up.
    """
    value = cast(Any, _LogitsLoss).apply(logits, positives, kind)
    return cast(Tensor, value)


class _LogitsLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, positives: Positives, kind: LossKind) -> Tensor:
        num_points, num_columns = logits.shape[1:]
        index = positives.point_ids * num_columns + positives.columns
        grad = logits.contiguous()
        if kind == "softmax":
            loss = _softmax_gradient(grad, index, positives.weights, positives.shares)
        else:
            loss = bce_gradient(grad, index, positives.weights)
        ctx.gradients = (grad.mul_(1 / num_points),)
        return (loss / num_points).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *handed_over(ctx, grad_outputs[0]), None, None


def handed_over(ctx: Any, scale: Tensor) -> list[Tensor | None]:
    """The gradients made in the forward pass, times `scale`, without a copy of any of them.

    Nothing keeps hold of them, so that autograd stores these very tensors as `.grad`.
    """
    if ctx.gradients is None:
        raise RuntimeError("this loss is differentiable once; its gradients are used up")
    gradients, ctx.gradients = ctx.gradients, None
    # A pass over a wide weight's gradient is worth sparing; asking a GPU would make it wait.
    if scale.device.type != "cpu" or float(scale) != 1.0:
        for grad in gradients:
            if grad is not None:
                grad.mul_(scale)
    return list(gradients)


def with_ones(hidden: Tensor) -> Tensor:
    """Hidden vectors with a last entry of 1, for weights whose last row is their bias.

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
    bias: Tensor | None = None,
    points_per_chunk: int | None = None,
    layers_per_chunk: int | None = None,
) -> Tensor:
    """The loss of :func:`loss_of_logits` whose logits become their own gradient at once.

    A tile of logits is made, turned into its gradient in place and folded into the gradients of
    hidden vectors, weight and bias. Nothing is computed twice and nothing is kept for the backward
    pass but these gradients, which it hands over as they are.

    Softmax needs complete rows: its tiles are points by all columns. BCE's columns are independent:
    its tiles are columns by all points, small enough for the processor's cache.

    Args:
        hidden: `(G, N, H)`, or `(1, N, H)` shared by all G layers.
        weight: `(G, C, H)`, in whatever order of strides; `(G, C, H)` contiguous is the fastest.
        positives: see :func:`build_positives`.
        kind: `softmax` or `bce`.
        bias: `(G, C)`; None: none, or a last column of `weight` (see :func:`with_ones`).
        points_per_chunk: points whose logits exist together for a softmax; None: all N.
        layers_per_chunk: most layers whose logits exist together; None: as many as are fast.

    Returns:
        Scalar, differentiable once.

    Raises:
        ValueError: a chunk below 1.
    """
    for chunk in (points_per_chunk, layers_per_chunk):
        if chunk is not None and chunk < 1:
            raise ValueError(f"a chunk of {chunk} is asked for; expected at least 1")
    value = cast(Any, _ChunkedLoss).apply(
        hidden, weight, bias, positives, kind, points_per_chunk, layers_per_chunk
    )
    return cast(Tensor, value)


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        positives: Positives,
        kind: LossKind,
        points_per_chunk: int | None,
        layers_per_chunk: int | None,
    ) -> Tensor:
        tiles = tiling(
            weight.shape[0],
            hidden.shape[1],
            weight.shape[1],
            kind,
            points_per_chunk=points_per_chunk,
            layers_per_chunk=layers_per_chunk,
            device=hidden.device.type,
        )
        fold = _softmax_tiles if kind == "softmax" else _bce_tiles
        product_type = _product_type(hidden, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            layer = _Layers(hidden, weight, bias, product_type)
            total = fold(layer, positives, tiles)
            layer.grad_hidden.mul_(1 / hidden.shape[1])
        ctx.gradients = (layer.grad_hidden, layer.grad_weight, layer.grad_bias)
        return (total / hidden.shape[1]).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *handed_over(ctx, grad_outputs[0]), None, None, None, None


def _product_type(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """Type of the factors of all products: that of the weights, or autocast's bfloat16.

    Not its float16: a logit's gradient, a probability over very many columns, vanishes in it, and
    no scale of the loss reaches a gradient that is made in the forward pass.
    """
    kind = hidden.device.type
    if torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind) == torch.bfloat16:
        return torch.bfloat16
    return weight.dtype


class _Layers:
    """Inputs of the output layers and their gradients, tile by tile.

    The mean's 1/N is applied where it is cheap: to hidden vectors, not to logits nor weights.
    Logits, losses and gradients have the type of the weights whatever that of the factors is.
    """

    def __init__(
        self, hidden: Tensor, weight: Tensor, bias: Tensor | None, product_type: torch.dtype
    ) -> None:
        self.bias = bias
        self.product_type = product_type
        self.is_shared = hidden.shape[0] == 1 and weight.shape[0] > 1
        self.num_points = hidden.shape[1]
        hidden = hidden.to(weight.dtype)
        self.hidden, self.weight = hidden.to(product_type), weight.to(product_type)
        self.scaled = (hidden / self.num_points).to(product_type)
        self.shares = hidden.new_full((self.num_points,), 1 / self.num_points)
        self.grad_hidden = torch.zeros_like(hidden, memory_format=torch.contiguous_format)
        self.grad_weight = torch.empty_like(weight)
        self.grad_bias = None if bias is None else torch.empty_like(bias)

    def inputs(self, hidden: Tensor, layers: slice, points: slice) -> Tensor:
        """`(g, n, H)` of `hidden` or of what has its shape."""
        if self.is_shared:
            return hidden[:, points].expand(layers.stop - layers.start, -1, -1)
        return hidden[layers, points]

    def fold(self, grad: Tensor, layers: slice, points: slice, columns: slice) -> None:
        """Add the gradient `(g, n, c)` of a tile of summed logits to those of the inputs."""
        is_first = points.start == 0
        if self.grad_bias is not None:
            into = self.grad_bias[layers, columns]
            shares = self.shares[points].expand(grad.shape[0], 1, -1)
            _product(into.unsqueeze(1), shares, grad, accumulate=not is_first)
        grad = grad.to(self.product_type)
        scaled = self.inputs(self.scaled, layers, points)
        _product(self.grad_weight[layers, columns], grad.mT, scaled, accumulate=not is_first)
        weight = self.weight[layers, columns]
        if not self.is_shared:
            into = self.grad_hidden[layers, points]
            _product(into, grad, weight, accumulate=columns.start > 0)
        elif grad.shape[0] == 1:
            _product(self.grad_hidden[:, points], grad, weight, accumulate=True)
        else:
            self.grad_hidden[0, points] += torch.bmm(grad, weight).sum(
                dim=0, dtype=self.grad_hidden.dtype
            )


def _product(out: Tensor, left: Tensor, right: Tensor, *, accumulate: bool) -> None:
    """`out (+)= left @ right` of `(g, ·, ·)`, written where it belongs whatever its strides."""
    if left.dtype != out.dtype:
        value = torch.bmm(left, right)
        _ = out.add_(value) if accumulate else out.copy_(value)
        return
    if out.stride(-1) != 1:
        out, left, right = out.mT, right.mT, left.mT
    if out.shape[0] > 1:
        if accumulate:
            out.baddbmm_(left, right)
        else:
            torch.bmm(left, right, out=out)
    elif accumulate:
        out[0].addmm_(left[0], right[0])
    else:
        torch.mm(left[0], right[0], out=out[0])


def _logits(out: Tensor, left: Tensor, right: Tensor, bias: Tensor | None) -> None:
    """`out = left @ right`, plus `bias` if there is one."""
    if left.dtype != out.dtype:
        out.copy_(torch.bmm(left, right))
        if bias is not None:
            out.add_(bias)
    elif out.shape[0] > 1:
        torch.bmm(left, right, out=out)
        if bias is not None:
            out.add_(bias)
    elif bias is None:
        torch.mm(left[0], right[0], out=out[0])
    else:
        torch.addmm(bias[0], left[0], right[0], out=out[0])


def spans(length: int, step: int) -> Iterator[slice]:
    """Slices of at most `step` that cover a length."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _softmax_tiles(layer: _Layers, positives: Positives, tiles: Tiling) -> Tensor:
    """Summed loss of all layers and points; gradients go into `layer`."""
    num_layers, num_columns, _ = layer.weight.shape
    point_spans = list(spans(layer.num_points, tiles.points))
    ends = [0, positives.point_ids.numel()]
    if len(point_spans) > 1:  # once for all chunks: on a GPU each look would make it wait
        edges = [*(span.start for span in point_spans), layer.num_points]
        ends = positives.offsets[torch.tensor(edges, device=positives.offsets.device)].tolist()
    total = torch.zeros((), dtype=torch.float64, device=layer.hidden.device)
    buffer = layer.grad_hidden.new_empty(tiles.layers, tiles.points, tiles.width)
    for layers in spans(num_layers, tiles.layers):
        weight = layer.weight[layers].mT
        bias = None if layer.bias is None else layer.bias[layers].unsqueeze(1)
        for points, start, stop in zip(point_spans, ends[:-1], ends[1:], strict=True):
            rows = buffer[: layers.stop - layers.start, : points.stop - points.start]
            logits = rows[..., :num_columns]
            _logits(logits, layer.inputs(layer.hidden, layers, points), weight, bias)
            rows[..., num_columns:] = -torch.inf  # so that these are probabilities of 0
            row = positives.point_ids[start:stop] - points.start
            index = row * tiles.width + positives.columns[layers, start:stop]
            shares = None if positives.shares is None else positives.shares[points]
            total += _softmax_gradient(rows, index, positives.weights[layers, start:stop], shares)
            layer.fold(logits, layers, points, slice(0, num_columns))
    return total


def _softmax_gradient(
    logits: Tensor, index: Tensor, weights: Tensor, shares: Tensor | None
) -> Tensor:
    """Summed loss of contiguous `(g, n, c)` logits, which become the gradient of that sum.

    Args:
        logits: of complete rows.
        index: `(g, m)` indices of the positives in a layer's n × c logits.
        weights: `(g, m)`.
        shares: `(n,)`, to what the weights of a point add up; None: 1.
    """
    flat = logits.flatten(1)
    hits = flat.gather(1, index)
    top = logits.amax(dim=2)
    torch.softmax(logits, dim=2, out=logits)
    # The largest probability is one over the sum of exponentials: no second pass of them, and exact
    # where a positive's own probability has vanished.
    log_sum = top - logits.amax(dim=2).log()
    row = index // logits.shape[2]
    loss = ((log_sum.gather(1, row) - hits) * weights).sum(dtype=torch.float64)
    if shares is not None:
        logits.mul_(shares.to(logits.dtype).unsqueeze(1))
    flat.scatter_add_(1, index, -weights.to(logits.dtype))
    return loss


def _bce_tiles(layer: _Layers, positives: Positives, tiles: Tiling) -> Tensor:
    """Summed loss of all layers and points; gradients go into `layer`."""
    num_layers, num_columns, _ = layer.weight.shape
    column_spans = list(spans(num_columns, tiles.columns))
    columns, point_ids, weights = positives.columns, positives.point_ids, positives.weights
    point_ids = point_ids.expand_as(columns)
    ends = [[0, columns.shape[1]]] * num_layers
    if len(column_spans) > 1:
        columns, order = columns.sort(dim=1)
        point_ids, weights = point_ids.gather(1, order), weights.gather(1, order)
        edges = [*(span.start for span in column_spans), num_columns]
        bounds = torch.tensor(edges, device=columns.device).expand(num_layers, -1).contiguous()
        ends = torch.searchsorted(columns, bounds).tolist()
    total = torch.zeros((), dtype=torch.float64, device=layer.hidden.device)
    everything = slice(0, layer.num_points)
    buffer = layer.grad_hidden.new_empty(tiles.layers * tiles.columns * tiles.points)
    for layers in spans(num_layers, tiles.layers):
        count = layers.stop - layers.start
        inputs = layer.inputs(layer.hidden, layers, everything).mT
        for number, span in enumerate(column_spans):
            # Transposed: rows of a tile are columns of the layer, and so are those of its weight.
            shape = (count, span.stop - span.start, layer.num_points)
            logits = buffer[: math.prod(shape)].view(shape)
            bias = None if layer.bias is None else layer.bias[layers, span].unsqueeze(2)
            _logits(logits, layer.weight[layers, span], inputs, bias)
            some = slice(ends[layers.start][number], ends[layers.start][number + 1])
            row = columns[layers, some] - span.start
            index = row * layer.num_points + point_ids[layers, some]
            total += bce_gradient(logits, index, weights[layers, some])
            layer.fold(logits.mT, layers, everything, span)
    return total


def bce_gradient(logits: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Summed loss of contiguous `(g, ·, ·)` logits, which become the gradient of that sum.

    Args:
        logits: one a point and column.
        index: `(g, m)` indices of the positives in a layer's logits.
        weights: `(g, m)`; 0 drops an entry.
    """
    flat = logits.flatten(1)
    hits = (flat.gather(1, index) * weights).sum(dtype=torch.float64)
    # In parts that stay in a processor's cache, and whose copies are small.
    limit = TILE_FLOATS.get(logits.device.type, TILE_FLOATS_ELSEWHERE)
    loss = -hits
    for part in torch.split(logits.flatten(), limit):
        loss += F.softplus(part).sum()
    logits.sigmoid_()
    flat.scatter_add_(1, index, -weights.to(logits.dtype))
    return loss
