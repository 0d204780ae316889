"""What the cache keeps, how large it is and when it was last used; taking away what is not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data.cache import remove_unused

#: Folders below the cache's own that hold entries, too.
_FOLDERS = ("weights", "checkpoints", "worlds", "scores")
_SIZES = {"num_train_points": "N", "num_features": "D", "num_labels": "L"}


@dataclass(frozen=True)
class Kept:
    """An entry of the cache.

    Attributes:
        folder: where it lies.
        kind: `read` (a source's arrays), `prepared` (those of a trial), or its folder's name.
        what: source and sizes of data; empty where the entry does not say.
        num_bytes: of its files.
        used_at: when it was last opened, in seconds of the clock.
    """

    folder: Path
    kind: str
    what: str
    num_bytes: int
    used_at: float


def kept(cache_dir: Path) -> list[Kept]:
    """The entries, those that were used last first."""
    found = []
    for home in (cache_dir, *(cache_dir / name for name in _FOLDERS)):
        for path in home.glob("[!.]*/meta.json"):
            try:
                meta = json.loads(path.read_text(encoding="utf-8"))["meta"]
                used_at = path.parent.stat().st_mtime
            except (OSError, ValueError, LookupError, TypeError):
                continue  # damaged, or just taken away
            kind = home.name
            if home == cache_dir:
                kind = "prepared" if "columns" in meta else "read"
            found.append(Kept(path.parent, kind, _what(meta), num_bytes(path.parent), used_at))
    return sorted(found, key=lambda each: -each.used_at)


def num_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; of those that vanish meanwhile none."""
    total = 0
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink():
                total += path.stat().st_size
        except OSError:
            continue
    return total


def to_prune(
    entries: Iterable[Kept], *, older_seconds: float | None = None, over_bytes: int | None = None
) -> list[Kept]:
    """Entries to take away, those that were used longest ago first.

    Args:
        entries: all of them.
        older_seconds: those that nobody has used for so long.
        over_bytes: as many as it takes for the others to have at most so many bytes together.
    """
    entries = sorted(entries, key=lambda each: each.used_at)
    left = sum(each.num_bytes for each in entries)
    now = time.time()
    chosen = []
    for each in entries:
        is_old = older_seconds is not None and now - each.used_at > older_seconds
        if is_old or (over_bytes is not None and left > over_bytes):
            chosen.append(each)
            left -= each.num_bytes
    return chosen


def prune(entries: Sequence[Kept]) -> list[Kept]:
    """Take entries away; those that are gone. What a running process reads or builds stays."""
    return [each for each in entries if remove_unused(each.folder)]


def _what(meta: Mapping[str, Any]) -> str:
    facts = meta.get("facts", {}) | meta
    sizes = (f"{letter} = {facts[name]:,}" for name, letter in _SIZES.items() if name in facts)
    return ", ".join([*filter(None, [facts.get("source")]), *sizes])
