"""Registry of decode methods: a new one is one file, with `top_k` and `prepare`, and one line."""

from __future__ import annotations

METHODS: dict[str, str] = {
    "dense": "bench.mach.dense:top_k",
    "pruned": "bench.mach.pruned:top_k",
    "auto": "bench.mach.auto:top_k",
}
#: Those that keep an index of the table, see `bench.mach.index`.
INDEXED = frozenset({"pruned", "auto"})
#: Fastest without an index, and near the fastest with one on scores that are not peaked.
DEFAULT = "dense"
