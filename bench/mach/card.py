"""MACH's card; never imports torch."""

from __future__ import annotations

from bench.methods.card import Aspect, Card, Look, OptionFormat, Ramp

CARDS = (
    Card(
        name="mach",
        version=1,
        label="MACH",
        group="MACH",
        target="bench.mach.module:Mach",
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
                words={
                    None: "",
                    "log_mean": "log-mean",
                    "logit_sum": "logit sum",
                },
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
            OptionFormat(name="worlds_per_step", text="worlds a step={}", is_always=False),
        ),
        along="num_worlds",
        color="#0072B2",
        marker="o",
        ramp=Ramp(name="num_buckets", text="B={}", colors=("#7cc4f0", "#0072B2", "#00263f")),
        aspects=(
            Aspect(
                name="share_encoder",
                looks={True: Look(text="shared", marker="D", line=(0, (4, 1.5)))},
                other=Look(text="independent"),
            ),
            Aspect(
                name="encoder",
                looks={"linear": Look(text="linear", marker="P", line=(0, (1.5, 1)))},
            ),
            Aspect(
                name="loss",
                looks={
                    "bce": Look(text="BCE"),
                    "softmax": Look(text="softmax loss", is_open=True),
                },
                is_always=False,
            ),
            Aspect(
                name="filter_buckets",
                looks={None: Look()},
                other=Look(text="one world filters", marker="v", line=(0, (1, 1))),
                is_always=False,
            ),
        ),
    ),
)
