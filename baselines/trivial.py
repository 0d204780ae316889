"""Trivial baselines in every table: the most frequent labels, and the nearest class centroid."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.ranking import UnrankableError, check_k
from bench.store.kernels import njit

Array = np.ndarray[Any, Any]


class ClosedForm(ExtremeClassifier):
    """A method computed by one pass over the training data: no gradients, no optimiser.

    The shared training settings are accepted and do not matter.
    """

    is_closed_form = True

    def __init__(self, facts: DataFacts, **shared: Any) -> None:
        super().__init__(facts, **shared)


class ClassFrequency(ClosedForm):
    """The same labels for every point: those with most training points (ties: smaller label)."""

    def __init__(self, facts: DataFacts, **shared: Any) -> None:
        super().__init__(facts, **shared)
        self.counts = nn.Parameter(torch.zeros(facts.num_labels), requires_grad=False)
        self.register_buffer("order", torch.arange(facts.num_labels))
        self.order: Tensor

    def fit_closed_form(self, batches: Iterable[Batch]) -> None:
        """Count labels."""
        total = torch.zeros(self.num_labels, dtype=torch.int64)
        for batch in batches:
            total += torch.bincount(batch.label_ids.cpu(), minlength=self.num_labels)
        self.counts.data.copy_(total)
        self.order.copy_(torch.argsort(total, descending=True, stable=True))

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """The k most frequent labels and their counts, for every point."""
        check_k(k, self.num_labels)
        counts = self.counts[self.order[:k]]
        if bool(counts.isnan().any()):
            raise UnrankableError.of_labels()
        shape = (batch.num_points, k)
        return counts.expand(shape), self.order[:k].expand(shape)


class NearestCentroid(ClosedForm):
    """Labels by the cosine between a point and the mean of the label's training points.

    Centroids are kept as inverted lists, feature → (label, weight), so that a query reads only the
    lists of its own features. Runs on the CPU whatever the accelerator.
    """

    def __init__(self, facts: DataFacts, **shared: Any) -> None:
        super().__init__(facts, **shared)
        self._offsets = np.zeros(0, dtype=np.int64)
        self._labels = np.zeros(0, dtype=np.int32)
        self._weights = np.zeros(0, dtype=np.float32)

    def fit_closed_form(self, batches: Iterable[Batch]) -> None:
        """Sum the feature rows of each label, and give each sum unit length."""
        keys: list[Array] = []
        sums: list[Array] = []
        pending = 0
        for batch in batches:
            batch_keys, batch_values = _label_entries(batch, self.num_labels)
            keys.append(batch_keys)
            sums.append(batch_values)
            pending += batch_keys.size
            if pending > 8_000_000:  # merged now and then, so that repeats do not pile up
                keys, sums = _merged(keys, sums)
                pending = 0
        keys, sums = _merged(keys, sums)
        feature_ids, labels = np.divmod(keys[0], self.num_labels)
        squares = np.bincount(labels, weights=sums[0].astype(np.float64) ** 2)
        norms = np.sqrt(np.maximum(squares, 1e-30))
        self._labels = labels.astype(np.int32)
        self._weights = (sums[0] / norms[labels]).astype(np.float32)
        self._offsets = np.searchsorted(feature_ids, np.arange(self.num_features + 1))

    def get_extra_state(self) -> dict[str, Tensor]:
        """The inverted lists, for a checkpoint: their lengths are known after the fit only."""
        lists = {"offsets": self._offsets, "labels": self._labels, "weights": self._weights}
        return {name: torch.from_numpy(values) for name, values in lists.items()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take over the lists of a checkpoint."""
        self._offsets, self._labels, self._weights = (
            state[name].cpu().numpy() for name in ("offsets", "labels", "weights")
        )

    def decode_bytes(self) -> int:
        """Bytes of the inverted lists."""
        return int(self._offsets.nbytes + self._labels.nbytes + self._weights.nbytes)

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Largest cosines and their labels, each `(N, k)`; ties by smaller label."""
        check_k(k, self.num_labels)
        scores = np.empty((batch.num_points, k), dtype=np.float32)
        labels = np.empty((batch.num_points, k), dtype=np.int64)
        _score(
            *features_of(batch),
            self._offsets,
            self._labels,
            self._weights,
            self.num_labels,
            numba.get_num_threads(),
            scores,
            labels,
        )
        if np.isnan(scores[:, 0]).any():
            raise UnrankableError.of_labels()
        device = batch.label_ids.device
        return torch.from_numpy(scores).to(device), torch.from_numpy(labels).to(device)


def features_of(batch: Batch) -> tuple[Array, Array, Array]:
    """Offsets, ids and values of a batch's features."""
    offsets, ids, values = (batch.feature_offsets, batch.feature_ids, batch.feature_values)
    return offsets.cpu().numpy(), ids.cpu().numpy(), values.cpu().numpy()


