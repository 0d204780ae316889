"""Sparse rows as dictionaries, for comparisons."""

from __future__ import annotations

import numpy as np

from bench.data.csr import Csr


def row_dicts(rows: Csr) -> list[dict[int, float]]:
    """Values by id of each row, in the order of the ids; 1 where there are no values."""
    values = np.ones(rows.ids.size) if rows.values is None else rows.values
    return [
        dict(zip(rows.ids[a:b].tolist(), values[a:b].tolist(), strict=True))
        for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]
