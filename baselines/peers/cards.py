"""Cards of the peers; never imports torch, nor a peer's library."""

from __future__ import annotations

from bench.methods.card import Card, Dimension, OptionFormat

_ENTRY = "baselines.peers.process"
#: One-versus-rest trains and asks every label: beyond, hours and gigabytes for nothing new.
MAX_OVR_LABELS = 5000


def _if_unusual(name: str, text: str, default: float | str, **words: str) -> OptionFormat:
    """An option that tables show where it is not its default."""
    return OptionFormat(
        name=name, text=text, words=words, default=default, usual=default, is_always=False
    )


_STOP = (
    _if_unusual("linear_eps", "eps={}", 0.1),
    _if_unusual("weight_threshold", "threshold={}", 0.1),
)
_LINEAR = (
    _if_unusual("binary_loss", "{}", "hinge", hinge="squared hinge", log="logistic"),
    _if_unusual("linear_c", "C={}", 1.0),
    *_STOP,
)
# A logistic loss wants some ten times the C that a squared hinge does.
_COSTS = Dimension("linear_c", (0.1, 0.3, 1.0, 3.0, 10.0), below=(0.03, 0.01), above=(30.0, 100.0))
_TREES = Dimension("num_trees", (1, 3, 5), above=(10,))

CARDS = (
    Card(
        name="omikuji",
        version=1,
        is_repeatable=False,
        label="Omikuji",
        group="label trees",
        target="baselines.peers.omikuji:Omikuji",
        library="omikuji",
        entry=_ENTRY,
        options=(
            OptionFormat(
                name="preset",
                text="{}",
                words={"parabel": "Parabel", "wide": "wide trees", "bonsai": "Bonsai-like"},
                default="parabel",
            ),
            OptionFormat(name="num_trees", text="{} trees", default=3, is_always=False),
            OptionFormat(name="branching", text="{} children", is_always=False),
            OptionFormat(name="max_depth", text="depth={}", is_always=False),
            _if_unusual("max_leaves", "leaves={}", 100),
            _if_unusual("beam_size", "beam={}", 10),
            *_LINEAR,
        ),
        along="num_trees",
        search=(
            Dimension("preset", ("parabel", "bonsai")),
            _TREES,
            _COSTS,
            Dimension("binary_loss", ("hinge", "log")),
        ),
        color="#009E73",
        marker="p",
    ),
    Card(
        name="one_vs_rest",
        version=1,
        is_repeatable=False,
        label="One-vs-rest",
        group="linear one-vs-rest",
        target="baselines.peers.omikuji:OneVsRest",
        library="omikuji",
        entry=_ENTRY,
        options=_LINEAR,
        search=(_COSTS, Dimension("binary_loss", ("hinge", "log"))),
        most_labels=MAX_OVR_LABELS,
        color="#117733",
        marker="X",
    ),
    Card(
        name="napkinxc",
        version=1,
        is_repeatable=False,
        label="napkinXC",
        group="label trees",
        target="baselines.peers.napkinxc:NapkinXc",
        library="napkinxc",
        entry=_ENTRY,
        options=(
            OptionFormat(
                name="model",
                text="{}",
                words={"plt": "PLT", "hsm": "hierarchical softmax", "ovr": "one-vs-rest"},
                default="plt",
            ),
            OptionFormat(name="num_trees", text="{} trees", default=1, is_always=False),
            _if_unusual("arity", "{} children", 2),
            _if_unusual("max_leaves", "leaves={}", 100),
            _if_unusual("binary_loss", "{}", "log", log="logistic", l2="squared hinge"),
            _if_unusual("linear_c", "C={}", 10.0),
            *_STOP,
        ),
        along="num_trees",
        search=(
            _TREES,
            Dimension("arity", (2, 4, 16), above=(64,)),
            Dimension("max_leaves", (25, 100, 400), below=(10,), above=(1000,)),
            _COSTS,
            Dimension("binary_loss", ("log", "l2")),
        ),
        color="#882255",
        marker="h",
    ),
    Card(
        name="vowpal_wabbit",
        version=1,
        label="Vowpal Wabbit",
        group="online: Vowpal Wabbit",
        target="baselines.peers.vowpal_wabbit:VowpalWabbit",
        library="vowpalwabbit",
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
