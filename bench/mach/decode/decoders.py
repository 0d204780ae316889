"""Registry of decode methods: a new one is one file, with `top_k` and `prepare`, and one line."""

from __future__ import annotations

METHODS: dict[str, str] = {
    "dense": "bench.mach.decode.dense:top_k",
    "pruned": "bench.mach.decode.pruned:top_k",
    "auto": "bench.mach.decode.auto:top_k",
}
#: Those that keep an index of the table, see `bench.mach.decode.index`.
INDEXED = frozenset({"pruned", "auto"})
#: Fastest without an index, and near the fastest with one on scores that are not peaked.
DEFAULT = "dense"
