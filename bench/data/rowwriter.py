"""Arrays and sparse rows that grow block by block: files of a folder, or without one in memory.

What is in a folder is handed out memory-mapped; `bench.data.cache` takes such files as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.csr import BLOCK_ENTRIES, Csr
from bench.store.locks import own_name


class ArrayWriter:
    """A one-dimensional array; `size` is the number of entries so far."""

    def __init__(self, folder: Path | None, dtype: type[np.generic]) -> None:
        self.size = 0
        self._dtype = np.dtype(dtype)
        self._blocks: list[npt.NDArray[Any]] = [np.empty(0, dtype)]
        # Opened for each block: a reader that gives up must leave nothing open.
        self._path = None if folder is None else folder / f"{own_name()}.npy"
        if self._path is not None:
            self._path.touch(exist_ok=False)
            self._write_header()

    def append(self, block: npt.NDArray[Any]) -> None:
        """Add entries at the end."""
        block = np.ascontiguousarray(block, dtype=self._dtype)
        self.size += block.size
        if self._path is None:
            self._blocks.append(block)
        else:
            with self._path.open("ab") as stream:
                stream.write(block.data)

    def finish(self) -> npt.NDArray[Any]:
        """The whole array."""
        if self._path is None:
            return np.concatenate(self._blocks)
        self._write_header()
        return np.asarray(np.load(self._path, mmap_mode="r", allow_pickle=False))

    def _write_header(self) -> None:
        assert self._path is not None
        head = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.size,)}
        with self._path.open("r+b") as stream:
            # NumPy pads it so that it is as long for any size.
            np.lib.format.write_array_header_1_0(stream, head)


class RowWriter:
    """Sparse rows; values are kept if any block has some."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._offsets = ArrayWriter(folder, np.int64)
        self._offsets.append(np.zeros(1, np.int64))
        self._ids = ArrayWriter(folder, np.int32)
        self._values: ArrayWriter | None = None

    def add(self, rows: Csr) -> None:
        """Add rows below the others; their number of columns does not matter."""
        if rows.values is not None and self._values is None:
            self._values = ArrayWriter(self._folder, np.float32)
            for start in range(0, self._ids.size, BLOCK_ENTRIES):
                num_ones = min(BLOCK_ENTRIES, self._ids.size - start)
                self._values.append(np.ones(num_ones, np.float32))
        self._offsets.append(self._ids.size + rows.offsets[1:])
        self._ids.append(rows.ids)
        if self._values is not None:
            values = rows.values
            self._values.append(np.ones(rows.ids.size, np.float32) if values is None else values)

    def finish(self, num_columns: int) -> Csr:
        """All rows."""
        values = None if self._values is None else self._values.finish()
        return Csr(self._offsets.finish(), self._ids.finish(), values, num_columns)


def stacked(blocks: Iterable[Csr], num_columns: int, folder: Path | None) -> Csr:
    """Blocks of rows, one below the other."""
    writer = RowWriter(folder)
    for block in blocks:
        writer.add(block)
    return writer.finish(num_columns)
