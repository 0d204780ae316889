"""Cards of the ways to train at the papers' largest sizes, in the order of their tables."""

from __future__ import annotations

from bench.methods.card import Card, OptionFormat

CARDS = (
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
        along="num_worlds",
        smoke={"num_buckets": 32, "num_worlds": 2, "num_hashed_features": 300},
        color="#0072B2",
        marker="o",
    ),
)
