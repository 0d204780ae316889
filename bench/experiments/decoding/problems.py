"""Registry of problems to decode: a new source of bucket scores is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from bench.mach.hashing import HashFamily
from bench.methods.cards import resolve
from bench.settings import DataSpec, SettingsError

SOURCES: dict[str, str] = {
    "planted_scores": "bench.experiments.decoding.planted:build",
    "model_scores": "bench.experiments.decoding.trained:build",
}


@dataclass(frozen=True)
class Problem:
    """Bucket scores of some queries and the hash that they were made with.

    Attributes:
        scores: `(N, R, B)` float32 log probabilities.
        hashes: the R hashes of L labels.
        table: `(R, L)` of the hashes, in the narrowest type.
        facts: for the record's `data` block.
    """

    scores: Tensor
    hashes: HashFamily
    table: Tensor
    facts: Mapping[str, Any]

    @property
    def num_labels(self) -> int:
        """L."""
        return self.table.shape[1]

    @property
    def num_worlds(self) -> int:
        """R."""
        return self.scores.shape[1]

    @property
    def num_buckets(self) -> int:
        """B."""
        return self.scores.shape[2]


class BuildProblem(Protocol):
    """What a source is; its keyword arguments are the spec's options."""

    def __call__(self, *, data_dir: Path, cache_dir: Path, **options: Any) -> Problem:
        """The problem, always the same for the same options."""
        ...


def build_problem(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Problem:
    """Problem that a spec describes.

    Raises:
        SettingsError: the source is not registered.
    """
    if spec.source not in SOURCES:
        raise SettingsError(
            f"source of scores is {spec.source!r}; expected one of {', '.join(SOURCES)}"
        )
    build = cast(BuildProblem, resolve(SOURCES[spec.source]))
    return build(data_dir=data_dir, cache_dir=cache_dir, **spec.options)


def describe(scores: Tensor, num_labels: int) -> dict[str, Any]:
    """Facts of any problem: its sizes, and how peaked its scores are.

    `peak_share` is the median over queries and worlds of the best bucket's probability.
    """
    num_queries, num_worlds, num_buckets = scores.shape
    best = scores.amax(dim=2).exp().flatten()
    return {
        "num_labels": num_labels,
        "num_worlds": num_worlds,
        "num_buckets": num_buckets,
        "num_queries": num_queries,
        "peak_share": float(torch.quantile(best[: 1 << 20], 0.5)),
    }
