"""Cuts sparse rows into batches by vectorised slicing; no Python loop over points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.data.batch import Batch
from bench.data.csr import Csr
from bench.settings import Order, derive_seed


class BatchLoader:
    """Iterates over batches; each pass in a random order has its own seeded one.

    Args:
        features: `(N, D)`.
        labels: `(N, L)`.
        batch_size: points a batch; the last batch of the file's order may be shorter.
        order: `points` shuffles the points in each pass, `batches` the batches that the order of
            the rows makes, `file` nothing.
        seed: of the order, together with the number of the pass.
        num_points: use only this many points, the first ones; None uses all.
        drop_last: leave out a batch that is shorter than the others.

    Raises:
        ValueError: if the parts have different numbers of rows, a size is impossible, or no batch
            is left.
    """

    def __init__(
        self,
        features: Csr,
        labels: Csr,
        batch_size: int,
        order: Order,
        seed: int,
        num_points: int | None = None,
        drop_last: bool = False,
    ) -> None:
        if features.num_rows != labels.num_rows:
            raise ValueError(f"{features.num_rows} feature rows but {labels.num_rows} label rows")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        if num_points is not None and num_points < 0:
            raise ValueError(f"num_points is {num_points}; expected None or at least 0")
        self._features = features
        self._labels = labels
        self.batch_size = batch_size
        self.num_points = (
            features.num_rows if num_points is None else min(num_points, features.num_rows)
        )
        if drop_last and self.num_points < batch_size:
            raise ValueError(
                f"batch_size is {batch_size} and drop_last True; expected at most the "
                f"{self.num_points} points"
            )
        self._order = order
        self._drop_last = drop_last
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """Batches of a pass."""
        if self._drop_last:
            return self.num_points // self.batch_size
        return -(-self.num_points // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Number of the next pass; each pass raises it by one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the points."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        generator = np.random.default_rng(derive_seed("shuffle", self._seed, epoch))
        if self._order == "points":
            points = generator.permutation(self.num_points)
            for number in range(len(self)):
                index = points[self._span(number)]
                yield to_batch(self._features.rows(index), self._labels.rows(index))
            return
        numbers = generator.permutation(len(self)) if self._order == "batches" else range(len(self))
        for number in numbers:
            span = self._span(int(number))
            yield to_batch(
                self._features.slice(span.start, span.stop),
                self._labels.slice(span.start, span.stop),
            )

    def _span(self, number: int) -> slice:
        """Places of a batch's points in the order of the pass."""
        start = number * self.batch_size
        return slice(start, min(start + self.batch_size, self.num_points))


def to_batch(features: Csr, labels: Csr) -> Batch:
    """Rows as tensors; copies, so that a memory-mapped array is never written to."""
    values = features.values
    return Batch(
        feature_offsets=torch.from_numpy(features.offsets.astype(np.int64)),
        feature_ids=torch.from_numpy(features.ids.astype(np.int64)),
        feature_values=torch.ones(features.ids.size)
        if values is None
        else torch.from_numpy(np.array(values)),
        label_offsets=torch.from_numpy(labels.offsets.astype(np.int64)),
        label_ids=torch.from_numpy(labels.ids.astype(np.int64)),
        label_weights=None if labels.values is None else torch.from_numpy(np.array(labels.values)),
    )
