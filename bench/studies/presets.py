"""The papers' own set-ups by name: a trial, the source of every number, and what still differs.

Whoever reproduces a row takes the preset; whoever asks what a choice of the papers costs takes it
and turns that one switch back. This file imports no torch.

Confidence tags, as in `PAPER.md`: A authors' file, C source code, X the repository's page, T third
party, I inferred, M memory; sizes of the repository's sets are its page's [X].

What differs in all of them: initial weights and the order of points come from other random numbers;
all test points are scored, where the papers' code leaves out an incomplete last batch; P@k is
divided by k, there by min(k, labels of the point). The repository's sets are those of its first
files: its present ones have other tokens.

The switches that these set-ups needed, each with the suite's own choice as its default: optimiser
`tf_adam`, orders `file` and `batches`, `drop_last`, schedule `step_decay`, `keep_best`
(:class:`bench.settings.TrainSpec`); `loss_reduction` (MACH and full softmax), `start`, `start_std`,
`start_biases` and `prior_start` (every method); `hash_family` and `hash_seed` (MACH).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bench.data.download.catalogue import SETS
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Of a data set, as the papers or their data's source state them.

    Attributes:
        num_train_points: N.
        num_test_points: points to test on.
        num_features: D.
        num_labels: L.
    """

    num_train_points: int
    num_test_points: int
    num_features: int
    num_labels: int


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One published set-up.

    Attributes:
        name: key in `PRESETS`.
        reproduces: paper, and table or figure with the row.
        sizes: of the data.
        data: which data, in the set-up's form.
        model: method and sizes.
        train: training.
    """

    name: str
    reproduces: str
    sizes: Sizes
    data: DataSpec
    model: ModelSpec
    train: TrainSpec

    def trial(self, replicate: int = 0) -> Trial:
        """The set-up as a trial; its hash functions are the published ones in every replicate."""
        return Trial(data=self.data, model=self.model, train=self.train, replicate=replicate)


def _raw(name: str, **settings: Any) -> DataSpec:
    """A published set as it lies in its files: no weighting, no norm."""
    return SETS[name].spec(
        **{"normalize_rows": False, "num_validation_points": 0, "ks": (1, 3, 5, 10), **settings}
    )


def _mach(*hidden_dims: int, **options: Scalar) -> ModelSpec:
    encoder: Literal["mlp", "linear"] = "mlp" if hidden_dims else "linear"
    return ModelSpec(method="mach", encoder=encoder, hidden_dims=hidden_dims, options=options)


def _train(**settings: Any) -> TrainSpec:
    """TensorFlow's Adam at its usual rate, which stays, and all points train."""
    usual = {"learning_rate": 1e-3, "optimizer": "tf_adam", "schedule": "constant"}
    return TrainSpec(**{**usual, "num_validations": 0, **settings})


def _sizes(name: str) -> Sizes:
    published = SETS[name]
    sizes = {each.name: getattr(published, each.name) for each in dataclasses.fields(Sizes)}
    if None in sizes.values():
        raise ValueError(f"sizes of {name} are {sizes}; expected all to be known")
    return Sizes(**sizes)


# Signed MurmurHash3, seed of the hash = number of the world [C]; of BCE worlds the mean over batch
# and buckets [C].
_MURMUR_BCE: Mapping[str, Scalar] = {
    "hash_family": "murmur3",
    "hash_seed": 0,
    "loss": "bce",
    "loss_reduction": "mean",
    "prior_start": False,
}
_TF_START: Mapping[str, Scalar] = {
    "start": "truncated_normal",
    "start_std": 0.05,
    "start_biases": True,
}


def neurips_multilabel(data: str, *, num_buckets: int, batch_size: int, num_epochs: int) -> Preset:
    """Wiki10-31K, Delicious-200K and Amazon-670K as the code of the NeurIPS period trains them.

    All from Tharun24/MACH before its rewrite of March 2020 (`PAPER.md` 5.2) [C]: d-500-500-B with
    ReLU, R = 32, B = 2,000 / 5,000 / 10,000; batch 100 / 1,000 / 1,000; 60 / 20 / 40 epochs; BCE as
    a mean over batch × B; TensorFlow 1's Adam at its defaults (rate 1e-3, ε 1e-8), no decay, no
    dropout, features as they are; weights *and biases* truncated normal with σ = 0.05; file order,
    the same batches in every pass, the file's tail never used; signed murmur3 with the world's
    number as seed. That logits are summed is its default and its README's advice for multi-label
    data; that the table used it is inferred [I].
    """
    return Preset(
        name=data,
        reproduces=(
            f"NeurIPS 2019 (arXiv 1910.13830), multi-label table, MACH on {SETS[data].title}"
        ),
        sizes=_sizes(data),
        data=_raw(data),
        model=_mach(
            500,
            500,
            num_buckets=num_buckets,
            num_worlds=32,
            estimator="logit_sum",
            **_MURMUR_BCE,
            **_TF_START,
        ),
        train=_train(batch_size=batch_size, num_epochs=num_epochs, order="file", drop_last=True),
    )


