"""From raw data to a trial's data: label choice, splits, weighting, normalisation.

The order is fixed: choose the top labels on the training file; drop the points that this leaves
without a label; carve the validation points; fit document frequencies on what is left; weight and
normalise all splits; draw the test points. Validation and test points come in random order, so
that the first n of them are a fair sample even where a file is sorted. Where a source states groups
of training points, validation points are drawn from groups of their own, of which no point is
trained on. Points that have no label in the file itself are kept in every split: when trained on
they are all-negative examples, when tested on they are misses.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.data.csr import (
    Csr,
    Dataset,
    Float32s,
    Int32s,
    Int64s,
    JsonScalar,
    count_ids,
    offsets_of,
)
from bench.data.rowwriter import stacked
from bench.data.source import DataError, RawData
from bench.settings import DataSpec, derive_seed
from bench.store.kernels import njit

VERSION = 1

#: Numbers of rows; half the memory where 32 bits are enough.
RowIds = Int32s | Int64s

# Of grouped data this share is held back: few groups of many points each would be a narrow sample.
_GROUPED_SHARE = 0.05


@dataclass(frozen=True)
class Prepared:
    """A data set ready for a trial, and the raw id of each of its labels where they were chosen."""

    dataset: Dataset
    kept_labels: Int64s | None


def prepare(spec: DataSpec, raw: RawData, scratch: Path | None = None) -> Prepared:
    """The data set that `spec` describes.

    Its arrays are files of the folder `scratch`, written block by block, for which memory takes
    some 16 bytes a point; without a folder they are in memory.
    """
    train, test = _row_ids(raw.train_labels.num_rows), _row_ids(raw.test_labels.num_rows)
    train_labels, test_labels = raw.train_labels, raw.test_labels
    kept_labels = None
    if spec.num_top_labels is not None:
        kept_labels = _top_labels(raw.train_labels, spec.num_top_labels)
        train_labels, test_labels = (
            _relabel(labels, kept_labels, scratch) for labels in (train_labels, test_labels)
        )
        train, test = (np.flatnonzero(y.row_lengths) for y in (train_labels, test_labels))
    num_candidates = test.size
    groups = None if raw.train_groups is None else raw.train_groups[train]
    left, validation, set_aside = _carve(train, groups, spec)
    del train, groups
    test = np.random.default_rng(derive_seed("test", spec.split_seed)).permutation(test)
    test = test[: spec.max_test_points].copy()
    if test.size == 0:
        raise DataError(f"{spec.name}: no test point has one of the chosen labels")
    splits = (
        (raw.train_features, left, "training"),
        (raw.train_features, validation, "training"),
        (raw.test_features, test, "test"),
    )
    for rows, index, split in splits:
        if spec.feature_weighting != "raw" and rows.values is not None:
            _check_domain(spec, rows, index, split)
    weights = None
    if spec.feature_weighting == "tfidf":
        counts = np.zeros(raw.train_features.num_columns, dtype=np.int64)
        for _, block in raw.train_features.blocks_of(left):
            count_ids(block.ids, counts)
        weights = inverse_document_weights(counts, left.size)
    features = [
        stacked((weigh(spec, block, weights) for _, block in rows.blocks_of(index)),
                rows.num_columns, scratch)
        for rows, index, _ in splits
    ]  # fmt: skip

    def labels_of(labels: Csr, index: RowIds) -> Csr:
        return stacked((block for _, block in labels.blocks_of(index)), labels.num_columns, scratch)

    labels = [
        labels_of(train_labels, left),
        labels_of(train_labels, validation),
        labels_of(test_labels, test),
    ]
    facts = _facts(spec, raw, features, labels)
    facts["num_test_points_total"] = num_candidates
    facts["test_fraction_kept"] = num_candidates / raw.test_labels.num_rows
    if raw.bayes_hits is not None:
        known = spec.num_top_labels is None  # choosing labels changes the posterior
        facts["bayes_accuracy"] = float(raw.bayes_hits[test].mean()) if known else None
    dataset = Dataset(
        features[0],
        labels[0],
        features[1],
        labels[1],
        features[2],
        labels[2],
        num_features=raw.train_features.num_columns,
        num_labels=train_labels.num_columns,
        task=raw.task,
        facts=facts,
        test_rows=test.astype(np.int64),
        set_aside_labels=labels_of(train_labels, set_aside) if set_aside.size else None,
        label_fingerprint=_label_fingerprint(
            raw.label_names, train_labels.num_columns, kept_labels
        ),
    )
    return Prepared(dataset, kept_labels)


def _row_ids(num_rows: int) -> RowIds:
    """0 to N − 1; permuted, 32 bits have the order of 64."""
    if num_rows < 2**31:
        return np.arange(num_rows, dtype=np.int32)
    return np.arange(num_rows, dtype=np.int64)


def _label_fingerprint(
    names: tuple[str, ...] | None, num_labels: int, kept_labels: Int64s | None
) -> str:
    """Digest (64 hex digits) of names, else of the chosen labels' ids, else of L alone."""
    kept = range(num_labels) if kept_labels is None else kept_labels.tolist()
    if names is not None:
        what: object = [names[label] for label in kept]
    else:
        what = num_labels if kept_labels is None else kept
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()


