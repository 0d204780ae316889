"""Bytes and seconds of a training step of a wide output layer, method by method, over L.

Claim: a lean full layer trains in its weights and one chunk, within 1.1 times; a full softmax with
Adam takes four times its weights and more, sampled softmax four times, MACH what its buckets take.

Command: `OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 python tests/benchmarks/output_layers.py
--out results/benchmarks`. Hardware: 2 cores, 24 GB. Duration: 5 minutes.
Expected: at L = 49.46 million, H = 64, only MACH and the lean layer in bfloat16 fit 24 GB.

Each row is a process of its own: N = 256 points, H = 64, features hashed into 1,000, so that the
encoder takes next to nothing. Bytes are the peak of the process above what it held before the model
was built (label counts, compiled kernels); what by arithmetic exceeds the memory is not tried.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from baselines.full_softmax import FullSoftmax
from baselines.sampled_softmax import SampledSoftmax
from bench.data.batch import Batch
from bench.mach.module import Mach
from bench.measure.memory import (
    HostPeak,
    available_memory_bytes,
    host_current_bytes,
    host_peak_bytes,
)
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.store.provenance import git_state, machine, package_versions, utc_now

NUM_POINTS, WIDTH, NUM_FEATURES, ENTRIES = 256, 64, 1_000, 20
SIZES = (20_000, 83_071, 670_091, 2_812_281, 49_460_000)
_SECONDS = 8.0
_BUCKETS = {20_000: 512, 83_071: 1_000, 670_091: 2_000, 2_812_281: 4_000, 49_460_000: 10_000}
NUM_WORLDS = 16


def build(row: str, facts: DataFacts) -> ExtremeClassifier:
    """The untrained model of a row."""
    shared: dict[str, Any] = {"hidden_dims": (WIDTH,), "learning_rate": 0.01}
    if row == "sampled softmax, row Adam":
        return SampledSoftmax(facts, num_samples=2048, **shared)
    if row == "MACH, row Adam":
        buckets = _BUCKETS.get(facts.num_labels, 16)
        sizes = {"num_buckets": buckets, "num_worlds": NUM_WORLDS}
        return Mach(facts, **sizes, share_encoder=True, **shared)
    return FullSoftmax(facts, **ROWS[row], **shared)


#: Name → options of `FullSoftmax`; the others are built by name.
ROWS: Mapping[str, dict[str, Any]] = {
    "full softmax, Adam": {"chunk_size": 64},
    "lean, SGD": {"update": "sgd"},
    "lean, row Adagrad": {"update": "row_adagrad"},
    "lean, SGD, bfloat16": {"update": "sgd", "weight_type": "bfloat16"},
    "sampled softmax, row Adam": {},
    "MACH, row Adam": {},
}


def batch(num_labels: int) -> Batch:
    """N points with random features and labels."""
    generator = torch.Generator().manual_seed(0)
    entries = NUM_POINTS * ENTRIES
    return Batch(
        feature_offsets=torch.arange(0, entries + 1, ENTRIES),
        feature_ids=torch.randint(NUM_FEATURES, (entries,), generator=generator),
        feature_values=torch.rand(entries, generator=generator),
        label_offsets=torch.arange(NUM_POINTS + 1),
        label_ids=torch.randint(num_labels, (NUM_POINTS,), generator=generator),
    )


def facts_of(num_labels: int) -> DataFacts:
    """Equally frequent labels."""
    counts = torch.ones(num_labels, dtype=torch.int64)
    return DataFacts(NUM_FEATURES, num_labels, "multiclass", counts, num_labels)


def expected_bytes(row: str, num_labels: int) -> dict[str, int]:
    """Weights, and what training holds at least, by arithmetic from shapes."""
    facts = facts_of(num_labels)
    with torch.device("meta"):
        model = build(row, facts)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    dense = row == "full softmax, Adam" or row.startswith("MACH")
    held = weights + (3 if dense else 2) * trained + model.decode_bytes()
    lean = getattr(model, "lean", None)
    if lean is not None:
        held += 0 if lean.squares is None else 4 * num_labels
    return {"weights": weights, "held": held + model.activation_bytes(NUM_POINTS, ENTRIES)}


def measure(row: str, num_labels: int) -> dict[str, Any]:
    """Peak bytes and seconds a step, in this process."""
    facts, points = facts_of(num_labels), batch(num_labels)
    warm_up = build(row, facts_of(100))  # compiles, and loads libraries
    _step(warm_up, warm_up.configure_optimizers(), batch(100))
    peak = HostPeak()
    before = host_current_bytes() or 0
    peak.begin_phase()
    model = build(row, facts)
    optimizer = model.configure_optimizers()
    for _ in range(2):
        _step(model, optimizer, points)
    seconds: list[float] = []
    began = time.perf_counter()
    while len(seconds) < 3 or time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        _step(model, optimizer, points)
        seconds.append(time.perf_counter() - start)
    return {"bytes": (host_peak_bytes() or 0) - before, "seconds": seconds}


def _step(model: ExtremeClassifier, optimizer: Any, points: Batch) -> None:
    loss = model.training_loss(points)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: L, row, megabytes, of its arithmetic, ms a step."""
    lines = [
        "| L | output layer | weights MB | training MB | ÷ weights and what is held | ms a step |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    for found in results:
        weights, held = found["expected"]["weights"], found["expected"]["held"]
        cells = [f"OOM ({held / 1e6:,.0f})", "–", "–"]
        if found.get("bytes") is not None:
            ms = 1000 * statistics.median(found["seconds"])
            cells = [f"{found['bytes'] / 1e6:,.0f}", f"{found['bytes'] / held:.2f}", f"{ms:,.0f}"]
        cells = [f"{found['num_labels']:,}", found["row"], f"{weights / 1e6:,.0f}", *cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all rows, each in a process of its own, and write the table."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/output_layers.py")
    parser.add_argument("--out", type=Path, help="folder for the table and the raw seconds")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--row", nargs=2, metavar=("NAME", "L"), help="measure one row here")
    options = parser.parse_args(arguments)
    if options.row is not None:
        name, num_labels = options.row
        sys.stdout.write(json.dumps(measure(name, int(num_labels))) + "\n")
        return
    commit, is_dirty = git_state()
    results: list[dict[str, Any]] = []
    for num_labels in options.sizes:
        for row in ROWS:
            found: dict[str, Any] = {"num_labels": num_labels, "row": row}
            found["expected"] = expected_bytes(row, num_labels)
            available = available_memory_bytes()
            if available is None or found["expected"]["held"] < available:
                command = [sys.executable, __file__, "--row", row, str(num_labels)]
                answer = subprocess.run(command, capture_output=True, text=True)
                if answer.returncode == 0:
                    found |= json.loads(answer.stdout.splitlines()[-1])
                else:
                    sys.stderr.write(answer.stderr[-500:])
            results.append(found)
            sys.stdout.write(table([found]).splitlines()[-1] + "\n")
            sys.stdout.flush()
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    content = {
        "measured_at": utc_now(),
        "commit": commit,
        "is_dirty": is_dirty,
        "packages": package_versions(),
        "machine": machine(accelerator=None),
        "num_threads": torch.get_num_threads(),
        "results": results,
    }
    (options.out / "output-layers.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "output-layers.md").write_text(table(results))


if __name__ == "__main__":
    main()
