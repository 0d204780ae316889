"""From numbers of tokens, row by row, to sparse rows of counts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from bench.data.csr import Csr, Float32s, Int32s, Int64s, count_ids
from bench.data.rowwriter import RowWriter
from bench.store.kernels import njit

# Ids and ends of rows in memory before they are counted.
_BLOCK = 1 << 20


class Numbers(dict[str, int]):
    """Numbers from 0 of names, in the order in which they are first asked for."""

    def __missing__(self, name: str) -> int:
        """A new name has the next number."""
        number = self[name] = len(self)
        return number


class CountedRows:
    """Rows of ids, each with how often it stands there, that grow row by row.

    Args:
        writer: takes them block by block; None keeps none.
        is_tallied: whether to count the rows that hold each id.
    """

    def __init__(self, writer: RowWriter | None, *, is_tallied: bool = False) -> None:
        self._writer = writer
        self._is_tallied = is_tallied
        self._tally = np.zeros(0, dtype=np.int64)
        self.num_rows = 0
        self._ids, self._ends = array("i"), array("q", [0])

    def add(self, ids: Iterable[int]) -> None:
        """Add a row; ids below 0 are none."""
        self._ids.extend(ids)
        self._ends.append(len(self._ids))
        if len(self._ids) + len(self._ends) > _BLOCK:
            self._flush()

    def tally(self, num_ids: int) -> Int64s:
        """`(num_ids,)` int64: rows that hold each id."""
        self._flush()
        return np.pad(self._tally, (0, max(0, num_ids - self._tally.size)))[:num_ids]

    def finish(self, num_columns: int) -> Csr:
        """All rows."""
        assert self._writer is not None
        self._flush()
        return self._writer.finish(num_columns)

    def _flush(self) -> None:
        offsets, ids = np.array(self._ends), np.array(self._ids)
        self._ids, self._ends = array("i"), array("q", [0])
        self.add_block(offsets, ids)

    def add_block(self, offsets: Int64s, ids: Int32s) -> None:
        """Add rows, which it may change."""
        self.num_rows += offsets.size - 1
        counts = np.empty(ids.size, dtype=np.float32)
        num_kept = _count(offsets, ids, counts)
        ids = ids[:num_kept]
        if self._is_tallied:
            num_missing = int(ids.max(initial=-1)) + 1 - self._tally.size
            if num_missing > 0:
                self._tally = np.pad(self._tally, (0, max(num_missing, self._tally.size)))
            count_ids(ids, self._tally)
        if self._writer is not None:
            self._writer.add(Csr(offsets, ids, _but_ones(counts[:num_kept]), 0))


def renumbered(rows: Csr, new_ids: Int32s) -> Csr:
    """Rows with other ids; entries whose new one is below 0 are left out."""
    offsets, ids = rows.offsets.copy(), new_ids[rows.ids]
    values = np.ones(ids.size, dtype=np.float32) if rows.values is None else rows.values.copy()
    num_kept = _sort(offsets, ids, values)
    return Csr(offsets, ids[:num_kept], _but_ones(values[:num_kept]), rows.num_columns)


def _but_ones(values: Float32s) -> Float32s | None:
    return None if np.all(values == 1) else values


@njit(cache=True)
def _count(offsets, ids, counts):  # type: ignore[no-untyped-def]
    """Put each row in order, in place, with an id once; how many entries that leaves."""
    written = 0
    start = 0
    for row in range(offsets.size - 1):
        stop = offsets[row + 1]
        ids[start:stop].sort()
        first = written
        for entry in range(start, stop):
            number = ids[entry]
            if number < 0:
                continue
            if written > first and ids[written - 1] == number:
                counts[written - 1] += 1
            else:
                ids[written] = number
                counts[written] = 1
                written += 1
        offsets[row + 1] = written
        start = stop
    return written


@njit(cache=True)
def _sort(offsets, ids, values):  # type: ignore[no-untyped-def]
    """Put each row in order, in place, without ids below 0; how many entries that leaves."""
    written = 0
    start = 0
    for row in range(offsets.size - 1):
        stop = offsets[row + 1]
        order = np.argsort(ids[start:stop])
        own_ids = ids[start:stop][order]
        own_values = values[start:stop][order]
        for entry in range(order.size):
            if own_ids[entry] >= 0:
                ids[written] = own_ids[entry]
                values[written] = own_values[entry]
                written += 1
        offsets[row + 1] = written
        start = stop
    return written
