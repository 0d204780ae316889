"""Made-up records and cost lines of decoding studies: plausible in shape, measured nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synthetic_records import bare, cost_line, cost_row, study

from bench.methods.card import DECODING
from bench.methods.cards import cards
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

STUDY = study(
    primary_metrics=("recall",),
    kind=DECODING,
    part=lambda trial: f"k = {trial.model.options['k']}",
)
PEAKS = {"uniform": 0.0, "peak 0.1": 0.1, "peak 0.5": 0.5, "peak 0.9": 0.9}
SIZES = (10_000, 100_000, 670_091, 3_000_000)
METHODS = tuple(card.name for card in cards("decoding"))


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
        model=ModelSpec(method=method, encoder="linear", options={"k": k, **options}),
        train=TrainSpec(),
        replicate=replicate,
    )


def decode_record(of: Trial, *, status: str = "done", recall: float | None = 1.0) -> dict[str, Any]:
    """A record as a decode trial might leave it."""
    labels, worlds, buckets = _sizes(of)
    method = of.model.method
    scans = ("authors", "faiss_pq", "softmax_matmul")
    blocks: dict[str, Any] = {
        "data": {
            "fingerprint": f"{labels}-{worlds}-{buckets}",
            "num_labels": labels,
            "num_worlds": worlds,
            "num_buckets": buckets,
            "num_queries": 1024,
            "peak_share": max(_peak(of) / 2, 0.001),
        },
        "memory": {
            "decode_bytes": labels * worlds * (8 if method == "authors" else 2),
            "host_baseline_bytes": 400_000_000,
            "host_peak_bytes": 500_000_000 + labels * worlds * 10,
        },
        "test": {"recall": recall, "exact_share": 1.0},
        "inference": {
            "k": of.model.options["k"],
            "num_scored": None if method in scans else [round(_share(of) * labels)] * 9,
        },
    }
    return bare(of, status=status, **(blocks if status == "done" else dict.fromkeys(blocks)))


def decode_cost(of: Trial, milliseconds: float | None = None, **more: Any) -> dict[str, Any]:
    """Row of a cost line; the time is a query's from the hidden vector on, in batches of 64."""
    labels, worlds, _ = _sizes(of)
    cost = {"authors": 20, "softmax_matmul": 6, "faiss_pq": 4, "dense": 1.5}.get(of.model.method, 9)
    seconds = (milliseconds or 0.1 + cost * _share(of) * labels * worlds * 1e-7) / 1e3
    phases = {
        "hidden-64": (seconds, 64),
        "hidden-1": (2 * seconds, 1),
        "batch-64": (0.8 * seconds, 64),
        "batch-1": (1.6 * seconds, 1),
        "batch-1024": (0.7 * seconds, 1024),
    }
    return cost_row(of, phases, **more)


def _sizes(of: Trial) -> tuple[int, int, int]:
    labels, worlds, buckets = (
        int(of.data.options[name] or 0) for name in ("num_labels", "num_worlds", "num_buckets")
    )
    return labels, worlds, buckets


def _peak(of: Trial) -> float:
    return float(of.data.options.get("peak", 0.3) or 0)


def _share(of: Trial) -> float:
    labels, worlds, buckets = _sizes(of)
    pruned = min(1.0, (labels * (0.0005 + _peak(of))) ** -0.5)
    shares = {"pruned": pruned, "auto": pruned, "buckets": min(1.0, 50 * worlds / buckets / 3)}
    return shares.get(of.model.method, 1.0)


def decode_grid(
    *,
    kinds: Sequence[str] = (*PEAKS, "simplewiki"),
    sizes: Sequence[int] = SIZES,
    k: int = 5,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All methods on all kinds of scores; of the largest problem three methods have nothing."""
    records, lines = [], []
    for scores in kinds:
        for labels in sizes if scores in PEAKS else (20_000,):
            trials = [decode_trial(m, scores=scores, num_labels=labels, k=k) for m in METHODS]
            lost = {"authors": "timeout", "faiss_pq": "oom", "softmax_matmul": "error"}
            lost = lost if labels == SIZES[-1] else {}
            records += [decode_record(t, status=lost.get(t.model.method, "done")) for t in trials]
            rows = [decode_cost(t) for t in trials if t.model.method not in lost]
            lines.append(cost_line(rows, part=f"k = {k}"))
    return records, lines
