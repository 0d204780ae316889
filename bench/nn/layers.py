"""Layers over sparse input whose gradients keep to the rows that a batch touched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.settings import derive_seed

StartKind = Literal["own", "truncated_normal", "fan_in_uniform"]


@dataclass(frozen=True)
class Start:
    """From which distribution initial weights are drawn.

    Attributes:
        kind: `own` leaves each layer the one it was made with; `truncated_normal` draws from a
            normal of mean 0, values beyond 2σ drawn again, as TensorFlow's initialiser of that
            name; `fan_in_uniform` from ±1/√(inputs of the layer), as PyTorch's linear layer.
        std: σ of `truncated_normal` before it is cut; what is left has 0.880 σ.
        has_biases: draw biases as weights; otherwise they start at 0.

    Raises:
        ValueError: an unknown kind, or σ is not above 0.
    """

    kind: StartKind = "own"
    std: float = 0.05
    has_biases: bool = True

    def __post_init__(self) -> None:
        if self.kind not in get_args(StartKind):
            raise ValueError(f"start is {self.kind!r}; expected one of {get_args(StartKind)}")
        if not self.std > 0:
            raise ValueError(f"start_std is {self.std}; expected above 0")

    @torch.no_grad()
    def draw(
        self, weight: Tensor, bias: Tensor | None, num_inputs: int, generator: torch.Generator
    ) -> None:
        """Fill a layer's weight and bias; not for `own`."""
        for part in (weight, bias if self.has_biases else None):
            if part is None:
                continue
            drawn = torch.empty(part.shape)
            if self.kind == "truncated_normal":
                edge = 2 * self.std
                nn.init.trunc_normal_(drawn, 0.0, self.std, -edge, edge, generator=generator)
            else:
                edge = 1 / math.sqrt(num_inputs)
                drawn.uniform_(-edge, edge, generator=generator)
            part.copy_(drawn)


OWN_START = Start()


def draw_output(
    weight: Tensor, bias: Tensor | None, seed: int, std: float, start: Start, num_inputs: int
) -> None:
    """Fill an output layer of zeros from its seed: normal of `std` and biases 0, or by `start`."""
    if weight.device.type == "meta":
        return
    generator = torch.Generator().manual_seed(derive_seed("output", seed))
    if start.kind != "own":
        start.draw(weight, bias, num_inputs, generator)
    elif std > 0:
        weight.normal_(0.0, std, generator=generator)


class _RowSparseBag(torch.autograd.Function):
    """Weighted bag-sum of rows, with a coalesced row-sparse gradient.

    `F.embedding_bag(sparse=True)` would return one gradient row per *entry*; with wide rows (R·B
    columns) that is gigabytes a step. Summing per distinct feature first is itself a bag-sum, of
    the output's gradient over the transposed batch, so that the fast kernel serves both ways.
    """

    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, ids: Tensor, offsets: Tensor, values: Tensor, dense_gradient: bool
    ) -> Tensor:
        ctx.save_for_backward(ids, offsets, values)
        ctx.weight_shape = weight.shape
        ctx.dense_gradient = dense_gradient
        return _bag(ids, weight, offsets, values)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        ids, offsets, values = ctx.saved_tensors
        grad = grad_outputs[0].contiguous()
        rows, inverse, counts = torch.unique(ids, return_inverse=True, return_counts=True)
        point_ids = torch.repeat_interleave(offsets.diff(), output_size=ids.numel())
        order = inverse.argsort(stable=True)
        row_offsets = torch.zeros(rows.numel() + 1, dtype=torch.int64, device=ids.device)
        torch.cumsum(counts, 0, out=row_offsets[1:])
        row_grads = _bag(point_ids[order], grad, row_offsets, values[order])
        return _row_gradient(rows, row_grads, ctx.weight_shape, ctx.dense_gradient), *[None] * 4


