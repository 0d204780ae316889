"""MACH's card; never imports torch."""

from __future__ import annotations

from bench.card import Card, Shown

CARDS = (
    Card(
        name="mach",
        version=1,
        label="MACH",
        group="MACH",
        target="bench.mach.module:Mach",
        options=(
            Shown(name="num_buckets", text="B={}"),
            Shown(name="num_worlds", text="R={}"),
            Shown(
                name="share_encoder",
                words={True: "shared encoder", False: "independent encoders"},
                default=False,
            ),
            Shown(
                name="estimator",
                text="{}",
                words={
                    None: "default estimator",
                    "log_mean": "log-mean",
                    "logit_sum": "logit sum",
                },
            ),
        ),
        color="#0072B2",
        marker="o",
    ),
)
