"""Sparse rows in memory: the one form of every data source's points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bench.store.kernels import njit

Task = Literal["multiclass", "multilabel"]
JsonScalar = str | int | float | bool | None
Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

#: What is read or written at a time of rows that do not fit into memory: about so many entries,
#: and at most so many rows.
BLOCK_ENTRIES = 1 << 22
BLOCK_ROWS = 1 << 18


@dataclass(frozen=True)
class Csr:
    """`N` sparse rows. Frozen, but its arrays are not copied; they may be memory-mapped.

    Attributes:
        offsets: `(N + 1,)` int64 from 0; row i owns entries `offsets[i]:offsets[i + 1]`.
        ids: `(nnz,)` int32 column ids in [0, num_columns), ascending within a row.
        values: `(nnz,)` float32, or None where every entry is 1.
        num_columns: D for features, L for labels.
    """

    offsets: Int64s
    ids: Int32s
    values: Float32s | None
    num_columns: int

    def __post_init__(self) -> None:
        if self.offsets.ndim != 1 or self.offsets.size == 0 or self.offsets[0] != 0:
            raise ValueError(f"offsets have shape {self.offsets.shape}; expected (N + 1,) from 0")
        if self.ids.shape != (int(self.offsets[-1]),):
            raise ValueError(f"ids have shape {self.ids.shape}; expected ({self.offsets[-1]},)")
        if self.values is not None and self.values.shape != self.ids.shape:
            raise ValueError(f"values have shape {self.values.shape}; expected {self.ids.shape}")

    @property
    def num_rows(self) -> int:
        """Rows, N."""
        return self.offsets.size - 1

    @property
    def row_lengths(self) -> Int64s:
        """`(N,)` int64: entries in each row."""
        return np.diff(self.offsets)

    def rows(self, index: npt.NDArray[np.int64]) -> Csr:
        """Rows `index` (`(n,)` int64 in [0, N), any order, repeats allowed), copied."""
        index = np.asarray(index, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.num_rows):
            raise IndexError(f"row index outside [0, {self.num_rows})")
        starts = self.offsets[index]
        lengths = self.offsets[index + 1] - starts
        offsets = offsets_of(lengths)
        ids = np.empty(int(offsets[-1]), dtype=np.int32)
        _gather(starts, offsets, self.ids, ids)
        values = None
        if self.values is not None:
            values = np.empty(ids.size, dtype=np.float32)
            _gather(starts, offsets, self.values, values)
        return Csr(offsets, ids, values, self.num_columns)

    def slice(self, start: int, stop: int) -> Csr:
        """Rows `start:stop` (Python slice bounds); ids and values are views."""
        start, stop, _ = slice(start, stop).indices(self.num_rows)
        offsets = self.offsets[start : max(start, stop) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        values = None if self.values is None else self.values[first:last]
        return Csr(offsets - first, self.ids[first:last], values, self.num_columns)

    def blocks(self) -> Iterator[tuple[int, Csr]]:
        """All rows, a block at a time, each with the number of its first row; see :meth:`slice`."""
        size = self._block_rows
        for start in range(0, self.num_rows, size):
            yield start, self.slice(start, start + size)

    def blocks_of(self, index: npt.NDArray[np.integer]) -> Iterator[tuple[int, Csr]]:
        """Rows `index`, a block at a time, each with its place in `index`; see :meth:`rows`."""
        size = self._block_rows
        for start in range(0, index.size, size):
            yield start, self.rows(index[start : start + size].astype(np.int64))

    @property
    def _block_rows(self) -> int:
        return max(1, min(BLOCK_ROWS, BLOCK_ENTRIES * self.num_rows // max(1, self.ids.size)))

    def followed_by(self, other: Csr) -> Csr:
        """These rows, then those of another with as many columns, copied."""
        values = None
        if self.values is not None or other.values is not None:
            values = np.concatenate([_values(self), _values(other)])
        offsets = np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        return Csr(offsets, np.concatenate([self.ids, other.ids]), values, self.num_columns)

    def column_counts(self) -> Int64s:
        """`(num_columns,)` int64: rows that hold each column."""
        counts = np.zeros(self.num_columns, dtype=np.int64)
        count_ids(self.ids, counts)
        return counts


def offsets_of(lengths: npt.NDArray[np.integer]) -> Int64s:
    """`(N + 1,)` int64 offsets of N rows that have so many entries each."""
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def _values(rows: Csr) -> Float32s:
    return np.ones(rows.ids.size, np.float32) if rows.values is None else rows.values


@dataclass(frozen=True)
class Dataset:
    """Everything a trial sees of its data, ready to be cut into batches.

    Attributes:
        train_features: `(N, D)`, weighted and normalised as the spec says; the other splits alike.
        train_labels: `(N, L)`; the training split, without the validation points.
        validation_features: carved from the training data.
        validation_labels: of those.
        test_features: the scored test points.
        test_labels: of those; ids of L or more are labels that no training file has.
        num_features: D, of the training file.
        num_labels: L, of the training file.
        task: `multiclass` has exactly one label a point.
        facts: what a record states of the data; JSON scalars.
        test_rows: `(N_test,)` int64, index of each scored test point among the file's, from 0;
            None where they are in the order of the file.
        set_aside_labels: of training points that are neither trained nor validated on, `(n, L)`;
            None where there are none.
        label_fingerprint: digest of what the L labels are called, in order; of their number alone
            where the source has no names.
    """

    train_features: Csr
    train_labels: Csr
    validation_features: Csr
    validation_labels: Csr
    test_features: Csr
    test_labels: Csr
    num_features: int
    num_labels: int
    task: Task
    facts: dict[str, JsonScalar]
    test_rows: Int64s | None = None
    set_aside_labels: Csr | None = None
    label_fingerprint: str | None = None

    @property
    def num_file_points(self) -> int:
        """Points of the training file, those validated on and set aside included."""
        return sum(part.num_rows for part in self._file_labels)

    def file_label_counts(self) -> Int64s:
        """`(L,)` int64: points of the training file that have each label.

        What a propensity is a function of: how many points were held back for validation must not
        move it.
        """
        counts = np.zeros(self.num_labels, dtype=np.int64)
        for part in self._file_labels:
            counts += part.column_counts()
        return counts

    @property
    def _file_labels(self) -> list[Csr]:
        parts = (self.train_labels, self.validation_labels, self.set_aside_labels)
        return [part for part in parts if part is not None]


@njit(cache=True)
def count_ids(ids, counts):  # type: ignore[no-untyped-def]
    """Add to `counts` how often each id stands among `ids`; `bincount` would copy these."""
    for entry in range(ids.size):
        counts[ids[entry]] += 1


@njit(cache=True)
def _gather(starts, offsets, source, out):  # type: ignore[no-untyped-def]
    for row in range(starts.size):
        start = starts[row]
        begin = offsets[row]
        for entry in range(offsets[row + 1] - begin):
            out[begin + entry] = source[start + entry]
