"""An output layer that trains in the memory of its weights: logits → gradient → update, in one go.

An ordinary output layer holds, beside its weights, their gradient and the optimiser's moments: 16
bytes a weight with Adam. Here labels are taken some at a time. The logits of a chunk become their
own gradient, are folded into the gradient of the hidden vectors, and then into the chunk's weights
themselves. What stands in memory at once is the weights and one chunk.

A sigmoid's columns are independent, so that BCE takes one sweep over the chunks. A softmax needs
the sum over all columns first, and takes two.

Rules of the update: `sgd` keeps nothing, `row_adagrad` one float a row. Weights are float32, or
bfloat16 rounded stochastically, so that updates below half of a weight's last digit are kept in
expectation.

Source: chunked updates as in ELMO (ICML 2025) and Renee (MLSys 2023); one
accumulator a row: Gupta et al. 2014 (row-wise Adagrad); stochastic rounding: Gupta et al. 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from numba import prange
from torch import Tensor, nn

from bench.nn.losses import LossKind, Positives, bce_gradient, handed_over, spans
from bench.nn.tiles import lean_columns
from bench.settings import SettingsError
from bench.store.kernels import njit

Rule = Literal["sgd", "row_adagrad"]
#: Options of a method that has such a layer: `optimizer` has it trained as all others are.
Update = Literal["optimizer", "sgd", "row_adagrad"]
WeightType = Literal["float32", "bfloat16"]


def refuse_without_update(settings: Mapping[str, Any]) -> None:
    """Refuse what only a lean update has, or has not.

    Args:
        settings: some or all options of a method, `update`, `weight_type` and `output_rate` among
            them.

    Raises:
        SettingsError: which of them, with their values.
    """
    if settings.get("update", "optimizer") == "optimizer":
        if settings.get("weight_type", "float32") != "float32":
            raise SettingsError(
                f"weight_type is {settings['weight_type']!r} and update 'optimizer'; expected "
                "update='sgd' or 'row_adagrad': an optimizer's weights have 32 bits"
            )
        if settings.get("output_rate") is not None:
            raise SettingsError(
                f"output_rate is {settings['output_rate']} and update 'optimizer', which has "
                "one rate for all layers; expected update='sgd' or 'row_adagrad'"
            )
    elif settings.get("encoder") == "linear":
        raise SettingsError(
            f"update is {settings['update']!r} and encoder 'linear', whose only layer is "
            "sparse; expected update='optimizer'"
        )


def rate_of_update(update: Update, rate: float | None) -> float:
    """The rate of a head's own update, which has no optimiser to take one from.

    Raises:
        SettingsError: there is an update and no rate.
    """
    if update != "optimizer" and rate is None:
        raise SettingsError(f"output_rate is None and update {update!r}; expected a learning rate")
    return rate or 0.0


class LeanUpdate(nn.Module):
    """Trains the weights of G output layers of C columns while their loss is computed.

    The weights are the caller's, with `requires_grad=False`: optimisers pass them by.

    Args:
        seeds: of the stochastic rounding, G of them: a layer is trained as it would be alone.
        num_columns: C.
        rule: `sgd` or `row_adagrad`.
        columns_per_chunk: most columns whose logits exist together; None: as many as are fast.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        num_columns: int,
        *,
        rule: Rule = "sgd",
        columns_per_chunk: int | None = None,
    ) -> None:
        super().__init__()
        if columns_per_chunk is not None and columns_per_chunk < 1:
            raise ValueError(f"columns_per_chunk is {columns_per_chunk}; expected at least 1")
        self.num_columns = num_columns
        self.seeds = tuple(seeds)
        self.columns_per_chunk = columns_per_chunk
        self.squares: Tensor | None
        squares = torch.zeros(len(self.seeds), num_columns) if rule == "row_adagrad" else None
        self.register_buffer("squares", squares)
        self.num_updates: Tensor
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))

    def loss(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        positives: Positives,
        kind: LossKind,
        *,
        rate: float,
        scale: float = 1.0,
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> Tensor:
        """The loss of `bench.nn.losses.loss_of_logits`, and the step that it asks of the weights.

        The weights are updated while the loss is computed; its backward pass only hands over the
        gradient of the hidden vectors, which is that of the weights before their update. Where
        `hidden` has no gradient the loss is computed and nothing is updated.

        Args:
            hidden: `(G, N, H)`, or `(1, N, H)` shared by all G layers.
            weight: `(G, C, H)` contiguous, float32 or bfloat16; updated.
            bias: `(G, C)` float32; updated.
            positives: see `bench.nn.losses.build_positives`.
            kind: `softmax` or `bce`.
            rate: learning rate.
            scale: of the loss, and so of all gradients.
            epsilon: added to the root of `row_adagrad`'s sums of mean squares.
            weight_decay: the step first takes this times the rate of the weights, not of biases.

        Returns:
            Scalar: mean over the N points, sum over layers, times `scale`; differentiable once.

        Raises:
            ValueError: the weights are not contiguous.
        """
        if not weight.is_contiguous():
            raise ValueError(
                f"the weights have strides {weight.stride()}; expected contiguous ones"
            )
        layers = _Layers(self, weight.detach(), bias.detach())
        rule = _Rule(rate, scale / hidden.shape[1], epsilon, 1 - rate * weight_decay)
        value = cast(Any, _LeanLoss).apply(hidden, layers, positives, kind, rule)
        return cast(Tensor, value)

    def chunk(self, num_points: int, device: str = "cpu") -> int:
        """Columns whose logits exist together for N points."""
        if self.columns_per_chunk is not None:
            return min(self.columns_per_chunk, self.num_columns)
        return lean_columns(num_points, self.num_columns, device)


@dataclass(frozen=True)
class _Rule:
    rate: float
    scale: float  # of the sum over points: a mean's 1/N, and the loss's own
    epsilon: float
    kept: float  # share of the weights that their decay leaves


@dataclass(frozen=True)
class _Layers:
    update: LeanUpdate
    weight: Tensor
    bias: Tensor


class _LeanLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        layers: _Layers,
        positives: Positives,
        kind: LossKind,
        rule: _Rule,
    ) -> Tensor:
        is_training = bool(ctx.needs_input_grad[0])
        with torch.autocast(hidden.device.type, enabled=False):
            inputs = hidden.detach().float().contiguous()
            grad_hidden = torch.zeros_like(inputs) if is_training else None
            step = _Step(layers, kind, rule, inputs, grad_hidden)
            total = sum(
                (step.run(index, positives) for index in range(layers.weight.shape[0])),
                torch.zeros((), dtype=torch.float64, device=hidden.device),
            )
            if grad_hidden is not None:
                layers.update.num_updates += 1
                grad_hidden.mul_(rule.scale)
        ctx.gradients = None if grad_hidden is None else (grad_hidden.to(hidden.dtype),)
        return (total * rule.scale).to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return *handed_over(ctx, grad_outputs[0]), None, None, None, None


