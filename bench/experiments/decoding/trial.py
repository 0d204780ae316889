"""A decode trial inside its own process: a problem, a decoder, its labels; or its times."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder, build_decoder
from bench.experiments.decoding.problems import Problem, build_problem
from bench.experiments.decoding.sources import data_fingerprint
from bench.experiments.decoding.timing import Timed
from bench.mach import decode
from bench.measure.experiment import Context
from bench.measure.memory import HostPeak, host_current_bytes
from bench.measure.phases import Repetition
from bench.methods.cards import card
from bench.settings import Trial

#: Queries whose labels are compared with the exact ones.
CHECKED_QUERIES = 64
_WARM_UP_LABELS = 4096
_WARM_UP_QUERIES = 16


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Check a decoder on a problem.

    Args:
        trial: `data` names the source of the scores, `model` the decoder; `train` is unused.
        context: on a CPU.

    Raises:
        SettingsError: an unknown source or decoder, or another accelerator.
        RuntimeError: a decoder that claims to be exact is not.
    """
    _begin(trial, context)
    host_peak = HostPeak()
    context.phase("problem")
    problem = build_problem(trial.data, context.data_dir, context.cache_dir)
    fingerprint = data_fingerprint(trial.data, context.data_dir, context.cache_dir)
    facts = dict(problem.facts) | {"fingerprint": fingerprint}
    context.partial(data=facts)
    context.phase("build")
    _warm_up(trial, problem)
    baseline = host_current_bytes()
    host_peak.begin_phase()
    decoder = build_decoder(trial.model.method, problem, trial.model.options)
    # As it is asked, so that an estimator's form of the scores is the reference's too.
    queries = decoder.prepare_queries(problem.scores[:CHECKED_QUERIES])
    context.phase("decode")
    found = decoder.top_k(queries)
    decode_peak = host_peak.phase_bytes()
    num_scored = decoder.num_scored(queries)
    context.phase("check")
    test = _agreement(decoder, found, queries)
    return {
        "data": facts,
        "memory": {
            "decode_bytes": decoder.decode_bytes(),
            "host_baseline_bytes": baseline,
            "host_train_peak_bytes": decode_peak,
            "host_peak_bytes": host_peak.total_bytes(),
        },
        "test": test,
        "inference": {"k": decoder.k, "num_scored": num_scored.tolist()},
        "resolved": decoder.facts_of_inference(),
    }


def time(trial: Trial, context: Context, repetitions: Iterator[Repetition]) -> dict[str, Any]:
    """Time a decoder on a problem, see `bench.experiments.decoding.timing`.

    Raises:
        SettingsError: an unknown source or decoder, or another accelerator.
    """
    _begin(trial, context)
    context.phase("problem")
    problem = build_problem(trial.data, context.data_dir, context.cache_dir)
    context.phase("build")
    decoder = build_decoder(trial.model.method, problem, trial.model.options)
    timed = Timed(decoder, problem)
    timed.warm_up()
    for repetition in repetitions:
        timed.measure(repetition)
    return {
        "fingerprint": data_fingerprint(trial.data, context.data_dir, context.cache_dir),
        "weights": None,
        "decode_bytes": decoder.decode_bytes(),
        "output_bytes": timed.output_bytes,
        "inference": decoder.facts_of_inference(),
    }


def _begin(trial: Trial, context: Context) -> None:
    context.require_cpu()
    card(trial.model.method, "decoding")  # refused before a problem is built
    torch.set_flush_denormal(True)


def _warm_up(trial: Trial, problem: Problem) -> None:
    """Compile and calibrate before memory is watched, on few labels of the same types."""
    most = max(_WARM_UP_LABELS, int(str(trial.model.options["k"])))
    few = dataclasses.replace(
        problem,
        scores=problem.scores[:_WARM_UP_QUERIES],
        table=problem.table[:, :most].contiguous(),
    )
    decoder = build_decoder(trial.model.method, few, trial.model.options)
    queries = decoder.prepare_queries(few.scores)
    decoder.top_k(queries)
    decoder.num_scored(queries)


def _agreement(decoder: Decoder, found: Tensor, queries: Tensor) -> dict[str, float] | None:
    """Share of the exact k labels found, and of queries answered exactly, order and all."""
    if not decoder.is_comparable:
        return None
    exact = decode.top_k(queries, decoder.problem.table, decoder.k)[1]
    hits = (found.unsqueeze(2) == exact.unsqueeze(1)).any(dim=2)
    is_same = (found == exact).all(dim=1)
    if decoder.is_exact and not bool(is_same.all()):
        raise RuntimeError(
            f"{type(decoder).__name__} differs from the exact labels in "
            f"{int((~is_same).sum())} of {len(is_same)} queries"
        )
    return {
        "recall": float(hits.float().mean()),
        "exact_share": float(is_same.float().mean()),
    }
