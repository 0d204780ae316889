from __future__ import annotations

import io
import keyword
import os
import tokenize
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import bench
from bench.data.identifiers import IdentifierTable
from bench.data.module import ExtremeDataModule
from bench.data.pysource import PySource, SourceFile, _name_hash, _without_near_duplicates
from bench.data.raw import DataError
from bench.data.sources import load_raw
from bench.settings import DataSpec

HARD = '''
"""Docstring with names."""
import os as system  # a comment with 'quotes"
x1 = rb"bytes \\" inside" + f'{ignored}' + u"" ; rb = Rb = 1e-5j + 0xFFab + 1_000.5
text = \'\'\'three 'single' quotes
\\\'\'\' still inside\'\'\'
def größe(self, *args: int) -> None: return self.x1.größe(match, _)
"unclosed is a line long
'''


def identifiers(source: str) -> list[str]:
    table = IdentifierTable()
    return [table.name(token).decode() for token in table.lex(source.encode()).tolist()]


def slow_identifiers(source: bytes) -> list[str]:
    return [
        token.string
        for token in tokenize.tokenize(io.BytesIO(source).readline)
        if token.type == tokenize.NAME and not keyword.iskeyword(token.string)
    ]


def test_lexer_keeps_identifiers_alone() -> None:
    assert identifiers(HARD) == [
        *("os", "system", "x1", "rb", "Rb", "text", "größe", "self", "args", "int"),
        *("self", "x1", "größe", "match", "_"),
    ]


@pytest.mark.parametrize("module", [tokenize, io, os, keyword, np, pytest])
def test_lexer_agrees_with_the_standard_tokenizer(module: object) -> None:
    source = Path(module.__file__).read_bytes()  # type: ignore[attr-defined]
    table = IdentifierTable()
    tokens = [table.name(token).decode() for token in table.lex(source).tolist()]
    assert tokens == slow_identifiers(source)


@pytest.mark.parametrize("source", ["", "#", "'", '"""', "'\\", "a", "0", "r'", "\\", "f", "é"])
def test_lexer_survives_any_end(source: str) -> None:
    expected = [source] if source in ("a", "f", "é") else []
    assert identifiers(source) == expected


def test_table_grows_without_losing_names() -> None:
    table = IdentifierTable()
    names = [f"name_{i}" for i in range(200_000)]
    for start in range(0, 200_000, 10_000):
        tokens = table.lex(" ".join(names[start : start + 10_000]).encode())
        assert tokens.tolist() == list(range(start, start + 10_000))
    assert table.num_names == 200_000
    assert table.lex(b"name_7 name_199999").tolist() == [7, 199_999]
    assert table.name(123_456) == b"name_123456"


def write_corpus(root: Path, *, num_files: int = 40) -> None:
    generator = np.random.default_rng(0)
    for i in range(num_files):
        names = [f"v{int(j)}" for j in generator.zipf(1.5, 300) if j < 500]
        path = root / f"package{i % 3}" / f"module{i}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("# comment\n" + " + ".join(names) + "\n")


