"""Index of a hash: bucket → its labels, and label → its buckets, for the sub-linear decode.

Built once from a table, in the narrowest types. A label costs `R · (4 + bytes of a bucket id)`
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bench.mach.decode import check_buckets
from bench.mach.decode.workspace import empty_aligned
from bench.store.kernels import njit

_MAX_LABELS = 2**31 - 1
# Labels transposed at a time: a block of rows and the R runs it is read from stay in L2.
_BLOCK = 4096


@dataclass(frozen=True, eq=False)
class BucketIndex:
    """Both directions of a hash table; equal only to itself.

    Attributes:
        rows: `(L, R)` unsigned, buckets of a label side by side: scoring it reads one cache line.
        lists: `(R, L)` int32, the labels of each world ordered by bucket, then by label.
        offsets: `(R, B + 1)` int64: bucket b of world r holds `lists[r, offsets[r, b] :
            offsets[r, b + 1]]`.
    """

    rows: NDArray[Any]
    lists: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @property
    def num_labels(self) -> int:
        """L."""
        return int(self.rows.shape[0])

    @property
    def num_worlds(self) -> int:
        """R."""
        return int(self.rows.shape[1])

    @property
    def num_buckets(self) -> int:
        """B."""
        return int(self.offsets.shape[1] - 1)

    def check(self, num_worlds: int, num_buckets: int) -> None:
        """Refuse bucket scores of other sizes.

        Raises:
            ValueError: R or B differs.
        """
        if (num_worlds, num_buckets) != (self.num_worlds, self.num_buckets):
            raise ValueError(
                f"bucket scores have R = {num_worlds}, B = {num_buckets}; expected those of the "
                f"index, R = {self.num_worlds}, B = {self.num_buckets}"
            )

    @property
    def num_bytes(self) -> int:
        """Bytes of the three arrays."""
        return self.rows.nbytes + self.lists.nbytes + self.offsets.nbytes


def build_index(table: Tensor, num_buckets: int) -> BucketIndex:
    """Index of a table.

    Peak memory is the index and one int64 counter per world and bucket beside the table.

    Args:
        table: `(R, L)` integer buckets on the CPU, as `HashFamily.table` gives them.
        num_buckets: B.

    Raises:
        ValueError: a bucket is outside 0 … B − 1, or the shape is not `(R ≥ 1, L ≥ 1)`.
    """
    if table.ndim != 2 or table.is_floating_point() or 0 in table.shape:
        raise ValueError(
            f"table has shape {tuple(table.shape)} and type {table.dtype}; expected (R, L) integers"
        )
    num_worlds, num_labels = table.shape
    if num_labels > _MAX_LABELS:
        raise ValueError(f"table has L = {num_labels} labels; expected below 2^31")
    check_buckets(table, num_buckets)
    rows = empty_aligned((num_labels, num_worlds), _bucket_type(num_buckets))
    lists = empty_aligned((num_worlds, num_labels), np.dtype(np.int32))
    offsets = empty_aligned((num_worlds, num_buckets + 1), np.dtype(np.int64))
    _fill(table.numpy(), rows, lists, offsets)
    return BucketIndex(rows, lists, offsets)


class IndexCache:
    """Indexes of tables in use: each is built when first asked for and dies with its table."""

    def __init__(self) -> None:
        self._indexes: Any = WeakTensorKeyDictionary()

    def get(self, table: Tensor, num_buckets: int) -> BucketIndex:
        """The table's index; built anew if torch wrote to the table since.

        What is written through `table.numpy()` or `table.data`, or to a tensor made in inference
        mode, goes unnoticed.

        Raises:
            ValueError: as :func:`build_index`.
        """
        version = None if table.is_inference() else table._version
        entry = self._indexes.get(table)
        if entry is None or entry[:2] != (version, num_buckets):
            entry = (version, num_buckets, build_index(table, num_buckets))
            self._indexes[table] = entry
        index: BucketIndex = entry[2]
        return index


def _bucket_type(num_buckets: int) -> np.dtype[Any]:
    return np.min_scalar_type(num_buckets - 1)


@njit(cache=True, nogil=True, parallel=True)
def _fill(table: Any, rows: Any, lists: Any, offsets: Any) -> None:
    """Counting sort of every world, and the transpose of the table."""
    num_worlds, num_labels = table.shape
    num_buckets = offsets.shape[1] - 1
    for world in prange(num_worlds):
        starts = np.zeros(num_buckets + 1, np.int64)
        for label in range(num_labels):
            starts[np.int64(table[world, label]) + 1] += 1
        for bucket in range(num_buckets):
            starts[bucket + 1] += starts[bucket]
        offsets[world] = starts
        for label in range(num_labels):
            own: Any = np.int64(table[world, label])
            lists[world, starts[own]] = label
            starts[own] += 1
    for block in prange((num_labels + _BLOCK - 1) // _BLOCK):
        stop = min(block * _BLOCK + _BLOCK, num_labels)
        for world in range(num_worlds):
            for label in range(block * _BLOCK, stop):
                rows[label, world] = table[world, label]
