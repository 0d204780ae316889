"""Files that readers may have open: written elsewhere, then put in place."""

from __future__ import annotations

import glob
import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

from bench.store import locks
from bench.store.locks import NoLocksError

_PARTIAL = ".partial"


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all; a reader sees the old one or the new one.

    What writers left of this file that were killed is taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(NoLocksError):  # nobody can tell there who is at work
        locks.sweep(path.parent, f".{glob.escape(path.name)}.*{_PARTIAL}")
    partial = path.with_name(f".{path.name}.{os.getpid()}-{os.urandom(4).hex()}{_PARTIAL}")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        with suppress(NoLocksError):
            stack.enter_context(locks.locked(partial))
        partial.write_bytes(content)
        if path.exists():
            partial.chmod(path.stat().st_mode)
        partial.replace(path)
    return path


def file_safe(text: str) -> str:
    """Text as part of a file's name.

    >>> file_safe("k = 5")
    'k-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
