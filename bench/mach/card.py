"""MACH's card; never imports torch."""

from __future__ import annotations

import dataclasses

from bench.mach.arithmetic import mach
from bench.methods.card import LOSSES, TRAINED, UPDATES, Card, Dimension, OptionFormat
from bench.settings import ModelSpec, Scalar, SettingsError


def worlds_of(model: ModelSpec, first: int, stop: int) -> ModelSpec:
    """A MACH of the worlds `first` to `stop` − 1 alone, as `bench.mach.merge` joins them."""
    options = dict(model.options)
    start, count = int(options.get("first_world") or 0), int(options.get("num_worlds") or 0)
    if options.get("share_encoder") and model.encoder != "linear":
        raise SettingsError(
            "share_encoder is True, and worlds of one encoder are trained together; expected "
            "share_encoder=False, or all worlds on one machine (worlds_per_step bounds its memory)"
        )
    if not start <= first < stop <= start + count:
        raise SettingsError(
            f"worlds are {first}:{stop}; expected a:b with {start} ≤ a < b ≤ {start + count}"
        )
    options |= {"num_worlds": stop - first, "first_world": first}
    if not first:
        del options["first_world"]  # its default: the first worlds are a smaller MACH
    return dataclasses.replace(model, options=options)


def by_worlds_per_step(model: ModelSpec) -> tuple[ModelSpec, ...]:
    """Of `worlds_per_step` 'auto': all worlds together, then half as many, down to one."""
    if model.options.get("worlds_per_step") != "auto":
        return (model,)
    options = {name: value for name, value in model.options.items() if name != "worlds_per_step"}
    together: list[dict[str, Scalar]] = [{}]
    most = int(options.get("num_worlds") or 1)
    # Of a linear model, and of worlds in turn, a step's worlds are not taken apart.
    while most > 1 and model.encoder != "linear" and not options.get("worlds_in_turn"):
        most = -(-most // 2)
        together.append({"worlds_per_step": most})
    return tuple(dataclasses.replace(model, options=options | each) for each in together)


def worlds_in_turn(model: ModelSpec) -> range:
    """Numbers of the worlds that are trained one after another; none where all are at once."""
    options = model.options
    first, count = int(options.get("first_world") or 0), int(options.get("num_worlds") or 0)
    return range(first, first + count) if options.get("worlds_in_turn") else range(0)


CARDS = (
    Card(
        name="mach",
        version=1,
        label="MACH",
        group="MACH",
        target="bench.mach.module:Mach",
        arithmetic=mach,
        options=(
            OptionFormat(name="num_buckets", text="B={}"),
            OptionFormat(name="num_worlds", text="R={}"),
            OptionFormat(
                name="share_encoder",
                words={True: "shared encoder", False: "independent encoders"},
                default=False,
                hidden_by=("encoder", ("linear",)),
            ),
            OptionFormat(
                name="estimator",
                text="{}",
                words={None: "", "log_mean": "log-mean", "logit_sum": "logit sum"},
            ),
            OptionFormat(
                name="loss",
                text="{}",
                words={"bce": "BCE", "softmax": "softmax loss"},
                is_always=False,
            ),
            OptionFormat(
                name="filter_buckets", text="{} buckets of one world filter", is_always=False
            ),
            OptionFormat(name="hash_family", text="hash={}", is_always=False),
            OptionFormat(name="num_hashed_features", text="hashed features={}", is_always=False),
            OptionFormat(
                name="worlds_in_turn", words={True: "worlds in turn", False: ""}, default=False
            ),
            OptionFormat(name="worlds_per_step", text="worlds a step={}", is_always=False),
            OptionFormat(name="first_world", text="first world={}", is_always=False),
            *UPDATES,
        ),
        along="num_worlds",
        smoke={
            "num_buckets": 16,
            "num_worlds": 3,
            "worlds_per_step": 2,
            "num_hashed_features": 64,
            "filter_buckets": 4,
        },
        search=(
            *TRAINED,
            Dimension("num_buckets", (64, 32, 16, 8), (256, 128), (4, 2), divides_labels=True),
            Dimension("num_worlds", (4, 8, 16), below=(2, 1), above=(32, 64)),
            Dimension("share_encoder", (True, False)),
            LOSSES,
        ),
        part=worlds_of,
        choices=by_worlds_per_step,
        in_turn=worlds_in_turn,
        color="#0072B2",
        marker="o",
    ),
)
