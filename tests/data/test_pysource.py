from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bench.data.identifiers import IdentifierTable
from bench.data.prepared import load_dataset
from bench.data.pysource import LexedFile, PySource, _name_hash, _without_near_duplicates
from bench.data.source import DataError
from bench.settings import DataSpec
from tests.data.python_packages import install, random_files, slow_identifiers


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where distributions are found, with one of random identifiers in it."""
    folder = tmp_path / "site"
    install(folder, "many", random_files())
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_points_equal_a_slow_reading(site):
    source = PySource(
        num_labels=10,
        num_features_vocabulary=15,
        context=3,
        max_file_identifiers=200,
        distributions="many",
    )
    raw = source.build(site)
    train: list[list[str]] = []
    test: list[list[str]] = []
    for path, content in sorted(random_files().items()):
        is_test = _name_hash(f"many/{path}") < 0.1 * 2**64
        (test if is_test else train).append(slow_identifiers(content)[:200])
    assert train
    assert test
    counts = Counter(token for tokens in train for token in tokens)
    vocabulary = sorted(counts, key=lambda token: (-counts[token], token))[:15]
    assert raw.label_names is not None
    assert list(raw.label_names) == vocabulary[:10]
    for split, rows, labels in (
        (train, raw.train_features, raw.train_labels),
        (test, raw.test_features, raw.test_labels),
    ):
        points = []
        for tokens in split:
            for i, token in enumerate(tokens):
                context = [
                    (distance - 1) * 15 + vocabulary.index(tokens[i - distance])
                    for distance in range(1, min(3, i) + 1)
                    if tokens[i - distance] in vocabulary
                ]
                if token in vocabulary[:10] and context:
                    points.append((vocabulary.index(token), context))
        assert points
        assert points == [
            (int(labels.ids[i]), rows.ids[rows.offsets[i] : rows.offsets[i + 1]].tolist())
            for i in range(rows.num_rows)
        ]


def test_draw_is_seeded_and_bounded(site):
    first, again, other = (
        PySource(num_labels=10, max_train_points=100, distributions="many", seed=seed)
        .build(site)
        .train_features
        for seed in (0, 0, 1)
    )
    assert first.num_rows == 100
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.ids.tolist() != other.ids.tolist()


def test_large_distribution_gives_no_more_than_its_limit(site):
    small = {f"few/{i}.py": f"a{i} = b{i} = v1".encode() for i in range(20)}
    install(site, "few", small)
    options = {"num_labels": 10, "distributions": "many,few"}
    whole, limited = (
        PySource(**options, **limit).build(site).facts  # type: ignore[arg-type]
        for limit in ({}, {"max_distribution_identifiers": 3000})
    )
    assert whole["num_files_kept"] == 60
    num_identifiers = limited["num_identifiers"]
    assert isinstance(num_identifiers, int)
    assert 60 + 3000 - 300 < num_identifiers <= 60 + 3000


def test_near_duplicates_are_removed_and_others_kept():
    generator = np.random.default_rng(0)
    base = [f"v{i}" for i in generator.integers(0, 200, 2000)]
    edited = list(base)
    edited[1000] = "changed"
    half = base[:1000] + [f"w{i}" for i in generator.integers(0, 200, 1000)]
    table = IdentifierTable()
    texts = [base, edited, half, [*base], [], ["tiny"], ["tiny"], ["small"]]
    files = [
        LexedFile("d", f"{i}.py", table.lex(" ".join(tokens).encode()))
        for i, tokens in enumerate(texts)
    ]
    kept = _without_near_duplicates(files, table.name_hashes)
    assert [file.path for file in kept] == ["0.py", "2.py", "5.py", "7.py"]


def test_file_that_is_no_text_is_left_out(site):
    install(site, "odd", {"odd/latin.py": b"caf\xe9 = 1"})
    plain, odd = (
        PySource(num_labels=10, distributions=names).build(site) for names in ("many", "many,odd")
    )
    assert odd.facts["num_files"] == plain.facts["num_files"] == 40
    np.testing.assert_array_equal(odd.train_features.ids, plain.train_features.ids)


def test_names_lie_beside_the_prepared_arrays(site, tmp_path):
    spec = DataSpec(
        source="pysource",
        name="py",
        options={"num_labels": 20, "distributions": "many"},
        num_top_labels=5,
        num_validation_points=50,
        feature_weighting="binary",
    )
    load_dataset(spec, tmp_path, tmp_path / "cache")
    names = (tmp_path / "cache").glob("*/labels.txt")
    assert sorted(len(path.read_text().splitlines()) for path in names) == [5, 20]


def test_too_many_labels_for_the_corpus_are_refused(site):
    with pytest.raises(DataError, match="distinct identifiers; expected 100000"):
        PySource(num_labels=100_000, distributions="many").build(site)