def linear_softmax(
    data: Literal["odp", "imagenet"], *, num_buckets: int, num_worlds: int, row: str
) -> Preset:
    """ODP and fine-grained ImageNet as the code of arXiv 1810.04254 trains them.

    All from tinytinyeye/MACH (`PAPER.md` 5.1) [C]: linear logits over D = 422,713 / 6,144 features;
    softmax cross-entropy on the hashed label; TensorFlow 1's Adam at rate 1e-3 (its constant of
    0.01 is unused) with ε = 1e-8 / 1.0; batch 64 / 256; 5 / 3 epochs; weights truncated normal with
    σ = 0.01, biases 0; bucket ((a·x + b) mod 105943) mod B with a and b from Python's `random`
    seeded with 0; bucket probabilities averaged. L = 105,033 / 21,841 [C]; N = 1,084,404 /
    12,777,062 and ODP's 493,014 test points [M]; ImageNet's 1,419,674 test points [C]. What
    differs: points are shuffled over the complete file, there within a queue of 10,000 points; 14
    of ODP's test points are dropped there.
    """
    is_odp = data == "odp"
    return Preset(
        name=f"{data}-b{num_buckets}-r{num_worlds}",
        reproduces=row,
        sizes=_sizes(data),
        data=_raw(data),
        model=_mach(
            num_buckets=num_buckets,
            num_worlds=num_worlds,
            hash_family="odp",
            hash_seed=0,
            loss="softmax",
            estimator="mean",
            prior_start=False,
            start="truncated_normal",
            start_std=0.01,
            start_biases=False,
        ),
        train=_train(
            batch_size=64 if is_odp else 256,
            adam_epsilon=1e-8 if is_odp else 1.0,
            num_epochs=5 if is_odp else 3,
        ),
    )


def amazon_3m() -> Preset:
    """Amazon-3M by the defaults of the official code since 2020; no result was ever published.

    From Tharun24/MACH at `430fd9f` (`PAPER.md` 5.3) [C]: D = 337,067 features hashed to 100,000,
    with another seed in each world, unsigned, collisions added; one hidden layer of 4,096; R = 16,
    B = 10,000; batch 2,000; 10 epochs; Adam, BCE and σ as before. Batches are cut before they are
    shuffled. What differs: the last batch has 1,899 points; there empty ones fill it up to 2,000.
    """
    return Preset(
        name="amazon-3m",
        reproduces="Tharun24/MACH, defaults of 2020 on Amazon-3M (no published row)",
        sizes=_sizes("amazon-3m"),
        data=_raw("amazon-3m"),
        model=_mach(
            4096,
            num_buckets=10_000,
            num_worlds=16,
            num_hashed_features=100_000,
            estimator="logit_sum",
            **_MURMUR_BCE,
            **_TF_START,
        ),
        train=_train(batch_size=2000, num_epochs=10, order="batches"),
    )


# The log is private; a synthetic twin has its sizes and none of its content.
_SEARCH_SIZES = Sizes(
    num_train_points=70_000_000,
    num_test_points=20_000,
    num_features=715_000,
    num_labels=49_460_000,
)


def _search_data() -> DataSpec:
    return DataSpec(
        source="planted",
        name="amazon-search-twin",
        options={
            "num_train_points": _SEARCH_SIZES.num_train_points,
            "num_test_points": _SEARCH_SIZES.num_test_points,
            "num_features": _SEARCH_SIZES.num_features,
            "num_labels": _SEARCH_SIZES.num_labels,
            "labels_per_point": 3,
            "features_per_point": 20,
        },
        normalize_rows=False,
        num_validation_points=0,
        ks=(1, 3, 5, 10, 100),
    )


