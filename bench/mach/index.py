"""Index of a hash: bucket → its labels, and label → its buckets, for the sub-linear decode.

Built once from a table, in the narrowest types, and kept in memory or in a folder of `.npy` files
that are mapped, not read. A label costs `R · (4 + bytes of a bucket id)` bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from bench.mach.aligned import empty_aligned

FORMAT = 1

_MAX_LABELS = 2**31 - 1
_ARRAYS = ("rows", "lists", "offsets")
_DESCRIPTION = "index.json"
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

    @property
    def num_bytes(self) -> int:
        """Bytes of the three arrays."""
        return self.rows.nbytes + self.lists.nbytes + self.offsets.nbytes


def build_index(table: Tensor, num_buckets: int, folder: Path | None = None) -> BucketIndex:
    """Index of a table; with a folder, written there and mapped instead of held in memory.

    Peak memory is the index and one int64 counter per world and bucket beside the table. The folder
    appears whole or not at all.

    Args:
        table: `(R, L)` integer buckets on the CPU, as `HashFamily.table` gives them.
        num_buckets: B.
        folder: must not exist yet.

    Raises:
        ValueError: a bucket is outside 0 … B − 1, or the shape is not `(R ≥ 1, L ≥ 1)`.
        FileExistsError: the folder exists.
    """
    if table.ndim != 2 or table.is_floating_point() or 0 in table.shape:
        raise ValueError(
            f"table has shape {tuple(table.shape)} and type {table.dtype}; expected (R, L) integers"
        )
    num_worlds, num_labels = table.shape
    if num_labels > _MAX_LABELS:
        raise ValueError(f"table has L = {num_labels} labels; expected below 2^31")
    lowest, highest = (int(value) for value in torch.aminmax(table))
    if lowest < 0 or highest >= num_buckets:
        raise ValueError(
            f"table has buckets {lowest} to {highest}; expected 0 to B - 1 = {num_buckets - 1}"
        )
    shapes = {
        "rows": ((num_labels, num_worlds), _bucket_type(num_buckets)),
        "lists": ((num_worlds, num_labels), np.dtype(np.int32)),
        "offsets": ((num_worlds, num_buckets + 1), np.dtype(np.int64)),
    }
    buckets = table.numpy()
    if folder is None:
        held = {name: empty_aligned(*shape) for name, shape in shapes.items()}
        _fill(buckets, held["rows"], held["lists"], held["offsets"])
        return BucketIndex(**held)
    if folder.exists():
        raise FileExistsError(f"{folder} exists; expected a new folder for the index")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        mapped: dict[str, Any] = {
            name: np.lib.format.open_memmap(
                partial / f"{name}.npy", mode="w+", dtype=dtype, shape=shape
            )
            for name, (shape, dtype) in shapes.items()
        }
        _fill(buckets, mapped["rows"], mapped["lists"], mapped["offsets"])
        for array in mapped.values():
            array.flush()
        description = {"format": FORMAT, "num_buckets": num_buckets}
        (partial / _DESCRIPTION).write_text(json.dumps(description))
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return _map(folder)


def load_index(folder: Path) -> BucketIndex:
    """Index that :func:`build_index` wrote to a folder, its arrays mapped read-only.

    Raises:
        ValueError: the folder holds no index of this format, or its arrays disagree.
        FileNotFoundError: the folder or a file of it is missing.
    """
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); expected an index's description") from None
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path}: format is {found!r}; expected {FORMAT}")
    index = _map(folder)
    num_labels, num_worlds = index.rows.shape
    expected = {
        "lists": (num_worlds, num_labels),
        "offsets": (num_worlds, description.get("num_buckets", -2) + 1),
    }
    for name, shape in expected.items():
        found_shape = getattr(index, name).shape
        if found_shape != shape:
            raise ValueError(f"{folder / name}.npy: shape is {found_shape}; expected {shape}")
    _check_values(index, folder)
    return index


def _map(folder: Path) -> BucketIndex:
    return BucketIndex(
        **{
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in _ARRAYS
        }
    )


def _check_values(index: BucketIndex, folder: Path) -> None:
    """Refuse what would let a walk read outside of the arrays: one pass over the files."""
    types = {
        "rows": _bucket_type(index.num_buckets),
        "lists": np.dtype(np.int32),
        "offsets": np.dtype(np.int64),
    }
    for name, dtype in types.items():
        found = getattr(index, name).dtype
        if found != dtype:
            raise ValueError(f"{folder / name}.npy: type is {found}; expected {dtype}")
    offsets = index.offsets
    is_whole = (offsets[:, 0] == 0).all() and (offsets[:, -1] == index.num_labels).all()
    if not is_whole or (np.diff(offsets, axis=1) < 0).any():
        raise ValueError(
            f"{folder / 'offsets'}.npy: offsets do not ascend from 0 to L = {index.num_labels}"
        )
    worst = int(index.rows.max())
    if worst >= index.num_buckets:
        raise ValueError(
            f"{folder / 'rows'}.npy: bucket {worst}; expected 0 to {index.num_buckets - 1}"
        )
    for label in (int(index.lists.min()), int(index.lists.max())):
        if not 0 <= label < index.num_labels:
            raise ValueError(
                f"{folder / 'lists'}.npy: label {label}; expected 0 to {index.num_labels - 1}"
            )


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
        places = np.zeros(num_buckets + 1, np.int64)
        for label in range(num_labels):
            places[np.int64(table[world, label]) + 1] += 1
        for bucket in range(num_buckets):
            places[bucket + 1] += places[bucket]
        offsets[world] = places
        for label in range(num_labels):
            own: Any = np.int64(table[world, label])
            lists[world, places[own]] = label
            places[own] += 1
    for block in prange((num_labels + _BLOCK - 1) // _BLOCK):
        stop = min(block * _BLOCK + _BLOCK, num_labels)
        for world in range(num_worlds):
            for label in range(block * _BLOCK, stop):
                rows[label, world] = table[world, label]
