"""Adam, dense, with TensorFlow 1's ε, and in a form that touches only rows with a gradient.

Every method has the choice of all three, and its sparse layers give all three the gradients of the
rows that a batch touched, never a dense one.

Traps that matter when a paper's run is repeated:

- TensorFlow 1's Adam adds ε to the *uncorrected* √v ("epsilon hat"); in PyTorch ε is added after
  the bias correction. The two differ while √v is near ε. `tf_adam` is TensorFlow's form.
- TensorFlow 1 applies Adam to a sparse input's rows densely: moments of all rows decay at every
  step and all rows move. So do `adam` and `tf_adam`. `row_adam` leaves untouched rows (weights and
  moments) alone, which is cheaper by the share of rows touched, and another optimiser: a rare row
  keeps its momentum until it is seen again.
- Weight decay is AdamW's, of weights alone: w ← w · (1 − rate · decay) before the step. `row_adam`
  decays a row in the steps that touch it, and so a rare row seldom: caught up with later it would
  have stood too large in every forward pass and validation until then.
- The papers' ImageNet runs set ε = 1.0, which makes Adam behave like momentum SGD.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.optim.adam import adam

from bench.nn.layers import row_sparse
from bench.settings import SettingsError
from bench.store.kernels import njit

_LARGEST_FLOAT = torch.finfo(torch.float32).max

# Floats of the gradient that dense Adam spreads some rows in: they stay in a processor's caches.
_SPREAD_FLOATS = {"cpu": 1 << 20}
_SPREAD_FLOATS_ELSEWHERE = 1 << 24
# PyTorch's kernel computes whole cache lines otherwise than what is left over at an end.
_LINE_FLOATS = 16


class Adam(torch.optim.Adam):
    """Adam that takes row-sparse gradients, too, for what they are: 0 in all other rows.

    Weights and moments are to the bit those of PyTorch's own (fused) Adam on dense gradients, which
    dense ones get. As that does, it unscales gradients itself, and makes no step where a
    `GradScaler` found infinity.

    Args:
        params: parameters, or groups of them; `(rows, …)` ones may have row-sparse gradients. In a
            group with `has_bias_row` the last row of each layer, `[..., -1, :]`, does not decay.
        **settings: `lr`, `betas`, `eps` and `weight_decay` of `torch.optim.AdamW`.
    """

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        super().__init__(params, fused=True, decoupled_weight_decay=True, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step over all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        held: list[tuple[nn.Parameter, Tensor]] = []
        biases: list[tuple[Tensor, Tensor, float]] = []
        is_skipped = _is_skipped(self)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group.get("has_bias_row") and not is_skipped:
                    rows = parameter.data[..., -1, :]
                    biases.append((rows, rows.clone(), group["lr"] * group["weight_decay"]))
                if parameter.grad.is_sparse:
                    held.append((parameter, parameter.grad))
                    if not is_skipped:
                        self._step_rows(parameter, parameter.grad, group)
                    parameter.grad = None
        super().step()  # looks at `found_inf` and `grad_scale` itself
        for rows, before, share in biases:
            rows.add_(before, alpha=share)  # gives back what the decay took
        for parameter, grad in held:
            parameter.grad = grad
        return loss

    def _moments(self, parameter: nn.Parameter, steps_on: torch.device) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=steps_on)
            # Zeroed pages are given out untouched: rows never seen cost no resident memory.
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        return state

    def _step_rows(self, parameter: nn.Parameter, grad: Tensor, group: dict[str, Any]) -> None:
        """PyTorch's own step, some rows at a time, whose gradient is spread in one small buffer."""
        state = self._moments(parameter, parameter.device)
        rows, values = distinct_rows(grad)
        kind = parameter.device.type
        limit = _SPREAD_FLOATS.get(kind, _SPREAD_FLOATS_ELSEWHERE)
        width = parameter.numel() // parameter.shape[0]
        size = max(limit // (width * _LINE_FLOATS), 1) * _LINE_FLOATS
        starts = torch.arange(0, parameter.shape[0] + size, size, device=rows.device)
        ends = torch.searchsorted(rows, starts).tolist()
        spread = parameter.data.new_zeros(size, *parameter.shape[1:])
        for number, start in enumerate(range(0, parameter.shape[0], size)):
            some = slice(ends[number], ends[number + 1])
            where = rows[some] - start
            spread.index_copy_(0, where, values[some].to(spread.dtype))
            parts = [
                tensor[start : start + size]
                for tensor in (parameter.data, state["exp_avg"], state["exp_avg_sq"])
            ]
            adam(
                parts[:1],
                [spread[: parts[0].shape[0]]],
                parts[1:2],
                parts[2:],
                [],
                [state["step"].clone()],
                fused=True,
                grad_scale=getattr(self, "grad_scale", None),
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
                decoupled_weight_decay=True,
            )
            spread.index_fill_(0, where, 0.0)
        state["step"] += 1


class RowAdam(Adam):
    """Adam that updates only the rows present in a row-sparse gradient, and decays only these.

    Bias correction counts the steps of the full parameter, not those of a row, as in TensorFlow's
    LazyAdam and PyTorch's SparseAdam. For the rest see :class:`Adam`.
    """

    def _step_rows(self, parameter: nn.Parameter, grad: Tensor, group: dict[str, Any]) -> None:
        state = self._moments(parameter, torch.device("cpu"))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        num_steps = float(state["step"])
        step_size = float(group["lr"]) / (1 - beta1**num_steps)
        if step_size > _LARGEST_FLOAT:
            raise FloatingPointError(
                f"learning_rate is {float(group['lr'])}; its steps exceed 32 bits, expected a "
                "smaller learning rate"
            )
        inverse_root = 1.0 / math.sqrt(1 - beta2**num_steps)
        rows, values = distinct_rows(grad)
        scale: Tensor | None = getattr(self, "grad_scale", None)
        if scale is not None:
            values = values / scale
        update = _update_rows_cpu if parameter.device.type == "cpu" else update_rows
        update(
            parameter.data,
            state["exp_avg"],
            state["exp_avg_sq"],
            rows,
            values,
            betas=(beta1, beta2),
            eps=group["eps"],
            step_size=step_size,
            inverse_root=inverse_root,
            kept=1 - float(group["lr"]) * group["weight_decay"],
        )


class TfAdam(Adam):
    """Adam whose ε is added to √v before the bias correction, as TensorFlow 1 has it.

    w ← w − α·√(1 − β₂ᵗ)/(1 − β₁ᵗ) · m/(√v + ε), which is PyTorch's step with ε/√(1 − β₂ᵗ) for ε: 32
    times as large at the first step with β₂ = 0.999, and ε itself after some thousands. Every
    parameter has a gradient at every step.

    Args:
        params: see :class:`Adam`.
        **settings: `lr`, α; `betas`; `eps`, Kingma and Ba's "epsilon hat"; `weight_decay`.

    Source: Kingma, Ba 2015 (the remark on the order of computation, section 2).
    """

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        super().__init__(params, **settings)
        for group in self.param_groups:
            group["epsilon_hat"], group["num_steps"] = group["eps"], 0

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step over all parameters."""
        for group in self.param_groups:
            # A step that is not made is not counted, neither here nor by PyTorch's own Adam.
            group["num_steps"] += not _is_skipped(self)
            correction = 1 - group["betas"][1] ** max(group["num_steps"], 1)
            group["eps"] = group["epsilon_hat"] / math.sqrt(correction)
        return super().step(closure)


def _is_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a `GradScaler` found a gradient that is not finite, so that no step is made."""
    found: Tensor | None = getattr(optimizer, "found_inf", None)
    return found is not None and bool(found)


def distinct_rows(grad: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a row-sparse gradient, each once and ascending, and their gradients.

    Autograd drops the mark of a coalesced gradient when it stores it; sorting and copying wide rows
    again would cost more than the step itself.
    """
    rows = grad._indices()[0]
    if not bool((rows[1:] > rows[:-1]).all()):
        grad = grad.coalesce()
        rows = grad.indices()[0]
    return rows, grad._values()


def clip_gradients(parameters: Iterable[nn.Parameter], limit: float, *, by_norm: bool) -> None:
    """Clip gradients in place, row-sparse ones too, which PyTorch's own clipping refuses.

    Args:
        parameters: whose gradients are clipped together.
        limit: largest norm of all of them, or largest absolute value of an entry.
        by_norm: which of the two.

    Source: the formula of `torch.nn.utils.clip_grad_norm_`.
    """
    parts = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        part = parameter.grad
        if part.is_sparse:
            rows, part = distinct_rows(part)
            parameter.grad = row_sparse(rows, part, parameter.shape)
        parts.append(part)
    if by_norm:
        scale = (limit / (nn.utils.get_total_norm(parts) + 1e-6)).clamp(max=1.0)
        for part in parts:
            part.mul_(scale)
        return
    for part in parts:
        part.clamp_(-limit, limit)


def average_rows(grad: Tensor) -> Tensor:
    """Mean over all processes of a row-sparse gradient, each with rows of its own.

    Every process calls it for the same parameters in the same order.
    """
    rows, values = distinct_rows(grad)
    num_processes = distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(num_processes)]
    distributed.all_gather(counts, torch.tensor([rows.numel()], device=rows.device))
    most = max(int(count) for count in counts)

    def gathered(part: Tensor) -> Tensor:
        padded = part.new_zeros(most, *part.shape[1:])
        padded[: part.shape[0]] = part
        every = [torch.empty_like(padded) for _ in range(num_processes)]
        distributed.all_gather(every, padded)
        return torch.cat([each[: int(n)] for each, n in zip(every, counts, strict=True)])

    joined = torch.sparse_coo_tensor(
        gathered(rows).unsqueeze(0), gathered(values), grad.shape, check_invariants=False
    ).coalesce()
    joined.values().div_(num_processes)
    return joined


def update_rows(
    weight: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    rows: Tensor,
    grads: Tensor,
    *,
    betas: tuple[float, float],
    eps: float,
    step_size: float,
    inverse_root: float,
    kept: float,
) -> None:
    """Adam on the given rows, in place: the readable form, and the one for GPUs.

    Args:
        weight: `(rows, W)`; `exp_avg` and `exp_avg_sq` are its moments, of the same shape.
        exp_avg: first moment.
        exp_avg_sq: second moment.
        rows: `(U,)` int64, distinct.
        grads: `(U, W)`.
        betas: decay rates.
        eps: added to √v̂.
        step_size: learning rate over the first moment's bias correction.
        inverse_root: 1 / √(second moment's bias correction).
        kept: share of the weights that their decay leaves.
    """
    beta1, beta2 = betas
    mean = exp_avg.index_select(0, rows).lerp_(grads, 1 - beta1)
    square = exp_avg_sq.index_select(0, rows).mul_(beta2).addcmul_(grads, grads, value=1 - beta2)
    exp_avg.index_copy_(0, rows, mean)
    exp_avg_sq.index_copy_(0, rows, square)
    denominator = square.sqrt_().mul_(inverse_root).add_(eps)
    if kept != 1:
        weight.index_copy_(0, rows, weight.index_select(0, rows).mul_(kept))
    weight.index_add_(0, rows, mean.div_(denominator), alpha=-step_size)


def _update_rows_cpu(weight: Tensor, *tensors: Tensor, **factors: Any) -> None:
    """As :func:`update_rows` by the kernel, where that takes the types."""
    grads = tensors[-1]
    is_float = weight.dtype == grads.dtype == torch.float32
    if not (is_float and weight.dim() == 2 and weight.is_contiguous()):
        update_rows(weight, *tensors, **factors)
        return
    arrays = [tensor.detach().contiguous().numpy() for tensor in (weight, *tensors)]
    names = ("eps", "step_size", "inverse_root", "kept")
    numbers = (*factors["betas"], *(factors[name] for name in names))
    _row_kernel(*arrays, *map(np.float32, numbers))


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def _row_kernel(
    weight: Any,
    mean: Any,
    square: Any,
    rows: Any,
    grads: Any,
    beta1: np.float32,
    beta2: np.float32,
    eps: np.float32,
    step_size: np.float32,
    inverse_root: np.float32,
    kept: np.float32,
) -> None:
    one = np.float32(1.0)
    width = weight.shape[1]
    for entry in numba.prange(rows.shape[0]):
        row = rows[entry]
        for column in range(width):
            grad = grads[entry, column]
            m = beta1 * mean[row, column] + (one - beta1) * grad
            v = beta2 * square[row, column] + (one - beta2) * grad * grad
            mean[row, column] = m
            square[row, column] = v
            step = step_size * m / (np.sqrt(v) * inverse_root + eps)
            weight[row, column] = kept * weight[row, column] - step


def warm_up_row_adam(device: torch.device) -> None:
    """Compile the row kernel by one step of a throw-away parameter."""
    parameter = nn.Parameter(torch.zeros(2, 2, device=device))
    rows = torch.tensor([1], device=device)
    parameter.grad = row_sparse(rows, torch.ones(1, 2, device=device), parameter.shape)
    RowAdam([parameter]).step()


def build_optimizer(
    name: str,
    parameters: Iterable[Any],
    *,
    learning_rate: float,
    epsilon: float,
    weight_decay: float = 0.0,
) -> Adam:
    """Optimiser of parameters, or of groups of them, by its name in the settings.

    Raises:
        SettingsError: unknown name.
    """
    kinds: dict[str, type[Adam]] = {"adam": Adam, "row_adam": RowAdam, "tf_adam": TfAdam}
    if name not in kinds:
        raise SettingsError(f"optimizer is {name!r}; expected 'adam', 'row_adam' or 'tf_adam'")
    return kinds[name](parameters, lr=learning_rate, eps=epsilon, weight_decay=weight_decay)