def _carve(train: RowIds, groups: Int32s | None, spec: DataSpec) -> tuple[RowIds, RowIds, RowIds]:
    """Rows left to train on, the validation rows in random order, and the rows of neither."""
    num_drawn = spec.num_validation_points
    generator = np.random.default_rng(derive_seed("validation", spec.split_seed))
    if groups is None:
        taken = validation = generator.permutation(_row_ids(train.size))[:num_drawn].copy()
    else:
        least = max(num_drawn, int(_GROUPED_SHARE * train.size)) if num_drawn else 0
        taken = _draw_groups(groups, least, generator)
        validation = generator.permutation(taken)[:num_drawn]
    is_left = np.ones(train.size, dtype=bool)
    is_left[taken] = False
    if not is_left.any():
        raise DataError(
            f"{spec.name}: num_validation_points is {num_drawn} but there are {train.size} "
            "training points; expected fewer"
        )
    return train[is_left], train[validation], train[np.setdiff1d(taken, validation)]


def _draw_groups(groups: Int32s, least: int, generator: np.random.Generator) -> Int64s:
    """Members of randomly drawn groups, as few groups as hold at least `least` points."""
    names, counts = np.unique(groups, return_counts=True)
    order = generator.permutation(names.size)
    num_before = np.cumsum(counts[order]) - counts[order]
    return np.flatnonzero(np.isin(groups, names[order[num_before < least]]))


def _top_labels(labels: Csr, num_kept: int) -> Int64s:
    """`(num_kept,)` raw ids by falling count, ties by smaller id."""
    counts = labels.column_counts()
    num_seen = int(np.count_nonzero(counts))
    if num_kept > num_seen:
        raise DataError(
            f"num_top_labels is {num_kept} but only {num_seen} labels have a training point"
        )
    return np.argsort(-counts, kind="stable")[:num_kept].astype(np.int64)


def _relabel(labels: Csr, kept: Int64s, scratch: Path | None) -> Csr:
    """Labels renumbered by their index in `kept`, the others left out; ascending in each row."""
    new_ids = np.full(labels.num_columns, -1, dtype=np.int32)
    new_ids[kept] = np.arange(kept.size, dtype=np.int32)
    blocks = (_renumbered(block, new_ids) for _, block in labels.blocks())
    return stacked(blocks, kept.size, scratch)


def _renumbered(labels: Csr, new_ids: Int32s) -> Csr:
    """Ids replaced by new ones, entries of those below 0 left out; ascending in each row."""
    ids = new_ids[labels.ids]
    is_kept = ids >= 0
    rows = np.repeat(np.arange(labels.num_rows), labels.row_lengths)[is_kept]
    ids = ids[is_kept]
    order = np.lexsort((ids, rows))
    offsets = offsets_of(np.bincount(rows, minlength=labels.num_rows))
    values = None if labels.values is None else labels.values[is_kept][order]
    return Csr(offsets, ids[order], values, labels.num_columns)


def inverse_document_weights(counts: Int64s, num_points: int) -> npt.NDArray[np.float64]:
    """`(D,)` float64: ln((1 + N) / (1 + df)) + 1.

    Args:
        counts: `(D,)` df, points of the training split that have each feature.
        num_points: N, points of the training split.

    Source: the smoothed form of inverse document frequency that scikit-learn made customary.
    """
    return np.asarray(np.log((1 + num_points) / (1 + counts)) + 1.0)


