"""What is timed of a decode: from scores to labels, and from the hidden vector to labels."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.output_layer import OutputLayer, hidden_queries
from bench.experiments.decoding.problems import Problem
from bench.measure.phases import Repetition

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
        began = time.perf_counter()
        call(start, stop)
        return time.perf_counter() - began

    def _from_scores(self, start: int, stop: int) -> Tensor:
        return self.decoder.top_k(self._queries[start:stop])

    def _from_hidden(self, start: int, stop: int) -> Tensor:
        if self._layer is not None and self._hidden is not None:
            self.decoder.normalise(self._layer.logits(self._hidden[start:stop]))
        return self.decoder.top_k(self._queries[start:stop])
