"""The measurements of `bench.experiments.theory` and how tables write their options."""

from __future__ import annotations

from bench.methods.card import Card, Shown

_OPTIONS = (
    Shown(name="labels_per_point", text="V={}"),
    Shown(name="base_prob", text="base_prob={}"),
    Shown(name="rounding", words={"down": "", "nearest": "V/base_prob rounded to nearest"}),
    Shown(name="hash_family", text="{} hash"),
    Shown(name="dataset", text="{}"),
    Shown(name="of", text="{}", words={"full_softmax": "full layer", "mach": "MACH"}),
    Shown(name="what", text="{}"),
    Shown(name="num_features", text="D={:,}", is_always=False),
    Shown(name="num_labels", text="L={:,}", is_always=False),
    Shown(name="hidden_dims", text="H={}", is_always=False),
    Shown(name="num_buckets", text="B={:,}", is_always=False),
    Shown(name="num_worlds", text="R={}", is_always=False),
    Shown(name="num_hashed_features", text="features hashed to {:,}"),
    Shown(name="num_rows", text="{:,} rows", is_always=False),
    Shown(name="num_columns", text="{:,} columns", is_always=False),
    Shown(name="num_copies", text="{} copies", is_always=False),
    Shown(name="bytes_per_weight", text="{} bytes a weight", is_always=False),
)

CARDS = tuple(
    Card(
        name=name,
        version=1,
        label=name.capitalize(),
        group="",
        kind="theory",
        entry="bench.experiments.theory:execute",
        cost_entry="",  # what takes no data has no cost worth a table
        target=f"bench.experiments.theory:{name}",
        options=_OPTIONS,
    )
    for name in ("reconstruction", "moments", "pairs", "outcomes", "needed", "counted", "stated")
)
