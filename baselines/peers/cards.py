"""Cards of the peers; never imports torch, nor a peer's library."""

from __future__ import annotations

from bench.methods.card import Card, OptionFormat

_ENTRY = "baselines.peers.process"

CARDS = (
    Card(
        name="omikuji",
        version=1,
        is_repeatable=False,
        label="Omikuji",
        group="label trees",
        target="baselines.peers.omikuji:Omikuji",
        entry=_ENTRY,
        options=(
            OptionFormat(
                name="preset",
                text="{}",
                words={"parabel": "Parabel", "wide": "wide trees", "bonsai": "Bonsai-like"},
                default="parabel",
            ),
            OptionFormat(name="num_trees", text="{} trees", default=3, is_always=False),
        ),
        along="num_trees",
        color="#009E73",
        marker="p",
    ),
    Card(
        name="napkinxc",
        version=1,
        is_repeatable=False,
        label="napkinXC",
        group="label trees",
        target="baselines.peers.napkinxc:NapkinXc",
        entry=_ENTRY,
        options=(
            OptionFormat(
                name="model",
                text="{}",
                words={"plt": "PLT", "hsm": "hierarchical softmax", "ovr": "one-vs-rest"},
                default="plt",
            ),
            OptionFormat(name="num_trees", text="{} trees", default=1, is_always=False),
        ),
        along="num_trees",
        color="#882255",
        marker="h",
    ),
    Card(
        name="vowpal_wabbit",
        version=1,
        label="Vowpal Wabbit",
        group="online: Vowpal Wabbit",
        target="baselines.peers.vowpal_wabbit:VowpalWabbit",
        entry=_ENTRY,
        options=(
            OptionFormat(
                name="reduction",
                text="{}",
                words={
                    "oaa": "one-against-all",
                    "recall_tree": "recall tree",
                    "log_multi": "LOMTree",
                    "plt": "PLT",
                },
                default="plt",
            ),
            OptionFormat(name="bits", text="2^{} weights", default=24, is_always=False),
            OptionFormat(name="passes", text="passes={}", default=1, is_always=False),
            OptionFormat(name="steps", text="{} steps", default="adaptive", is_always=False),
        ),
        smoke={"bits": 18},
        color="#B3A700",
        marker="D",
    ),
)