class _RowLookup(torch.autograd.Function):
    """Rows of a weight by distinct ids, with a coalesced row-sparse gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, dense_gradient: bool) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.weight_shape = weight.shape
        ctx.dense_gradient = dense_gradient
        return weight.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        grad = _row_gradient(rows, grad_outputs[0], ctx.weight_shape, ctx.dense_gradient)
        return grad, None, None


def _bag(ids: Tensor, weight: Tensor, offsets: Tensor, values: Tensor) -> Tensor:
    return F.embedding_bag(
        ids,
        weight,
        offsets,
        mode="sum",
        per_sample_weights=values.to(weight.dtype),
        include_last_offset=True,
    )


def row_sparse(rows: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    """A row-sparse tensor.

    Args:
        rows: `(U,)` int64, distinct, ascending.
        values: `(U, W)` of these rows.
        shape: of the full tensor, `(…, W)`.
    """
    return torch.sparse_coo_tensor(
        rows.unsqueeze(0), values, tuple(shape), is_coalesced=True, check_invariants=False
    )


def _row_gradient(rows: Tensor, grads: Tensor, shape: Sequence[int], dense: bool) -> Tensor:
    if dense:
        return grads.new_zeros(tuple(shape)).index_copy_(0, rows, grads)
    return row_sparse(rows, grads, shape)


def row_lookup(weight: Tensor, rows: Tensor, *, dense_gradient: bool = False) -> Tensor:
    """Rows of `weight` by **distinct** ids, with a gradient on these rows alone.

    Args:
        weight: `(L, H)`.
        rows: `(U,)` int64, distinct, ascending.
        dense_gradient: give a dense `(L, H)` gradient instead (for optimisers that need one).

    Returns:
        `(U, H)`.
    """
    return cast(Tensor, cast(Any, _RowLookup).apply(weight, rows, dense_gradient))


class SparseLinear(nn.Module):
    """Linear map of sparse points, `(N, D)` → `(N, W)`, touching only the rows in the batch.

    It has no bias: its user adds one, where the outputs have their final shape.

    Args:
        num_features: D, or the hashed dimension times the number of copies.
        width: W.
        dense_gradient: give dense gradients, as optimisers of one's own need; otherwise they are
            row-sparse, which those of `bench.nn.optimizers` take.
    """

    def __init__(self, num_features: int, width: int, *, dense_gradient: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_features, width))
        self.dense_gradient = dense_gradient

    def forward(self, ids: Tensor, offsets: Tensor, values: Tensor) -> Tensor:
        """Outputs `(N, W)` of the points in CSR form."""
        apply = cast(Any, _RowSparseBag).apply
        return cast(Tensor, apply(self.weight, ids, offsets, values, self.dense_gradient))


class Encoder(nn.Module):
    """Sparse points → G stacked hidden vectors `(G, N, H)`, or logits without a hidden layer.

    The G copies share nothing but the pass over the data: copy g starts from its own seed and gets
    its own gradient, so that training them stacked equals training them one by one.

    Args:
        num_features: D.
        widths: hidden widths; the last is what comes out. A linear model passes its number of
            outputs as the only width and `activate_last=False`.
        copy_seeds: one seed for each of the G copies.
        first_layer_std: standard deviation of the first layer's initial weights. Rows have unit
            norm, so this is the standard deviation of a pre-activation too.
        activate_last: apply ReLU to the last width as well.
        dense_gradient: see :class:`SparseLinear`.
        num_hashed_features: D', to which each copy's features are hashed; collisions add (as in the
            authors' code). None keeps the features.
        feature_table: `(G, D)` integers in [0, D'), needed with `num_hashed_features`.
        start: distribution of all initial weights, in place of the layers' own.
    """

    def __init__(
        self,
        num_features: int,
        widths: Sequence[int],
        *,
        copy_seeds: Sequence[int],
        first_layer_std: float,
        activate_last: bool = True,
        dense_gradient: bool = False,
        num_hashed_features: int | None = None,
        feature_table: Tensor | None = None,
        start: Start = OWN_START,
    ) -> None:
        super().__init__()
        if (num_hashed_features is None) != (feature_table is None):
            raise ValueError("num_hashed_features and feature_table go together; only one is set")
        self.num_copies = len(copy_seeds)
        self.widths = tuple(widths)
        self.activate_last = activate_last
        self.num_hashed_features = num_hashed_features
        self.register_buffer("feature_table", feature_table, persistent=False)
        self.feature_table: Tensor | None
        rows, width = num_features, self.num_copies * widths[0]
        if num_hashed_features is not None:
            rows, width = self.num_copies * num_hashed_features, widths[0]
        self.first = SparseLinear(rows, width, dense_gradient=dense_gradient)
        self.first_bias = nn.Parameter(torch.zeros(self.num_copies, 1, widths[0]))
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(self.num_copies, fan_in, fan_out))
            for fan_in, fan_out in itertools.pairwise(widths)
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(self.num_copies, 1, fan_out)) for fan_out in widths[1:]
        )
        if self.first.weight.device.type != "meta":
            self._initialise(copy_seeds, first_layer_std, start)

    @torch.no_grad()
    def _initialise(self, copy_seeds: Sequence[int], first_layer_std: float, start: Start) -> None:
        for copy, seed in enumerate(copy_seeds):
            generator = torch.Generator().manual_seed(derive_seed("encoder", seed))
            if start.kind != "own":
                num_inputs = self.num_hashed_features or self.first.weight.shape[0]
                start.draw(self._first_block(copy), self.first_bias[copy], num_inputs, generator)
                for weight, bias in zip(self.weights, self.biases, strict=True):
                    start.draw(weight[copy], bias[copy], weight.shape[1], generator)
                continue
            if first_layer_std > 0:
                # Zeros are left alone: untouched pages of a wide linear layer cost no memory.
                block = self._first_block(copy)
                block.copy_(
                    torch.empty(block.shape).normal_(0.0, first_layer_std, generator=generator)
                )
            for weight in self.weights:
                std = math.sqrt(2.0 / weight.shape[1])
                weight[copy].normal_(0.0, std, generator=generator)

    def _first_block(self, copy: int) -> Tensor:
        width = self.widths[0]
        if self.num_hashed_features is None:
            return self.first.weight[:, copy * width : (copy + 1) * width]
        rows = self.num_hashed_features
        return self.first.weight[copy * rows : (copy + 1) * rows]

    def forward(self, batch: Batch) -> Tensor:
        """Hidden vectors `(G, N, H)` of the batch's points."""
        if self.feature_table is None or self.num_hashed_features is None:
            flat = self.first(batch.feature_ids, batch.feature_offsets, batch.feature_values)
            hidden = flat.view(batch.num_points, self.num_copies, self.widths[0]).transpose(0, 1)
        else:
            hidden = self._hashed_first_layer(batch, self.feature_table, self.num_hashed_features)
        hidden = hidden + self.first_bias
        for weight, bias in zip(self.weights, self.biases, strict=True):
            hidden = torch.baddbmm(bias, torch.relu(hidden), weight)
        return torch.relu(hidden) if self.activate_last else hidden

    def _hashed_first_layer(
        self, batch: Batch, feature_table: Tensor, num_hashed_features: int
    ) -> Tensor:
        copies = torch.arange(self.num_copies, device=batch.feature_ids.device).unsqueeze(1)
        hashed = feature_table.index_select(1, batch.feature_ids).long()
        ids = (hashed + copies * num_hashed_features).flatten()
        num_entries = batch.feature_ids.numel()
        starts = (batch.feature_offsets[:-1] + copies * num_entries).flatten()
        end = torch.tensor([ids.numel()], device=ids.device)
        values = batch.feature_values.repeat(self.num_copies)
        flat = cast(Tensor, self.first(ids, torch.cat([starts, end]), values))
        return flat.view(self.num_copies, batch.num_points, self.widths[0])


class OwnEncoder(nn.Module):
    """A user's module in the place of :class:`Encoder`.

    Args:
        module: from a batch to hidden vectors, `(N, H)`, or `(G, N, H)` if `num_copies` is above 1.
        num_copies: G.
        width: H.
    """

    def __init__(self, module: nn.Module, num_copies: int, width: int) -> None:
        super().__init__()
        self.module = module
        self.num_copies = num_copies
        self.width = width

    def forward(self, batch: Any) -> Tensor:
        """Hidden vectors `(G, N, H)` of the batch's points.

        Raises:
            ValueError: the module gave another shape.
        """
        hidden: Tensor = self.module(batch)
        shape = (batch.num_points, self.width)
        if self.num_copies == 1 and hidden.shape == shape:
            return hidden.unsqueeze(0)
        if self.num_copies > 1 and hidden.shape == (self.num_copies, *shape):
            return hidden
        wanted = shape if self.num_copies == 1 else (self.num_copies, *shape)
        raise ValueError(
            f"the encoder gave hidden vectors of shape {tuple(hidden.shape)}; expected {wanted} by "
            "the last of hidden_dims and, where each world has a vector of its own, num_worlds "
            "(share_encoder=True: one for all)"
        )
