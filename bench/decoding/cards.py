"""Cards of the ways to decode, in the order of their tables: rivals, ours, approximate ones."""

from __future__ import annotations

from bench.card import Card


def _card(name: str, label: str, target: str, color: str, marker: str) -> Card:
    return Card(
        name=name,
        version=1,
        label=label,
        group="decode",
        target=f"bench.decoding.{target}",
        kind="decoding",
        entry="bench.decoding.trial:execute",
        cost_entry="bench.decoding.trial:attend",
        color=color,
        marker=marker,
    )


CARDS = (
    _card("authors", "Authors' gather", "authors:AuthorsGather", "#D55E00", "v"),
    _card("softmax_matmul", "Softmax matmul + top-k", "softmax:SoftmaxMatmul", "#000000", "s"),
    _card("faiss_pq", "FAISS IndexPQ", "faiss_pq:FaissPQ", "#CC79A7", "<"),
    _card("dense", "Dense", "dense:Dense", "#7cc4f0", "D"),
    _card("pruned", "Pruned", "pruned:Pruned", "#0072B2", "o"),
    _card("auto", "Auto", "auto:Auto", "#00263f", "o"),
    _card("buckets", "Top buckets (approximate)", "buckets:Buckets", "#E69F00", "^"),
)
