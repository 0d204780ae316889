"""The walk over best buckets, as a decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.mach.decode import pruned
from bench.mach.decode.index import build_index


class Pruned(Decoder):
    """The walk, see `bench.mach.decode.pruned`.

    Args:
        problem: see :class:`Decoder`.
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
        budget = pruned.typical_budget(self.index, "sum")
        if budget is None:
            return super().num_scored(queries)
        found = pruned.walk(queries, self.index, self.k, budget=budget)
        return torch.where(found.is_proven, found.num_scored, self.problem.num_labels)

    def decode_bytes(self) -> int:
        """Bytes of the index, and of the table where it may be scanned."""
        return self.index.num_bytes + (self.problem.table.nbytes if self.falls_back else 0)
