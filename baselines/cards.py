"""Cards of the baselines and floors; never imports torch."""

from __future__ import annotations

from bench.card import Card, Shown

_SAMPLING = (
    Shown(
        name="sampler",
        text="{}",
        words={"in_batch": "in-batch", "log_uniform": "log-uniform", "all": "all labels"},
        default="unigram",
    ),
    Shown(name="num_samples", text="S={}", default=1024),
)

CARDS = (
    Card(
        name="full_softmax",
        version=1,
        label="Full softmax",
        labels_by_loss={"bce": "One-vs-all"},
        group="all labels: softmax or one-vs-all",
        target="baselines.full_softmax:FullSoftmax",
        options=(Shown(name="chunk_size", text="chunk={}", words={None: "plain"}),),
        color="#000000",
        marker="s",
    ),
    Card(
        name="sampled_softmax",
        version=1,
        label="Sampled softmax",
        group="sampled softmax or BCE",
        target="baselines.sampled_softmax:SampledSoftmax",
        options=_SAMPLING,
        color="#D55E00",
        marker="v",
    ),
    Card(
        name="sampled_bce",
        version=1,
        label="Sampled BCE",
        group="sampled softmax or BCE",
        target="baselines.sampled_bce:SampledBce",
        options=_SAMPLING,
        color="#117733",
        marker="^",
    ),
    Card(
        name="centroid",
        version=1,
        label="Nearest centroid",
        group="nearest centroid",
        target="baselines.floors:NearestCentroid",
        is_floor=True,
        color="#6b6b6b",
        marker="+",
    ),
    Card(
        name="frequency",
        version=1,
        label="Class frequency",
        labels_by_loss={"bce": "Label frequency"},
        group="class frequency",
        target="baselines.floors:ClassFrequency",
        is_floor=True,
        color="#6b6b6b",
        marker="x",
    ),
)
