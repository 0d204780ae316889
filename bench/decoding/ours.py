"""This project's decode methods as contenders."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.decoding.contenders import Contender
from bench.decoding.scores import Problem
from bench.mach import auto, buckets, decode, pruned
from bench.mach.hashing import UniversalHash
from bench.mach.index import build_index
from bench.settings import SettingsError

_SCORE_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class Dense(Contender):
    """Every label scored, see `bench.mach.dense`.

    Args:
        problem: see :class:`Contender`.
        k: labels wanted.
        recompute: whether the hash is computed anew for each block of labels and no table kept;
            for a `universal` hash.
        score_type: `float32`, or `float16` or `bfloat16` to see what rounding the bucket scores
            does to the labels.

    Raises:
        SettingsError: another hash is to be recomputed, or an unknown type.
    """

    def __init__(
        self, problem: Problem, *, k: int, recompute: bool = False, score_type: str = "float32"
    ) -> None:
        super().__init__(problem, k=k)
        if score_type not in _SCORE_TYPES:
            raise SettingsError(
                f"score_type is {score_type!r}; expected one of {', '.join(_SCORE_TYPES)}"
            )
        self.score_type = _SCORE_TYPES[score_type]
        self.is_exact = score_type == "float32"
        self.table: Tensor | UniversalHash = problem.table
        if recompute:
            if not isinstance(problem.hashes, UniversalHash):
                raise SettingsError(
                    f"hash is {type(problem.hashes).__name__}; expected UniversalHash to recompute"
                )
            self.table = replace(problem.hashes, num_labels=problem.num_labels)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `decode.top_k`."""
        return decode.top_k(queries.to(self.score_type), self.table, self.k)[1]

    def decode_bytes(self) -> int:
        """Bytes of the table, or of the hash's coefficients."""
        if isinstance(self.table, Tensor):
            return self.table.nbytes
        return self.table.coefficients().nbytes


class Pruned(Contender):
    """The walk, see `bench.mach.pruned`.

    Args:
        problem: see :class:`Contender`.
        k: labels wanted.
        falls_back: whether a query is scanned where the walk would be longer, as the decode method
            does it; or the walk goes on, however many labels it takes.
    """

    def __init__(self, problem: Problem, *, k: int, falls_back: bool = False) -> None:
        super().__init__(problem, k=k)
        self.falls_back = falls_back
        self.index = build_index(problem.table, problem.num_buckets)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by the walk."""
        if self.falls_back:
            table = self.problem.table
            return pruned.top_k_indexed(queries, table, self.index, self.k, "sum")[1]
        return pruned.walk(queries, self.index, self.k).labels

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels that the walk scored, or all."""
        if not self.falls_back:
            return pruned.walk(queries, self.index, self.k).num_scored
        most = pruned.worthwhile_labels(self.index)
        found = pruned.walk(queries, self.index, self.k, max_labels=most)
        return torch.where(found.is_proven, found.num_scored, self.problem.num_labels)

    def decode_bytes(self) -> int:
        """Bytes of the index, and of the table where it may be scanned."""
        return self.index.num_bytes + (self.problem.table.nbytes if self.falls_back else 0)


class Auto(Contender):
    """The walk where its forecast is cheaper than scoring every label, see `bench.mach.auto`."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        self.index = build_index(problem.table, problem.num_buckets)
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
