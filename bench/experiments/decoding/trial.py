"""A decode trial inside its own process: a problem, a contender, its labels; or its times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Contender, build_contender, contender_class
from bench.experiments.decoding.problems import Problem, build_problem
from bench.experiments.decoding.sources import data_fingerprint
from bench.experiments.decoding.timing import Timed
from bench.mach import decode
from bench.measure.clock import Clocks
from bench.measure.memory import HostPeak, host_current_bytes
from bench.measure.phases import Visit
from bench.settings import SettingsError, Trial

Emit = Callable[[dict[str, Any]], None]

#: Queries whose labels are compared with the exact ones.
CHECKED_QUERIES = 64
_WARM_UP_LABELS = 4096
_WARM_UP_QUERIES = 16


def execute(
    trial: Trial, *, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    """Check a contender on a problem and return the parts of its record; no times, see `attend`.

    Args:
        trial: `data` names the source of the scores, `model` the contender; `train` is unused.
        data_dir: where data sets lie.
        cache_dir: where scores of trained models are kept.
        accelerator: `cpu`.
        emit: takes progress events.

    Raises:
        SettingsError: an unknown source or contender, or another accelerator.
        RuntimeError: a contender that claims to be exact is not.
    """
    _begin(trial, accelerator)
    clocks = Clocks(lambda: None)
    host_peak = HostPeak()
    with clocks.measure("setup"):
        emit({"event": "phase", "phase": "problem"})
        problem = build_problem(trial.data, data_dir, cache_dir)
        fingerprint = data_fingerprint(trial.data, data_dir, cache_dir)
        facts = dict(problem.facts) | {"fingerprint": fingerprint}
        emit({"event": "partial", "data": facts})
        emit({"event": "phase", "phase": "build"})
        _warm_up(trial, problem)
        baseline = host_current_bytes()
        host_peak.begin_phase()
        contender = build_contender(trial.model.method, problem, trial.model.options)
        # As it is asked, so that an estimator's form of the scores is the reference's too.
        queries = contender.prepare_queries(problem.scores[:CHECKED_QUERIES])
    emit({"event": "phase", "phase": "decode"})
    found = contender.top_k(queries)
    decode_peak = host_peak.phase_bytes()
    num_scored = contender.num_scored(queries)
    emit({"event": "phase", "phase": "check"})
    with clocks.measure("evaluation"):
        test = _agreement(contender, found, queries)
    return {
        "data": facts,
        "memory": {
            "decode_bytes": contender.decode_bytes(),
            "host_baseline_bytes": baseline,
            "host_train_peak_bytes": decode_peak,
            "host_peak_bytes": host_peak.total_bytes(),
        },
        "clock": clocks.to_record(),
        "test": test,
        "inference": {"k": contender.k, "num_scored": num_scored.tolist()},
        "resolved": contender.facts_of_inference(),
    }


def attend(
    trial: Trial,
    *,
    data_dir: Path,
    cache_dir: Path,
    accelerator: str,
    emit: Emit,
    visits: Iterator[Visit],
) -> dict[str, Any]:
    """Time a contender on a problem, a visit at a time; see `bench.experiments.decoding.timing`.

    Args:
        trial: see :func:`execute`.
        data_dir: where data sets lie.
        cache_dir: where scores of trained models are kept.
        accelerator: `cpu`.
        emit: takes progress events.
        visits: turns of this contender.

    Returns:
        What its row holds beside the visits: the problem's fingerprint, the bytes that decoding
        and the output layer before it keep, and what the contender chooses by.

    Raises:
        SettingsError: an unknown source or contender, or another accelerator.
    """
    _begin(trial, accelerator)
    emit({"event": "phase", "phase": "problem"})
    problem = build_problem(trial.data, data_dir, cache_dir)
    emit({"event": "phase", "phase": "build"})
    contender = build_contender(trial.model.method, problem, trial.model.options)
    timed = Timed(contender, problem)
    timed.warm_up()
    for visit in visits:
        timed.measure(visit)
    return {
        "fingerprint": data_fingerprint(trial.data, data_dir, cache_dir),
        "weights": None,
        "decode_bytes": contender.decode_bytes(),
        "output_bytes": timed.output_bytes,
        "inference": contender.facts_of_inference(),
    }


def _begin(trial: Trial, accelerator: str) -> None:
    if accelerator != "cpu":
        raise SettingsError(f"accelerator is {accelerator!r}; expected 'cpu'")
    contender_class(trial.model.method)
    torch.set_flush_denormal(True)


def _warm_up(trial: Trial, problem: Problem) -> None:
    """Compile and calibrate before memory is watched, on few labels of the same types."""
    most = max(_WARM_UP_LABELS, int(str(trial.model.options["k"])))
    few = dataclasses.replace(
        problem,
        scores=problem.scores[:_WARM_UP_QUERIES],
        table=problem.table[:, :most].contiguous(),
    )
    contender = build_contender(trial.model.method, few, trial.model.options)
    queries = contender.prepare_queries(few.scores)
    contender.top_k(queries)
    contender.num_scored(queries)


def _agreement(contender: Contender, found: Tensor, queries: Tensor) -> dict[str, float] | None:
    """Share of the exact k labels found, and of queries answered exactly, order and all."""
    if not contender.is_comparable:
        return None
    exact = decode.top_k(queries, contender.problem.table, contender.k)[1]
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
