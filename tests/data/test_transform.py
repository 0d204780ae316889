from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from bench.data.csr import Csr
from bench.data.source import DataError, RawData
from bench.data.transform import prepare
from bench.settings import DataSpec
from tests.data.rows import row_dicts


def random_rows(
    num_rows: int, num_columns: int, seed: int, *, least: int = 0, counts: bool = True
) -> Csr:
    generator = np.random.default_rng(seed)
    rows = [
        np.sort(generator.choice(num_columns, generator.integers(least, 6), replace=False))
        for _ in range(num_rows)
    ]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    ids = np.concatenate(rows).astype(np.int32)
    values = generator.integers(1, 9, ids.size).astype(np.float32) if counts else None
    return Csr(offsets, ids, values, num_columns)


def raw_data(*, num_train: int = 60, num_test: int = 30) -> RawData:
    return RawData(
        train_features=random_rows(num_train, 20, 0),
        train_labels=random_rows(num_train, 12, 1, counts=False),
        test_features=random_rows(num_test, 20, 2),
        test_labels=random_rows(num_test, 12, 3, counts=False),
        task="multilabel",
    )


def spec(**settings: object) -> DataSpec:
    settings = {"num_validation_points": 10, "feature_weighting": "tfidf", **settings}
    return DataSpec(source="none", name="tiny", **settings)  # type: ignore[arg-type]


def test_tfidf_and_normalisation_equal_a_slow_reference():
    raw = raw_data()
    plain = prepare(spec(feature_weighting="raw", normalize_rows=False), raw).dataset
    weighted = prepare(spec(), raw).dataset
    train = row_dicts(plain.train_features)
    for part in ("train_features", "validation_features", "test_features"):
        expected = []
        for row in row_dicts(getattr(plain, part)):
            weights = {
                f: (1 + math.log(tf))
                * (math.log((1 + len(train)) / (1 + sum(f in other for other in train))) + 1)
                for f, tf in row.items()
            }
            norm = math.sqrt(sum(w * w for w in weights.values()))
            expected.append({f: w / norm for f, w in weights.items()})
        for row, other in zip(row_dicts(getattr(weighted, part)), expected, strict=True):
            assert row == pytest.approx(other, rel=1e-5)


def test_test_points_do_not_move_the_weights():
    raw = raw_data()
    other = RawData(**{**vars(raw), "test_features": random_rows(30, 20, 99)})
    first, second = prepare(spec(), raw).dataset, prepare(spec(), other).dataset
    np.testing.assert_array_equal(first.train_features.values, second.train_features.values)


def test_binary_rows_have_unit_norm_and_equal_values():
    data = prepare(spec(feature_weighting="binary"), raw_data()).dataset
    for row in row_dicts(data.train_features):
        assert list(row.values()) == pytest.approx([1 / math.sqrt(max(len(row), 1))] * len(row))


def test_splits_are_the_same_for_the_same_seed_and_differ_for_another():
    raw = raw_data()
    first, again = prepare(spec(), raw).dataset, prepare(spec(), raw).dataset
    other = prepare(spec(split_seed=1), raw).dataset
    np.testing.assert_array_equal(first.validation_features.ids, again.validation_features.ids)
    assert first.validation_features.ids.tolist() != other.validation_features.ids.tolist()


def test_validation_and_training_points_are_the_training_file():
    raw = raw_data()
    data = prepare(spec(feature_weighting="raw", normalize_rows=False), raw).dataset

    def multiset(*parts: tuple[Csr, Csr]) -> list[str]:
        return sorted(
            str(pair)
            for features, labels in parts
            for pair in zip(row_dicts(features), row_dicts(labels), strict=True)
        )

    assert data.validation_labels.num_rows == 10
    assert multiset(
        (data.train_features, data.train_labels), (data.validation_features, data.validation_labels)
    ) == multiset((raw.train_features, raw.train_labels))
    assert multiset((data.test_features, data.test_labels)) == multiset(
        (raw.test_features, raw.test_labels)
    )


