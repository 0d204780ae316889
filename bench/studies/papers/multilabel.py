"""table-multilabel: the papers' multi-label table; table-delicious-split: one set, split anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.data.download.catalogue import SETS
from bench.methods.card import PAPERS
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.grids import linear, mlp, study
from bench.studies.papers.multilabel_published import multilabel_published, published_elsewhere
from bench.studies.papers.rows import peer, repeat, set_title
from bench.studies.presets import PRESETS
from bench.studies.study import Profile, Study

_REPLICATES = 3


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """How our own methods are trained on a set.

    Attributes:
        num_buckets: B of MACH, R = 32; the published one.
        num_samples: of sampled BCE.
        hidden_dim: H of every method with a hidden layer; these fields are theirs.
        num_epochs: passes.
        batch_size: points a step.
        learning_rate: peak rate.
        feature_dropout: share of features left out.
        linear_epochs: passes of linear one-vs-all.
        linear_batch_size: points a step of it.
        chunk_size: of one-vs-all.
    """

    num_buckets: int
    num_samples: int = 1024
    hidden_dim: int = 512
    num_epochs: float = 30
    batch_size: int = 256
    learning_rate: float = 0.003
    feature_dropout: float = 0.3
    linear_epochs: float = 20
    linear_batch_size: int = 64
    chunk_size: int | None = 128


# The first two are chosen on points held out of the training file: at Bibtex, of 500, one-vs-all
# with H = 256 came to P@1 0.628 with dropout 0.5 and 0.590 with 0.3; MACH to 0.634 at rate 0.005
# and 0.600 at 0.003, and to 0.602 with encoders of its own; neither gained after 18 passes. The
# others are not at hand: the settings of citeulike, which is most like Wiki10-31K.
_OURS: Mapping[str, _Ours] = {
    "bibtex-159": _Ours(
        num_buckets=100,
        num_samples=64,
        hidden_dim=256,
        num_epochs=20,
        batch_size=128,
        learning_rate=0.005,
        feature_dropout=0.5,
        chunk_size=None,
    ),
    "delicious-983": _Ours(
        num_buckets=200,
        num_samples=256,
        hidden_dim=256,
        num_epochs=25,
        feature_dropout=0.2,
        chunk_size=None,
    ),
    "eurlex-4k": _Ours(num_buckets=500),
    "wiki10-31k": _Ours(num_buckets=2000),
    "delicious-200k": _Ours(num_buckets=5000, num_epochs=10, batch_size=1000, linear_epochs=5),
    "amazon-670k": _Ours(num_buckets=10_000, num_epochs=20, batch_size=1000, linear_epochs=5),
    "amazon-3m": _Ours(num_buckets=10_000, num_epochs=10, batch_size=1000, linear_epochs=5),
}
# Straight on sparse features, Adam gives words that occur twice the steps of those that occur
# daily; an ε as large as gradients takes that back: at Bibtex P@1 on 500 held-out points rose from
# 0.562, the best with 1e-8, to 0.638.
_LINEAR_RATE, _LINEAR_EPSILON = 0.1, 0.01
_LONGEST = "delicious-983-third-party"
# Set → its published set-ups.
_SETUPS: Mapping[str, tuple[str, ...]] = {
    "bibtex-159": ("bibtex-159-third-party",),
    "delicious-983": (_LONGEST,),
    "eurlex-4k": ("eurlex-4k-third-party",),
    "wiki10-31k": (
        "wiki10-31k",
        "wiki10-31k-third-party-b1000",
        "wiki10-31k-third-party-b2000",
    ),
    "delicious-200k": ("delicious-200k",),
    "amazon-670k": ("amazon-670k",),
    "amazon-3m": ("amazon-3m",),
}
_SMALL = ("bibtex-159", "delicious-983")
_MEDIUM = (*_SMALL, "eurlex-4k", "wiki10-31k")
_SETS: Mapping[Profile, tuple[str, ...]] = {"cpu": _SMALL, "gpu": _MEDIUM, "paper": tuple(_OURS)}
# On which one-vs-rest by napkinXC, and label trees by Vowpal Wabbit, take minutes.
_CHEAP_FOR_PEERS = _MEDIUM
# Of Vowpal Wabbit. On held-out points of Bibtex the best with adaptive steps was P@1 0.572 (rates
# 0.1 to 3, 1 to 20 passes), with plain ones 0.598; of Delicious 0.695 and 0.691.
_USUAL_PLT: Mapping[str, Scalar] = {"passes": 5}
_PLT: Mapping[str, Mapping[str, Scalar]] = {
    "bibtex-159": {"passes": 50, "initial_rate": 10.0, "steps": "plain"},
}
_TO_SPLIT = ("mach", "full_softmax", "omikuji")
_NEWLY_SPLIT = "delicious-983, split anew"
# With ten trees, a beam of 64, half and twice the C, no threshold, no unit rows or TF-IDF, Parabel
# came to P@3 0.600 to 0.606 at Delicious; on a split drawn anew to 0.615.
_REASONS: Mapping[tuple[str, str], str] = {
    ("delicious-983", "Parabel"): "nearer on a split drawn anew: table-delicious-split",
    ("delicious-983", "MACH of a third party"): (
        "P@k nearer on a split drawn anew, PSP@k as far: table-delicious-split"
    ),
}


def table_multilabel(profile: Profile) -> list[Trial]:
    """The papers' multi-label table: MACH, one-vs-all, sampled BCE and label trees, P@k and PSP@k.

    Claim: published set-ups give published numbers within 1.5 points of P@1, P@3 and P@5. The sets
    at hand, Bibtex and Delicious-983, stand in neither paper: what is published of MACH there is a
    third party's. The papers' own sets have to be imported.
    Command: `make table-multilabel`; `PROFILE=gpu` adds EURLex-4K and Wiki10-31K, `PROFILE=paper`
    Delicious-200K, Amazon-670K and Amazon-3M, where `bench data` has imported them.
    Hardware: 2 CPU cores; a GPU of 80 GB. Duration: about 40 minutes on 2 cores; half of it
    is the published set-up of Delicious, which is run once, other rows of the small sets have three
    replicates.
    Expected: holds on Bibtex; not on Delicious, where the third party's MACH is 1.9 points of P@1
    above what its set-up gives here, its PSP@k 4 to 5 points below, and Parabel's P@3 1.6 above:
    see `table-delicious-split`.
    """
    return _repeated([row for name in _SETS[profile] for row in _rows(name)])


def table_delicious_split(profile: Profile) -> list[Trial]:
    """How far another split of Delicious moves what MACH, one-vs-all and label trees come to.

    Claim: on a split drawn at random from the same points, Parabel and the third party's MACH come
    within 1.5 points of their published P@1, P@3 and P@5, which the official split does not give.
    Command: `make table-delicious-split`.
    Hardware: 2 CPU cores. Duration: about 25 minutes on 2 cores; most of it is the published
    set-up, which is run once, other rows have three replicates. They keep the split; what else they
    draw is their own.
    Expected: every method gains half a point to two in P@1. Another split does not explain all:
    PSP@k of MACH stays 4 to 5 points above what the third party published.
    """
    rows = []
    for row in _rows("delicious-983"):
        if row.model.method not in _TO_SPLIT:
            continue
        options = {**row.data.options, "new_split": 0}
        data = dataclasses.replace(row.data, name=_NEWLY_SPLIT, options=options)
        rows.append(dataclasses.replace(row, data=data))
    return _repeated(rows)


def _repeated(rows: list[Trial]) -> list[Trial]:
    trials = [trial for row in rows for trial in repeat([row], _replicates(row))]
    return sorted(trials, key=lambda trial: trial.replicate)


def _replicates(row: Trial) -> int:
    """Small sets are drawn anew three times, but for the row that trains for 17 minutes."""
    is_small = row.data.name in (*_SMALL, _NEWLY_SPLIT)
    is_long = row.model == PRESETS[_LONGEST].model
    return _REPLICATES if is_small and not is_long else 1


def _rows(name: str) -> Iterator[Trial]:
    ours = _OURS[name]
    for setup in _SETUPS[name]:
        yield PRESETS[setup].trial()
    for model, train in _own_methods(ours):
        yield Trial(data=complete_set(name, feature_weighting="tfidf"), model=model, train=train)
    data = complete_set(name)
    yield peer(data, "omikuji", preset="parabel")
    yield peer(data, "omikuji", preset="bonsai")
    yield peer(data, "napkinxc", model="plt", num_trees=3)
    if name in _CHEAP_FOR_PEERS:
        yield peer(data, "napkinxc", model="ovr")
        yield peer(data, "vowpal_wabbit", reduction="plt", bits=22, **_PLT.get(name, _USUAL_PLT))


def complete_set(name: str, **settings: Any) -> DataSpec:
    """A published set with every training point, in rows of length 1.

    Features have the files' own values, as Parabel and its relatives are published with; ours are
    weighed by TF-IDF, which did better on Bibtex's held-out points.
    """
    return SETS[name].spec(**{"num_validation_points": 0, **settings})


def _own_methods(ours: _Ours) -> Iterator[tuple[ModelSpec, TrainSpec]]:
    train = TrainSpec(
        batch_size=ours.batch_size,
        learning_rate=ours.learning_rate,
        num_epochs=ours.num_epochs,
        num_validations=0,
    )
    straight = TrainSpec(
        batch_size=ours.linear_batch_size,
        learning_rate=_LINEAR_RATE,
        adam_epsilon=_LINEAR_EPSILON,
        num_epochs=ours.linear_epochs,
        num_validations=0,
    )
    common: dict[str, Scalar] = {"feature_dropout": ours.feature_dropout}
    chunk, H = ours.chunk_size, ours.hidden_dim
    worlds: dict[str, Scalar] = {"num_buckets": ours.num_buckets, "num_worlds": 32}
    yield mlp("mach", H, share_encoder=True, **worlds, **common), train
    yield linear("full_softmax", chunk_size=chunk, loss="bce"), straight
    yield mlp("full_softmax", H, chunk_size=chunk, loss="bce", **common), train
    samples: dict[str, Scalar] = {"sampler": "unigram", "num_samples": ours.num_samples}
    yield mlp("sampled_bce", H, **samples, **common), train


_SHARED: Mapping[str, Any] = {
    "task": "multilabel",
    "primary_metrics": (
        *("P@1", "P@3", "P@5", "PSP@1", "PSP@3", "PSP@5"),
        *("nDCG@3", "nDCG@5", "authors P@3", "authors P@5"),
    ),
    "part": set_title,
    "figures": ("accuracy-memory",),
    "shown_as": PAPERS,
}

STUDIES: Mapping[str, Callable[[], Study]] = {
    "table-multilabel": lambda: study(
        table_multilabel,
        profiles=("cpu", "gpu", "paper"),
        optional_data=tuple(_OURS),
        published=multilabel_published(_REASONS),
        **_SHARED,
    ),
    "table-delicious-split": lambda: study(
        table_delicious_split,
        profiles=("cpu",),
        optional_data=(_NEWLY_SPLIT,),
        published=published_elsewhere("delicious-983", part=_NEWLY_SPLIT),
        **_SHARED,
    ),
}
