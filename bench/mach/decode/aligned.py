"""Arrays that start a cache line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LINE_BYTES = 64


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `numpy.empty`, at a multiple of 64 bytes: no row of 64 bytes straddles two lines."""
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(num_bytes + _LINE_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE_BYTES
    return raw[start : start + num_bytes].view(dtype).reshape(shape)
