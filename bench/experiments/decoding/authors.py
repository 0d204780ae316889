"""The MACH authors' exact decode, as plainly in Numba as theirs is in C++.

R passes over all labels add up an `(n, L)` matrix of scores, then a heap of k a query. Parallel
over queries, or over labels when there are fewer queries than threads (their two variants).

Source: `Gather.cpp` of the authors' code, as described in `PAPER.md` section 6.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.store.kernels import njit

# Their evaluation keeps batch × L below 3·10⁹; ours below what the machine can hold.
_MAX_FLOATS = 1 << 29


class AuthorsGather(Decoder):
    """R passes over all labels, then a heap."""

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        self.lookup = problem.table.to(torch.int32).contiguous().numpy()

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels; queries in as many parts as their matrix of scores needs."""
        num_labels = self.lookup.shape[1]
        part = max(_MAX_FLOATS // num_labels, 1)
        out = np.empty((queries.shape[0], self.k), dtype=np.int64)
        scores = queries.numpy()
        for start in range(0, queries.shape[0], part):
            chunk = scores[start : start + part]
            totals = np.zeros((chunk.shape[0], num_labels), dtype=np.float32)
            if chunk.shape[0] < numba.get_num_threads():
                _gather_over_labels(chunk, self.lookup, totals)
            else:
                _gather_over_queries(chunk, self.lookup, totals)
            _select(totals, out[start : start + part])
        return torch.from_numpy(out)

    def decode_bytes(self) -> int:
        """Bytes of the lookup table."""
        return self.lookup.nbytes


@njit(cache=True, nogil=True, parallel=True)
def _gather_over_queries(scores: Any, lookup: Any, totals: Any) -> None:
    for query in prange(scores.shape[0]):
        for world in range(lookup.shape[0]):
            for label in range(lookup.shape[1]):
                totals[query, label] += scores[query, world, lookup[world, label]]


@njit(cache=True, nogil=True, parallel=True)
def _gather_over_labels(scores: Any, lookup: Any, totals: Any) -> None:
    for query in range(scores.shape[0]):
        for world in range(lookup.shape[0]):
            for label in prange(lookup.shape[1]):
                totals[query, label] += scores[query, world, lookup[world, label]]


@njit(cache=True, nogil=True)
def _is_worse(score: float, label: int, other: float, other_label: int) -> bool:
    return score < other or (score == other and label > other_label)


@njit(cache=True, nogil=True, parallel=True)
def _select(totals: Any, out: Any) -> None:
    k = out.shape[1]
    for query in prange(totals.shape[0]):
        row = totals[query]
        heap = out[query]  # worst at the root, by the scores in row
        for label in range(k):
            index = label
            while index > 0:
                parent = (index - 1) // 2
                if not _is_worse(row[label], label, row[heap[parent]], heap[parent]):
                    break
                heap[index] = heap[parent]
                index = parent
            heap[index] = label
        for label in range(k, row.shape[0]):
            if row[label] > row[heap[0]]:
                _sink(row, heap, k, label)
        for size in range(k - 1, 0, -1):
            last = heap[size]
            heap[size] = heap[0]
            _sink(row, heap, size, last)


@njit(cache=True, nogil=True)
def _sink(row: Any, heap: Any, size: int, label: int) -> None:
    index = 0
    while True:
        child = 2 * index + 1
        if child >= size:
            break
        other = child + 1
        if other < size and _is_worse(row[heap[other]], heap[other], row[heap[child]], heap[child]):
            child = other
        if not _is_worse(row[heap[child]], heap[child], row[label], label):
            break
        heap[index] = heap[child]
        index = child
    heap[index] = label
