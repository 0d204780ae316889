"""The cheaper of walk and scan, as a decoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.mach.decode import auto
from bench.mach.decode.index import build_index


class Auto(Decoder):
    """The walk where its forecast is cheaper than scoring all labels (`bench.mach.decode.auto`)."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        self.index = build_index(problem.table, problem.num_buckets)
        auto.costs()  # fitted before anything is timed

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `auto`."""
        return auto.top_k_indexed(queries, self.problem.table, self.index, self.k, "sum")[1]

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels scored by the walk, or all."""
        return auto.num_scored(queries, self.index, self.k, "sum")

    def facts_of_inference(self) -> Mapping[str, Any]:
        """`decode_costs`: the unit costs of this machine that it chooses by."""
        return {"decode_costs": dataclasses.asdict(auto.costs())}

    def decode_bytes(self) -> int:
        """Bytes of the index and the table."""
        return self.index.num_bytes + self.problem.table.nbytes
