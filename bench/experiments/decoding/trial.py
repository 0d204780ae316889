"""A decode trial inside its own process: a problem, a decoder, its labels; or its times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import (
    Decoder,
    OutputLayer,
    build_decoder,
    hidden_queries,
)
from bench.experiments.decoding.problems import Problem, build_problem
from bench.experiments.decoding.sources import data_fingerprint
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
#: Queries handed over at once → samples of them in a repetition, at most.
BATCHES = {1: 100, 64: 12, 1024: 3}
#: The same where the output layer's product comes first.
HIDDEN_BATCHES = {1: 100, 64: 12}
LARGE_BATCH = 1024
# A phase ends with the sample that reaches it.
_PHASE_SECONDS = 0.5
# Calls that were longer in the repetition before are not preceded by an untimed one.
_WARMTH_SECONDS = 2.0
# A decoder that takes longer for so many queries is not asked for a large batch.
_TRIED_BATCH = 64
_TOO_LONG_SECONDS = 0.7

_Call = Callable[[int, int], object]


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Check a decoder on a problem.

    Args:
        trial: `data` names the source of the scores, `model` the decoder; `train` is unused.
        context: on a CPU.
    """
    _begin(trial, context)
    host_peak = HostPeak()
    context.phase("problem")
    problem = build_problem(trial.data, context)
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
    """Time a decoder on a problem, from scores to labels and from hidden vectors to labels."""
    _begin(trial, context)
    context.phase("problem")
    problem = build_problem(trial.data, context)
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


class Timed:
    """A decoder, its queries in the form that it takes, and an output layer before it.

    Args:
        decoder: set up.
        problem: its problem.
    """

    def __init__(self, decoder: Decoder, problem: Problem) -> None:
        self.decoder = decoder
        self._queries = decoder.prepare_queries(problem.scores)
        self._takes_large_batches = False
        self._longest: dict[str, float] = {}  # sample of the repetition before, by phase
        self._hidden: Tensor | None = None
        self._layer: OutputLayer | None = None
        if not decoder.starts_from_hidden:
            self._hidden = hidden_queries(len(self._queries))
            self._layer = OutputLayer(problem.num_worlds, problem.num_buckets)

    @property
    def output_bytes(self) -> int:
        """Bytes of the output layer; 0 where it is the decoder's own, and in its bytes."""
        return 0 if self._layer is None else self._layer.num_bytes

    def warm_up(self) -> None:
        """Compile what is compiled at first use, and see whether large batches take too long."""
        for size in HIDDEN_BATCHES:
            self._from_hidden(0, min(size, len(self._queries)))
        if len(self._queries) >= LARGE_BATCH:
            seconds = self._seconds(self._from_scores, 0, _TRIED_BATCH)
            self._takes_large_batches = seconds <= _TOO_LONG_SECONDS

    def measure(self, repetition: Repetition) -> None:
        """Time a repetition's phases: `batch-n` from scores, `hidden-n` from hidden vectors.

        Decoding needs the problem's scores, which no weights give. So a sample of `hidden-n` is the
        product with random weights of the right shape and its softmax, and then the decode of the
        problem's scores; of a decoder that starts from hidden vectors it is what `batch-n` is.
        Each phase begins with an untimed call, unless a call takes so long that it finds caches as
        cold as the first one did; a later round goes on to other queries.
        """
        for size, most in BATCHES.items():
            if size < LARGE_BATCH or self._takes_large_batches:
                self._phase(repetition, f"batch-{size}", self._from_scores, size, most)
        for size, most in HIDDEN_BATCHES.items():
            self._phase(repetition, f"hidden-{size}", self._from_hidden, size, most)

    def _phase(self, repetition: Repetition, name: str, call: _Call, size: int, most: int) -> None:
        num_batches = len(self._queries) // size
        if num_batches == 0:
            return
        first = repetition.round_number * most

        def start(number: int) -> int:
            return (first + number) % num_batches * size

        if self._longest.get(name, 0.0) <= _WARMTH_SECONDS:
            call(start(-1), start(-1) + size)
        with repetition.timed(name, units=size) as seconds:
            for number in range(most):
                seconds.append(self._seconds(call, start(number), start(number) + size))
                if sum(seconds) > _PHASE_SECONDS:
                    break
        self._longest[name] = max(seconds)

    @staticmethod
    def _seconds(call: _Call, start: int, stop: int) -> float:
        began = perf_counter()
        call(start, stop)
        return perf_counter() - began

    def _from_scores(self, start: int, stop: int) -> Tensor:
        return self.decoder.top_k(self._queries[start:stop])

    def _from_hidden(self, start: int, stop: int) -> Tensor:
        if self._layer is not None and self._hidden is not None:
            self.decoder.normalise(self._layer.logits(self._hidden[start:stop]))
        return self.decoder.top_k(self._queries[start:stop])
