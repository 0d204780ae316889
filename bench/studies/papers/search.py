"""Product search: MACH, a dense embedding and label trees on a planted log of purchases.

The papers' log of 70 million queries and 49.46 million products is private. What stands beside
their numbers here is `bench.data.searchlog`: its shape at a smaller size, none of its content.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.methods.card import PAPERS
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.grids import grid, mlp, shrink, study
from bench.studies.papers.rows import peer, repeat
from bench.studies.presets import PRESETS
from bench.studies.published import Curve, PaperRow
from bench.studies.study import Profile, Study

METRICS = ("wR@100", "R@100", "MAP@100", "MRR@100", "nDCG@100", "P@1")
_NUM_WORLDS = 32
_NUM_TREES = 16
_TREES = (2, 4, 8, _NUM_TREES)
_KS = (1, 3, 5, 10, 100)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A log and the models for it.

    Attributes:
        data: the log.
        buckets: the fewer and the more of MACH's two B.
        mach: MACH of B buckets and 32 worlds, 10 epochs of training.
        dssm: the dense embedding, 5 epochs.
    """

    data: DataSpec
    buckets: tuple[int, int]
    mach: Callable[[int], tuple[ModelSpec, TrainSpec]]
    dssm: tuple[ModelSpec, TrainSpec]
    sampled: tuple[ModelSpec, TrainSpec] | None = None


def _log(name: str, **options: int) -> DataSpec:
    return DataSpec(
        source="searchlog",
        name=name,
        options=options,
        feature_weighting="tfidf",
        max_test_points=5000,
        ks=_KS,
    )


def _ours(
    data: DataSpec,
    buckets: tuple[int, int],
    *,
    num_hashed_features: int,
    hidden_dim: int,
    batch_size: int,
) -> _Scale:
    """A log of ours: features hashed per world, as there, and our optimiser.

    Rates were chosen on validation points of the smallest log: MACH's from 0.005 … 0.02 (2 worlds,
    6 epochs; dropping features did not help), DSSM's from 0.005 and 0.01; the sampled softmax has
    DSSM's.
    """

    def train(num_epochs: float, learning_rate: float) -> TrainSpec:
        return TrainSpec(
            batch_size=batch_size,
            learning_rate=learning_rate,
            num_epochs=num_epochs,
            num_validations=2,
        )

    def mach(num_buckets: int) -> tuple[ModelSpec, TrainSpec]:
        model = mlp(
            "mach",
            hidden_dim,
            num_buckets=num_buckets,
            num_worlds=_NUM_WORLDS,
            num_hashed_features=num_hashed_features,
        )
        return model, train(10, 0.01)

    return _Scale(
        data=data,
        buckets=buckets,
        mach=mach,
        dssm=(mlp("two_tower", 256), train(5, 0.01)),
        sampled=(
            mlp("sampled_softmax", 256, sampler="unigram", num_samples=2048),
            train(5, 0.01),
        ),
    )


def _published() -> _Scale:
    """The papers' own sizes and set-ups, on a log of those sizes."""
    b10k, dssm = PRESETS["amazon-search-b10000"], PRESETS["amazon-search-dssm"]
    data = dataclasses.replace(
        b10k.data,
        source="searchlog",
        name="planted-search-log-50m",
        # Together with all triples of letters 715,000 features.
        options={
            "num_train_points": b10k.sizes.num_train_points,
            "num_test_points": b10k.sizes.num_test_points,
            "num_labels": b10k.sizes.num_labels,
            "num_words": 1_000_000,
            "num_known_words": 125_000,
            "num_unknown_slots": 550_317,
            "num_pair_slots": 20_000,
        },
    )

    def mach(num_buckets: int) -> tuple[ModelSpec, TrainSpec]:
        preset = PRESETS[f"amazon-search-b{num_buckets}"]
        return preset.model, preset.train

    return _Scale(
        data=data,
        buckets=(10_000, 20_000),
        mach=mach,
        dssm=(dssm.model, dssm.train),
    )


