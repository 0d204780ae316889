"""Cuts sparse rows into batches by vectorised slicing; no Python loop over points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from bench.data.batch import Batch
from bench.data.csr import Csr
from bench.settings import derive_seed


class BatchLoader:
    """Iterates over batches; each pass of a shuffled loader has its own seeded order.

    Args:
        features: `(N, D)`.
        labels: `(N, L)`.
        batch_size: points a batch; the last batch may be shorter.
        shuffle: whether to visit the points in a random order, another one in each pass.
        seed: of the order, together with the number of the pass.
        num_points: use only this many points, the first ones; None uses all.

    Raises:
        ValueError: if the parts have different numbers of rows or a size is impossible.
    """

    def __init__(
        self,
        features: Csr,
        labels: Csr,
        batch_size: int,
        shuffle: bool,
        seed: int,
        num_points: int | None = None,
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
        self._shuffle = shuffle
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        """Batches of a pass."""
        return -(-self.num_points // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Number of the next pass; each pass raises it by one."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the points."""
        epoch, self._epoch = self._epoch, self._epoch + 1
        order = None
        if self._shuffle:
            seed = derive_seed("shuffle", self._seed, epoch)
            order = np.random.default_rng(seed).permutation(self.num_points)
        for start in range(0, self.num_points, self.batch_size):
            stop = min(start + self.batch_size, self.num_points)
            if order is None:
                features, labels = (
                    self._features.slice(start, stop),
                    self._labels.slice(start, stop),
                )
            else:
                index = order[start:stop]
                features, labels = self._features.rows(index), self._labels.rows(index)
            yield to_batch(features, labels)


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
    )
