"""Cards of the ways to decode, in the order of their tables: rivals, ours, approximate ones."""

from __future__ import annotations

from typing import Any

from bench.methods.card import Card, OptionFormat

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


def _card(name: str, label: str, target: str, color: str, marker: str, **more: Any) -> Card:
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
        **more,
    )


CARDS = (
    _card(
        "authors",
        "Authors' gather",
        "authors:AuthorsGather",
        "#D55E00",
        "v",
        ratio_title="× authors'",
    ),
    _card("softmax_matmul", "Softmax matmul + top-k", "softmax:SoftmaxMatmul", "#000000", "s"),
    _card("faiss_pq", "FAISS IndexPQ", "faiss_pq:FaissPQ", "#CC79A7", "<"),
    # MACH's blues are ours. Auto picks one of the other two, so it is a cross upon them.
    _card("dense", "Dense", "dense:Dense", "#7cc4f0", "D"),
    _card("pruned", "Pruned", "pruned:Pruned", "#0072B2", "o"),
    _card("auto", "Auto", "auto:Auto", "#00263f", "x"),
    _card(
        "buckets",
        "Top buckets (approximate)",
        "buckets:Buckets",
        "#E69F00",
        "^",
        is_approximate=True,
    ),
)
