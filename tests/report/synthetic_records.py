"""Made-up records for the report's tests: plausible in shape, measured nowhere."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

MACHINE = {
    "cpu": "Imaginary CPU 9000",
    "num_cores": 2,
    "memory_bytes": 8 * 2**30,
    "accelerator": None,
}
NUM_LABELS = {"small": 20_000, "all": 83_071, "tags": 52_946}
NUM_FEATURES = 89_822
NUM_TRAIN = {"small": 410_000, "all": 608_623, "tags": 30_000}


def trial(
    method: str,
    *,
    data: str = "small",
    encoder: str = "mlp",
    hidden: int = 128,
    replicate: int = 0,
    learning_rate: float = 1e-3,
    **options: Any,
) -> Trial:
    """Trial of a method on a made-up data set."""
    return Trial(
        data=DataSpec(source="planted", name=data),
        model=ModelSpec(
            method=method,
            encoder=encoder,  # type: ignore[arg-type]
            hidden_dims=(hidden,) if encoder == "mlp" else (),
            options=options,
        ),
        train=TrainSpec(learning_rate=learning_rate, max_train_seconds=300.0),
        replicate=replicate,
    )


def record(
    of: Trial,
    *,
    study: str = "imaginary",
    status: str = "done",
    accuracy: float | None = None,
    machine: dict[str, Any] | None = None,
    started_at: str = "2030-01-02T03:04:05Z",
    digest: str = "0" * 64,
    task: str = "multiclass",
) -> dict[str, Any]:
    """A record as a trial of that kind might leave it."""
    rng = random.Random(of.trial_id)
    settings = of.to_dict()
    size = _size(of)
    quality = _accuracy(of) if accuracy is None else accuracy
    quality *= 1 + 0.015 * rng.uniform(-1, 1)
    base: dict[str, Any] = {
        "schema": 1,
        "study": study,
        "trial_id": of.trial_id,
        "settings": settings,
        "status": status,
        "reason": None if status == "done" else f"made-up {status}",
        "started_at": started_at,
        "data": _facts(of, task),
        "memory": None,
        "clock": None,
        "training": None,
        "test": None,
        "worlds": None,
        "estimators": None,
        "inference": None,
        "load": None,
        "provenance": {
            "commit": "abcdef0123456789",
            "is_dirty": False,
            "code_digest": digest,
            "python": "3.12.0",
            "packages": {"torch": "2.13.0"},
            "machine": machine or MACHINE,
            "flags": {"num_threads": 2},
        },
    }
    if status == "oom":
        base["memory"] = {"predicted_bytes": 33 * 2**30}
        return base
    if status != "done":
        return base
    is_trained = of.model.method not in ("frequency", "centroid")
    parameters = 4 * size
    activations = 4 * 256 * size // 800 if is_trained else 0
    training = 4 * parameters if is_trained else parameters
    start = 420_000_000
    base["memory"] = {
        "parameter_bytes": parameters,
        "gradient_bytes": parameters if is_trained else 0,
        "optimizer_bytes": 2 * parameters if is_trained else 0,
        "activation_bytes": activations,
        "predicted_bytes": training + activations,
        "host_baseline_bytes": start,
        "host_peak_bytes": start + int(1.15 * training) + activations + 60_000_000,
        "host_train_peak_bytes": start + int(1.1 * training) + activations + 40_000_000,
        "device_allocated_peak_bytes": None,
        "device_reserved_peak_bytes": None,
        "decode_bytes": 4 * NUM_LABELS[of.data.name],
    }
    step = size * 9e-9 * rng.uniform(0.95, 1.05) + 0.004
    seconds = 300.0 if is_trained else 3.0
    base["clock"] = {
        "setup_seconds": 12.0,
        "train_seconds": seconds,
        "evaluation_seconds": 9.0,
        "decode_seconds": 2.0 + size * 1.2e-7,
        "wall_seconds": seconds + 40,
    }
    latency = 0.0004 + size * 1.3e-10
    base["inference"] = {
        "latency_seconds": [latency * rng.uniform(0.9, 1.4) for _ in range(20)],
        "throughput_batch_size": 256,
        "throughput_seconds": [256 * latency / 9 * rng.uniform(0.9, 1.2) for _ in range(8)],
        "num_points": 2048,
    }
    base["test"] = _metrics(quality)
    base["load"] = {"other_cpu_share": 0.02}
    if not is_trained:
        return base
    steps = int(seconds / step)
    base["training"] = {
        "num_steps": steps,
        "num_epochs": steps * 256 / NUM_TRAIN[of.data.name],
        "points_seen": steps * 256,
        "step_seconds": [20 * step * rng.uniform(0.97, 1.05) for _ in range(12)],
        "window_steps": 20,
        "warmup_steps": 10,
        "curve": [
            {
                "train_seconds": seconds * k / 8,
                "step": steps * k // 8,
                "epoch": steps * k / 8 * 256 / NUM_TRAIN[of.data.name],
                "loss": 9 - k / 2,
                "metrics": _metrics(quality * (1 - math.exp(-3.2 * k / 8)) / (1 - math.exp(-3.2))),
            }
            for k in range(9)
        ],
    }
    if of.model.method == "mach":
        base["worlds"] = list(_subsets(of, quality, rng))
        base["estimators"] = {"mean": _metrics(quality), "min": _metrics(0.9 * quality)}
    return base


def _size(of: Trial) -> int:
    options, labels = of.model.options, NUM_LABELS[of.data.name]
    hidden = of.model.hidden_dims[-1] if of.model.hidden_dims else 0
    if of.model.method == "mach":
        worlds, buckets = int(options["num_worlds"] or 0), int(options["num_buckets"] or 0)
        if not hidden:
            return worlds * buckets * NUM_FEATURES
        encoders = 1 if options.get("share_encoder") else worlds
        return encoders * NUM_FEATURES * hidden + worlds * hidden * buckets
    if of.model.method in ("frequency", "centroid"):
        return labels if of.model.method == "frequency" else 60 * labels
    return NUM_FEATURES * hidden + (hidden + 1) * labels


def _accuracy(of: Trial) -> float:
    options = of.model.options
    best = {"small": 0.42, "all": 0.31, "tags": 0.35}[of.data.name]
    if of.model.method == "mach":
        cells = float(options["num_worlds"] or 0) * float(options["num_buckets"] or 0)
        share = {True: 0.96, False: 1.0}[bool(options.get("share_encoder"))]
        return best * share * cells / (cells + 5000)
    if of.model.method == "sampled_softmax":
        return best * {"uniform": 0.8, "log_uniform": 0.9, "unigram": 0.93}.get(
            str(options["sampler"]), 0.97
        )
    return best * {"frequency": 0.02, "centroid": 0.7}.get(of.model.method, 1.0)


def _metrics(quality: float) -> dict[str, float]:
    return {"P@1": quality, "P@3": 0.47 * quality, "P@5": 0.32 * quality, "top-5": 1.6 * quality}


def _subsets(of: Trial, quality: float, rng: random.Random) -> Iterable[dict[str, Any]]:
    total = int(of.model.options["num_worlds"] or 0)
    buckets = float(of.model.options["num_buckets"] or 0)
    best = quality * (total * buckets + 5000) / (total * buckets)
    num = 1
    while num <= total:
        for _ in range(5 if num < total else 1):
            value = best * num * buckets / (num * buckets + 5000)
            value *= 1 + 0.06 * rng.uniform(-1, 1) / num
            worlds = sorted(rng.sample(range(total), num))
            yield {
                "num_worlds": num,
                "worlds": worlds,
                "num_points": 2000,
                "metrics": _metrics(value),
            }
        num *= 2


def _facts(of: Trial, task: str) -> dict[str, Any]:
    return {
        "source": of.data.source,
        "name": of.data.name,
        "fingerprint": "f00d" * 16,
        "num_train_points": NUM_TRAIN[of.data.name],
        "num_validation_points": 2000,
        "num_test_points": 10_000,
        "num_test_points_total": 66_822,
        "num_features": NUM_FEATURES,
        "num_labels": NUM_LABELS[of.data.name],
        "task": task,
        "features_per_point": 61.0,
        "labels_per_point": 1.0 if task == "multiclass" else 4.2,
        "ceiling": 0.972,
    }


def full_grid(data: str = "small", replicates: int = 3) -> list[Trial]:
    """A grid with every method."""
    trials = [trial("frequency", data=data), trial("centroid", data=data)]
    for replicate in range(replicates):
        trials.append(trial("full_softmax", data=data, replicate=replicate, chunk_size=None))
        trials.append(trial("full_softmax", data=data, replicate=replicate, chunk_size=2048))
        trials += [
            trial("sampled_softmax", data=data, replicate=replicate, sampler=s, num_samples=1024)
            for s in ("uniform", "log_uniform", "in_batch")
        ]
        trials += [
            trial(
                "mach",
                data=data,
                hidden=64,
                replicate=replicate,
                num_buckets=buckets,
                num_worlds=worlds,
                share_encoder=shared,
                hash_family="universal",
            )
            for buckets in (256, 1024, 4096)
            for worlds, shared in ((4, True), (16, True), (16, False))
        ]
    return trials


def write(results: Path, records: Sequence[dict[str, Any]], machine: str = "imaginary-2c") -> Path:
    """Write records where the report looks for them."""
    path = results / "records" / records[0]["study"] / f"{machine}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in records), encoding="utf-8")
    return path


def changed(original: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    """Copy of a record with one value replaced."""
    copied = copy.deepcopy(original)
    place = copied
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copied
