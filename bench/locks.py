"""Locks on files, which the system releases when their process dies.

The module that has them is not imported before one is needed: where there is none (Windows), all
that writes nothing works.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

from bench.errors import StorageError


@contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """Hold the lock of an open file, once whoever holds it lets go.

    Raises:
        StorageError: this system has no such locks.
    """
    try:
        fcntl = importlib.import_module("fcntl")
    except ImportError as error:
        raise StorageError(
            "this system has no file locks (fcntl); runs need Linux or macOS"
        ) from error
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
