"""Cards of decoders, measurements and ways to train at the largest sizes, in tables' order."""

from __future__ import annotations

from typing import Any

from bench.mach.arithmetic import in_turn
from bench.methods.card import Card, OptionFormat

_OF_DECODERS = (
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
_OF_THEORY = (
    OptionFormat(name="labels_per_point", text="V={}"),
    OptionFormat(name="base_prob", text="base_prob={}"),
    OptionFormat(name="rounding", words={"down": "", "nearest": "V/base_prob rounded to nearest"}),
    OptionFormat(name="hash_family", text="{} hash"),
    OptionFormat(name="dataset", text="{}"),
    OptionFormat(name="of", text="{}", words={"full_softmax": "full layer", "mach": "MACH"}),
    OptionFormat(name="what", text="{}"),
    OptionFormat(name="num_features", text="D={:,}", is_always=False),
    OptionFormat(name="num_labels", text="L={:,}", is_always=False),
    OptionFormat(name="hidden_dims", text="H={}", is_always=False),
    OptionFormat(name="num_buckets", text="B={:,}", is_always=False),
    OptionFormat(name="num_worlds", text="R={}", is_always=False),
    OptionFormat(name="num_hashed_features", text="features hashed to {:,}"),
    OptionFormat(name="num_rows", text="{:,} rows", is_always=False),
    OptionFormat(name="num_columns", text="{:,} columns", is_always=False),
    OptionFormat(name="num_copies", text="{} copies", is_always=False),
    OptionFormat(name="bytes_per_weight", text="{} bytes a weight", is_always=False),
)


def _decoder(name: str, label: str, target: str, color: str, marker: str, **more: Any) -> Card:
    return Card(
        name=name,
        version=1,
        label=label,
        group="decode",
        target=f"bench.experiments.decoding.{target}",
        kind="decoding",
        entry="bench.experiments.decoding.trial",
        options=_OF_DECODERS,
        color=color,
        marker=marker,
        **more,
    )


# Rivals, ours, approximate ones.
_DECODING = (
    _decoder(
        "authors",
        "Authors' gather",
        "authors:AuthorsGather",
        "#D55E00",
        "v",
        ratio_title="× authors'",
    ),
    _decoder("softmax_matmul", "Softmax matmul + top-k", "decoders:SoftmaxMatmul", "#000000", "s"),
    _decoder("faiss_pq", "FAISS IndexPQ", "decoders:FaissPQ", "#CC79A7", "<"),
    # MACH's blues are ours. Auto picks one of the other two, so it is a cross upon them.
    _decoder("dense", "Dense", "decoders:Dense", "#7cc4f0", "D"),
    _decoder("pruned", "Pruned", "decoders:Pruned", "#0072B2", "o"),
    _decoder("auto", "Auto", "decoders:Auto", "#00263f", "x"),
    _decoder(
        "buckets",
        "Top buckets (approximate)",
        "decoders:Buckets",
        "#E69F00",
        "^",
        is_approximate=True,
    ),
)

_THEORY = tuple(
    Card(
        name=name,
        version=1,
        label=name.capitalize(),
        group="",
        kind="theory",
        entry="bench.experiments.theory",
        is_timed=False,  # what takes no data has no cost worth a table
        target=f"bench.experiments.theory:{name}",
        options=_OF_THEORY,
    )
    for name in ("reconstruction", "moments", "pairs", "outcomes", "needed", "counted", "stated")
)

_SCALE = (
    Card(
        name="full_softmax",
        version=1,
        label="Full softmax",
        labels_by_loss={"bce": "One-vs-all"},
        group="",
        kind="scale",
        entry="bench.experiments.scale.full_layer",
        color="#000000",
        marker="s",
    ),
    Card(
        name="mach_in_turn",
        version=1,
        label="MACH, a world at a time",
        group="",
        kind="scale",
        entry="bench.experiments.scale.trial",
        arithmetic=in_turn,
        options=(
            OptionFormat(name="num_buckets", text="B={}"),
            OptionFormat(name="num_worlds", text="R={}"),
            OptionFormat(
                name="decode",
                text="{}",
                words={
                    "auto": "index, walk or scan",
                    "dense": "scan of the table",
                    "recompute": "scan, hash recomputed",
                },
                default="dense",
                is_always=False,
            ),
            OptionFormat(name="num_hashed_features", text="features hashed to {}", is_always=False),
            OptionFormat(name="trained_worlds", text="costs of {} alone", is_always=False),
        ),
        in_turn=lambda model: range(
            0 if "trained_worlds" in model.options else int(model.options["num_worlds"] or 0)
        ),
        along="num_worlds",
        smoke={"num_buckets": 32, "num_worlds": 2, "num_hashed_features": 300},
        color="#0072B2",
        marker="o",
    ),
)

CARDS = (*_DECODING, *_THEORY, *_SCALE)
