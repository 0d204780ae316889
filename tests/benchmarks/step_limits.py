"""A training step of each method beside the least that its products and its memory's traffic take.

Claim: a step takes at most 1.3 times its limit: its matrix products, at the speed at which this
machine multiplies matrices of these shapes, and the rows and moments that it moves, at the speed at
which this machine copies.

Command: `OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 python tests/benchmarks/step_limits.py
--out results/benchmarks`. Hardware: 2 cores. Duration: 3 minutes, once the data is prepared.
Expected: 1.2 to 1.6; a softmax's exponentials and a batch's sorting are in no limit.

Shapes are those of simplewiki, its 20,000 most frequent classes in batches of 256; where the files
are absent, of planted data of as many features and entries. A row's steps, products and copies take
turns in every round, in an order drawn anew, and the best of all rounds counts on both sides: load
by others only adds. Loading batches is no part of a step.

What is moved, and how often, `bench.methods.arithmetic.Step` says.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from baselines.sampled_labels import SampledLabels
from bench.data.batch import Batch
from bench.experiments.training import build_model, data_facts, load_data
from bench.measure.experiment import Context
from bench.measure.load import LoadMeter
from bench.methods.arithmetic import DataSizes, Product, Step, parts_of, problem_of
from bench.nn.classifier import ExtremeClassifier
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.store.provenance import collect, machine_slug, utc_now
from bench.studies import mlp
from bench.studies.grids import fastest_chunk

BATCH_SIZE, NUM_LABELS, NUM_BATCHES = 256, 20_000, 8
GOAL = 1.3
_STEPS = 6

ROWS: Mapping[str, ModelSpec] = {
    "MACH, B = 2,048, R = 8, shared, H = 128": mlp(
        "mach", 128, num_buckets=2048, num_worlds=8, share_encoder=True
    ),
    "MACH, B = 1,024, R = 4, H = 128": mlp("mach", 128, num_buckets=1024, num_worlds=4),
    "MACH, B = 512, R = 8, H = 128": mlp("mach", 128, num_buckets=512, num_worlds=8),
    "MACH, B = 512, R = 16, H = 128": mlp("mach", 128, num_buckets=512, num_worlds=16),
    "full softmax, H = 128": mlp("full_softmax", 128, chunk_size=fastest_chunk("cpu")),
    "full softmax, H = 512": mlp("full_softmax", 512, chunk_size=fastest_chunk("cpu")),
    "sampled softmax, S = 2,048, H = 512": mlp("sampled_softmax", 512, num_samples=2048),
}


def data_spec(data_dir: Path) -> DataSpec:
    """Simplewiki, or planted data of its shape."""
    if (data_dir / "simplewiki").is_dir():
        return DataSpec(
            source="vw",
            name="simplewiki",
            options={"train": "simplewiki/train.vw.gz", "test": "simplewiki/test.vw.gz"},
            feature_weighting="tfidf",
            num_top_labels=NUM_LABELS,
        )
    sizes = {"num_train_points": 60_000, "num_test_points": 100, "num_features": 89_822}
    return DataSpec(
        source="planted",
        name="planted",
        options=sizes | {"num_labels": NUM_LABELS, "features_per_point": 21},
        num_validation_points=100,
    )


def builds(product: Product) -> Callable[[], None]:
    """What multiplies a layer's three products once each, into memory that is there."""
    shapes = (product.num_points, product.width), (product.num_columns, product.width)
    hidden, weight = (torch.rand(shape) for shape in shapes)
    logits = torch.empty(product.num_points, product.num_columns)
    into = torch.empty_like(hidden), torch.empty_like(weight)

    def multiply() -> None:
        torch.mm(hidden, weight.t(), out=logits)
        torch.mm(logits, weight, out=into[0])
        torch.mm(logits.t(), hidden, out=into[1])

    return multiply


def step_of(
    trial: Trial, sizes: DataSizes, model: ExtremeClassifier, batches: Sequence[Batch]
) -> Step:
    """Operations of a step, of the rows that these batches touch rather than can touch."""
    parts = parts_of(problem_of(trial, sizes))
    rows = {"encoder.first.weight": _mean(batch.feature_ids.unique().numel() for batch in batches)}
    products = parts.products
    if isinstance(model, SampledLabels):
        labels = _mean(model.sample(batch)[0].numel() for batch in batches)
        rows |= dict.fromkeys(model.sparse_outputs, labels)
        products = tuple(replace(product, num_columns=labels) for product in products)
    weights = tuple(replace(each, rows=rows.get(each.name)) for each in parts.weights)
    touched = replace(parts, weights=weights, products=products)
    return Step.of(touched, trial.train.optimizer)


