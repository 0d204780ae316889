"""Bytes and seconds of a training step of a wide output layer, method by method, over L.

Claim: a lean full layer trains in its weights and one chunk, within 1.1 times; a full softmax with
Adam takes four times its weights and more, sampled softmax three times, MACH what its buckets take.

Command: `OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 python tests/benchmarks/output_layers.py
--out results/benchmarks [--sizes L …]`. Hardware: 2 cores, 24 GB. Duration: 20 minutes, 10 of them
at L = 49.46 million. Expected: there, H = 64, a full layer fits 24 GB if it is lean alone.

Each row is a process of its own: N = 256 points, H = 64, 1,000 features, so that the encoder takes
next to nothing. Bytes are the peak of the process above what it held before the model was built
(label counts, compiled kernels). What by arithmetic exceeds the machine's memory is `OOM`; what
exceeds what others leave of it now is left for later. Every row is written when it is measured, and
one that is there is not measured again: whoever was stopped, or had no room, starts it again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.data.batch import Batch
from bench.measure.load import LoadMeter
from bench.measure.memory import (
    HostPeak,
    available_memory_bytes,
    host_current_bytes,
    host_peak_bytes,
    total_memory_bytes,
)
from bench.methods.arithmetic import DataSizes, predict_memory
from bench.methods.cards import method_class
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.settings import DataSpec, TrainSpec, Trial
from bench.store.provenance import git_state, machine, machine_slug, package_versions, utc_now
from bench.studies import mlp

NUM_POINTS, WIDTH, NUM_FEATURES, ENTRIES = 256, 64, 1_000, 20
SIZES = (20_000, 83_071, 670_091, 2_812_281, 49_460_000)
#: What a lean layer may take, in terms of its weights and one chunk, from so many bytes of weights
#: on: below, what the libraries allocate for themselves counts for more.
MOST, SIZABLE = 1.1, 100_000_000
# A step is timed at least three times, and for so long; once where it takes half a minute.
_SECONDS = 8.0
_LONG_SECONDS = 30.0
# Left to others.
_SPARE_BYTES = 4_000_000_000
_BUCKETS = {20_000: 512, 83_071: 1_000, 670_091: 2_000, 2_812_281: 4_000, 49_460_000: 10_000}
NUM_WORLDS = 16


def settings(row: str, num_labels: int) -> tuple[str, dict[str, Any]]:
    """Method and options of a row."""
    if row.startswith("sampled"):
        return "sampled_softmax", {"num_samples": 2048}
    if row.startswith("MACH"):
        sizes = {"num_buckets": _BUCKETS.get(num_labels, 16), "num_worlds": NUM_WORLDS}
        return "mach", sizes | {"share_encoder": True} | ROWS[row]
    return "full_softmax", ROWS[row]


def build(row: str, facts: DataFacts) -> ExtremeClassifier:
    """The untrained model of a row."""
    method, options = settings(row, facts.num_labels)
    shared = {"hidden_dims": (WIDTH,), "learning_rate": 0.01}
    model: ExtremeClassifier = method_class(method)(facts, **options, **shared)
    return model


#: Name → options of `FullSoftmax` or `Mach`.
ROWS: Mapping[str, dict[str, Any]] = {
    "full softmax, Adam": {"chunk_size": 64},
    "lean, SGD": {"update": "sgd"},
    "lean, row Adagrad": {"update": "row_adagrad"},
    "lean, SGD, bfloat16": {"update": "sgd", "weight_type": "bfloat16"},
    "sampled softmax, row Adam": {},
    "MACH, row Adam": {},
    "MACH, lean, SGD": {"update": "sgd"},
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
    sizes = DataSizes(
        num_features=NUM_FEATURES,
        num_labels=num_labels,
        task="multiclass",
        num_train_points=num_labels,
        entries_per_point=ENTRIES,
    )
    method, options = settings(row, num_labels)
    trial = Trial(
        data=DataSpec(source="none", name=row),
        model=mlp(method, WIDTH, **options),
        train=TrainSpec(batch_size=NUM_POINTS),
    )
    memory = predict_memory(trial, sizes)
    held = memory.parameters + memory.moments + memory.tables + memory.gradients
    return {"weights": memory.parameters, "held": held + memory.activations}


def measure(row: str, num_labels: int) -> dict[str, Any]:
    """Peak bytes, seconds a step, and others' share of the processors, in this process."""
    facts, points = facts_of(num_labels), batch(num_labels)
    warm_up = build(row, facts_of(100))  # compiles, and loads libraries
    _step(warm_up, warm_up.configure_optimizers(), batch(100))
    peak = HostPeak()
    before = host_current_bytes() or 0
    peak.begin_phase()
    model = build(row, facts)
    optimizer = model.configure_optimizers()
    began = time.perf_counter()
    _step(model, optimizer, points)
    is_long = time.perf_counter() - began > _LONG_SECONDS
    if not is_long:
        _step(model, optimizer, points)
    seconds: list[float] = []
    meter = LoadMeter()
    meter.start()
    began = time.perf_counter()
    while len(seconds) < (1 if is_long else 3) or time.perf_counter() - began < _SECONDS:
        start = time.perf_counter()
        _step(model, optimizer, points)
        seconds.append(time.perf_counter() - start)
    meter.stop()
    peak_bytes = (host_peak_bytes() or 0) - before
    return {"bytes": peak_bytes, "seconds": seconds, "load_by_others": meter.other_share}