def test_top_labels_are_renumbered_by_falling_training_count():
    raw = raw_data()
    prepared = prepare(spec(num_top_labels=5, num_validation_points=0), raw)
    counts = raw.train_labels.column_counts()
    expected = sorted(range(12), key=lambda label: (-counts[label], label))[:5]
    assert prepared.kept_labels is not None
    assert prepared.kept_labels.tolist() == expected
    assert prepared.dataset.train_labels.column_counts().tolist() == counts[expected].tolist()
    renumber = {label: i for i, label in enumerate(expected)}
    kept = [
        sorted(renumber[label] for label in row if label in renumber)
        for row in row_dicts(raw.train_labels)
    ]
    assert [list(row) for row in row_dicts(prepared.dataset.train_labels)] == [
        row for row in kept if row
    ]
    facts = prepared.dataset.facts
    num_kept = sum(bool(set(row) & set(expected)) for row in row_dicts(raw.test_labels))
    assert facts["num_test_points_total"] == num_kept
    assert facts["test_fraction_kept"] == num_kept / 30


def test_points_without_labels_are_kept_unless_labels_are_chosen():
    raw = raw_data()
    assert np.any(raw.test_labels.row_lengths == 0)
    assert prepare(spec(), raw).dataset.test_labels.num_rows == 30
    chosen = prepare(spec(num_top_labels=12), raw).dataset
    assert np.all(chosen.test_labels.row_lengths > 0)


def test_test_draw_is_nested_and_states_the_total():
    raw = raw_data()
    small, large = (prepare(spec(max_test_points=n), raw).dataset for n in (5, 20))
    assert small.facts["num_test_points"] == 5
    assert small.facts["num_test_points_total"] == 30
    np.testing.assert_array_equal(small.test_features.ids, large.test_features.slice(0, 5).ids)


def test_ceiling_is_the_share_of_test_labels_with_a_training_point():
    raw = raw_data(num_train=14)
    data = prepare(spec(), raw).dataset
    trained = {label for row in row_dicts(data.train_labels) for label in row}
    tested = [label for row in row_dicts(data.test_labels) for label in row]
    assert 0 < data.facts["ceiling"] < 1  # type: ignore[operator]
    assert data.facts["ceiling"] == sum(label in trained for label in tested) / len(tested)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_validation_points": 60}, "60 but there are 60 training points"),
        ({"num_top_labels": 13}, "num_top_labels is 13 but only 12 labels"),
    ],
)
def test_too_large_a_wish_is_refused(settings, message):
    with pytest.raises(DataError, match=message):
        prepare(spec(**settings), raw_data())


@pytest.mark.parametrize("num_validation_points", [0, 1, 10])
def test_group_is_never_parted_between_training_and_validation(num_validation_points):
    groups = np.random.default_rng(0).integers(0, 20, 60).astype(np.int32)
    number = Csr(np.arange(61), np.arange(60, dtype=np.int32), None, 60)  # feature = point
    raw = dataclasses.replace(raw_data(), train_features=number, train_groups=groups)
    data = prepare(
        spec(num_validation_points=num_validation_points, feature_weighting="raw"), raw
    ).dataset
    trained, held_back = data.train_features.ids, data.validation_features.ids
    assert held_back.size == np.unique(held_back).size == num_validation_points
    assert not set(groups[trained]) & set(groups[held_back])
    least = max(num_validation_points, 3) if num_validation_points else 0  # a twentieth of 60
    assert least <= 60 - trained.size < least + np.bincount(groups).max()
    assert np.all(np.diff(trained) > 0)


def test_validation_of_all_groups_is_refused():
    raw = dataclasses.replace(raw_data(), train_groups=np.repeat(np.int32([0, 1]), 30))
    with pytest.raises(DataError, match="num_validation_points is 40"):
        prepare(spec(num_validation_points=40), raw)
