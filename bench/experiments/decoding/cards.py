"""Cards of the ways to decode, in the order of their tables: rivals, ours, approximate ones."""

from __future__ import annotations

from typing import Any

from bench.methods.card import Card, Dashes, OptionFormat

_OPTIONS = (
    OptionFormat(
        name="recompute", words={True: "hash recomputed", False: "table"}, is_always=False
    ),
    OptionFormat(
        name="falls_back",
        words={True: "falls back to a scan", False: "walk alone"},
        is_always=False,
    ),
    OptionFormat(name="score_type", text="{}", is_always=False),
    OptionFormat(name="num_best_buckets", text="best buckets={}", is_always=False),
)


def _card(
    name: str, label: str, target: str, color: str, marker: str, line: Dashes = "-", **more: Any
) -> Card:
    return Card(
        name=name,
        version=1,
        label=label,
        group="decode",
        target=f"bench.experiments.decoding.{target}",
        kind="decoding",
        entry="bench.experiments.decoding.trial",
        options=_OPTIONS,
        color=color,
        marker=marker,
        line=line,
        **more,
    )


_DOTS, _DASHES, _SHORT, _MIXED = (0, (1, 1)), (0, (4, 2)), (0, (3, 1)), (0, (5, 1, 1, 1))

CARDS = (
    _card(
        "authors",
        "Authors' gather",
        "authors:AuthorsGather",
        "#D55E00",
        "v",
        _MIXED,
        ratio_title="× authors'",
    ),
    _card(
        "softmax_matmul", "Softmax matmul + top-k", "softmax:SoftmaxMatmul", "#000000", "s", _DASHES
    ),
    _card("faiss_pq", "FAISS IndexPQ", "faiss_pq:FaissPQ", "#CC79A7", "<", _SHORT),
    # MACH's blues are ours. Auto picks one of the other two, so it is a ring around them.
    _card("dense", "Dense", "dense:Dense", "#7cc4f0", "D"),
    _card("pruned", "Pruned", "pruned:Pruned", "#0072B2", "o"),
    _card("auto", "Auto", "auto:Auto", "#00263f", "o", _DOTS, is_open=True),
    _card(
        "buckets",
        "Top buckets (approximate)",
        "buckets:Buckets",
        "#E69F00",
        "^",
        _DASHES,
        is_approximate=True,
    ),
)
