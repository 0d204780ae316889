"""Registry of what is measured at decoding: a new contender is one file and one line here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from bench.decoding.scores import Problem
from bench.registry import resolve
from bench.settings import SettingsError

CONTENDERS: dict[str, str] = {
    "dense": "bench.decoding.dense:Dense",
    "pruned": "bench.decoding.pruned:Pruned",
    "auto": "bench.decoding.auto:Auto",
    "buckets": "bench.decoding.buckets:Buckets",
    "authors": "bench.decoding.authors:AuthorsGather",
    "faiss_pq": "bench.decoding.faiss_pq:FaissPQ",
    "softmax_matmul": "bench.decoding.softmax:SoftmaxMatmul",
}


class Contender(ABC):
    """A way from bucket scores to k labels, set up for one problem.

    Args:
        problem: sizes, hash and table; nothing may be taken from its scores.
        k: labels wanted.
    """

    #: Whether the labels must be exactly the best, ties by smaller id.
    is_exact: bool = True
    #: Whether its answers are about the problem's labels at all.
    is_comparable: ClassVar[bool] = True

    def __init__(self, problem: Problem, *, k: int) -> None:
        self.problem = problem
        self.k = k

    def prepare_queries(self, scores: Tensor) -> Tensor:
        """The form in which it would have been handed the queries; not timed."""
        return scores

    @abstractmethod
    def top_k(self, queries: Tensor) -> Tensor:
        """`(n, k)` int64 labels of `(n, R, B)` scores, best first; what is timed."""

    @abstractmethod
    def decode_bytes(self) -> int:
        """Bytes that it keeps for decoding."""

    def num_scored(self, queries: Tensor) -> Tensor:
        """`(n,)` distinct labels looked at: all of them, unless a subclass knows better."""
        return torch.full((queries.shape[0],), self.problem.num_labels)


def build_contender(method: str, problem: Problem, options: Mapping[str, Any]) -> Contender:
    """Contender of a registered name.

    Raises:
        SettingsError: the name is not registered.
    """
    return cast(Contender, contender_class(method)(problem, **options))


def contender_class(method: str) -> type[Any]:
    """Class behind a registered name.

    Raises:
        SettingsError: the name is not registered.
    """
    if method not in CONTENDERS:
        raise SettingsError(
            f"decode contender is {method!r}; expected one of {', '.join(CONTENDERS)}"
        )
    return cast(type[Any], resolve(CONTENDERS[method]))
