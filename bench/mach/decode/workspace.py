"""Arrays for kernels: aligned ones, and scratch that is kept from query to query."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

_LINE_BYTES = 64
Arrays = TypeVar("Arrays")


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As `numpy.empty`, at a multiple of 64 bytes: no row of 64 bytes straddles two lines."""
    num_bytes = math.prod(shape) * dtype.itemsize
    raw = np.empty(num_bytes + _LINE_BYTES, dtype=np.uint8)
    start = -raw.ctypes.data % _LINE_BYTES
    return raw[start : start + num_bytes].view(dtype).reshape(shape)


class Workspace(threading.local, Generic[Arrays]):
    """A thread's scratch arrays, for one set of sizes at a time.

    Clearing arrays of the size of L costs more than a query. They are handed out as they were left,
    so that users clean up after themselves. An exception drops them: an interrupted kernel leaves
    marks behind.
    """

    _kept: tuple[Hashable, Arrays] | None = None

    @contextmanager
    def borrow(self, sizes: Hashable, build: Callable[[], Arrays]) -> Iterator[Arrays]:
        """The arrays kept under `sizes`, else new ones of `build`."""
        kept, self._kept = self._kept, None
        if kept is None or kept[0] != sizes:
            kept = (sizes, build())
        yield kept[1]
        self._kept = kept
