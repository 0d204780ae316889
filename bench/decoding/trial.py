"""One decode trial inside its own process: a problem, a contender, its times and its labels."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.decoding.contenders import Contender, build_contender, contender_class
from bench.decoding.scores import Problem, build_problem
from bench.mach import decode
from bench.measure.clock import Clocks
from bench.measure.memory import HostPeak, host_current_bytes
from bench.settings import SettingsError, Trial

Emit = Callable[[dict[str, Any]], None]

BATCH_SIZES = (64, 1024)
LATENCY_QUERIES = 100
#: Queries whose labels are compared with the exact ones.
CHECKED_QUERIES = 64
# Time is taken until one of them is reached, but at least once.
_MAX_REPEATS = 12
_MAX_SECONDS = 8.0
# A contender that takes longer for 64 queries is not asked for 1,024.
_TOO_LONG_SECONDS = 0.7
_WARM_UP_LABELS = 4096
_WARM_UP_QUERIES = 16


def execute(
    trial: Trial, *, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    """Measure a contender on a problem and return the parts of its record.

    Args:
        trial: `data` names the source of the scores, `model` the contender; `train` is unused.
        data_dir: where data sets lie.
        cache_dir: where scores of trained models are kept.
        accelerator: `cpu`.
        emit: takes progress events.

    Raises:
        SettingsError: an unknown source or contender, or another accelerator.
    """
    if accelerator != "cpu":
        raise SettingsError(f"accelerator is {accelerator!r}; expected 'cpu'")
    contender_class(trial.model.method)
    torch.set_flush_denormal(True)
    clocks = Clocks(lambda: None)
    host_peak = HostPeak()
    with clocks.measure("evaluation"):
        emit({"event": "phase", "phase": "data"})
        problem = build_problem(trial.data, data_dir, cache_dir)
        emit({"event": "partial", "data": dict(problem.facts)})
    emit({"event": "phase", "phase": "build"})
    _warm_up(trial, problem)
    baseline = host_current_bytes()
    host_peak.begin_phase()
    with clocks.measure("setup"):
        contender = build_contender(trial.model.method, problem, trial.model.options)
    emit({"event": "phase", "phase": "train"})  # the load on the machine is watched from here
    queries = contender.prepare_queries(problem.scores)
    with clocks.measure("decode"):
        inference = {"k": contender.k} | _times(contender, queries)
    decode_peak = host_peak.phase_bytes()
    emit({"event": "phase", "phase": "evaluate"})
    scored = contender.num_scored(queries[:CHECKED_QUERIES])
    return {
        "data": dict(problem.facts),
        "memory": {
            "decode_bytes": contender.decode_bytes(),
            "host_baseline_bytes": baseline,
            "host_train_peak_bytes": decode_peak,
            "host_peak_bytes": host_peak.total_bytes(),
        },
        "clock": clocks.to_record(),
        "test": _agreement(contender, problem, queries),
        "inference": inference | {"num_scored": scored.tolist()},
    }


def _warm_up(trial: Trial, problem: Problem) -> None:
    """Compile and calibrate off every clock, on a problem with few labels and the same types."""
    most = max(_WARM_UP_LABELS, int(str(trial.model.options["k"])))
    few = replace(
        problem,
        scores=problem.scores[:_WARM_UP_QUERIES],
        table=problem.table[:, :most].contiguous(),
    )
    contender = build_contender(trial.model.method, few, trial.model.options)
    queries = contender.prepare_queries(few.scores)
    contender.top_k(queries)
    contender.top_k(queries[:1])
    contender.num_scored(queries)


def _times(contender: Contender, queries: Tensor) -> dict[str, Any]:
    """Raw seconds of single queries and of batches, each after an untimed one."""
    singles = [queries[i : i + 1] for i in range(min(LATENCY_QUERIES, queries.shape[0]))]
    latency = _samples(contender, singles, LATENCY_QUERIES)
    batches: dict[str, list[float]] = {}
    for size in BATCH_SIZES:
        cut = [queries[i : i + size] for i in range(0, queries.shape[0] - size + 1, size)]
        if not cut or any(seconds[0] > _TOO_LONG_SECONDS for seconds in batches.values()):
            continue
        batches[str(size)] = _samples(contender, cut, _MAX_REPEATS)
    return {"latency_seconds": latency, "batches": batches}


def _samples(contender: Contender, batches: list[Tensor], most: int) -> list[float]:
    contender.top_k(batches[0])
    seconds: list[float] = []
    for number in range(most):
        batch = batches[number % len(batches)]
        start = time.perf_counter()
        contender.top_k(batch)
        seconds.append(time.perf_counter() - start)
        if sum(seconds) > _MAX_SECONDS:
            break
    return seconds


def _agreement(contender: Contender, problem: Problem, queries: Tensor) -> dict[str, float] | None:
    """Share of the exact k labels found, and of queries answered exactly, order and all."""
    if not contender.is_comparable:
        return None
    # As it was asked, so that an estimator's form of the scores is the reference's too.
    asked = queries[:CHECKED_QUERIES]
    exact = decode.top_k(asked, problem.table, contender.k)[1]
    found = contender.top_k(asked)
    hits = (found.unsqueeze(2) == exact.unsqueeze(1)).any(dim=2)
    is_same = (found == exact).all(dim=1)
    if contender.is_exact and not bool(is_same.all()):
        raise RuntimeError(
            f"{type(contender).__name__} differs from the exact labels in "
            f"{int((~is_same).sum())} of {len(is_same)} queries"
        )
    return {
        "recall": float(hits.float().mean()),
        "exact_share": float(is_same.float().mean()),
    }