def _check_domain(spec: DataSpec, features: Csr, index: RowIds, split: str) -> None:
    """Refuse values that the weighting is not made for, in rows `index` of a split."""
    for first, block in features.blocks_of(index):
        found = outside_domain(spec, block)
        if found is not None:
            raise DataError(
                f"{spec.name}: {split} point {index[first + found[0]] + 1:,} (in the order of the "
                f"file, from 1) has {found[1]}"
            )


def outside_domain(spec: DataSpec, features: Csr) -> tuple[int, str] | None:
    """Row of the first value that the weighting is not made for, and what of it; None: all are.

    `tfidf` takes counts of terms: what is weighted already would be weighted twice, and below 1/e
    become negative. `binary` is for what is there: of a 0 or a negative value that is not known.
    """
    values = features.values
    if values is None or spec.feature_weighting == "raw":
        return None
    if spec.feature_weighting == "tfidf":
        is_right, expected = (values >= 1) & (values == np.floor(values)), "counts from 1"
    else:
        is_right, expected = values > 0, "values above 0"
    wrong = np.flatnonzero(~is_right)
    if not wrong.size:
        return None
    return int(np.searchsorted(features.offsets, wrong[0], side="right")) - 1, (
        f"value {values[wrong[0]]:g} of feature {features.ids[wrong[0]]} (from 0); expected "
        f"{expected} with feature_weighting {spec.feature_weighting!r}, or 'raw' for values "
        "that are weights already"
    )


def weigh(spec: DataSpec, features: Csr, weights: npt.NDArray[np.float64] | None) -> Csr:
    """Features weighted and normalised as the spec says; see `DataSpec.feature_weighting`."""
    values = _ones(features) if features.values is None else features.values.copy()
    if spec.feature_weighting == "binary":
        values = _ones(features)
    elif weights is not None:
        _apply_tfidf(features.ids, values, weights)
    if spec.normalize_rows:
        _normalize_rows(features.offsets, values)
    elif spec.feature_weighting != "tfidf" and np.all(values == 1.0):
        return Csr(features.offsets, features.ids, None, features.num_columns)
    return Csr(features.offsets, features.ids, values, features.num_columns)


def _ones(features: Csr) -> Float32s:
    return np.ones(features.ids.size, dtype=np.float32)


def _facts(
    spec: DataSpec, raw: RawData, features: list[Csr], labels: list[Csr]
) -> dict[str, JsonScalar]:
    train_counts = labels[0].column_counts()
    num_points = max(labels[0].num_rows, 1)
    # Labels beyond those no training file has.
    test_counts = labels[2].column_counts()[: train_counts.size]
    num_findable = int(test_counts[train_counts > 0].sum())
    return {
        **raw.facts,
        "source": spec.source,
        "num_train_points": labels[0].num_rows,
        "num_validation_points": labels[1].num_rows,
        "num_test_points": labels[2].num_rows,
        "num_features": features[0].num_columns,
        "num_labels": labels[0].num_columns,
        "num_trained_labels": int(np.count_nonzero(train_counts)),
        "task": raw.task,
        "features_per_point": features[0].ids.size / num_points,
        "labels_per_point": labels[0].ids.size / num_points,
        "ceiling": num_findable / labels[2].ids.size if labels[2].ids.size else None,
    }


@njit(cache=True)
def _apply_tfidf(ids, values, weights):  # type: ignore[no-untyped-def]
    for entry in range(ids.size):
        values[entry] = (1.0 + np.log(np.float64(values[entry]))) * weights[ids[entry]]


@njit(cache=True)
def _normalize_rows(offsets, values):  # type: ignore[no-untyped-def]
    for row in range(offsets.size - 1):
        total = 0.0
        for entry in range(offsets[row], offsets[row + 1]):
            total += np.float64(values[entry]) * np.float64(values[entry])
        if total > 0.0:
            scale = 1.0 / np.sqrt(total)
            for entry in range(offsets[row], offsets[row + 1]):
                values[entry] = values[entry] * scale
