"""Files that readers may have open: written elsewhere, then put in place."""

from __future__ import annotations

import os
import re
from pathlib import Path


def replace_file(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all; a reader sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        if path.exists():
            partial.chmod(path.stat().st_mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def file_safe(text: str) -> str:
    """Text as part of a file's name.

    >>> file_safe("k = 5")
    'k-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
