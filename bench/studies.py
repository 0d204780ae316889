"""The studies: tables and figures as named grids of trials; the only home of outside numbers.

A new study is one function and one line in `STUDIES`. This file imports neither torch nor models:
listing, planning and reporting must not need them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from bench.cards import cards
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.study import DECODING, Profile, Published, Study
from bench.theory.studies import STUDIES as THEORY_STUDIES

FLOORS = (
    ModelSpec(method="frequency", encoder="linear"),
    ModelSpec(method="centroid", encoder="linear"),
)


def mlp(method: str, hidden_dim: int, **options: Scalar) -> ModelSpec:
    """A method over one hidden layer."""
    return ModelSpec(method=method, encoder="mlp", hidden_dims=(hidden_dim,), options=options)


def linear(method: str, **options: Scalar) -> ModelSpec:
    """A method straight on the features."""
    return ModelSpec(method=method, encoder="linear", options=options)


def grid(
    data: DataSpec,
    rows: Iterable[tuple[ModelSpec, TrainSpec]],
    *,
    replicates: int = 1,
    floors: bool = True,
) -> list[Trial]:
    """Trials of every row, replicates outermost, floors (which have no seed) once at the front."""
    plain = TrainSpec(batch_size=4096)
    trials = [Trial(data=data, model=floor, train=plain) for floor in FLOORS] if floors else []
    kept = list(rows)
    for replicate in range(replicates):
        trials += [
            Trial(data=data, model=model, train=train, replicate=replicate) for model, train in kept
        ]
    return trials


def shrink(trials: Iterable[Trial], task: Literal["multiclass", "multilabel"]) -> list[Trial]:
    """The same grid in seconds: small planted data, every size of the model cut down.

    Rows that become equal are kept once, replicates left out. Each method and each kind of setting
    is still run.
    """
    data = DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 1500,
            "num_test_points": 200,
            "num_features": 300,
            "num_labels": 60,
            "labels_per_point": 1 if task == "multiclass" else 3,
        },
        feature_weighting="tfidf",
        num_validation_points=100,
    )
    limits: Mapping[str, int] = {
        "num_buckets": 16,
        "num_worlds": 3,
        "num_samples": 20,
        "chunk_size": 16,
        "worlds_per_step": 2,
        "num_hashed_features": 64,
    }
    small: dict[str, Trial] = {}
    for trial in trials:
        if trial.replicate > 0:
            continue
        options = {
            name: min(value, limits[name]) if name in limits and isinstance(value, int) else value
            for name, value in trial.model.options.items()
        }
        model = dataclasses.replace(
            trial.model,
            options=options,
            hidden_dims=tuple(min(width, 8) for width in trial.model.hidden_dims),
        )
        train = dataclasses.replace(
            trial.train,
            batch_size=min(trial.train.batch_size, 64),
            num_steps=None,
            num_epochs=1.0,
            budget_seconds=None,
            num_validations=2,
            trial_timeout_seconds=300.0,
        )
        shrunk = Trial(data=data, model=model, train=train, replicate=trial.replicate)
        small.setdefault(shrunk.trial_id, shrunk)
    return list(small.values())


def _study(
    function: Callable[[Profile], list[Trial]],
    *,
    name: str,
    duration: str,
    task: Literal["multiclass", "multilabel"],
    **hints: Any,
) -> Study:
    profiles: tuple[Profile, ...] = hints.get("profiles", ("cpu", "gpu"))
    return Study(
        name=name,
        claim=function.__doc__ or "",
        trials=function,
        smoke=lambda: shrink(function(profiles[0]), task),
        duration=duration,
        **hints,
    )


def _budget(seconds: float, profile: Profile, *, gpu_epochs: float, **settings: Any) -> TrainSpec:
    """Equal seconds for every method on a CPU; on a GPU, epochs enough to converge."""
    if profile == "gpu":
        settings["batch_size"] = max(1024, settings.get("batch_size", 256))
        return TrainSpec(num_epochs=gpu_epochs, **settings)
    return TrainSpec(budget_seconds=seconds, **settings)


def quickstart(profile: Profile) -> list[Trial]:
    """MACH against full and sampled softmax on next-identifier prediction, 20,000 real classes.

    Claim: with 20 seconds of training each, the methods separate well above the floors; sampling
    and hashing see several times more data than a full softmax does.
    Command: `make bench` (one replicate, and costs), `bench run quickstart` for all three.
    Hardware: 2 CPU cores. Duration: about 6 minutes, 14 with all replicates.
    Expected: sampled softmax first, then MACH, full softmax last within this budget.
    """
    data = DataSpec(
        source="pysource",
        name="pysource",
        options={"num_labels": 20_000, "max_train_points": 400_000, "max_test_points": 20_000},
        feature_weighting="binary",
        num_validation_points=2000,
        max_test_points=10_000,
    )

    def train(learning_rate: float) -> TrainSpec:
        # Chosen on the validation split from 0.003 … 0.04, for each method by itself.
        return _budget(
            20.0,
            profile,
            gpu_epochs=10,
            batch_size=512,
            learning_rate=learning_rate,
            num_validations=6,
        )

    mach: dict[str, Scalar] = {"share_encoder": True, "estimator": "log_mean"}
    rows = [
        (mlp("full_softmax", 64, chunk_size=None), train(0.04)),
        (mlp("full_softmax", 64, chunk_size=128), train(0.04)),
        (mlp("sampled_softmax", 64, sampler="log_uniform", num_samples=2048), train(0.02)),
        (mlp("sampled_softmax", 64, sampler="unigram", num_samples=2048), train(0.02)),
        *(
            (mlp("mach", 64, num_buckets=buckets, num_worlds=worlds, **mach), train(0.02))
            for buckets, worlds in ((128, 16), (512, 16), (2048, 4), (2048, 8))
        ),
    ]
    return grid(data, rows, replicates=3)


def delicious(profile: Profile) -> list[Trial]:
    """Tags of bookmarks, 983 labels, the published split: beside known numbers.

    Claim: the multi-label path is right: one-vs-all reaches the published range (P@1 0.65–0.70).
    Command: `make delicious`. Hardware: 2 CPU cores. Duration: about 10 minutes.
    Expected: one-vs-all and MACH within two points of each other, sampled softmax close.
    """
    data = _xmlrepo("delicious-983", num_validation_points=1000)
    train = _budget(10.0, profile, gpu_epochs=40, learning_rate=0.003, num_validations=5)
    common: dict[str, Scalar] = {"feature_dropout": 0.2}
    models = [
        mlp("full_softmax", 256, chunk_size=None, **common),
        mlp("full_softmax", 256, chunk_size=128, **common),
        mlp("full_softmax", 256, chunk_size=128, loss="softmax", **common),
        mlp("sampled_softmax", 256, sampler="unigram", num_samples=256, **common),
        mlp("sampled_softmax", 256, sampler="in_batch", num_samples=0, **common),
        mlp("sampled_bce", 256, sampler="unigram", num_samples=256, **common),
        *(
            mlp("mach", 256, num_buckets=b, num_worlds=8, share_encoder=shared, **common)
            for b, shared in ((50, True), (100, True), (200, True), (200, False))
        ),
    ]
    return grid(data, [(model, train) for model in models], replicates=3)


def bible(profile: Profile) -> list[Trial]:
    """Which of 31,086 verses a translation renders: where a broken hash or merge shows at once.

    Claim: with a wide encoder per world and products of bucket probabilities, MACH comes near the
    best softmax on labels with six training points each.
    Command: `make bible`. Hardware: 2 CPU cores. Duration: about 33 minutes.
    Expected: centroid about 0.9; sampled softmax and the best MACH above 0.8. The test translation
    is unlike the training ones, which validation cannot see: both dropouts are shown, none chosen.
    """
    data = _xmlrepo("bible-verse-id", max_test_points=10_000)

    def train(learning_rate: float = 0.01) -> TrainSpec:
        return _budget(120.0, profile, gpu_epochs=20, learning_rate=learning_rate)

    sampled: dict[str, Scalar] = {"sampler": "uniform", "num_samples": 2048}
    mach: dict[str, Scalar] = {"estimator": "log_mean"}
    rows = [
        # A rate below and one above what leads on validation, and MACH's width for the rival.
        (mlp("full_softmax", 128, chunk_size=128), train(0.005)),
        (mlp("full_softmax", 128, chunk_size=128), train()),
        (mlp("full_softmax", 128, chunk_size=128), train(0.02)),
        (mlp("full_softmax", 128, chunk_size=128, feature_dropout=0.2), train()),
        (mlp("full_softmax", 64, chunk_size=128), train(0.02)),
        (mlp("sampled_softmax", 128, **sampled), train()),
        (mlp("sampled_softmax", 256, **sampled), train()),
        (mlp("sampled_softmax", 256, feature_dropout=0.2, **sampled), train()),
        (mlp("sampled_softmax", 512, **sampled), train()),
        (mlp("mach", 512, num_buckets=1024, num_worlds=4, **mach), train()),
        (mlp("mach", 512, num_buckets=1024, num_worlds=4, feature_dropout=0.2, **mach), train()),
        (mlp("mach", 512, num_buckets=512, num_worlds=8, **mach), train()),
        (mlp("mach", 512, num_buckets=1024, num_worlds=8, share_encoder=True, **mach), train()),
        (linear("mach", num_buckets=512, num_worlds=16, **mach), train(0.1)),
    ]
    return grid(data, rows)


def citeulike(profile: Profile) -> list[Trial]:
    """Tags of scientific articles from their words: multi-label, 52,946 labels.

    Claim: at equal time MACH ranks tags as well as the best softmax, at a fraction of its memory.
    Command: `make citeulike`. Hardware: 2 CPU cores. Duration: about 38 minutes.
    Expected: P@1 near 0.6 for MACH, above 0.5 for sampled softmax, one-vs-all behind at this
    budget.
    """
    data = _xmlrepo("citeulike-t", num_validation_points=1000)

    def train(learning_rate: float = 0.005) -> TrainSpec:
        return _budget(100.0, profile, gpu_epochs=40, learning_rate=learning_rate)

    common: dict[str, Scalar] = {"feature_dropout": 0.3}
    mach: dict[str, Scalar] = {"share_encoder": True, **common}
    sampled: dict[str, Scalar] = {"num_samples": 2048, **common}
    # Sampled losses pass their best before the end: also with more dropout and a lower rate.
    calm: dict[str, Scalar] = sampled | {"feature_dropout": 0.5}
    rows = [
        (mlp("full_softmax", 256, chunk_size=128, **common), train()),
        (mlp("full_softmax", 256, chunk_size=128, **common), train(0.02)),
        (mlp("full_softmax", 256, chunk_size=128, **common), train(0.05)),
        (mlp("full_softmax", 256, chunk_size=128, loss="softmax", **common), train()),
        (mlp("full_softmax", 256, chunk_size=128, loss="softmax", **common), train(0.02)),
        (mlp("full_softmax", 256, chunk_size=128, loss="softmax", **common), train(0.05)),
        (mlp("sampled_softmax", 256, sampler="unigram", **sampled), train()),
        (mlp("sampled_softmax", 256, sampler="log_uniform", **sampled), train()),
        (mlp("sampled_softmax", 256, sampler="unigram", **calm), train(0.002)),
        (mlp("sampled_softmax", 256, sampler="log_uniform", **calm), train(0.002)),
        # The loss with which MACH leads, over sampled labels.
        (mlp("sampled_bce", 256, sampler="unigram", **sampled), train()),
        (mlp("sampled_bce", 256, sampler="unigram", **calm), train(0.002)),
        (mlp("sampled_bce", 256, sampler="unigram", **calm), train()),
        (mlp("sampled_bce", 256, sampler="uniform", **sampled), train()),
        (mlp("mach", 256, num_buckets=2000, num_worlds=8, **mach), train()),
        (mlp("mach", 256, num_buckets=2000, num_worlds=8, loss="softmax", **mach), train()),
        (mlp("mach", 256, num_buckets=1000, num_worlds=16, loss="softmax", **mach), train()),
        (mlp("mach", 256, num_buckets=4000, num_worlds=4, loss="softmax", **mach), train()),
    ]
    return grid(data, rows)


_ALL_CLASSES = "all 83,071 classes"
_TOP_CLASSES = "20,000 classes with most training passages"


def simplewiki(profile: Profile) -> list[Trial]:
    """Which article of Simple English Wikipedia a passage is from: 83,071 classes, VW format.

    Claim: at an equal training-time budget, who is most accurate at 20,000 and at 83,071 classes.
    Command: `make simplewiki` (`PROFILE=gpu` trains all classes to convergence).
    Hardware: 2 CPU cores. Duration: under 2.5 hours, resumable.
    Expected: the centroid is hard to beat; sampled softmax and MACH see every passage, a full
    softmax only part of them.
    """
    test_points = 20_000
    if profile == "gpu":
        return _simplewiki_rows(_simplewiki(None, None), 0.0, profile)
    top = _simplewiki_rows(_simplewiki(20_000, test_points), 240.0, profile)
    whole = _simplewiki_rows(_simplewiki(None, test_points), 720.0, profile)
    # All classes: the floors, the leaders of sampled softmax and of MACH on validation at 20,000
    # classes, a linear MACH as the cheapest in steps, and of the full softmax the width that sees
    # more of the data: 128 led there on validation by 0.3 points, at half the epochs.
    kept = [trial for trial in whole if _leads(trial.model)]
    return top + kept


def _simplewiki(num_top_labels: int | None, max_test_points: int | None) -> DataSpec:
    return DataSpec(
        source="vw",
        name="simplewiki",
        options={"train": "simplewiki/train.vw.gz", "test": "simplewiki/test.vw.gz"},
        feature_weighting="tfidf",
        num_top_labels=num_top_labels,
        max_test_points=max_test_points,
        num_validation_points=2000,
    )


def _simplewiki_rows(data: DataSpec, seconds: float, profile: Profile) -> list[Trial]:
    def train(learning_rate: float) -> TrainSpec:
        return _budget(seconds, profile, gpu_epochs=10, learning_rate=learning_rate)

    mach: dict[str, Scalar] = {"estimator": "log_mean"}
    rows = [
        # Full softmax: of widths 64 … 256, rates 0.005 … 0.03 and batches 128 … 1,024, the narrow
        # one with its more epochs led on validation after 45 seconds, the lowest rate first.
        (mlp("full_softmax", 128, chunk_size=128), train(0.005)),
        (mlp("full_softmax", 128, chunk_size=128), train(0.002)),
        (mlp("full_softmax", 64, chunk_size=128), train(0.005)),
        (mlp("sampled_softmax", 128, sampler="uniform", num_samples=2048), train(0.01)),
        (mlp("sampled_softmax", 128, sampler="unigram", num_samples=2048), train(0.01)),
        (mlp("sampled_softmax", 512, sampler="unigram", num_samples=2048), train(0.005)),
        (mlp("mach", 512, num_buckets=1024, num_worlds=4, **mach), train(0.005)),
        (mlp("mach", 512, num_buckets=512, num_worlds=8, **mach), train(0.005)),
        (
            mlp("mach", 512, num_buckets=2048, num_worlds=8, share_encoder=True, **mach),
            train(0.005),
        ),
        (
            mlp("mach", 512, num_buckets=1024, num_worlds=4, share_encoder=True, **mach),
            train(0.005),
        ),
        (linear("mach", num_buckets=512, num_worlds=16, **mach), train(0.1)),
    ]
    return grid(data, rows)


def _leads(model: ModelSpec) -> bool:
    if model.method == "full_softmax":
        return model.hidden_dims == (64,)
    if model.method == "sampled_softmax":
        return model.options["sampler"] == "unigram" and model.hidden_dims == (512,)
    if model.method == "mach":
        is_small = model.options["num_worlds"] == 4 and not model.options.get("share_encoder")
        return model.encoder == "linear" or is_small
    return True


def _simplewiki_part(trial: Trial) -> str:
    return _TOP_CLASSES if trial.data.num_top_labels else _ALL_CLASSES


def _xmlrepo(folder: str, **settings: Any) -> DataSpec:
    return DataSpec(
        source="xmlrepo",
        name=folder,
        options={"train": f"{folder}/train.txt.gz", "test": f"{folder}/test.txt.gz"},
        feature_weighting="tfidf",
        **settings,
    )


# FAISS scans codes of half a byte or a byte.
_FAISS_BUCKETS = (16, 256)
_DECODE_TRAIN = TrainSpec(trial_timeout_seconds=1800.0)


def decode(profile: Profile) -> list[Trial]:
    """From bucket scores to the exact k best labels: who is fast, at which L, R, B and peakedness.

    Claim: `pruned` is at least 20 times as fast as the authors' exact gather at L = 670,091,
    R = 32, B = 10,000 on peaked scores; `dense` at least 4 times at L = 105,033, R = 25, B = 32;
    `auto` stays near the better of the two at every one of these problems. Labels and memory come
    from the trials, times from rounds: from the scores, and from the hidden vector of 128, which a
    softmax multiplies with L columns and MACH with R · B.
    Command: `make decode`. Hardware: 2 CPU cores, 20 GiB. Duration: about an hour.
    Expected: on peaked scores the time of `pruned` grows far slower than L; on uniform ones, or
    where more labels are asked for than stand out, nothing can be pruned, and `auto` scans.
    """
    labels = (10_000, 105_033, 670_091, 2_812_281)
    trials = [
        trial
        for num_labels in labels
        for trial in _decoders(_planted_scores(num_labels, 32, 10_000, 0.9))
    ]
    large = 670_091
    for peak in (0.5, 0.1, 0.0):
        trials += _decoders(_planted_scores(large, 32, 10_000, peak), skip=("softmax_matmul",))
    for num_labels, num_worlds, num_buckets in (
        (105_033, 25, 32),
        (large, 32, 256),
        (large, 32, 2000),
        (large, 16, 20_000),
        (large, 8, 10_000),
    ):
        problem = _planted_scores(num_labels, num_worlds, num_buckets, 0.9)
        trials += _decoders(problem, skip=("softmax_matmul",))
    trained = [
        _model_scores(dataset, 16, 2000, num_steps)
        for dataset, num_steps in (("simplewiki", 9000), ("citeulike", 3000))
    ]
    for problem in trained:
        trials += _decoders(problem, skip=("softmax_matmul",))
    # The decode method where little or nothing can be pruned: it looks, and scans.
    for problem in (_planted_scores(large, 32, 10_000, 0.0), *trained):
        trials += _decode_grid(problem, [linear("pruned", k=5, falls_back=True)])
    peaked = _planted_scores(large, 32, 10_000, 0.9)
    trials += _decoders(peaked, k=100, skip=("softmax_matmul",))
    # What fewer bits for a bucket score would cost in labels.
    for problem in (peaked, trained[0]):
        rounded = [linear("dense", k=5, score_type=name) for name in ("float16", "bfloat16")]
        trials += _decode_grid(problem, rounded)
    # Fifty million labels within 20 GiB. One label of a query stands out, so that a hundred cannot
    # be had without a scan: `pruned` alone would take seconds a query, and needs its way back.
    huge = _planted_scores(49_460_000, 32, 10_000, 0.9, num_queries=64, hash_family="universal")
    trials += _decoders(huge, only=("dense", "pruned", "auto"))
    rows = [
        linear("dense", k=100),
        linear("dense", k=100, recompute=True),
        linear("pruned", k=100, falls_back=True),
    ]
    return trials + _decode_grid(huge, rows)


def _planted_scores(
    num_labels: int, num_worlds: int, num_buckets: int, peak: float, **options: Scalar
) -> DataSpec:
    return DataSpec(
        source="planted_scores",
        name=f"peak {peak:g}" if peak else "uniform",
        options={
            "num_labels": num_labels,
            "num_worlds": num_worlds,
            "num_buckets": num_buckets,
            "peak": peak,
        }
        | options,
    )


def _model_scores(dataset: str, num_worlds: int, num_buckets: int, num_steps: int) -> DataSpec:
    return DataSpec(
        source="model_scores",
        name=dataset,
        options={
            "dataset": dataset,
            "num_worlds": num_worlds,
            "num_buckets": num_buckets,
            "num_steps": num_steps,
        },
    )


def _decoders(
    data: DataSpec,
    *,
    k: int = 5,
    skip: tuple[str, ...] = (),
    only: tuple[str, ...] = (),
) -> list[Trial]:
    """Every contender that can decode the problem."""
    if data.options["num_buckets"] not in _FAISS_BUCKETS:
        skip = (*skip, "faiss_pq")
    named = only or [card.name for card in cards("decoding")]
    methods = [method for method in named if method not in skip]
    return _decode_grid(data, [linear(method, k=k) for method in methods])


def _decode_grid(data: DataSpec, models: Iterable[ModelSpec]) -> list[Trial]:
    return [Trial(data=data, model=model, train=_DECODE_TRAIN) for model in models]


def _decode_smoke() -> list[Trial]:
    """Every contender on a small problem of each source."""
    problems = (
        _planted_scores(3000, 4, 256, 0.9, num_queries=80),
        _model_scores("planted", 4, 16, 20),
    )
    return [trial for problem in problems for trial in _decoders(problem)]


STUDIES: dict[str, Callable[[], Study]] = {
    "quickstart": lambda: _study(
        quickstart,
        name="quickstart",
        duration="about 6 minutes on 2 cores, 14 with all replicates",
        task="multiclass",
        primary_metrics=("P@1", "top-5"),
    ),
    "delicious": lambda: _study(
        delicious,
        name="delicious",
        duration="about 10 minutes on 2 cores",
        task="multilabel",
        published=(
            Published(
                label="MACH (third party, 512-512, B=200)",
                metrics={"P@1": 0.7120, "P@3": 0.6536, "P@5": 0.6028},
                source="results sheet of Odaimoko/MACH-Pytorch; not the authors'; best checkpoint",
            ),
            Published(
                label="kNN",
                metrics={"P@1": 0.65},
                source="untuned check of who prepared the data",
            ),
        ),
    ),
    "bible": lambda: _study(
        bible,
        name="bible",
        duration="about 33 minutes on 2 cores",
        task="multiclass",
        primary_metrics=("P@1", "top-5"),
        published=(
            Published(
                label="Nearest centroid (TF-IDF)",
                metrics={"P@1": 0.91},
                source="untuned check of who prepared the data",
            ),
        ),
    ),
    "citeulike": lambda: _study(
        citeulike,
        name="citeulike",
        duration="about 38 minutes on 2 cores",
        task="multilabel",
        published=(
            Published(
                label="kNN (TF-IDF)",
                metrics={"P@1": 0.64},
                source="untuned check of who prepared the data",
            ),
        ),
    ),
    "simplewiki": lambda: _study(
        simplewiki,
        name="simplewiki",
        duration="under 2.5 hours on 2 cores",
        task="multiclass",
        primary_metrics=("P@1", "top-5", "top-10"),
        part=_simplewiki_part,
        published=(
            Published(
                label="Linear label tree (PECOS XR-Linear)",
                metrics={"P@1": 0.295, "top-5": 0.469},
                source="10,000 test points, 290 s of training on 2 loaded cores",
                part=_ALL_CLASSES,
            ),
        ),
    ),
    "decode": lambda: Study(
        name="decode",
        claim=decode.__doc__ or "",
        trials=decode,
        smoke=_decode_smoke,
        duration="about an hour on 2 cores",
        primary_metrics=("recall",),
        profiles=("cpu",),
        part=lambda trial: f"k = {trial.model.options['k']}",
        kind=DECODING,
    ),
    **THEORY_STUDIES,
}
