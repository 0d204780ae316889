"""Cards of what is measured without data, in the order of their tables."""

from __future__ import annotations

from bench.card import Card, Shown


def _card(name: str, label: str, target: str, *options: Shown) -> Card:
    return Card(
        name=name,
        version=1,
        label=label,
        group="",
        kind="theory",
        entry="bench.theory.trial:execute",
        cost_entry="",  # what takes no data has no cost worth a table
        target=f"bench.theory.{target}",
        options=options,
    )


_B, _R = Shown(name="num_buckets", text="B={}"), Shown(name="num_worlds", text="R={}")
_DRAWS = Shown(name="num_draws", text="{} draws", is_always=False)
_FAMILY = Shown(name="hash_family", text="{} hash")

CARDS = (
    _card(
        "reconstruction",
        "Reconstruction",
        "reconstruction:measure",
        Shown(name="labels_per_point", text="V={}"),
        Shown(name="base_prob", text="base_prob={}"),
        Shown(name="rounding", words={"down": "", "nearest": "V/base_prob rounded to nearest"}),
        _B,
        Shown(name="num_worlds", text="R={}", is_always=False),
        _DRAWS,
    ),
    _card(
        "moments",
        "Moments of the estimate",
        "moments:measure",
        _FAMILY,
        Shown(name="most_buckets", text="B≤{}", is_always=False),
        Shown(name="num_worlds", text="R={}", is_always=False),
        _DRAWS,
    ),
    _card("pairs", "Indistinguishable pairs", "pairs:measure", _FAMILY, _B, _R, _DRAWS),
    _card("outcomes", "Outcomes", "pairs:measure_outcomes", _B, _R),
    _card(
        "needed",
        "Worlds needed",
        "arithmetic:count_worlds",
        Shown(name="dataset", text="{}"),
        _B,
        _R,
        Shown(name="delta", text="δ={}"),
    ),
    _card(
        "counted",
        "Counted",
        "sizes:count",
        Shown(name="of", text="{}", words={"full_softmax": "full layer", "mach": "MACH"}),
        Shown(name="num_labels", text="L={}"),
        _B,
        _R,
        Shown(name="num_hashed_features", text="features hashed to {}"),
    ),
    _card(
        "stated",
        "Stated shapes",
        "arithmetic:multiply",
        Shown(name="what", text="{}"),
        Shown(name="num_rows", text="{} rows", is_always=False),
        Shown(name="num_columns", text="{} columns", is_always=False),
        Shown(name="num_copies", text="{} copies", is_always=False),
        Shown(name="bytes_per_weight", text="{} bytes a weight", is_always=False),
    ),
)
