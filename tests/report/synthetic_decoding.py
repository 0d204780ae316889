"""Made-up records of decoding studies: plausible in shape, measured nowhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from synthetic_records import MACHINE

from bench.report.labels import DECODE_NAMES
from bench.report.select import StudyView
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.study import DECODING

VIEW = StudyView(
    name="imaginary",
    kind=DECODING,
    part_of=lambda settings: f"k = {settings['model']['options']['k']}",
)
PEAKS = {"uniform": 0.0, "peak 0.1": 0.1, "peak 0.5": 0.5, "peak 0.9": 0.9}
SIZES = (10_000, 100_000, 670_091, 3_000_000)
METHODS = tuple(DECODE_NAMES)


def decode_trial(
    method: str,
    *,
    scores: str = "peak 0.5",
    num_labels: int = 100_000,
    num_worlds: int = 32,
    num_buckets: int = 10_000,
    k: int = 5,
    replicate: int = 0,
    **options: Any,
) -> Trial:
    """Trial of a decode method on scores of a kind."""
    sizes = {"num_labels": num_labels, "num_worlds": num_worlds, "num_buckets": num_buckets}
    planted = {**sizes, "peak": PEAKS[scores]} if scores in PEAKS else sizes
    return Trial(
        data=DataSpec(
            source="planted_scores" if scores in PEAKS else "model_scores",
            name=scores,
            options=planted,
        ),
        model=ModelSpec(method=method, options={"k": k, **options}),
        train=TrainSpec(),
        replicate=replicate,
    )


def decode_record(
    of: Trial, *, status: str = "done", milliseconds: float | None = None
) -> dict[str, Any]:
    """A record as a decode trial might leave it; the time is a query's in batches of 64."""
    rng = random.Random(of.trial_id)
    base: dict[str, Any] = {
        "schema": 1,
        "study": "imaginary",
        "trial_id": of.trial_id,
        "settings": of.to_dict(),
        "status": status,
        "reason": None if status == "done" else f"made-up {status}",
        "started_at": "2030-01-02T03:04:05Z",
        "data": None,
        "memory": None,
        "clock": None,
        "test": None,
        "inference": None,
        "load": None,
        "provenance": {
            "commit": "abcdef0123456789",
            "is_dirty": False,
            "code_digest": "0" * 64,
            "machine": MACHINE,
            "flags": {"num_threads": 2},
        },
    }
    if status != "done":
        return base
    labels, worlds, buckets = (
        int(of.data.options[name] or 0) for name in ("num_labels", "num_worlds", "num_buckets")
    )
    peak = float(of.data.options.get("peak", 0.3) or 0)
    method = of.model.method
    share = {
        "pruned": min(1.0, (labels * (0.0005 + peak)) ** -0.5),
        "auto": min(1.0, (labels * (0.0005 + peak)) ** -0.5),
        "buckets": min(1.0, 50 * worlds / buckets / 3),
    }.get(method, 1.0)
    cost = {"authors": 20, "softmax_matmul": 6, "faiss_pq": 4, "dense": 1.5}.get(method, 9)
    own = milliseconds or 0.02 + cost * share * labels * worlds * 1e-8 * 10
    if method == "auto" and not milliseconds:
        own = min(own, 0.02 + 1.5 * labels * worlds * 1e-7) * 1.02
    seconds = own / 1e3
    base["data"] = {
        "num_labels": labels,
        "num_worlds": worlds,
        "num_buckets": buckets,
        "num_queries": 1024,
        "peak_share": max(peak / 2, 0.001),
    }
    base["memory"] = {
        "decode_bytes": labels * worlds * (8 if method == "authors" else 2),
        "host_baseline_bytes": 400_000_000,
        "host_peak_bytes": 500_000_000 + labels * worlds * 10,
    }
    base["clock"] = {"setup_seconds": labels * 1e-5, "wall_seconds": 60.0}
    recall = {"buckets": 0.83 + peak / 10, "faiss_pq": 0.99996, "softmax_matmul": None}
    base["test"] = {"recall": recall.get(method, 1.0), "exact_share": 1.0}
    base["inference"] = {
        "k": of.model.options["k"],
        "latency_seconds": [2 * seconds * rng.uniform(0.9, 1.4) for _ in range(200)],
        "batches": {
            "64": [64 * seconds] * 5,
            "1024": [1024 * 0.8 * seconds * rng.uniform(0.95, 1.05) for _ in range(3)],
        },
        "num_scored": None
        if method in ("authors", "faiss_pq", "softmax_matmul")
        else [round(share * labels)] * 9,
    }
    base["load"] = {"other_cpu_share": 0.01}
    return base


def decode_grid(
    *,
    kinds: Sequence[str] = (*PEAKS, "simplewiki"),
    sizes: Sequence[int] = SIZES,
    k: int = 5,
) -> list[dict[str, Any]]:
    """Records of all methods on all kinds of scores; the largest problem lacks three methods."""
    records = []
    for scores in kinds:
        for labels in sizes if scores in PEAKS else (20_000,):
            for method in METHODS:
                one = decode_trial(method, scores=scores, num_labels=labels, k=k)
                lost = {"authors": "timeout", "faiss_pq": "oom", "softmax_matmul": "skipped"}
                status = lost.get(method, "done") if labels == SIZES[-1] else "done"
                records.append(decode_record(one, status=status))
    return records