def amazon_search(*, num_buckets: int) -> Preset:
    """MACH on Amazon's search log, at the published sizes and on a synthetic twin of the data.

    R = 32, B = 10,000 or 20,000, 10 epochs, 70 million points, 49.46 million labels and 20,000 test
    queries [A]. The network is inferred from the published parameters (5.77 and 6.4 billion):
    80,000 hashed features, one hidden layer of 2,000 [I]; that features are hashed from 715,000 is
    from memory [M]. Loss, optimiser, start and hash are those of the code of 2020 [I]; labels and
    features a point, batch size and rate are not published. The twin's accuracy is its own.
    """
    return Preset(
        name=f"amazon-search-b{num_buckets}",
        reproduces=f"NeurIPS 2019, Amazon search table, MACH B = {num_buckets:,}, R = 32",
        sizes=_SEARCH_SIZES,
        data=_search_data(),
        model=_mach(
            2000,
            num_buckets=num_buckets,
            num_worlds=32,
            num_hashed_features=80_000,
            estimator="logit_sum",
            **_MURMUR_BCE,
            **_TF_START,
        ),
        train=_train(batch_size=2000, num_epochs=10),
    )


def amazon_search_dssm() -> Preset:
    """The same log's dense embedding (DSSM): 256 dimensions and 5 epochs [A].

    Its published 200 million parameters are 256 for each of some 715,000 input tokens [I]. The
    second tower there reads titles; here it is a table of labels, see `baselines.two_tower`. Loss,
    temperature and negatives are not published.
    """
    return Preset(
        name="amazon-search-dssm",
        reproduces="NeurIPS 2019, Amazon search table, DSSM with 256 dimensions",
        sizes=_SEARCH_SIZES,
        data=_search_data(),
        model=ModelSpec(method="two_tower", hidden_dims=(256,), options={"similarity": "cosine"}),
        train=TrainSpec(
            batch_size=2000,
            learning_rate=1e-3,
            schedule="constant",
            num_epochs=5,
            num_validations=0,
        ),
    )


def third_party(
    data: str,
    *,
    name: str | None = None,
    num_buckets: int,
    hidden_dims: tuple[int, ...],
    batch_size: int,
    num_epochs: int,
    learning_rate: float,
    decay_epochs: tuple[float, ...],
    num_validation_points: int,
    num_hashed_features: int | None = None,
) -> Preset:
    """Bibtex, Delicious, EURLex-4K and Wiki10-31K as Odaimoko/MACH-Pytorch trains them.

    R = 32; BCE as a mean over batch × B; PyTorch's Adam and start of linear layers (±1/√fan-in,
    biases too); the rate falls to a tenth at the given epochs; raw features; the points after the
    first `train_size` of the training file validate, and each world keeps its best epoch; murmur3
    with the world's number as seed; sigmoids averaged (`PAPER.md` 9.1, and its source) [C]. Rows
    are those of its `exp-sota.xlsx` [T]; whether a stored configuration made a row is not stated.

    Bibtex: B = 100, 128-128 [T]; batch 32, 60 epochs, rate 1e-3, steps at 20 and 40, 4,380 points
    train (`569f2fa`) [C]. Delicious: B = 200, 512-512, batch 1,280, rate 0.01 [T]; 60 epochs, step
    at 30, 11,000 points train, of configurations with 32-32 [C]. EURLex-4K: B = 500, 512-512-512,
    batch 1,280, 120 epochs, rate 1e-3, steps at 30, 60 and 90, 13,500 points train (`5cbcae1`) [C].
    Wiki10-31K: 500-500, batch 128, 60 epochs, rate 1e-3, step at 30, 12,300 points train; B = 1,000
    with features hashed to 70,000 (`ed8d15d`), or B = 2,000 without (`2f71f32`) [C]; which of them
    made the row is not stated.

    What differs: validation points are a seeded draw, not the end of the training file; the best
    epoch is of all worlds together, by P@1, there of each world by its buckets' mean average
    precision; the one training point of Delicious without labels is kept, there left out.
    """
    hashed: dict[str, Scalar] = (
        {} if num_hashed_features is None else {"num_hashed_features": num_hashed_features}
    )
    return Preset(
        name=name or f"{data}-third-party",
        reproduces=f"Odaimoko/MACH-Pytorch, exp-sota.xlsx, MACH on {SETS[data].title}",
        sizes=_sizes(data),
        data=_raw(data, num_validation_points=num_validation_points),
        model=_mach(
            *hidden_dims,
            num_buckets=num_buckets,
            num_worlds=32,
            estimator="mean",
            start="fan_in_uniform",
            **hashed,
            **_MURMUR_BCE,
        ),
        train=TrainSpec(
            batch_size=batch_size,
            learning_rate=learning_rate,
            optimizer="adam",
            schedule="step_decay",
            decay_epochs=decay_epochs,
            num_epochs=num_epochs,
            num_validations=num_epochs,
            keep_best=True,
        ),
    )