def _mean(counts: Iterable[int]) -> int:
    return round(statistics.mean(counts))


def _backward(model: ExtremeClassifier, batch: Batch) -> None:
    model.training_loss(batch).backward()  # type: ignore[no-untyped-call]


class Steps:
    """A model's steps over some batches, in turn."""

    def __init__(self, model: ExtremeClassifier, batches: Sequence[Batch]) -> None:
        self.model, self.batches = model, batches
        self.optimizer = model.configure_optimizers()
        self._count = 0

    def __call__(self) -> None:
        """One of them."""
        _backward(self.model, self.batches[self._count % len(self.batches)])
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._count += 1


def copier(num_floats: int) -> Callable[[], None]:
    """Copies half as many floats: each is read and written."""
    source: Tensor = torch.ones(max(num_floats // 2, 1))
    into = torch.zeros_like(source)

    def copy() -> None:
        into.copy_(source)

    return copy


def measure(
    rows: Mapping[str, ModelSpec], data: DataSpec, context: Context, num_rounds: int
) -> list[dict[str, Any]]:
    """Best seconds of a step, of its products and of its copies, row by row."""
    train = TrainSpec(batch_size=BATCH_SIZE)
    trials = {name: Trial(data=data, model=model, train=train) for name, model in rows.items()}
    loaded = load_data(next(iter(trials.values())), context)
    facts, sizes = data_facts(loaded), DataSizes.of_facts(loaded.facts)
    batches = [batch for batch, _ in zip(loaded.train_dataloader(), range(NUM_BATCHES))]  # noqa: B905
    results: list[dict[str, Any]] = []
    shuffle = random.Random(0)
    for name, trial in trials.items():
        model = build_model(trial, facts)
        step = step_of(trial, sizes, model, batches)
        (product,) = step.products
        turns: list[tuple[str, Callable[[], None]]] = [
            ("steps", Steps(model, batches)),
            ("products", builds(product)),
            ("copies", copier(step.moved_bytes // 4)),
        ]
        seconds: dict[str, list[float]] = {kind: [] for kind, _ in turns}
        for _ in range(num_rounds):
            shuffle.shuffle(turns)
            for kind, work in turns:
                work()
                for _ in range(_STEPS):
                    began = time.perf_counter()
                    work()
                    seconds[kind].append(time.perf_counter() - began)
        told = {"flops": product.flops, "times": product.times, "bytes": step.moved_bytes}
        results.append({"row": name, **told, **seconds})
    return results


def limit(found: Mapping[str, Any]) -> tuple[float, float]:
    """Best seconds of all products of a step, and of all that it moves."""
    return found["times"] * min(found["products"]), min(found["copies"])


def ratio(found: Mapping[str, Any]) -> float:
    """The best step over its limit."""
    return float(min(found["steps"]) / sum(limit(found)))


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: row, both sides in milliseconds, ratio."""
    lines = [
        "| output layer | products ms | GFLOP/s | moved ms | GB/s | limit ms | step ms | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for found in results:
        products, copies = limit(found)
        speeds = found["flops"] / products / 1e9, found["bytes"] / copies / 1e9
        cells = [
            f"{1000 * products:.1f}",
            f"{speeds[0]:.0f}",
            f"{1000 * copies:.1f}",
            f"{speeds[1]:.0f}",
            f"{1000 * (products + copies):.1f}",
            f"{1000 * min(found['steps']):.1f}",
            f"{ratio(found):.2f}",
        ]
        lines.append(f"| {found['row']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it and the raw seconds where `--out` says."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/step_limits.py")
    parser.add_argument("--out", type=Path, help="folder for the table and the raw seconds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/bench"))
    options = parser.parse_args(arguments)
    torch.set_flush_denormal(True)
    source = collect(accelerator=None)  # before a long run, in which files may change
    data = data_spec(options.data_dir)
    meter = LoadMeter()
    meter.start()
    context = Context(data_dir=options.data_dir, cache_dir=options.cache_dir)
    results = measure(ROWS, data, context, options.rounds)
    meter.stop()
    share = meter.other_share
    load = "an unknown load" if share is None else f"{100 * share:.0f} % of load"
    text = (
        f"{data.name}, L = {NUM_LABELS:,}, batches of {BATCH_SIZE}, row Adam, on "
        f"{machine_slug(source['machine'])} under {load} by others.\n\n{table(results)}"
    )
    sys.stdout.write(text)
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        "measured_at": utc_now(),
        **source,
        "num_threads": torch.get_num_threads(),
        "load_by_others": share,
        "results": results,
    }
    (options.out / "step_limits.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "step_limits.md").write_text(text)


if __name__ == "__main__":
    main()
