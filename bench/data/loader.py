"""Cuts sparse rows into batches by vectorised slicing; no Python loop over points.

Where several processes train one model, each is given its share of every batch. How far a loader
has come can be kept in a checkpoint: Lightning finds `state_dict` and, by `batch_sampler`,
`set_epoch`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import distributed

from bench.data.batch import Batch
from bench.data.csr import Csr, Int64s
from bench.settings import Order, derive_seed


class BatchLoader:
    """Iterates over batches; each pass in a random order has its own seeded one.

    Args:
        features: `(N, D)`.
        labels: `(N, L)`.
        batch_size: points a batch of one process; the last of the file's order may be shorter.
        order: `points` shuffles the points in each pass, `batches` the batches that the order of
            the rows makes, `file` nothing.
        seed: of the order, together with the number of the pass.
        drop_last: leave out a batch that is shorter than the others.
        is_exact: where several processes share the points, give each point to exactly one of them,
            though a last batch then has more points in one process than in another, or none.
            Otherwise as few points as it takes are repeated, so that all have equally many.
        rows: `(N,)` int64, rows in the order that `file` shall mean; None for 0 to N − 1.

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
        drop_last: bool = False,
        is_exact: bool = False,
        rows: Int64s | None = None,
    ) -> None:
        if features.num_rows != labels.num_rows:
            raise ValueError(f"{features.num_rows} feature rows but {labels.num_rows} label rows")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected at least 1")
        self.num_points = features.num_rows
        if drop_last and self.num_points < batch_size:
            raise ValueError(
                f"batch_size is {batch_size} and drop_last True; expected at most the "
                f"{self.num_points} points"
            )
        self._features = features
        self._labels = labels
        self.batch_size = batch_size
        self._order = order
        self._drop_last = drop_last
        self._is_exact = is_exact
        self._is_shared = True
        self._rows = rows
        self._seed = seed
        self._epoch = 0  # of the next pass, or of the one that is on
        self._num_given = 0  # batches of it that were handed out
        self._state: Mapping[str, int] | None = None  # to go on from

    def share_no_batches(self) -> None:
        """Give every process all points of training; those of an evaluation are still shared."""
        self._is_shared = self._is_exact

    def _processes(self) -> tuple[int, int]:
        """Number of this process and of those that share the points."""
        return _processes() if self._is_shared else (0, 1)

    @property
    def num_features(self) -> int:
        """D."""
        return self._features.num_columns

    @property
    def num_labels(self) -> int:
        """L."""
        return self._labels.num_columns

    def __len__(self) -> int:
        """Batches of a pass."""
        size = self.batch_size * self._processes()[1]
        if self._drop_last:
            return self.num_points // size
        return -(-self.num_points // size)

    def set_epoch(self, epoch: int) -> None:
        """Number of the next pass; each pass raises it by one."""
        self._epoch, self._num_given = epoch, 0
        if self._state is not None and self._state["epoch"] != epoch:
            self._state = None

    @property
    def batch_sampler(self) -> _Passes:
        """Where Lightning sets the number of the next pass."""
        return _Passes(self)

    def state_dict(self) -> dict[str, int]:
        """Plain numbers from which :meth:`load_state_dict` goes on with the pass that is on."""
        return {"epoch": self._epoch, "num_given": self._num_given, **self._cut()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with a pass after the batches that were handed out."""
        self._epoch = int(state["epoch"])
        self._state = {name: int(value) for name, value in state.items()}

    def _cut(self) -> dict[str, int]:
        """What decides which points a batch has."""
        return {
            "seed": self._seed,
            "num_points": self.num_points,
            "batch_size": self.batch_size,
            "num_processes": self._processes()[1],
        }

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the points, or the rest of one.

        Raises:
            ValueError: the rest of a pass is asked for that was cut otherwise.
        """
        state, self._state = self._state, None
        if state is None and self._num_given:
            self._epoch += 1
        self._num_given = 0
        if state is not None and 0 < state["num_given"] < len(self):
            cut = {name: state[name] for name in self._cut()}
            if cut != self._cut():
                raise ValueError(
                    f"the pass to go on with was cut by {cut}, this one by {self._cut()}; expected "
                    "the same in the middle of a pass"
                )
            self._num_given = state["num_given"]
        elif state is not None and state["num_given"]:
            self._epoch += 1
        generator = np.random.default_rng(derive_seed("shuffle", self._seed, self._epoch))
        order: Int64s = np.arange(len(self))
        points = self._rows
        if self._order == "points":
            points = generator.permutation(self.num_points)
        elif self._order == "batches":
            order = generator.permutation(len(self))
        for number in order[self._num_given :]:
            self._num_given += 1
            yield self._batch(int(number), points)

    def _batch(self, number: int, points: Int64s | None) -> Batch:
        """This process's share of a batch; `points` is the order, None that of the file."""
        rank, num_processes = self._processes()
        start = number * self.batch_size * num_processes
        stop = start + self.batch_size * num_processes
        if num_processes > 1 and not self._is_exact:
            # Wrapped around, as torch's `DistributedSampler` does it.
            stop = min(stop, -(-self.num_points // num_processes) * num_processes)
        else:
            stop = min(stop, self.num_points)
        size = stop - start
        start, stop = (start + size * part // num_processes for part in (rank, rank + 1))
        if points is None and stop <= self.num_points:
            return to_batch(self._features.slice(start, stop), self._labels.slice(start, stop))
        index = np.arange(start, stop) % self.num_points
        if points is not None:
            index = points[index]
        return to_batch(self._features.rows(index), self._labels.rows(index))


class _Passes:
    """What Lightning sets the number of a pass at."""

    def __init__(self, sampler: BatchLoader) -> None:
        self.sampler = sampler


def _processes() -> tuple[int, int]:
    """Number of this process and how many train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


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
