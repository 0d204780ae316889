"""What a softmax does instead of decoding: one product with its output layer, and the k largest."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.output_layer import HIDDEN_DIM, hidden_queries
from bench.experiments.decoding.problems import Problem

# Logits held at a time, in floats: complete batches of queries while they fit.
_MAX_FLOATS = 1 << 27


class SoftmaxMatmul(Decoder):
    """Output layer `(H, L)` with random weights: time and memory matter, not its labels.

    Args:
        problem: gives L.
        k: labels wanted.
    """

    is_comparable: ClassVar[bool] = False
    starts_from_hidden: ClassVar[bool] = True

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.empty(HIDDEN_DIM, problem.num_labels)
        self.weight.normal_(0, 1, generator=generator)

    def prepare_queries(self, scores: Tensor) -> Tensor:
        """As many hidden vectors as there are queries."""
        return hidden_queries(scores.shape[0])

    def top_k(self, queries: Tensor) -> Tensor:
        """The k largest logits' indices."""
        part = max(_MAX_FLOATS // self.weight.shape[1], 1)
        starts = range(0, queries.shape[0], part)
        logits = (queries[start : start + part] @ self.weight for start in starts)
        return torch.cat([some.topk(self.k, dim=1).indices for some in logits])

    def decode_bytes(self) -> int:
        """Bytes of the weights."""
        return self.weight.nbytes
