"""Files that readers may have open: written elsewhere, then put in place."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bench import lockfiles
from bench.errors import StorageError


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all; a reader sees the old one or the new one.

    What writers of the same file left behind that were killed is taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError, StorageError):
        # Whoever writes one holds it.
        lockfiles.sweep(path.parent, f".{glob.escape(path.name)}.*.partial")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with _held(partial):
        try:
            partial.write_bytes(content)
            if path.exists():
                partial.chmod(path.stat().st_mode)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Keep others from taking a file for one that is left over, where the system has locks."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, StorageError):
            stack.enter_context(lockfiles.locked(path))
        yield


def file_safe(text: str) -> str:
    """Text as part of a file's name.

    >>> file_safe("k = 5")
    'k-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