class _Step:
    """One step of all layers over the same points."""

    def __init__(
        self,
        layers: _Layers,
        kind: LossKind,
        rule: _Rule,
        hidden: Tensor,
        grad_hidden: Tensor | None,
    ) -> None:
        self.update, self.weight, self.bias = layers.update, layers.weight, layers.bias
        self.kind, self.rule = kind, rule
        self.num_updates = 0
        if self.weight.dtype != torch.float32 and grad_hidden is not None:
            self.num_updates = int(layers.update.num_updates)  # once: a GPU would wait each time
        self.hidden, self.grad_hidden = hidden, grad_hidden
        self.num_points = hidden.shape[1]
        self.num_columns = layers.bias.shape[1]
        self.columns = layers.update.chunk(self.num_points, hidden.device.type)
        self.buffer = hidden.new_empty(self.columns * self.num_points)

    def run(self, index: int, positives: Positives) -> Tensor:
        """Summed loss of one layer, whose weights are updated."""
        own = _OfLayer(positives, index, self.num_columns, self.columns)
        chunks = list(spans(self.num_columns, self.columns))
        log_sum = None
        if self.kind == "softmax":
            log_sum = self.hidden.new_full((self.num_points,), -torch.inf)
            for span in chunks:
                logits = self._logits(index, span, self._weight(index, span))
                log_sum = torch.logaddexp(log_sum, _log_sum_exp(logits))
        total = torch.zeros((), dtype=torch.float64, device=self.hidden.device)
        for number, span in enumerate(chunks):
            weight = self._weight(index, span)
            logits = self._logits(index, span, weight)
            columns, point_ids, weights = own.of_chunk(number, span)
            where = columns * self.num_points + point_ids
            if log_sum is None:
                total += bce_gradient(logits[None], where[None], weights[None])
            else:
                flat = logits.view(-1)
                total -= (flat[where] * weights).sum(dtype=torch.float64)
                logits.sub_(log_sum).exp_()
                if positives.has_labels is not None:
                    logits.mul_(positives.has_labels)
                flat.scatter_add_(0, where, -weights)
            if self.grad_hidden is not None:
                self._fold(index, span, weight, logits)
        if log_sum is not None:
            mass = positives.point_mass(self.num_points)[index]
            total += (log_sum * mass).sum(dtype=torch.float64)
        return total

    def _weight(self, index: int, span: slice) -> Tensor:
        """`(c, H)` float32: a view of the weights, or a copy of those in bfloat16."""
        return self.weight[index, span].float()

    def _inputs(self, values: Tensor, index: int) -> Tensor:
        return values[min(index, values.shape[0] - 1)]

    def _logits(self, index: int, span: slice, weight: Tensor) -> Tensor:
        """`(c, N)`: rows are columns of the layer, as those of its weight are."""
        out = self.buffer[: weight.shape[0] * self.num_points].view(-1, self.num_points)
        bias = self.bias[index, span].unsqueeze(1)
        return torch.addmm(bias, weight, self._inputs(self.hidden, index).t(), out=out)

    def _fold(self, index: int, span: slice, weight: Tensor, grad: Tensor) -> None:
        """Fold the gradient `(c, N)` of summed logits into hidden vectors' gradient and weights."""
        assert self.grad_hidden is not None
        hidden, squares = self._inputs(self.hidden, index), self.update.squares
        self._inputs(self.grad_hidden, index).addmm_(grad.t(), weight)
        scale, bias = self.rule.scale, self.bias[index, span]
        share = self.rule.rate * scale
        if squares is None:
            weight.addmm_(grad, hidden, beta=self.rule.kept, alpha=-share)
            bias.sub_(grad.sum(dim=1), alpha=share)
        else:
            of_weight, of_bias = torch.mm(grad, hidden), grad.sum(dim=1)
            squares = squares[index, span]
            norm = of_weight.square().sum(dim=1) + of_bias.square()
            squares.add_(norm, alpha=scale**2 / (hidden.shape[1] + 1))
            factor = share / (squares.sqrt() + self.rule.epsilon)
            if self.rule.kept != 1:
                weight.mul_(self.rule.kept)
            weight.sub_(of_weight.mul_(factor.unsqueeze(1)))
            bias.sub_(of_bias * factor)
        if self.weight.dtype != torch.float32:
            seed, start = self.update.seeds[index], span.start * weight.shape[1]
            into = self.weight[index, span]
            round_stochastically(weight, into, seed, self.num_updates, start)


