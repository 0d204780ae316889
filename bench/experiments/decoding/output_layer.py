"""The output layer that a decode stands behind, so that times can start at the hidden vector.

A softmax's product with its output layer is all its decode; MACH multiplies too, by R · B columns
instead of L, before it decodes. Beside each other stand times of both steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: H, of every decoder.
HIDDEN_DIM = 128


def hidden_queries(num_queries: int, hidden_dim: int = HIDDEN_DIM) -> Tensor:
    """`(N, H)` random hidden vectors."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_queries, hidden_dim, generator=generator)


class OutputLayer:
    """Random weights `(H, R · B)` of all worlds over one shared hidden vector: one product for all.

    Args:
        num_worlds: R.
        num_buckets: B.
    """

    def __init__(self, num_worlds: int, num_buckets: int) -> None:
        self._shape = num_worlds, num_buckets
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.empty(HIDDEN_DIM, num_worlds * num_buckets)
        self.weight.normal_(0, 1 / math.sqrt(HIDDEN_DIM), generator=generator)

    def logits(self, hidden: Tensor) -> Tensor:
        """Bucket logits `(n, R, B)` of `(n, H)` hidden vectors."""
        return torch.mm(hidden, self.weight).view(-1, *self._shape)

    @property
    def num_bytes(self) -> int:
        """Bytes of the weights."""
        return self.weight.nbytes
