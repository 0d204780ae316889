"""The papers' largest sizes: fifty million products, and synthetic twins of data not at hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.methods.card import SCALE
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.grids import capped, shrunk, study
from bench.studies.published import Published
from bench.studies.study import Profile, Study
from bench.studies.twins import TWINS

# Sizes of the paper's search log; products and hashed features are published, tokens from memory.
_PRODUCTS, _TOKENS, _HASHED = 49_460_000, 715_000, 80_000
# Steps of a world whose costs alone are wanted.
_SAMPLE_STEPS = 12
_WIDE = 2000


def amazon(profile: Profile) -> list[Trial]:
    """Fifty million products on one small machine: MACH's worlds one after another.

    Claim: with 49,460,000 products MACH (H = 64, R = 8) trains within 8 GB, as only one world is in
    memory at a time, and its answers are the exact best labels of all products; a full softmax in
    float32 with Adam needs 54 GB at the same hidden width and 1.6 TB at the paper's. At that width
    its weights with float32 and SGD folded in would be 12.7 GB, with bfloat16 6.3 GB: they would
    fit, and are not run yet.
    Command: `make amazon`; `make amazon-r32` goes on to 32 worlds. Hardware: 2 CPU cores, 8 GB free
    (`PROFILE=gpu`: the paper's hidden width of 2,000 and R = 32, one GPU of 80 GB; `PROFILE=paper`:
    its 70,000,000 queries and 10 epochs, too). Duration: about 40 minutes on 2 cores; a killed run
    goes on with the next world.
    Expected: recall rises with every world and flattens towards R = 8. A planted stream stands in
    for the private log: 2,000,000 queries, each for one product, products asked for by Zipf's law,
    tokens hashed to 80,000 in each world. 98.5 % of the labels have no training query; test queries
    for them are not counted.
    """
    if profile != "cpu":
        trials = [_mach(_WIDE, 32, "dense"), _full(64), _full(_WIDE)]
        return [_at_length_of_paper(t) for t in trials] if profile == "paper" else trials
    ways = [_mach(64, 8, decode) for decode in ("auto", "dense", "recompute")]
    return [*ways, _sample(_WIDE, 32), _full(64), _full(_WIDE)]


def amazon_r32(profile: Profile) -> list[Trial]:
    """The same with 32 worlds, eight of which `amazon` has trained already.

    Claim: more worlds cost time and disk, not memory in training; the decode stays within 8 GB
    without an index.
    Command: `make amazon-r32`. Hardware: 2 CPU cores, 8 GB free.
    Duration: about 2 hours on 2 cores after `make amazon`; a killed run goes on with the next
    world.
    Expected: little beyond R = 16, as in the paper's figure; not measured yet.
    """
    return [_mach(64, 32, "dense")]


def _at_length_of_paper(trial: Trial) -> Trial:
    options = {**trial.data.options, "num_train_queries": 70_000_000, "num_test_queries": 20_000}
    return dataclasses.replace(
        trial,
        data=dataclasses.replace(trial.data, options=options),
        train=_train(batch_size=2000, num_epochs=10.0, days=14),
    )


def _products(**sizes: Scalar) -> DataSpec:
    options: dict[str, Scalar] = {
        "num_train_queries": 2_000_000,
        "num_test_queries": 2000,
        "num_features": _TOKENS,
        "num_labels": _PRODUCTS,
    }
    return DataSpec(
        source="query_stream", name="planted search log", options=options | sizes, ks=(1, 10, 100)
    )


def _train(
    *,
    batch_size: int = 500,
    num_steps: int | None = None,
    num_epochs: float | None = None,
    days: float = 0.5,
) -> TrainSpec:
    # Of rates 0.003 … 0.03 and batches of 250 and 500, on 300,000 queries and one world.
    return TrainSpec(
        batch_size=batch_size,
        learning_rate=0.02,
        num_steps=num_steps,
        num_epochs=num_epochs,
        num_validations=0,
        trial_timeout_seconds=days * 24 * 3600,
    )


def _mach(hidden_dim: int, num_worlds: int, decode: str, **more: Scalar) -> Trial:
    options: dict[str, Scalar] = {
        "num_buckets": 10_000,
        "num_worlds": num_worlds,
        # Whose buckets can be had again without a table; product numbers do not follow sales, so
        # that neighbouring labels are not heavy together.
        "hash_family": "universal",
        "num_hashed_features": _HASHED,
        "decode": decode,
    }
    model = ModelSpec(method="mach_in_turn", hidden_dims=(hidden_dim,), options=options | more)
    return Trial(data=_products(), model=model, train=_train())


def _sample(hidden_dim: int, num_worlds: int) -> Trial:
    """One world for a few steps, for its costs."""
    trial = _mach(hidden_dim, num_worlds, "dense", trained_worlds=1)
    return dataclasses.replace(trial, train=_train(num_steps=_SAMPLE_STEPS))


def _full(hidden_dim: int) -> Trial:
    # Of the logits, too, only some are in memory at a time: those of eight queries.
    model = ModelSpec(method="full_softmax", hidden_dims=(hidden_dim,), options={"chunk_size": 8})
    return Trial(data=_products(), model=model, train=_train())


def table_twins(profile: Profile) -> list[Trial]:
    """What the papers' set-ups cost on data that is not at hand: synthetic twins of its sizes.

    Claim: what does not depend on content can be measured without the data: bytes, seconds for a
    world and an epoch, seconds a query. Of each set-up one world is trained for a few steps; the
    complete training is computed from its measured seconds a step.
    Command: `make table-twins`. Hardware: 2 CPU cores, 20 GB (`PROFILE=gpu`: one GPU of 80 GB).
    Duration: about 25 minutes on 2 cores.
    Expected: one world of any set-up fits into 9 GB; all 32 worlds at once of Delicious-200K do not
    fit into 100 GB, nor does a full layer on ODP. On 2 cores the papers' MACH would train an hour
    to two and a half days. A twin's accuracy is the twin's own and no estimate of the set's.
    """
    return [trial for twin in TWINS.values() for trial in (twin.mach(), twin.full())]


def _shrunk(trial: Trial) -> Trial:
    """The same in a second: every size of data and model cut down."""
    limits = {
        "num_train_queries": 600,
        "num_test_queries": 100,
        "num_train_points": 200,
        "num_test_points": 64,
        "num_features": 2000,
        "num_labels": 900,
        "features_per_point": 20,
        "labels_per_point": 3,
    }
    model = shrunk(trial.model, "scale", 16 if _WIDE in trial.model.hidden_dims else 8)
    data = dataclasses.replace(trial.data, options=capped(trial.data.options, limits), ks=(1, 10))
    train = dataclasses.replace(
        trial.train,
        batch_size=min(trial.train.batch_size, 50),
        num_steps=4 if trial.train.num_steps else None,
        trial_timeout_seconds=300.0,
    )
    return Trial(data=data, model=model, train=train)


def _smoke(trials: Sequence[Trial]) -> list[Trial]:
    """Of each kind of row one: ways to decode, samples, full layers; of twins two."""
    kept: dict[tuple[Scalar, ...], Trial] = {}
    for trial in trials:
        options = trial.model.options
        kind = (trial.model.method, trial.model.encoder, options.get("decode"))
        kept.setdefault((*kind, "trained_worlds" in options), trial)
    return [_shrunk(trial) for trial in kept.values()]


_PAPER = "NeurIPS slides, p. 8; private log, weighted recall"
_MACH_ON, _RIVAL_ON = "10 epochs, 8 V100", "5 epochs, machine not stated"
_PUBLISHED = tuple(
    Published(
        label=label,
        metrics={"hours": hours, "training_peak": train, "decode_peak": decode, "R@100": recall},
        source=f"{_PAPER}, {how} [A]",
    )
    for label, how, hours, train, decode, recall in (
        ("MACH, B = 10,000, R = 32", _MACH_ON, 31.8, 150e9, 80e9, 0.6419),
        ("MACH, B = 20,000, R = 32", _MACH_ON, 34.2, 180e9, 90e9, 0.6541),
        ("Parabel, 16 trees", _RIVAL_ON, 232.4, 350e9, 426e9, 0.5810),
        ("DSSM, 256 dimensions", _RIVAL_ON, 316.6, 40e9, 286e9, 0.441),
    )
)


_TITAN_X = "NeurIPS slides, p. 7; one Titan X, real data [A]"
_PUBLISHED_OF_TWINS = tuple(
    Published(
        label=label,
        metrics={"hours": hours, "query": milliseconds},
        source=_TITAN_X,
        part=next(twin.name for twin in TWINS.values() if twin.set_name == name),
    )
    for name, label, hours, milliseconds in (
        ("odp", "MACH, B = 32, R = 25", 7.2, 2.85),
        ("imagenet", "MACH, B = 512, R = 20", 23.0, 8.5),
    )
)


def _study(function: Callable[[Profile], list[Trial]], **fields: Any) -> Study:
    metrics = ("R@1", "R@10", "R@100")
    shared = {"primary_metrics": metrics, "smoke": lambda: _smoke(function("cpu")), "kind": SCALE}
    return study(function, **{**shared, **fields})


STUDIES: Mapping[str, Callable[[], Study]] = {
    "amazon": lambda: _study(amazon, published=_PUBLISHED),
    "amazon-r32": lambda: _study(
        amazon_r32,
        profiles=("cpu",),
        smoke=list,  # its rows are amazon's
        published=_PUBLISHED,
    ),
    "table-twins": lambda: _study(
        table_twins,
        part=lambda trial: trial.data.name,
        primary_metrics=("R@1",),
        published=_PUBLISHED_OF_TWINS,
    ),
}
