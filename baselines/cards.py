"""Cards of the baselines, trivial ones last; never imports torch."""

from __future__ import annotations

from baselines import arithmetic
from bench.methods.card import LOSSES, TRAINED, UPDATES, Card, Dimension, OptionFormat


def _negatives(default: str) -> tuple[OptionFormat, ...]:
    """How negatives are sampled, with the sampler that a method has by itself."""
    return (
        OptionFormat(
            name="sampler",
            text="{}",
            words={
                "in_batch": "in-batch",
                "mixed": "in-batch and uniform",
                "log_uniform": "log-uniform",
                "all": "all labels",
            },
            default=default,
        ),
        # The batch, or all labels, are the sample there.
        OptionFormat(
            name="num_samples",
            text="S={}",
            default=1024,
            hidden_by=("sampler", ("in_batch", "all")),
        ),
    )


_SAMPLES = Dimension("num_samples", (512, 1024, 2048, 4096), below=(256, 128), above=(8192, 16384))
_SAMPLERS = Dimension("sampler", ("uniform", "log_uniform", "unigram", "mixed"))

# Since 2 of N labels in a batch only the N − 1 of a point's others are expected to be drawn.
_SAMPLER_VERSIONS = {"sampler": {"in_batch": 2}}

# Okabe and Ito's colours here and on other cards: told apart with any colour vision.
CARDS = (
    Card(
        name="full_softmax",
        version=1,
        label="Full softmax",
        labels_by_loss={"bce": "One-vs-all"},
        group="all labels: softmax or one-vs-all",
        target="baselines.full_softmax:FullSoftmax",
        arithmetic=arithmetic.full,
        options=(
            OptionFormat(name="chunk_size", text="chunk={}", words={None: "plain"}),
            # The label says the loss.
            OptionFormat(name="loss", words={"softmax": "", "bce": ""}, is_always=False),
            *UPDATES,
        ),
        smoke={"chunk_size": 16},
        search=(*TRAINED, LOSSES),
        color="#000000",
        marker="s",
    ),
    Card(
        name="sampled_softmax",
        version=1,
        option_versions=_SAMPLER_VERSIONS,
        label="Sampled softmax",
        group="sampled softmax or BCE",
        target="baselines.sampled_softmax:SampledSoftmax",
        arithmetic=arithmetic.sampled,
        options=_negatives("unigram"),
        along="num_samples",
        smoke={"num_samples": 20},
        search=(*TRAINED, _SAMPLES, _SAMPLERS),
        color="#D55E00",
        marker="v",
    ),
    Card(
        name="sampled_bce",
        version=1,
        option_versions=_SAMPLER_VERSIONS,
        label="Sampled BCE",
        group="sampled softmax or BCE",
        target="baselines.sampled_bce:SampledBce",
        arithmetic=arithmetic.sampled_bce,
        options=_negatives("unigram"),
        along="num_samples",
        smoke={"num_samples": 20},
        search=(*TRAINED, _SAMPLES, _SAMPLERS),
        search_task="multilabel",
        color="#E69F00",
        marker="^",
    ),
    Card(
        name="adaptive_softmax",
        version=1,
        label="Adaptive softmax",
        group="adaptive softmax",
        target="baselines.adaptive_softmax:AdaptiveSoftmax",
        arithmetic=arithmetic.adaptive,
        options=(
            OptionFormat(name="num_tails", text="tails={}", default=2),
            OptionFormat(
                name="head_share",
                text="head={}",
                default=0.075,
                hidden_by=("num_tails", (0,)),
            ),
            OptionFormat(
                name="div_value",
                text="÷{}",
                default=4.0,
                is_always=False,
                hidden_by=("num_tails", (0,)),
            ),
        ),
        along="head_share",
        smoke={"num_tails": 2},
        search=(
            *TRAINED,
            Dimension("head_share", (0.03, 0.075, 0.15), below=(0.01,), above=(0.3,)),
            Dimension("num_tails", (1, 2, 3), above=(4,)),
        ),
        search_task="multiclass",
        color="#332288",
        marker=">",
    ),
    Card(
        name="two_tower",
        version=1,
        option_versions=_SAMPLER_VERSIONS,
        label="Two towers",
        group="two towers (DSSM)",
        target="baselines.two_tower:TwoTower",
        arithmetic=arithmetic.two_tower,
        options=(
            OptionFormat(
                name="similarity", words={"dot": "dot product"}, text="{}", default="cosine"
            ),
            OptionFormat(name="temperature", text="τ={}", default=0.05),
            *_negatives("in_batch"),
        ),
        along="num_samples",
        smoke={"num_samples": 20},
        color="#CC79A7",
        marker="d",
    ),
    Card(
        name="neighbours",
        version=1,
        label="Nearest neighbours",
        group="nearest neighbours",
        target="baselines.neighbours:NearestNeighbours",
        has_steps=False,
        arithmetic=arithmetic.nothing,
        options=(
            OptionFormat(name="num_neighbours", text="k={}", default=50),
            OptionFormat(
                name="exponent", text="cosine^{}", default=1.0, usual=1.0, is_always=False
            ),
        ),
        smoke={"num_neighbours": 5},
        search=(
            Dimension("num_neighbours", (5, 10, 20, 50, 100, 200), below=(2, 1), above=(500,)),
            Dimension("exponent", (0.5, 1.0, 2.0, 4.0), below=(0.0,), above=(8.0,)),
        ),
        color="#56B4E9",
        marker="P",
    ),
    Card(
        name="centroid",
        version=1,
        label="Nearest centroid",
        group="nearest centroid",
        target="baselines.trivial:NearestCentroid",
        arithmetic=arithmetic.nothing,
        search=(),
        is_trivial=True,
        color="#6b6b6b",
        marker="+",
    ),
    Card(
        name="frequency",
        version=1,
        label="Class frequency",
        labels_by_loss={"bce": "Label frequency"},
        group="",
        target="baselines.trivial:ClassFrequency",
        arithmetic=arithmetic.counts,
        is_trivial=True,
        color="#6b6b6b",
        marker="x",
    ),
)
