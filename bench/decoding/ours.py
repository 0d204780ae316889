"""This project's decode methods as contenders."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from bench.decoding.contenders import Contender
from bench.decoding.scores import Problem
from bench.mach import auto, buckets, decode, pruned
from bench.mach.index import build_index


class Dense(Contender):
    """Every label scored, see `bench.mach.dense`."""

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `decode.top_k`."""
        return decode.top_k(queries, self.problem.table, self.k)[1]

    def decode_bytes(self) -> int:
        """Bytes of the table."""
        return self.problem.table.nbytes


class Pruned(Contender):
    """The walk alone, however many labels it takes, see `bench.mach.pruned`."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        self.index = build_index(problem.table, problem.num_buckets)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by the walk, with no way out."""
        return pruned.walk(queries, self.index, self.k).labels

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels that the walk scored."""
        return pruned.walk(queries, self.index, self.k).num_scored

    def decode_bytes(self) -> int:
        """Bytes of the index."""
        return self.index.num_bytes


class Auto(Pruned):
    """The walk where its forecast is cheaper than scoring every label, see `bench.mach.auto`."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        auto.calibrate()

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `auto`."""
        return auto.top_k_indexed(queries, self.problem.table, self.index, self.k, "sum")[1]

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels scored by the walk, or all."""
        return auto.num_scored(queries, self.index, self.k, "sum")

    def decode_bytes(self) -> int:
        """Bytes of the index and the table."""
        return self.index.num_bytes + self.problem.table.nbytes


class Buckets(Contender):
    """The authors' approximate rule, see `bench.mach.buckets`."""

    is_exact: ClassVar[bool] = False

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
