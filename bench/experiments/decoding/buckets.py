"""The authors' approximate rule, as a decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.mach.decode import buckets
from bench.mach.decode.index import build_index


class Buckets(Decoder):
    """The authors' approximate rule, see `bench.mach.decode.buckets`."""

    is_exact = False

    def __init__(
        self, problem: Problem, *, k: int, num_best_buckets: int = 50, min_count: int = 2
    ) -> None:
        super().__init__(problem, k=k)
        self.num_best_buckets = min(num_best_buckets, problem.num_buckets)
        self.min_count = min(min_count, problem.num_worlds)
        self.index = build_index(problem.table, problem.num_buckets)

    def prepare_queries(self, scores: Tensor) -> Tensor:
        """Probabilities: the rule counts absent buckets as 0."""
        return scores.exp()

    def normalise(self, logits: Tensor) -> Tensor:
        """Probabilities."""
        return torch.softmax(logits, -1, out=logits)

    def _answer(self, queries: Tensor) -> buckets.BucketsResult:
        return buckets.top_k(
            queries,
            self.index,
            self.k,
            num_best_buckets=self.num_best_buckets,
            min_count=self.min_count,
        )

    def top_k(self, queries: Tensor) -> Tensor:
        """About the best labels; −1 where there are too few."""
        return self._answer(queries).labels

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels in the buckets looked into."""
        return self._answer(queries).num_scored

    def decode_bytes(self) -> int:
        """Bytes of lists and offsets."""
        return self.index.lists.nbytes + self.index.offsets.nbytes
