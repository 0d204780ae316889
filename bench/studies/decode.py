"""The decode alone: who is fast, at which sizes and peakedness."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from bench.methods.card import DECODING
from bench.methods.cards import cards
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.grids import linear, study
from bench.studies.study import Profile, Study

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
    Command: `make decode`. Hardware: 2 CPU cores, 20 GiB. Duration: about an hour on 2 cores.
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
    """Every decoder that can decode the problem."""
    if data.options["num_buckets"] not in _FAISS_BUCKETS:
        skip = (*skip, "faiss_pq")
    named = only or [card.name for card in cards("decoding")]
    methods = [method for method in named if method not in skip]
    return _decode_grid(data, [linear(method, k=k) for method in methods])


def _decode_grid(data: DataSpec, models: Iterable[ModelSpec]) -> list[Trial]:
    return [Trial(data=data, model=model, train=_DECODE_TRAIN) for model in models]


def _decode_smoke() -> list[Trial]:
    """Every decoder on a small problem of each source."""
    problems = (
        _planted_scores(3000, 4, 256, 0.9, num_queries=80),
        _model_scores("planted", 4, 16, 20),
    )
    return [trial for problem in problems for trial in _decoders(problem)]


STUDIES: Mapping[str, Callable[[], Study]] = {
    "decode": lambda: study(
        decode,
        smoke=_decode_smoke,
        primary_metrics=("recall",),
        profiles=("cpu",),
        part=lambda trial: f"k = {trial.model.options['k']}",
        kind=DECODING,
    ),
}
