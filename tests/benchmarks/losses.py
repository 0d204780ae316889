"""Losses of a wide output layer: ours beside the best that torch's own operations give.

Claim: forward and backward, with gradients for hidden vectors, weight and bias, take at most 1.1
times what the fastest contestant takes, at every shape.

Command: `OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 python tests/benchmarks/losses.py --out
results/benchmarks`, with the environment that trials get. Hardware: 2 cores, or a GPU with
`--device cuda`, which takes larger shapes. Duration: 3 minutes, 1 on a GPU.
Expected: ours first or within 1.1 times everywhere; torch's plain forms 1.2 to 4 times slower.

All contestants of a shape take their turns in every round, in an order drawn anew; a ratio is
formed within a round. Each is checked against torch's plain form, in value and in every gradient,
before its time is taken.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.nn.losses import LossKind, Positives, build_positives, chunked_loss, loss_of_logits
from bench.store.provenance import accelerator_name, collect, utc_now

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

CHUNKS = (64, 128, 256)
LABELS_PER_POINT = 10


@dataclass(frozen=True)
class Shape:
    """One problem.

    Attributes:
        kind: the loss.
        num_points: N.
        hidden_dim: H.
        num_columns: C: L labels, or B buckets a world.
        num_layers: G: 1, or R worlds.
        is_shared: whether all layers have the same hidden vectors.
    """

    kind: LossKind
    num_points: int
    hidden_dim: int
    num_columns: int
    num_layers: int = 1
    is_shared: bool = False

    def __str__(self) -> str:
        """Sizes by the field's letters."""
        sizes = f"N = {self.num_points}, H = {self.hidden_dim}"
        if self.num_layers == 1:
            return f"{self.kind}, {sizes}, L = {self.num_columns:,}"
        encoder = "shared" if self.is_shared else "independent"
        return f"{self.kind}, {sizes}, R = {self.num_layers}, B = {self.num_columns:,}, {encoder}"


SHAPES: tuple[Shape, ...] = (
    Shape("softmax", 512, 64, 20_000),
    Shape("softmax", 256, 128, 83_071),
    Shape("bce", 512, 64, 20_000),
    Shape("bce", 256, 128, 83_071),
    Shape("softmax", 256, 256, 2_000, 8),
    Shape("softmax", 256, 256, 2_000, 8, is_shared=True),
    Shape("bce", 256, 256, 2_000, 8),
    Shape("bce", 256, 256, 2_000, 8, is_shared=True),
)

#: A GPU is busy with these alone.
DEVICE_SHAPES: tuple[Shape, ...] = (
    Shape("softmax", 1024, 128, 83_071),
    Shape("softmax", 1024, 512, 670_091),
    Shape("bce", 1024, 256, 52_946),
    Shape("bce", 1024, 512, 670_091),
    Shape("softmax", 1024, 512, 10_000, 16),
    Shape("softmax", 1024, 512, 10_000, 16, is_shared=True),
    Shape("bce", 1024, 512, 10_000, 16),
    Shape("bce", 1024, 512, 10_000, 16, is_shared=True),
)


