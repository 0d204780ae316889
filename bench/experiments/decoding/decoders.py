"""What is measured at decoding: a new decoder is one file and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from bench.experiments.decoding.problems import Problem
from bench.methods.cards import method_class


class Decoder(ABC):
    """A way from bucket scores to k labels, set up for one problem.

    Args:
        problem: sizes, hash and table; nothing may be taken from its scores.
        k: labels wanted.
    """

    #: Whether the labels must be exactly the best, ties by smaller id.
    is_exact: bool = True
    #: Whether its answers are about the problem's labels at all.
    is_comparable: ClassVar[bool] = True
    #: Whether its queries are hidden vectors, and the output layer's product is its own work.
    starts_from_hidden: ClassVar[bool] = False

    def __init__(self, problem: Problem, *, k: int) -> None:
        self.problem = problem
        self.k = k

    def prepare_queries(self, scores: Tensor) -> Tensor:
        """The form in which it would have been handed the queries; not timed."""
        return scores

    def normalise(self, logits: Tensor) -> Tensor:
        """Bucket logits `(n, R, B)` brought into that form, in place."""
        return torch.log_softmax(logits, -1, out=logits)

    @abstractmethod
    def top_k(self, queries: Tensor) -> Tensor:
        """`(n, k)` int64 labels of `(n, R, B)` scores, best first; what is timed."""

    @abstractmethod
    def decode_bytes(self) -> int:
        """Bytes that it keeps for decoding."""

    def num_scored(self, queries: Tensor) -> Tensor:
        """`(n,)` distinct labels looked at: all of them, unless a subclass knows better."""
        return torch.full((queries.shape[0],), self.problem.num_labels)

    def facts_of_inference(self) -> Mapping[str, Any]:
        """What a record says of how it decodes, beside its options."""
        return {}


def build_decoder(method: str, problem: Problem, options: Mapping[str, Any]) -> Decoder:
    """Decoder of a card's name.

    Raises:
        SettingsError: there is no such card.
    """
    return cast(Decoder, method_class(method, "decoding")(problem, **options))
