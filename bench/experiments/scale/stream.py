"""Queries of a shop with tens of millions of products, drawn as they are read, never all held.

A query is for one product. Products are asked for by rank, p(rank) = ln((rank + 2) / (rank + 1)) /
ln(L + 1), the log-uniform form of Zipf's law, whose inverse is closed; which product has which rank
is a pseudo-random permutation, as product numbers say nothing of sales. Each product owns
`signature_size` of the D features, by a hash of its number. Each of a query's `tokens_per_query`
tokens is one of these with probability `signal`, else one of the background, log-uniform over D.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from bench.data.batch import Batch
from bench.mach.hashing import HashFamily, build_hash, murmur3_int32
from bench.settings import SettingsError, derive_seed

Split = Literal["train", "test"]
# Queries drawn together; what a query is does not depend on the batches it is read in.
_BLOCK = 1 << 13
_MOST_KEYS = 1 << 32


@dataclass(frozen=True, kw_only=True)
class QueryStream:
    """Sizes and difficulty of the stream.

    Attributes:
        num_train_queries: N.
        num_test_queries: queries to test on; 0: none.
        num_features: D.
        num_labels: L, products.
        tokens_per_query: features of a query; one drawn twice counts twice.
        signature_size: features that a product owns, not always distinct.
        signal: probability that a token is one of the product's own, in (0, 1].
        seed: of everything.
    """

    num_train_queries: int
    num_test_queries: int
    num_features: int
    num_labels: int
    tokens_per_query: int = 8
    signature_size: int = 8
    signal: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("num_features", "num_labels", "tokens_per_query", "signature_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.num_train_queries < 1 or self.num_test_queries < 0:
            raise SettingsError(
                f"{self.num_train_queries} training and {self.num_test_queries} test queries are "
                "asked for; expected at least 1 and 0"
            )
        if self.num_labels * self.signature_size > _MOST_KEYS:
            raise SettingsError(
                f"num_labels · signature_size is {self.num_labels * self.signature_size}; expected "
                f"at most 2^32, the keys of the hash"
            )
        if not 0 < self.signal <= 1:
            raise SettingsError(f"signal is {self.signal}; expected above 0, up to 1")

    @cached_property
    def _products(self) -> HashFamily:
        """Rank → product: a balanced hash into as many buckets as labels is a permutation."""
        seed = derive_seed("products", self.seed)
        return build_hash("balanced", self.num_labels, self.num_labels, 1, seed)

    def num_queries(self, split: Split) -> int:
        """Queries of a split."""
        return self.num_train_queries if split == "train" else self.num_test_queries

    def label_counts(self) -> Tensor:
        """`(L,)` int64: training queries of each product."""
        counts = torch.zeros(self.num_labels, dtype=torch.int64)
        for block in range(math.ceil(self.num_train_queries / _BLOCK)):
            labels = self._labels("train", block)
            labels = labels[: self.num_train_queries - block * _BLOCK]
            counts.index_add_(0, labels, torch.ones_like(labels))
        return counts

    def batches(self, split: Split, batch_size: int) -> Iterator[Batch]:
        """The split's queries in their order; the last batch may be shorter."""
        total = self.num_queries(split)
        labels, tokens = torch.empty(0, dtype=torch.int64), self._no_tokens()
        block = 0
        for start in range(0, total, batch_size):
            size = min(batch_size, total - start)
            while len(labels) < size:
                drawn = self._labels(split, block)
                labels = torch.cat([labels, drawn])
                tokens = torch.cat([tokens, self._tokens(split, block, drawn)])
                block += 1
            yield self._batch(labels[:size], tokens[:size])
            labels, tokens = labels[size:], tokens[size:]

    def _no_tokens(self) -> Tensor:
        return torch.empty(0, self.tokens_per_query, dtype=torch.int64)

    def _generator(self, purpose: str, split: Split, block: int) -> torch.Generator:
        seed = derive_seed("query stream", purpose, split, self.seed, block)
        return torch.Generator().manual_seed(seed)

    def _labels(self, split: Split, block: int) -> Tensor:
        """`(_BLOCK,)` products asked for."""
        uniform = torch.rand(
            _BLOCK, dtype=torch.float64, generator=self._generator("ranks", split, block)
        )
        return self._products.bucket_ids(_log_uniform(uniform, self.num_labels))[0]

    def _tokens(self, split: Split, block: int, labels: Tensor) -> Tensor:
        """`(_BLOCK, tokens_per_query)` features, ascending in each row."""
        generator = self._generator("tokens", split, block)
        shape = (_BLOCK, self.tokens_per_query)
        index = torch.randint(self.signature_size, shape, generator=generator)
        keys = labels.unsqueeze(1) * self.signature_size + index
        own = murmur3_int32(keys, derive_seed("signatures", self.seed) & 0xFFFFFFFF)
        is_own = torch.rand(shape, generator=generator) < self.signal
        uniform = torch.rand(shape, dtype=torch.float64, generator=generator)
        other = _log_uniform(uniform, self.num_features)
        return torch.where(is_own, own % self.num_features, other).sort(dim=1).values

    def _batch(self, labels: Tensor, tokens: Tensor) -> Batch:
        num, width = tokens.shape
        # Unit norm where all tokens differ.
        values = torch.full((num * width,), 1 / math.sqrt(width))
        return Batch(
            feature_offsets=torch.arange(0, num * width + 1, width),
            feature_ids=tokens.flatten(),
            feature_values=values,
            label_offsets=torch.arange(num + 1),
            label_ids=labels.clone(),
        )


def _log_uniform(uniform: Tensor, size: int) -> Tensor:
    """Ranks in [0, size) from numbers in [0, 1): ⌊(size + 1)^u⌋ − 1."""
    ranks = torch.exp(uniform * math.log(size + 1)).floor().long() - 1
    return ranks.clamp_(0, size - 1)