class Problem:
    """Inputs of a shape, drawn from a fixed seed."""

    def __init__(self, shape: Shape, device: str = "cpu") -> None:
        self.shape = shape
        self.device = torch.device(device)
        generator = torch.Generator().manual_seed(0)
        num_layers, num_columns = shape.num_layers, shape.num_columns
        copies = 1 if shape.is_shared else num_layers
        hidden = torch.randn(copies, shape.num_points, shape.hidden_dim, generator=generator)
        weight = torch.randn(num_layers, num_columns, shape.hidden_dim, generator=generator) * 0.05
        bias = torch.randn(num_layers, num_columns, generator=generator)
        self.inputs = tuple(part.to(device) for part in (hidden.relu_(), weight, bias))
        per_point = 1 if shape.kind == "softmax" else LABELS_PER_POINT
        points = torch.arange(shape.num_points, device=device)
        self.point_ids = points.repeat_interleave(per_point)
        self.offsets = torch.arange(shape.num_points + 1, device=device) * per_point
        size = (num_layers, self.point_ids.numel())
        self.columns = torch.randint(num_columns, size, generator=generator).to(device)

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def positives(self) -> Positives:
        """What a training step builds from its batch."""
        return build_positives(
            self.columns, self.offsets, self.point_ids, self.shape.num_columns, self.shape.kind
        )

    def logits(self, hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`(G, N, C)`, all of them."""
        if weight.shape[0] == 1:
            return F.linear(hidden[0], weight[0], bias[0]).unsqueeze(0)
        hidden = hidden.expand(weight.shape[0], -1, -1)
        return torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)

    def dense_targets(self) -> Tensor:
        """`(G, N, C)` of 0 and 1."""
        shape = self.shape
        size = (shape.num_layers, shape.num_points, shape.num_columns)
        targets = torch.zeros(size, device=self.device)
        layers = torch.arange(shape.num_layers, device=self.device).unsqueeze(1)
        targets[layers, self.point_ids, self.columns] = 1.0
        return targets


def contestants(problem: Problem) -> dict[str, Loss]:
    """Name → loss of hidden vectors, weight and bias; the first is the reference."""
    if problem.shape.kind == "bce":
        return _bce_contestants(problem)
    return _softmax_contestants(problem)


def _softmax_contestants(problem: Problem) -> dict[str, Loss]:
    shape = problem.shape

    def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        logits = problem.logits(hidden, weight, bias).flatten(0, 1)
        loss = F.cross_entropy(logits, problem.columns.flatten(), reduction="sum")
        return loss / shape.num_points

    found: dict[str, Loss] = {"torch cross_entropy": cross_entropy}
    if shape.num_layers > 1:
        return found | {"ours": _ours(problem, None)}
    chunks = [chunk for chunk in CHUNKS if chunk < shape.num_points]
    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)
    if options is not None:  # torch 2.13 and later
        found |= {
            f"torch linear_cross_entropy, chunks of {chunk}": _linear_cross_entropy(
                problem, options(batch_chunk_size=chunk)
            )
            for chunk in (*chunks, shape.num_points)
        }
    found |= {f"ours, chunks of {chunk}": _ours(problem, chunk) for chunk in chunks}
    return found | {"ours, plain": _ours(problem, None)}


def _linear_cross_entropy(problem: Problem, options: Any) -> Loss:
    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        value: Tensor = F.linear_cross_entropy(
            hidden[0], weight[0], problem.columns[0], linear_bias=bias[0], options=options
        )
        return value

    return loss


def _ours(problem: Problem, chunk: int | None) -> Loss:
    def loss(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return chunked_loss(
            hidden,
            weight,
            problem.positives(),
            problem.shape.kind,
            bias=bias,
            points_per_chunk=chunk,
        )

    return loss


def _bce_contestants(problem: Problem) -> dict[str, Loss]:
    num_points = problem.shape.num_points

    def dense(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        logits, targets = problem.logits(hidden, weight, bias), problem.dense_targets()
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / num_points

    def sparse(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return loss_of_logits(problem.logits(hidden, weight, bias), problem.positives(), "bce")

    return {
        "torch binary_cross_entropy_with_logits": dense,
        "torch softplus less positives": sparse,
        "ours": _ours(problem, None),
    }


def gradients(loss: Loss, problem: Problem) -> tuple[Tensor, list[Tensor]]:
    """Value, and gradients of hidden vectors, weight and bias."""
    inputs = [tensor.detach().requires_grad_() for tensor in problem.inputs]
    value = loss(*inputs)
    value.backward()  # type: ignore[no-untyped-call]
    found = [tensor.grad for tensor in inputs if tensor.grad is not None]
    return value.detach(), found


def check(losses: dict[str, Loss], problem: Problem) -> None:
    """Every contestant against the first.

    Raises:
        ValueError: a value or a gradient differs by more than rounding.
    """
    expected: tuple[Tensor, list[Tensor]] | None = None
    for name, loss in losses.items():
        value, grads = gradients(loss, problem)
        if expected is None:
            expected = value, grads
        pairs = zip([value, *grads], [expected[0], *expected[1]], strict=True)
        for found, wanted in pairs:
            error = float((found - wanted).abs().max() / wanted.abs().max())
            if not error < 1e-4:
                raise ValueError(f"{name} at {problem.shape} is off by {error:.2g}")


def measure(shape: Shape, num_rounds: int, device: str = "cpu") -> dict[str, list[float]]:
    """Seconds of every round of every contestant, all of them once a round."""
    problem = Problem(shape, device)
    losses = contestants(problem)
    check(losses, problem)  # which warms them up as well
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    order = list(losses)
    shuffle = random.Random(0)
    for _ in range(num_rounds):
        shuffle.shuffle(order)
        for name in order:
            problem.synchronize()
            began = time.perf_counter()
            gradients(losses[name], problem)
            problem.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def rows(seconds: dict[str, list[float]]) -> Iterator[tuple[str, float, float]]:
    """Name, median milliseconds, and median of in-round ratios to the contestant that is best."""
    best = min(seconds, key=lambda name: statistics.median(seconds[name]))
    for name, times in sorted(seconds.items(), key=lambda item: statistics.median(item[1])):
        ratio = statistics.median(a / b for a, b in zip(times, seconds[best], strict=True))
        yield name, 1000 * statistics.median(times), ratio


def table(results: Sequence[tuple[str, dict[str, list[float]]]]) -> str:
    """Markdown: shape, contestant, median ms, ratio."""
    lines = ["| shape | contestant | ms | ratio to the best |", "|---|---|---:|---:|"]
    for shape, seconds in results:
        for name, milliseconds, ratio in rows(seconds):
            lines.append(f"| {shape} | {name} | {milliseconds:.1f} | {ratio:.2f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it and the raw seconds where `--out` says."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/losses.py")
    parser.add_argument("--out", type=Path, help="folder for the table and the raw seconds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    results = []
    is_cpu = options.device == "cpu"
    # Before a long run, in which files may change.
    source = collect(accelerator=None if is_cpu else accelerator_name())
    name = "losses" if is_cpu else "losses-gpu"
    for shape in SHAPES if is_cpu else DEVICE_SHAPES:
        results.append((shape, measure(shape, options.rounds, options.device)))
        sys.stdout.write(table([(str(shape), results[-1][1])]) + "\n")
        sys.stdout.flush()
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        "measured_at": utc_now(),
        **source,
        "num_threads": torch.get_num_threads(),
        "results": [{"shape": asdict(shape), "seconds": times} for shape, times in results],
    }
    (options.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    text = table([(str(shape), times) for shape, times in results])
    (options.out / f"{name}.md").write_text(text)


if __name__ == "__main__":
    main()
