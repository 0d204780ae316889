"""From random numbers to sparse rows: what the synthetic sources share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Float32s, Int32s

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
    """Distinct ids of each row and how often each stands there; negative ones are no ids.

    Args:
        drawn: `(N, n)` int32, in any order.
    """
    drawn = np.sort(drawn, axis=1)
    is_first = np.ones(drawn.shape, dtype=bool)
    is_first[:, 1:] = drawn[:, 1:] != drawn[:, :-1]
    counts = np.diff(np.append(np.flatnonzero(is_first), drawn.size))
    is_id = is_first & (drawn >= 0)
    return is_id.sum(axis=1), drawn[is_id], counts[drawn[is_first] >= 0].astype(np.float32)


def stack_rows(parts: Sequence[Counted], num_columns: int) -> Csr:
    """Blocks of rows, one below the other."""
    lengths, ids, counts = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Csr(offsets, ids, counts, num_columns)