def test_points_equal_a_slow_reading(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    source = PySource(num_labels=10, num_features_vocabulary=15, context=3, roots=str(tmp_path))
    raw = source.build(tmp_path)
    assert raw.label_names is not None
    files = [(file.corpus_name, file.path.read_bytes()) for file in source.files()]
    train: list[list[str]] = []
    test: list[list[str]] = []
    for name, content in files:
        is_test = _name_hash(name) < 0.1 * 2**64
        (test if is_test else train).append(slow_identifiers(content))
    counts = Counter(token for tokens in train for token in tokens)
    vocabulary = sorted(counts, key=lambda token: (-counts[token], token))[:15]
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


def test_draw_is_seeded_and_bounded(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    options = {"num_labels": 10, "roots": str(tmp_path), "max_train_points": 100}
    first, again, other = (
        PySource(**options, seed=seed).build(tmp_path).train_features  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    )
    assert first.num_rows == 100
    np.testing.assert_array_equal(first.ids, again.ids)
    assert first.ids.tolist() != other.ids.tolist()


def test_fingerprint_follows_the_content_not_the_place(tmp_path: Path) -> None:
    prints = []
    for name in ("one", "two", "three"):
        write_corpus(tmp_path / name)
        if name == "three":
            (tmp_path / name / "package0" / "module0.py").write_text("other = 1")
        prints.append(
            PySource(num_labels=5, roots=str(tmp_path / name)).build(tmp_path).fingerprint
        )
    assert prints[0] == prints[1] != prints[2]


def test_near_duplicates_are_removed_and_others_kept(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    base = [f"v{i}" for i in generator.integers(0, 200, 2000)]
    edited = list(base)
    edited[1000] = "changed"
    half = base[:1000] + [f"w{i}" for i in generator.integers(0, 200, 1000)]
    table = IdentifierTable()
    texts = [base, edited, half, [*base], [], ["tiny"], ["tiny"], ["small"]]
    streams = [table.lex(" ".join(tokens).encode()) for tokens in texts]
    files = [SourceFile("r", f"{i}.py", tmp_path, 0, 0) for i in range(len(texts))]
    kept, _ = _without_near_duplicates(files, streams, table.name_hashes)
    assert kept == [0, 2, 5, 7]


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    options: dict[str, str | int] = {"num_labels": 5, "roots": str(tmp_path / "corpus")}
    spec = DataSpec(source="pysource", name="py", options=options)
    first = load_raw(spec, tmp_path, tmp_path / "cache").fingerprint
    path = tmp_path / "corpus" / "package0" / "module0.py"
    path.write_text(path.read_text() + "more = v1\n")
    assert load_raw(spec, tmp_path, tmp_path / "cache").fingerprint != first


def test_names_lie_beside_the_prepared_arrays(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus")
    options: dict[str, str | int] = {"num_labels": 20, "roots": str(tmp_path / "corpus")}
    spec = DataSpec(
        source="pysource",
        name="py",
        options=options,
        num_top_labels=5,
        num_validation_points=50,
        feature_weighting="binary",
    )
    cache_dir = tmp_path / "cache"
    module = ExtremeDataModule(spec, batch_size=8, data_dir=tmp_path, cache_dir=cache_dir)
    module.setup()
    lengths = sorted(len(path.read_text().splitlines()) for path in cache_dir.glob("*/labels.txt"))
    assert lengths == [5, 20]


def test_own_checkout_and_editable_finders_are_left_out(tmp_path: Path) -> None:
    repository = Path(bench.__file__).resolve().parents[1]
    packages = [PySource(num_labels=5, roots=str(repository / "bench" / "data")).files()]
    assert packages[0]  # a root is taken at its word …
    (tmp_path / "__editable___x_finder.py").write_text("a = 1")
    (tmp_path / "bench").symlink_to(repository / "bench")
    (tmp_path / "other.py").write_text("b = 1")
    names = [file.name for file in PySource(num_labels=5, roots=str(tmp_path)).files()]
    assert names == ["other.py"]  # … what lies below it is not


def test_root_without_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.py files"):
        PySource(num_labels=5, roots=str(tmp_path)).files()


def test_too_many_labels_for_the_corpus_are_refused(tmp_path: Path) -> None:
    write_corpus(tmp_path)
    with pytest.raises(DataError, match="distinct identifiers; expected 100000"):
        PySource(num_labels=100_000, roots=str(tmp_path)).build(tmp_path)


@pytest.mark.slow
def test_installed_environment_makes_a_large_set(tmp_path: Path) -> None:
    spec = DataSpec(
        source="pysource", name="py", options={"num_labels": 20_000}, feature_weighting="binary"
    )
    module = ExtremeDataModule(spec, batch_size=256, data_dir=tmp_path, cache_dir=tmp_path)
    module.setup()
    assert module.num_labels == 20_000
    assert module.facts["num_train_points"] == 398_000
    assert module.facts["ceiling"] > 0.9  # type: ignore[operator]
