"""The measurements of `bench.experiments.theory` and how tables write their options."""

from __future__ import annotations

from bench.methods.card import Card, OptionFormat

_OPTIONS = (
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

CARDS = tuple(
    Card(
        name=name,
        version=1,
        label=name.capitalize(),
        group="",
        kind="theory",
        entry="bench.experiments.theory",
        is_timed=False,  # what takes no data has no cost worth a table
        target=f"bench.experiments.theory:{name}",
        options=_OPTIONS,
    )
    for name in ("reconstruction", "moments", "pairs", "outcomes", "needed", "counted", "stated")
)
