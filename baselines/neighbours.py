"""Cosine k nearest neighbours over the training points: exact, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from baselines.trivial import Array, ClosedForm, add_products, features_of, largest
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.options import Count, Size, check_values
from bench.nn.ranking import UnrankableError, check_k
from bench.store.kernels import njit


class NearestNeighbours(ClosedForm):
    """Labels by the votes of the nearest training points that have them.

    Training points are kept as inverted lists, feature → (point, value), so that a query reads only
    the lists of its own features. All training points are looked at, and of equally near ones the
    earlier is taken. Runs on the CPU whatever the accelerator.

    Args:
        facts: sizes and label frequencies of the training data.
        num_neighbours: how many training points vote.
        exponent: a vote is the cosine to this power, of the cosine's sign; 0 counts neighbours.
        **shared: see `bench.nn.classifier.ExtremeClassifier`.
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        num_neighbours: Count = 50,
        exponent: Size = 1.0,
        **shared: Any,
    ) -> None:
        check_values(NearestNeighbours.__init__, locals())
        super().__init__(facts, **shared)
        self.num_neighbours = num_neighbours
        self.exponent = exponent
        #: Offsets, points and values of the lists; offsets and labels of the points.
        self._lists = (_ints(1), _ints(0, np.int32), np.zeros(0, np.float32))
        self._labels = (_ints(1), _ints(0))

    def fit_closed_form(self, batches: Iterable[Batch]) -> None:
        """Give each training point unit length, and sort its entries by feature."""
        parts = [_points_of(batch) for batch in batches]
        lengths, ids, values, label_counts, labels = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        points = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
        squares = np.bincount(
            points, weights=values.astype(np.float64) ** 2, minlength=len(lengths)
        )
        norms = np.sqrt(np.maximum(squares, 1e-30))
        order = np.argsort(ids, kind="stable")
        offsets = np.searchsorted(ids[order], np.arange(self.num_features + 1))
        values = (values / norms[points]).astype(np.float32)
        self._lists = (offsets, points[order], values[order])
        self._labels = (np.r_[0, np.cumsum(label_counts)], labels)

    def get_extra_state(self) -> dict[str, Tensor]:
        """Lists and labels, for a checkpoint: their lengths are known after the fit only."""
        arrays = (*self._lists, *self._labels)
        return {str(index): torch.from_numpy(values) for index, values in enumerate(arrays)}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take over the lists of a checkpoint."""
        arrays = [state[str(index)].cpu().numpy() for index in range(5)]
        self._lists = (arrays[0], arrays[1], arrays[2])
        self._labels = (arrays[3], arrays[4])

    def decode_bytes(self) -> int:
        """Bytes of the inverted lists and of the points' labels."""
        return int(sum(values.nbytes for values in (*self._lists, *self._labels)))

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Largest sums of votes and their labels, each `(N, k)`; ties by smaller label.

        Raises:
            UnrankableError: a cosine is NaN.
            ValueError: k is not in 1 … L.
        """
        check_k(k, self.num_labels)
        scores = np.zeros((batch.num_points, k), dtype=np.float32)
        labels = np.empty((batch.num_points, k), dtype=np.int64)
        offsets, ids, values = features_of(batch)
        _vote(
            offsets, ids, values, *self._lists, *self._labels,
            min(self.num_neighbours, len(self._labels[0]) - 1), numba.get_num_threads(),
            self.exponent, self.num_labels, scores, labels,
        )  # fmt: skip
        if np.isnan(scores[:, 0]).any():
            raise UnrankableError.of_labels()
        device = batch.label_ids.device
        return torch.from_numpy(scores).to(device), torch.from_numpy(labels).to(device)


def _ints(size: int, kind: Any = np.int64) -> Array:
    return np.zeros(size, dtype=kind)


def _points_of(batch: Batch) -> tuple[Array, Array, Array, Array, Array]:
    offsets, ids, values = features_of(batch)
    label_counts = np.diff(batch.label_offsets.cpu().numpy())
    return np.diff(offsets), ids, values, label_counts, batch.label_ids.cpu().numpy()


@njit(parallel=True, cache=True, nogil=True)
def _vote(
    offsets: Array, ids: Array, values: Array, list_offsets: Array, list_points: Array,
    list_values: Array, label_offsets: Array, point_labels: Array, num_neighbours: int,
    num_threads: int, exponent: float, num_labels: int, top_scores: Array, top_labels: Array,
) -> None:  # fmt: skip
    num_queries = top_scores.shape[0]
    num_points = label_offsets.shape[0] - 1
    for thread in numba.prange(num_threads):
        cosines = np.empty(num_points, dtype=np.float32)
        near = np.empty(num_neighbours, dtype=np.int64)
        nearness = np.empty(num_neighbours, dtype=np.float32)
        votes = np.zeros(num_labels, dtype=np.float32)
        for query in range(thread, num_queries, num_threads):
            cosines[:] = 0.0
            add_products(
                ids[offsets[query] : offsets[query + 1]],
                values[offsets[query] : offsets[query + 1]],
                list_offsets, list_points, list_values, cosines,
            )  # fmt: skip
            filled = largest(cosines, near, nearness)
            if filled < 0:
                top_scores[query, 0] = np.nan
                continue
            for rank in range(filled):
                point, cosine = near[rank], nearness[rank]
                vote = np.float32(np.sign(cosine) * abs(cosine) ** exponent)
                for index in range(label_offsets[point], label_offsets[point + 1]):
                    votes[point_labels[index]] += vote
            largest(votes, top_labels[query], top_scores[query])
            for rank in range(filled):
                point = near[rank]
                for index in range(label_offsets[point], label_offsets[point + 1]):
                    votes[point_labels[index]] = 0.0
