"""Compiled kernels, kept on disk for as long as the source of none of them has changed.

Numba looks at the file of a kept kernel alone, but what that calls in other files, and constants
from there, are compiled into it. So the folder of kept kernels is named by a digest of all files
that hold one. Kept kernels are code: they lie where nobody but their user can write.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba

from bench.store.files import of_user, private_folder

_ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = ("bench", "baselines")
# A file that holds it holds kernels, or what makes them.
_WORD = b"njit"
_KEPT_SECONDS = 7 * 86_400.0

_config: Any = numba.config  # its switches are set when it is imported


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit`, with `cache=True` in a folder of this user's and of these sources.

    Where no such folder can be had, kernels are compiled anew in each process.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        folder = _folder() if options.get("cache") else None
        before = _config.CACHE_DIR
        if folder is not None:
            _config.CACHE_DIR = str(folder)
        try:
            return numba.njit(**options | {"cache": folder is not None})(function)
        finally:
            _config.CACHE_DIR = before

    return decorate


def kernel_sources() -> list[Path]:
    """The files of both packages that hold kernels, sorted."""
    files = (file for name in _PACKAGES for file in (_ROOT / name).rglob("*.py"))
    return sorted(file for file in files if _WORD in file.read_bytes())


@functools.cache
def _folder() -> Path | None:
    digest = hashlib.sha256()
    for file in kernel_sources():
        content = file.read_bytes()
        digest.update(f"{file.relative_to(_ROOT)} {len(content)}\n".encode() + content)
    prefix = of_user("kernels-")
    for home in _homes():
        folder = private_folder(home / (prefix + digest.hexdigest()[:16]))
        if folder is not None:
            _drop_old(folder, prefix)
            return folder
    return None


def _homes() -> Iterator[Path]:
    """Folders that may hold kernels, the best one first."""
    if _config.CACHE_DIR:
        yield Path(_config.CACHE_DIR)
    yield _ROOT / "bench" / "__pycache__"
    with suppress(RuntimeError):  # a user whom the system does not know has no folder
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield Path(tempfile.gettempdir())


def _drop_old(folder: Path, prefix: str) -> None:
    """Remove what was compiled from sources that nobody has used for a week."""
    with suppress(OSError):
        os.utime(folder)
        for other in folder.parent.glob(f"{prefix}*"):
            if time.time() - other.stat().st_mtime > _KEPT_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