def _step(model: ExtremeClassifier, optimizer: Any, points: Batch) -> None:
    loss = model.training_loss(points)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: L, row, megabytes, of its arithmetic, ms of the best step, load by others."""
    lines = [
        "| L | output layer | weights MB | training MB | ÷ weights and what is held | ms a step "
        "| load by others |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for found in results:
        weights, held = found["expected"]["weights"], found["expected"]["held"]
        cells = [f"OOM ({held / 1e6:,.0f})", "–", "–", "–"]
        if found.get("bytes") is not None:
            ms, load = 1000 * min(found["seconds"]), found["load_by_others"]
            cells = [f"{found['bytes'] / 1e6:,.0f}", f"{found['bytes'] / held:.2f}", f"{ms:,.0f}"]
            cells.append("–" if load is None else f"{100 * load:.0f} %")
        cells = [f"{found['num_labels']:,}", found["row"], f"{weights / 1e6:,.0f}", *cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def excess(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Lean rows that took more than their weights and one chunk, within `MOST`."""
    return [
        f"{found['row']} at L = {found['num_labels']:,} took {found['bytes']:,} bytes; expected at "
        f"most {MOST} × {found['expected']['held']:,}"
        for found in results
        if "lean" in found["row"]
        and found["expected"]["weights"] >= SIZABLE
        and (found.get("bytes") or 0) > MOST * found["expected"]["held"]
    ]


def attempt(row: str, num_labels: int) -> dict[str, Any] | None:
    """A row, measured in a process of its own or `OOM` by arithmetic; None: others leave no room.

    Raises:
        RuntimeError: the process failed.
    """
    expected = expected_bytes(row, num_labels)
    found = {"num_labels": num_labels, "row": row, "expected": expected}
    total, available = total_memory_bytes(), available_memory_bytes()
    if total is not None and expected["held"] > total:
        return found
    if available is not None and expected["held"] + _SPARE_BYTES > available:
        return None
    command = [sys.executable, __file__, "--row", row, str(num_labels)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        raise RuntimeError(f"{row} at L = {num_labels:,} failed: {answer.stderr[-500:]}")
    commit, is_dirty = git_state()
    return found | {
        "measured_at": utc_now(),
        "commit": commit,
        "is_dirty": is_dirty,
        "packages": package_versions(),
        "num_threads": torch.get_num_threads(),
        **json.loads(answer.stdout.splitlines()[-1]),
    }


def write(folder: Path, computer: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> None:
    """The rows, as JSON and as a table that names the machine."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"machine": computer, "results": results}
    (folder / "output_layers.json").write_text(json.dumps(content, indent=1) + "\n")
    head = (
        f"One training step of N = {NUM_POINTS} points, H = {WIDTH}, on {machine_slug(computer)}: "
        f"peak memory above that of the process before, and the best of its steps. MACH has "
        f"R = {NUM_WORLDS} worlds that share an encoder. OOM: more than the machine has, with the "
        "megabytes by arithmetic.\n\n"
    )
    (folder / "output_layers.md").write_text(head + table(results))


def kept(folder: Path, computer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows that this machine has measured before; a table never mixes machines."""
    path = folder / "output_layers.json"
    content = json.loads(path.read_text()) if path.is_file() else {}
    if not content or machine_slug(content["machine"]) != machine_slug(computer):
        return []
    return list(content["results"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the rows that are not there yet, and write the table after each.

    Returns:
        1 if a lean row took more memory than it may, or a row is left for later.
    """
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/output_layers.py")
    parser.add_argument("--out", type=Path, required=True, help="folder for table and raw seconds")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--again", action="store_true", help="also rows that are there")
    options = parser.parse_args(arguments)
    computer = machine(accelerator=None)
    results = {(row["num_labels"], row["row"]): row for row in kept(options.out, computer)}
    problems = []
    for num_labels in options.sizes:
        for row in ROWS:
            if (num_labels, row) in results and not options.again:
                continue
            found = attempt(row, num_labels)
            if found is None:
                problems.append(f"{row} at L = {num_labels:,} has no room now")
                continue
            results[num_labels, row] = found
            order = sorted(results, key=lambda key: (key[0], list(ROWS).index(key[1])))
            write(options.out, computer, [results[key] for key in order])
            sys.stdout.write(table([found]).splitlines()[-1] + "\n")
            sys.stdout.flush()
    problems += excess(list(results.values()))
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    return int(bool(problems))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:  # the process of a row
        sys.stdout.write(json.dumps(measure(sys.argv[2], int(sys.argv[3]))) + "\n")
        sys.exit(0)
    sys.exit(main())
