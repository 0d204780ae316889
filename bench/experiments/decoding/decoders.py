"""Ways from bucket scores to labels that are measured: a new one is a `Decoder` and its card."""

from __future__ import annotations

import dataclasses
import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from bench.experiments.decoding.problems import Problem
from bench.mach import decode
from bench.mach.decode import auto, buckets, pruned
from bench.mach.decode.index import build_index
from bench.mach.hashing import UniversalHash
from bench.methods.cards import method_class
from bench.settings import SettingsError

#: H, of every decoder.
HIDDEN_DIM = 128
# Logits held at a time, in floats: complete batches of queries while they fit.
_MAX_FLOATS = 1 << 27
_SCORE_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


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
    """Decoder of a card's name."""
    return cast(Decoder, method_class(method, "decoding")(problem, **options))


class Dense(Decoder):
    """Every label scored, see `bench.mach.decode.dense`.

    With `recompute` a universal hash is computed anew for each block of labels and no table kept;
    a narrower `score_type` shows what rounding the bucket scores does to the labels.
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
            self.table = dataclasses.replace(problem.hashes, num_labels=problem.num_labels)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `decode.top_k`."""
        return decode.top_k(queries.to(self.score_type), self.table, self.k)[1]

    def decode_bytes(self) -> int:
        """Bytes of the table, or of the hash's coefficients."""
        if isinstance(self.table, Tensor):
            return self.table.nbytes
        return self.table.coefficients().nbytes


class Pruned(Decoder):
    """The threshold algorithm over inverted lists, see `bench.mach.decode.pruned`.

    Where it would be longer than a scan it `falls_back` to one, as the decode method does, or goes
    on, however many labels it takes.
    """

    def __init__(self, problem: Problem, *, k: int, falls_back: bool = False) -> None:
        super().__init__(problem, k=k)
        self.falls_back = falls_back
        self.index = build_index(problem.table, problem.num_buckets)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by the threshold algorithm."""
        if self.falls_back:
            table = self.problem.table
            return pruned.top_k_indexed(queries, table, self.index, self.k)[1]
        return pruned.search(queries, self.index, self.k).labels

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels that the threshold algorithm scored, or all."""
        if not self.falls_back:
            return pruned.search(queries, self.index, self.k).num_scored
        budget = pruned.typical_budget(self.index)
        if budget is None:
            return super().num_scored(queries)
        found = pruned.search(queries, self.index, self.k, budget=budget)
        return torch.where(found.is_proven, found.num_scored, self.problem.num_labels)

    def decode_bytes(self) -> int:
        """Bytes of the index, and of the table where it may be scanned."""
        return self.index.num_bytes + (self.problem.table.nbytes if self.falls_back else 0)


class Auto(Decoder):
    """Whichever of threshold algorithm and scan is forecast to be cheaper (`decode.auto`)."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        self.index = build_index(problem.table, problem.num_buckets)
        auto.costs()  # fitted before anything is timed

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `auto`."""
        return auto.top_k_indexed(queries, self.problem.table, self.index, self.k)[1]

    def num_scored(self, queries: Tensor) -> Tensor:
        """Labels scored by the threshold algorithm, or all."""
        return auto.num_scored(queries, self.index, self.k)

    def facts_of_inference(self) -> Mapping[str, Any]:
        """`decode_costs`: the unit costs of this machine that it chooses by."""
        return {"decode_costs": dataclasses.asdict(auto.costs())}

    def decode_bytes(self) -> int:
        """Bytes of the index and the table."""
        return self.index.num_bytes + self.problem.table.nbytes


class Buckets(Decoder):
    """The authors' approximate rule, see `bench.mach.decode.buckets`."""

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

    def normalise(self, logits: Tensor) -> Tensor:
        """Probabilities."""
        return torch.softmax(logits, -1, out=logits)

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


class SoftmaxMatmul(Decoder):
    """One product with an output layer `(H, L)`, and the k largest: a softmax needs no decode.

    The weights are random: time and memory matter, not the labels.
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


def hidden_queries(num_queries: int, hidden_dim: int = HIDDEN_DIM) -> Tensor:
    """`(N, H)` random hidden vectors."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_queries, hidden_dim, generator=generator)


class OutputLayer:
    """Random weights `(H, R · B)` of all worlds over one shared hidden vector: one product for all.

    A decode stands behind it, so that times can start at the hidden vector: a softmax's product
    with its output layer is all its decode, and MACH multiplies too, by R · B columns instead of L.
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


class FaissPQ(Decoder):
    """Labels by FAISS's `IndexPQ` made to sum bucket scores: the best table scan known there.

    A product quantiser with R sub-quantisers whose B centroids are one-hot vectors: a query's
    look-up table of inner products is its bucket scores themselves, a label's code its R buckets.
    B must be 16 or 256, which is where its scan is specialised.

    Its ties and its order of additions are its own, so that labels may differ where scores are
    equal but for rounding.
    """

    is_exact = False

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        worlds, buckets = problem.num_worlds, problem.num_buckets
        if buckets not in (16, 256):
            raise SettingsError(f"FAISS decoder with B = {buckets}; expected 16 or 256")
        try:
            faiss: Any = importlib.import_module("faiss")
        except ImportError:
            raise SettingsError(
                "FAISS is not installed; in a clone of the project, "
                ".venv/bin/python -m pip install -e '.[decode]' installs it"
            ) from None
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.index = faiss.IndexPQ(
            worlds * buckets, worlds, buckets.bit_length() - 1, faiss.METRIC_INNER_PRODUCT
        )
        one_hot = np.eye(buckets, dtype=np.float32)
        faiss.copy_array_to_vector(np.tile(one_hot, (worlds, 1)).ravel(), self.index.pq.centroids)
        self.index.is_trained = True
        codes = problem.table.T.contiguous().numpy().astype(np.uint8)
        if buckets == 16:  # two codes a byte, the first one in the low half
            codes = (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), self.index.codes)
        self.index.ntotal = problem.num_labels

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `IndexPQ.search`."""
        flat = queries.reshape(queries.shape[0], -1).numpy()
        return torch.from_numpy(self.index.search(flat, self.k)[1])

    def decode_bytes(self) -> int:
        """Bytes of the codes and centroids."""
        return int(self.index.codes.size()) + 4 * int(self.index.pq.centroids.size())
