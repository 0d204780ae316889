"""Options of planted points, and sparse rows as dictionaries for comparisons."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.data.csr import Csr


def planted(
    num_train_points: int, num_test_points: int, num_features: int, num_labels: int, **more: Any
) -> dict[str, Any]:
    sizes = ("num_train_points", "num_test_points", "num_features", "num_labels")
    numbers = (num_train_points, num_test_points, num_features, num_labels)
    return {**dict(zip(sizes, numbers, strict=True)), **more}


def row_dicts(rows: Csr) -> list[dict[int, float]]:
    """Values by id of each row, in the order of the ids; 1 where there are no values."""
    values = np.ones(rows.ids.size) if rows.values is None else rows.values
    return [
        dict(zip(rows.ids[a:b].tolist(), values[a:b].tolist(), strict=True))
        for a, b in zip(rows.offsets[:-1], rows.offsets[1:], strict=True)
    ]
