"""Command line: `python -m bench cache`: what it keeps, and taking away what is not used."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.data import kept
from bench.errors import UserError
from bench.store.files import folder_named

_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


class CacheUsageError(UserError):
    """Options that do not go together."""


def add_command(commands: Any, *, default_cache_dir: Path) -> None:
    """Add `cache` to the parser of `python -m bench`."""
    what = "what the cache keeps, with sizes and ages; take away what is not used"
    command = commands.add_parser("cache", help=what)
    command.add_argument(
        "--cache-dir", type=folder_named, default=default_cache_dir, help="default: %(default)s"
    )
    command.add_argument(
        "--older", type=_age, metavar="AGE", help="what nobody has used for so long: 30d, 12h"
    )
    command.add_argument(
        "--over", type=_size, metavar="SIZE", help="what was used longest ago, down to it: 10GB"
    )
    command.add_argument(
        "--prune",
        action="store_true",
        help="take it away, but what a running process reads; without, it is only named",
    )
    command.set_defaults(command=_cache)


def size_text(num_bytes: float) -> str:
    """Bytes in MB or GB.

    >>> size_text(1_500_000), size_text(2_340_000_000)
    ('1.5 MB', '2.3 GB')
    """
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"


def _cache(options: argparse.Namespace) -> int:
    is_chosen = options.older is not None or options.over is not None
    if options.prune and not is_chosen:
        raise CacheUsageError(
            "--prune takes away what --older or --over name; expected one of them"
        )
    entries = kept.kept(options.cache_dir)
    chosen = kept.to_prune(entries, older_seconds=options.older, over_bytes=options.over)
    for each in chosen if is_chosen else entries:
        age = _age_text(time.time() - each.used_at)
        line = f"{each.kind:<11} {size_text(each.num_bytes):>10} {age:>9}  {each.what}"
        print(f"{line.rstrip()}  {each.folder.name[:12]}")
    if options.prune:
        gone = kept.prune(chosen)
        freed = size_text(sum(each.num_bytes for each in gone))
        in_use = len(chosen) - len(gone)
        print(f"{len(gone)} entries taken away, {freed}; {in_use} in use or of other users stay")
    elif is_chosen:
        print(f"{len(chosen)} entries would be taken away by --prune")
    total = sum(each.num_bytes for each in kept.kept(options.cache_dir))
    beside = size_text(max(0, kept.num_bytes(options.cache_dir) - total))
    print(f"{options.cache_dir} keeps {size_text(total)}, and {beside} of logs and the like")
    return 0


def _age_text(seconds: float) -> str:
    """How long ago something was used last, in the largest unit that it fills."""
    for letter in ("d", "h", "m"):
        if seconds >= _SECONDS[letter]:
            return f"{int(seconds // _SECONDS[letter])} {letter}"
    return "0 m"


def _age(text: str) -> float:
    return _amount(text, _SECONDS, "an age such as 30d or 12h")


def _size(text: str) -> int:
    return int(_amount(text, _BYTES, "a size such as 10GB or 500MB"))


def _amount(text: str, units: Mapping[str, float], expected: str) -> float:
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", text)
    if found is None or found[2] not in units:
        raise argparse.ArgumentTypeError(
            f"{text!r}; expected {expected} (units: {', '.join(units)})"
        )
    return float(found[1]) * units[found[2]]
