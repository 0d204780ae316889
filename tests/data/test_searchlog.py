from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.loader import BatchLoader
from bench.data.prepared import load_dataset
from bench.data.searchlog import NUM_TRIGRAMS, SearchLogSource
from bench.data.source import DataError
from bench.settings import DataSpec
from tests.data.rows import row_dicts

SIZES: dict[str, Any] = {
    "num_train_points": 900,
    "num_test_points": 200,
    "num_labels": 150,
    "num_words": 80,
    "num_known_words": 30,
    "num_unknown_slots": 20,
    "num_pair_slots": 40,
}


def source(**options: Any) -> SearchLogSource:
    return SearchLogSource(**{**SIZES, **options})


def spec(**settings: Any) -> DataSpec:
    plain: dict[str, Any] = {"normalize_rows": False, "num_validation_points": 50}
    return DataSpec(source="searchlog", name="log", options=SIZES, **{**plain, **settings})


def test_purchases_without_noise_match_the_query_and_begin_with_what_it_wants():
    log = source(noise=0.0, misspelt=0.0, num_known_words=80)
    raw = log.build(Path())
    titles = log.titles()
    for features, bought in zip(
        row_dicts(raw.train_features), row_dicts(raw.train_labels), strict=True
    ):
        words = {feature for feature in features if feature < 80}
        matching = [p for p in range(150) if words <= set(titles[p].tolist())]
        # One product may be wanted that is too unpopular to be shown.
        assert len(set(bought) - set(matching[:100])) <= 1
        assert set(bought) <= set(matching)
        assert sum(bought.values()) >= 1


def test_noise_alone_buys_by_popularity():
    log = source(noise=1.0, num_train_points=20_000, num_labels=40)
    labels = log.build(Path()).train_labels
    assert labels.values is not None
    counts = np.bincount(labels.ids, labels.values, 40)
    # The product wanted, too, is drawn by popularity.
    expected = counts.sum() * log.popularity()
    assert np.abs(counts / expected - 1).max() < 0.1


def test_popularity_is_zipfian():
    popularity = source(zipf_exponent=0.7).popularity()
    assert popularity.sum() == pytest.approx(1)
    ratios = popularity[1:] / popularity[:-1]
    np.testing.assert_allclose(ratios, (np.arange(1, 150) / np.arange(2, 151)) ** 0.7)
    wanted = source(noise=0.0, purchases_per_query=1.0, num_train_points=30_000).build(Path())
    labels = wanted.train_labels
    assert labels.ids.size == 30_000  # one purchase a query, of the product wanted
    counts = np.bincount(labels.ids, minlength=150)
    statistic = float(((counts - 30_000 * popularity) ** 2 / (30_000 * popularity)).sum())
    assert statistic < 149 + 5 * np.sqrt(2 * 149)  # chi-square with L − 1 degrees of freedom


def test_number_of_purchases_is_geometric_with_the_mean_asked_for():
    labels = source(num_train_points=20_000, purchases_per_query=3.0).build(Path()).train_labels
    numbers = np.array([sum(bought.values()) for bought in row_dicts(labels)])
    assert numbers.min() == 1
    assert numbers.mean() == pytest.approx(3.0, rel=0.03)
    assert (numbers == 1).mean() == pytest.approx(1 / 3, rel=0.05)


def test_features_are_words_pairs_and_triples_of_letters():
    log = source(misspelt=0.0)
    spelling = log.spelling()
    starts = (30, 50, 90)  # of unknown words, of pairs, of triples
    assert log.num_features == 90 + NUM_TRIGRAMS
    lengths = (spelling > 0).sum(axis=1)
    assert set(lengths.tolist()) == set(range(3, 9))
    for features in row_dicts(log.build(Path()).train_features)[:300]:
        words = sum(n for f, n in features.items() if f < starts[1])
        pairs = sum(n for f, n in features.items() if starts[1] <= f < starts[2])
        triples = {f - starts[2]: n for f, n in features.items() if f >= starts[2]}
        assert 1 <= words <= 3
        assert pairs == words - 1
        # A word's first triple begins with its end, its last one ends with it.
        assert sum(n for t, n in triples.items() if t < 27**2) == words
        assert sum(n for t, n in triples.items() if t % 27 == 0) == words
        known = [f for f in features if f < starts[0]]
        for word in known:
            a, b, c = spelling[word, :3].tolist()
            assert (a * 27 + b) * 27 + c in triples


def test_misspelt_words_lose_their_own_feature_and_keep_some_letters():
    right, wrong = source(misspelt=0.0), source(misspelt=1.0)
    pairs = zip(
        row_dicts(right.build(Path()).train_features),
        row_dicts(wrong.build(Path()).train_features),
        strict=True,
    )
    is_shared = []
    for features, mistyped in pairs:
        assert not any(feature < 30 for feature in mistyped)
        triples = {f for f in features if f >= 90}
        is_shared.append(bool(triples & set(mistyped)))
        assert triples != {f for f in mistyped if f >= 90}
    assert np.mean(is_shared) > 0.9


def test_the_seed_decides_all_and_blocks_are_drawn_apart():
    first, again, other = (source(seed=seed).build(Path()) for seed in (0, 0, 1))
    for part in ("train_features", "train_labels", "test_features", "test_labels"):
        one, two, three = (getattr(raw, part) for raw in (first, again, other))
        np.testing.assert_array_equal(one.ids, two.ids)
        np.testing.assert_array_equal(one.values, two.values)
        assert not np.array_equal(one.ids, three.ids)
    longer = source(num_test_points=300).build(Path())
    np.testing.assert_array_equal(first.train_labels.ids, longer.train_labels.ids)


def test_purchase_counts_reach_the_batches_of_every_split(tmp_path):
    data = load_dataset(spec(), tmp_path, tmp_path)
    assert 0 < data.facts["repeated_test_share"] < 1  # type: ignore[operator]
    for part in ("train", "validation", "test"):
        features, labels = (getattr(data, f"{part}_{kind}") for kind in ("features", "labels"))
        batch = next(iter(BatchLoader(features, labels, 40, order="file", seed=0)))
        assert batch.label_weights is not None
        np.testing.assert_array_equal(batch.label_weights, labels.values[: len(batch.label_ids)])
        assert batch.to("cpu").label_weights is not None


def test_choosing_labels_keeps_each_ones_count(tmp_path):
    whole = load_dataset(spec(num_validation_points=0), tmp_path, tmp_path)
    few = load_dataset(spec(num_validation_points=0, num_top_labels=30), tmp_path, tmp_path)
    counts = whole.train_labels.column_counts()
    kept = np.argsort(-counts, kind="stable")[:30].tolist()
    rows = [
        {kept.index(label): count for label, count in bought.items() if label in kept}
        for bought in row_dicts(whole.train_labels)
    ]
    assert row_dicts(few.train_labels) == [bought for bought in rows if bought]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_labels", 0),
        ("num_known_words", 81),
        ("max_query_words", 6),
        ("title_words", 21),
        ("noise", 1.5),
        ("misspelt", -0.1),
        ("purchases_per_query", 0.5),
        ("zipf_exponent", -1.0),
    ],
)
def test_impossible_options_are_refused(option, value):
    with pytest.raises(DataError, match=option):
        source(**{option: value})
