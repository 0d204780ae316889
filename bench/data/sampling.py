"""From random numbers to sparse rows: what the synthetic sources share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Float32s, Int32s, Int64s, offsets_of

#: Row lengths, ids ascending within a row, and how often each was drawn.
Counted = tuple[npt.NDArray[np.int64], Int32s, Float32s]


def zipf(num_items: int, exponent: float) -> npt.NDArray[np.float64]:
    """`(num_items,)` float64: p(i) ∝ (i + 1)^(−exponent)."""
    weights = np.arange(1, num_items + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum())


def inverse_cdf(
    cumulative: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64]
) -> npt.NDArray[np.int32]:
    """Items drawn by uniform numbers from cumulative probabilities, of the numbers' shape."""
    found = np.searchsorted(cumulative, uniform, side="right")
    # The last cumulative sum may round to less than 1.
    return np.minimum(found, cumulative.size - 1).astype(np.int32)


def count_rows(drawn: Int32s) -> Counted:
    """Distinct ids of each row of `(N, n)`, and how often each stands there; below 0 is no id."""
    drawn = np.sort(drawn, axis=1)
    is_first = np.ones(drawn.shape, dtype=bool)
    is_first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    counts = np.diff(np.append(np.flatnonzero(is_first), drawn.size))
    is_id = is_first & (drawn >= 0)
    return is_id.sum(axis=1), drawn[is_id], counts[drawn[is_first] >= 0].astype(np.float32)


def stack_rows(parts: Sequence[Counted], num_columns: int) -> Csr:
    """Blocks of rows, one below the other."""
    lengths, ids, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Csr(offsets_of(lengths), ids, counts, num_columns)


def distinct_rows(draw: Callable[[int], Int32s], num_rows: int) -> Int32s:
    """Rows of distinct ids: `draw(n)` gives n rows, and those with an id twice are drawn again."""
    rows = draw(num_rows)
    while True:
        ordered = np.sort(rows, axis=1)
        repeating = np.flatnonzero(np.any(ordered[:, 1:] == ordered[:, :-1], axis=1))
        if not repeating.size:
            return rows
        rows[repeating] = draw(repeating.size)


def inverted(rows: Int32s, num_ids: int) -> tuple[Int64s, Int32s]:
    """Starts and owners: id i is in the rows `owners[starts[i] : starts[i + 1]]`, ascending."""
    order = np.argsort(rows, axis=None, kind="stable")
    owners = (order // rows.shape[1]).astype(np.int32)
    return offsets_of(np.bincount(rows.ravel(), minlength=num_ids)), owners