class _OfLayer:
    """The positives of one layer by chunks of its columns."""

    def __init__(self, positives: Positives, index: int, num_columns: int, step: int) -> None:
        self._columns, order = positives.columns[index].sort()
        self._point_ids = positives.point_ids[order]
        self._weights = positives.weights[index][order]
        edges = torch.arange(0, num_columns + step, step, device=order.device)
        self._ends = torch.searchsorted(self._columns, edges).tolist()

    def of_chunk(self, number: int, span: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Columns within the chunk, points and weights."""
        some = slice(self._ends[number], self._ends[number + 1])
        return self._columns[some] - span.start, self._point_ids[some], self._weights[some]


def _log_sum_exp(logits: Tensor) -> Tensor:
    """Of each column of `(c, N)` logits, which are used up: a copy would be another chunk."""
    top = logits.amax(dim=0)
    return logits.sub_(top).exp_().sum(dim=0).log_().add_(top)


def round_stochastically(
    values: Tensor, out: Tensor, seed: int, num_updates: int, start: int
) -> None:
    """Round float32 to one of its two bfloat16 neighbours, the nearer the likelier.

    The draw of an element depends on seed, step and place alone: the same whatever the number of
    threads and of chunks.

    Args:
        values: contiguous float32.
        out: bfloat16 of its shape, written.
        seed: of all draws.
        num_updates: how many steps there were before.
        start: place of the first element among the layer's weights.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + num_updates * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    if values.device.type == "cpu":
        bits = values.view(torch.int32).numpy().reshape(-1).view(np.uint32)
        into = out.view(torch.int16).numpy().reshape(-1).view(np.uint16)
        _round(bits, into, np.uint64(mixed), np.uint64(start))
        return
    _round_by_torch(values, out, mixed, start)


def _round_by_torch(values: Tensor, out: Tensor, mixed: int, start: int) -> None:
    places = torch.arange(start, start + values.numel(), device=values.device)
    draw = _mixed(places ^ _signed(mixed)) & 0xFFFF
    bits32 = values.view(torch.int32).view(-1).long()
    is_finite = (bits32 & 0x7F800000) != 0x7F800000
    rounded = torch.where(is_finite, bits32 + draw, bits32) >> 16
    out.view(torch.int16).view(-1).copy_(rounded.to(torch.int16))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014) in int64, which wraps as uint64 does."""
    x = (x ^ _shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ _shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: torch's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_EXPONENT, _LOW = np.uint32(0x7F800000), np.uint64(0xFFFF)
_30, _27, _31, _16 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint32(16)


@njit(parallel=True, cache=True, nogil=True)
def _round(bits: Any, into: Any, mixed: Any, start: Any) -> None:
    for place in prange(bits.size):
        value = bits[place]
        if value & _EXPONENT != _EXPONENT:  # infinities and NaN stay what they are
            x = (start + np.uint64(place)) ^ mixed
            x = (x ^ (x >> _30)) * _FIRST
            x = (x ^ (x >> _27)) * _SECOND
            value = np.uint32(value + np.uint32((x ^ (x >> _31)) & _LOW))
        into[place] = np.uint16(value >> _16)