def _scale(profile: Profile) -> _Scale:
    if profile == "paper":
        return _published()
    if profile == "gpu":
        log = _log(
            "planted-search-log-1m",
            num_train_points=4_000_000,
            num_test_points=20_000,
            num_labels=1_000_000,
            num_words=200_000,
            num_known_words=60_000,
            num_unknown_slots=100_000,
            num_pair_slots=20_000,
        )
        return _ours(log, (2500, 5000), num_hashed_features=20_000, hidden_dim=512, batch_size=1024)
    log = _log(
        "planted-search-log",
        num_train_points=200_000,
        num_test_points=10_000,
        num_labels=50_000,
        num_words=20_000,
        num_known_words=10_000,
        num_unknown_slots=10_000,
        num_pair_slots=10_000,
    )
    return _ours(log, (250, 500), num_hashed_features=10_000, hidden_dim=128, batch_size=512)


def table_search(profile: Profile) -> list[Trial]:
    """Product search on a planted log: weighted recall, time, memory and parameters.

    Claim: in the papers, of what is bought after a query MACH finds more among its 100 best
    products than a dense embedding (DSSM) and label trees (Parabel) do, in a seventh to a tenth of
    the time; more buckets find more.
    Published numbers are Amazon's, on its private log of 49.46 million products; ours are a planted
    log's. DSSM's second tower there reads titles, here it is a table of products. Parabel is
    omikuji's, which trains every node to its end rather than for 5 epochs. A sampled softmax, which
    the papers have not, and trivial baselines stand beside.
    Command: `make table-search`. Hardware: 2 CPU cores. Duration: about 30 minutes on 2 cores.
    Expected: not the papers' order, nor their times: on this log the two towers and the sampled
    softmax find more in a quarter of MACH's time or less; Parabel leads P@1 and MRR; recall rises
    with B.
    """
    scale = _scale(profile)
    rows = [scale.dssm, *(scale.mach(B) for B in scale.buckets)]
    if scale.sampled is not None:
        rows.append(scale.sampled)
    trials = grid(scale.data, rows, trivial=profile != "paper")
    return repeat([*trials, peer(scale.data, "omikuji", num_trees=_NUM_TREES)], 1)


def figure_recall_worlds(profile: Profile) -> list[Trial]:
    """Weighted recall@100 over the number of worlds, for two B and three lengths of training.

    Claim: in the papers, recall rises steeply up to 8 worlds and is saturated by 16; more buckets
    help where worlds are few and training long, and hurt after one epoch.
    One training with 32 worlds gives every smaller number (random subsets of its worlds). Each
    length is a training of its own, its rate falling to 0; there the curves are of one training's
    epochs. Parabel is shown over trees, each a forest of its own, DSSM as a line.
    Command: `make figure-recall-worlds`. Hardware: 2 CPU cores.
    Duration: about 35 minutes on 2 cores.
    Expected: not the published shape, on other data: the rise is flatter and goes on from 16 to 32
    worlds, and more buckets hurt after one epoch nowhere by more than noise.
    """
    scale = _scale(profile)
    machs = [scale.mach(B) for B in scale.buckets]
    rows = [
        (model, dataclasses.replace(train, num_epochs=float(num_epochs)))
        for model, train in machs
        for num_epochs in (1, 5, 10)
    ]
    forests = [peer(scale.data, "omikuji", num_trees=num_trees) for num_trees in _TREES]
    return repeat([*grid(scale.data, [*rows, scale.dssm], trivial=False), *forests], 1)


_TABLE = "NeurIPS 2019, Amazon search table"
_FIGURE = "NeurIPS 2019, figure of recall@100 over repetitions"
_AMAZON = "Amazon's log"
# Of the three scales, the fewer and the more buckets: B = 10,000 and 20,000 there.
_FEWER, _MORE = (250, 2500, 10_000), (500, 5000, 20_000)


def _row(label: str, values: Sequence[float], **beside: Scalar | tuple[Scalar, ...]) -> PaperRow:
    names = ("wR@100", "train hours", "train peak GB", "evaluation peak GB", "parameters")
    metrics = dict(zip(names, values, strict=False))
    return PaperRow(
        label=label, metrics=metrics, source=_TABLE, tag="A", beside=beside, data=_AMAZON
    )


_MACH = "MACH, B = {:,}, R = 32, 10 epochs"
TABLE_ROWS = (
    _row("DSSM, 256 dimensions, 5 epochs", (0.441, 316.6, 40, 286, 200), method="two_tower"),
    _row("Parabel, 16 trees, 5 epochs", (0.5810, 232.4, 350, 426), method="omikuji"),
    _row(_MACH.format(10_000), (0.6419, 31.8, 150, 80, 5770), method="mach", num_buckets=_FEWER),
    _row(_MACH.format(20_000), (0.6541, 34.2, 180, 90, 6400), method="mach", num_buckets=_MORE),
)