def wiki10_dissertation() -> Preset:
    """Wiki10-31K as shubh1905/dissertation_UOE trains it, for P@k and R@50 against R.

    Two hidden layers of 500, Adam at rate 1e-3 with ε = 1e-7, batch 30, 10 epochs, logits summed,
    B = 1,024, R = 6 to 16 (`PAPER.md` 9.1) [T]. One training with R = 16 gives every R. Keras adds
    ε as TensorFlow 1 does; its loss is a mean over buckets [I]. What differs: Keras starts from
    Glorot's uniform distribution, here ±1/√fan-in; smaller R are stated to be trainings there.
    """
    return Preset(
        name="wiki10-31k-dissertation",
        reproduces="shubh1905/dissertation_UOE, tables 4.3 and 4.4, Wiki10-31K, B = 1,024, R = 16",
        sizes=_sizes("wiki10-31k"),
        data=_raw("wiki10-31k", ks=(1, 3, 5, 10, 50)),
        model=_mach(
            500,
            500,
            num_buckets=1024,
            num_worlds=16,
            estimator="logit_sum",
            start="fan_in_uniform",
            start_biases=False,
            **_MURMUR_BCE,
        ),
        train=_train(batch_size=30, adam_epsilon=1e-7, num_epochs=10),
    )


def _build() -> tuple[Preset, ...]:
    wiki10: dict[str, Any] = {
        "hidden_dims": (500, 500),
        "batch_size": 128,
        "num_epochs": 60,
        "learning_rate": 1e-3,
        "decay_epochs": (30,),
        "num_validation_points": 1_846,
    }
    table = "arXiv 1810.04254 (2018), NeurIPS 2019, multi-class table"
    figure = "NeurIPS 2019, figure of accuracy over B and R"
    return (
        linear_softmax("odp", num_buckets=32, num_worlds=25, row=f"{table}, ODP"),
        linear_softmax("odp", num_buckets=4, num_worlds=50, row=f"{figure}, ODP: 480 times less"),
        linear_softmax("odp", num_buckets=512, num_worlds=50, row=f"{figure}, ODP: its best"),
        linear_softmax("imagenet", num_buckets=512, num_worlds=20, row=f"{table}, ImageNet"),
        linear_softmax("imagenet", num_buckets=1600, num_worlds=15, row=f"{figure}, ImageNet"),
        neurips_multilabel("wiki10-31k", num_buckets=2000, batch_size=100, num_epochs=60),
        neurips_multilabel(
            "delicious-200k",
            num_buckets=5000,
            batch_size=1000,
            num_epochs=20,
        ),
        neurips_multilabel(
            "amazon-670k",
            num_buckets=10_000,
            batch_size=1000,
            num_epochs=40,
        ),
        amazon_3m(),
        amazon_search(num_buckets=10_000),
        amazon_search(num_buckets=20_000),
        amazon_search_dssm(),
        third_party(
            "bibtex-159",
            num_buckets=100,
            hidden_dims=(128, 128),
            batch_size=32,
            num_epochs=60,
            learning_rate=1e-3,
            decay_epochs=(20, 40),
            num_validation_points=500,
        ),
        third_party(
            "delicious-983",
            num_buckets=200,
            hidden_dims=(512, 512),
            batch_size=1280,
            num_epochs=60,
            learning_rate=0.01,
            decay_epochs=(30,),
            num_validation_points=1_920,
        ),
        third_party(
            "eurlex-4k",
            num_buckets=500,
            hidden_dims=(512, 512, 512),
            batch_size=1280,
            num_epochs=120,
            learning_rate=1e-3,
            decay_epochs=(30, 60, 90),
            num_validation_points=2_039,
        ),
        third_party(
            "wiki10-31k",
            name="wiki10-31k-third-party-b1000",
            num_buckets=1000,
            num_hashed_features=70_000,
            **wiki10,
        ),
        third_party(
            "wiki10-31k",
            name="wiki10-31k-third-party-b2000",
            num_buckets=2000,
            **wiki10,
        ),
        wiki10_dissertation(),
    )


#: Name → set-up.
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _build()}