def _label_entries(batch: Batch, num_labels: int) -> tuple[Array, Array]:
    """Keys feature·L + label and values of every (label, feature) entry of a batch."""
    starts = batch.feature_offsets.cpu().numpy()
    label_points = batch.label_point_ids.cpu().numpy()
    counts = np.diff(starts)[label_points]
    ends = np.cumsum(counts)
    entries = np.arange(int(ends[-1]) if ends.size else 0)
    entries += np.repeat(starts[label_points] - (ends - counts), counts)
    feature_ids = batch.feature_ids.cpu().numpy()[entries]
    labels = np.repeat(batch.label_ids.cpu().numpy(), counts)
    return feature_ids * num_labels + labels, batch.feature_values.cpu().numpy()[entries]


def _merged(keys: list[Array], sums: list[Array]) -> tuple[list[Array], list[Array]]:
    joined = np.concatenate(keys)
    order = np.argsort(joined, kind="stable")
    joined, values = joined[order], np.concatenate(sums)[order]
    starts = np.flatnonzero(np.r_[True, joined[1:] != joined[:-1]]) if joined.size else order
    totals = np.add.reduceat(values, starts) if joined.size else values
    return [joined[starts]], [totals]


@njit(parallel=True, cache=True, nogil=True)
def _score(
    offsets: Array,
    ids: Array,
    values: Array,
    list_offsets: Array,
    list_labels: Array,
    list_weights: Array,
    num_labels: int,
    num_threads: int,
    top_scores: Array,
    top_labels: Array,
) -> None:
    num_points = top_scores.shape[0]
    for thread in numba.prange(num_threads):
        scores = np.empty(num_labels, dtype=np.float32)
        for point in range(thread, num_points, num_threads):
            scores[:] = 0.0
            add_products(
                ids[offsets[point] : offsets[point + 1]],
                values[offsets[point] : offsets[point + 1]],
                list_offsets, list_labels, list_weights, scores,
            )  # fmt: skip
            if largest(scores, top_labels[point], top_scores[point]) < 0:
                top_scores[point, 0] = np.nan  # for all to see: it cannot be ranked


@njit(cache=True, nogil=True)
def add_products(
    ids: Array, values: Array, list_offsets: Array, owners: Array, weights: Array, sums: Array
) -> None:
    """Add a sparse row's products with the owners of inverted lists, feature → (owner, weight)."""
    for entry in range(len(ids)):
        feature, value = ids[entry], values[entry]
        for index in range(list_offsets[feature], list_offsets[feature + 1]):
            sums[owners[index]] += value * weights[index]


@njit(cache=True, nogil=True)
def largest(values: Array, places: Array, best: Array) -> int:
    """Places of the largest values, in falling order, the earlier of equal ones; -1 at a NaN."""
    k, filled = len(places), 0
    for place in range(len(values)):
        value = values[place]
        if value != value:
            return -1
        if filled == k and value <= best[k - 1]:
            continue
        rank = filled if filled < k else k - 1
        while rank > 0 and best[rank - 1] < value:
            best[rank], places[rank] = best[rank - 1], places[rank - 1]
            rank -= 1
        best[rank], places[rank] = value, place
        filled += filled < k
    return filled
