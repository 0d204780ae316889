"""Scratch arrays of the size of L, kept: clearing them costs more than a query."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Arrays = TypeVar("Arrays")


class Workspace(threading.local, Generic[Arrays]):
    """A thread's scratch arrays, for one set of sizes at a time.

    They are handed out as they were left, so that users clean up after themselves. An exception
    drops them: an interrupted kernel leaves marks behind.
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
