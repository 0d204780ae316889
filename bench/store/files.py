"""Files that readers may have open, written elsewhere, then moved; temporary folders."""

from __future__ import annotations

import glob
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.store.locks import NoLocksError, locked, own_name, sweep

_PARTIAL = ".partial"


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file completely or not at all; a reader sees the old one or the new one.

    What writers left of this file that were killed is taken away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(NoLocksError):  # nobody knows there who is at work
        sweep(path.parent, f".{glob.escape(path.name)}.*{_PARTIAL}")
    partial = path.with_name(f".{path.name}.{own_name()}{_PARTIAL}")
    with ExitStack() as stack:
        stack.callback(partial.unlink, missing_ok=True)
        with suppress(NoLocksError):
            stack.enter_context(locked(partial))
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


@contextmanager
def scratch_folder(home: Path) -> Iterator[Path]:
    """A folder below another one, removed afterwards; as are those whose process was killed."""
    home.mkdir(parents=True, exist_ok=True)
    sweep(home, "*.lock", lambda path: shutil.rmtree(path.with_suffix(""), ignore_errors=True))
    folder = home / own_name()
    with locked(folder.with_suffix(".lock")):
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