_WORLDS = (2, 4, 8, 16, 32)
#: (B as published, epochs) → weighted recall@100 at 2, 4, 8, 16 and 32 worlds.
RECALL: Mapping[tuple[int, int], tuple[float, ...]] = {
    (10_000, 1): (0.125, 0.361, 0.493, 0.518, 0.523),
    (10_000, 5): (0.158, 0.472, 0.604, 0.624, 0.629),
    (10_000, 10): (0.166, 0.489, 0.619, 0.639, 0.642),
    (20_000, 1): (0.175, 0.424, 0.493, 0.502, 0.505),
    (20_000, 5): (0.230, 0.561, 0.623, 0.631, 0.635),
    (20_000, 10): (0.242, 0.580, 0.638, 0.652, 0.654),
}
#: Parabel's epochs → weighted recall@100 at 2, 4, 8 and 16 trees.
RECALL_OF_TREES: Mapping[int, tuple[float, ...]] = {
    1: (0.311, 0.387, 0.465, 0.521),
    5: (0.350, 0.475, 0.536, 0.591),
}
_DSSM_RECALL = 0.441


def _epochs(number: int) -> str:
    return f"{number} epoch" + ("s" if number > 1 else "")


def _figure_rows() -> Iterable[PaperRow]:
    row = functools.partial(PaperRow, source=_FIGURE, tag="F", data=_AMAZON)
    for (num_buckets, num_epochs), values in RECALL.items():
        sizes = _FEWER if num_buckets == 10_000 else _MORE
        yield row(
            label=f"MACH, B = {num_buckets:,}, {_epochs(num_epochs)}",
            metrics={f"wR@100, R = {R}": value for R, value in zip(_WORLDS, values, strict=True)},
            beside={"method": "mach", "num_buckets": sizes, "num_epochs": num_epochs},
        )
    for num_trees, value in zip(_TREES, RECALL_OF_TREES[5], strict=True):
        yield row(
            label=f"Parabel, {num_trees} trees, 5 epochs",
            metrics={"wR@100": value},
            beside={"method": "omikuji", "num_trees": num_trees},
        )
    dssm = {"wR@100": _DSSM_RECALL}
    yield row(label="dense embedding (DSSM)", metrics=dssm, beside={"method": "two_tower"})


def _curves() -> Iterable[Curve]:
    curve = functools.partial(Curve, panel=_AMAZON, tag="F", source=_FIGURE)
    for (num_buckets, num_epochs), values in RECALL.items():
        label = f"MACH B={num_buckets:,}, {_epochs(num_epochs)}"
        yield curve(label=label, points=tuple(zip(_WORLDS, values, strict=True)))
    for num_epochs, values in RECALL_OF_TREES.items():
        label = f"Parabel, {_epochs(num_epochs)}"
        yield curve(label=label, points=tuple(zip(_TREES, values, strict=True)))
    yield curve(label="DSSM", points=((None, _DSSM_RECALL),))


def _smoke(function: Callable[[Profile], list[Trial]]) -> list[Trial]:
    """The grid in small, on a log of which even the hundred best products are a choice."""
    log = _log(
        "planted-search-log-smoke",
        num_train_points=1500,
        num_test_points=200,
        num_labels=300,
        num_words=150,
        num_known_words=100,
        num_unknown_slots=50,
        num_pair_slots=50,
    )
    log = dataclasses.replace(log, num_validation_points=100)
    return [dataclasses.replace(t, data=log) for t in shrink(function("cpu"), "multilabel")]


def _study(function: Callable[[Profile], list[Trial]], **fields: Any) -> Study:
    return study(
        function,
        smoke=lambda: _smoke(function),
        primary_metrics=METRICS,
        profiles=("cpu", "gpu", "paper"),
        shown_as=PAPERS,
        **fields,
    )


STUDIES: Mapping[str, Callable[[], Study]] = {
    "table-search": lambda: _study(
        table_search,
        published=TABLE_ROWS,
        figures=("accuracy-worlds", "accuracy-memory"),
    ),
    "figure-recall-worlds": lambda: _study(
        figure_recall_worlds,
        published=tuple(_figure_rows()),
        curves=tuple(_curves()),
        figures=("recall-worlds",),
    ),
}
