"""Synthetic twins of the papers' data sets: their sizes, sparsity and skew, none of their content.

What does not depend on content is measured on them: bytes, and seconds a step. D, L, N and the
labels a point are those of the set's catalogue; nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench.data.download.catalogue import SETS
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.presets import PRESETS, Preset

#: Test points of a twin: two batches, as only times are taken of them.
NUM_TEST_POINTS = 512


@dataclass(frozen=True, kw_only=True)
class Twin:
    """One set's synthetic twin, and the published set-up that is measured on it.

    The prior of the labels is Zipf's, p(y) ∝ 1/(y + 1), as no source gives the sets' own [ours].
    Draws are more than what is left of them, as a label or feature drawn twice stands once; they
    are chosen so that what is left has the mean of the set.

    Attributes:
        preset: name of the set-up.
        set_name: name of the set in the catalogue.
        features_per_point: mean of the set's points; from memory [M], or ours where noted.
        feature_draws: draws a point that leave so many.
        label_draws: draws a point that leave the catalogue's mean of labels.
        num_steps: steps that are trained; N is as many batches.
    """

    preset: str
    set_name: str
    features_per_point: float
    feature_draws: int
    label_draws: int = 1
    num_steps: int = 8

    @property
    def set_up(self) -> Preset:
        """The published set-up."""
        return PRESETS[self.preset]

    @property
    def name(self) -> str:
        """What tables call the twin."""
        return f"{SETS[self.set_name].title.partition(' (')[0]}, twin"

    @property
    def data(self) -> DataSpec:
        """The twin's points: the set's D and L, and so many points as the steps take."""
        published, sizes = SETS[self.set_name], self.set_up.sizes
        num_points = min(sizes.num_train_points, self.set_up.train.batch_size * self.num_steps)
        options: dict[str, Scalar] = {
            "num_train_points": num_points,
            "num_test_points": NUM_TEST_POINTS,
            "num_features": sizes.num_features,
            "num_labels": sizes.num_labels,
            "features_per_point": self.feature_draws,
            "labels_per_point": self.label_draws,
        }
        return DataSpec(
            source="planted",
            name=self.name,
            options=options,
            normalize_rows=False,
            num_validation_points=0,
            ks=(1, 3, 5),
            propensity=published.propensity,
        )

    @property
    def train(self) -> TrainSpec:
        """The set-up's training, cut to the steps; no points are kept for validation."""
        return replace(
            self.set_up.train,
            num_epochs=None,
            num_steps=self.num_steps,
            num_validations=0,
            keep_best=False,
        )

    def mach(self) -> Trial:
        """The set-up, of whose worlds one is trained."""
        spec = self.set_up.model
        options = {**spec.options, "trained_worlds": 1}
        model = ModelSpec(
            method="mach_in_turn",
            encoder=spec.encoder,
            hidden_dims=spec.hidden_dims,
            options=options,
        )
        return Trial(data=self.data, model=model, train=self.train)

    def full(self) -> Trial:
        """A full layer under the same encoder, start, loss and optimiser."""
        spec = self.set_up.model
        shared = ("loss", "loss_reduction", "start", "start_std", "start_biases", "prior_start")
        options = {name: spec.options[name] for name in shared if name in spec.options}
        model = ModelSpec(
            method="full_softmax",
            encoder=spec.encoder,
            hidden_dims=spec.hidden_dims,
            options=options,
        )
        return Trial(data=self.data, model=model, train=self.train)


#: Name of the data → its twin. Features a point: from memory for the repository's sets; ODP's and
#: ImageNet's are ours.
TWINS: Mapping[str, Twin] = {
    twin.name: twin
    for twin in (
        Twin(
            preset="eurlex-4k-third-party",
            set_name="eurlex-4k",
            features_per_point=237,
            feature_draws=444,
            label_draws=6,
        ),
        Twin(
            preset="imagenet-b512-r20",
            set_name="imagenet",
            features_per_point=3050,
            feature_draws=20_000,
            num_steps=4,
        ),
        Twin(
            preset="wiki10-31k",
            set_name="wiki10-31k",
            features_per_point=673,
            feature_draws=1143,
            label_draws=21,
        ),
        Twin(
            preset="odp-b32-r25",
            set_name="odp",
            features_per_point=70,
            feature_draws=97,
            num_steps=50,
        ),
        Twin(
            preset="delicious-200k",
            set_name="delicious-200k",
            features_per_point=301,
            feature_draws=369,
            label_draws=91,
            num_steps=4,
        ),
        Twin(
            preset="amazon-670k",
            set_name="amazon-670k",
            features_per_point=76,
            feature_draws=92,
            label_draws=6,
            num_steps=4,
        ),
    )
}


@dataclass(frozen=True)
class Length:
    """How long the complete training of a row is.

    Attributes:
        steps: of an epoch.
        epochs: passes over the points.
    """

    steps: int
    epochs: float


def training_length(settings: Mapping[str, Any]) -> Length | None:
    """Length of the training that a trial's settings stand for; None where they do not state it.

    Of a twin it is that of the published set-up, on all N points of the set; of a stream a pass
    over its queries, unless the settings state how many.

    >>> training_length(TWINS["Wiki10-31K, twin"].mach().to_dict())
    Length(steps=141, epochs=60.0)
    """
    data, train = settings.get("data") or {}, settings.get("train") or {}
    twin = TWINS.get(str(data.get("name")))
    if twin is not None:
        spec, total = twin.set_up.train, twin.set_up.sizes.num_train_points
        steps = (total - twin.set_up.data.num_validation_points) / spec.batch_size
        num_steps = math.floor(steps) if spec.drop_last else math.ceil(steps)
        return Length(num_steps, float(spec.num_epochs or 1.0))
    num_queries = (data.get("options") or {}).get("num_train_queries")
    if num_queries is None or not train.get("batch_size"):
        return None
    return Length(
        math.ceil(num_queries / train["batch_size"]), float(train.get("num_epochs") or 1.0)
    )
