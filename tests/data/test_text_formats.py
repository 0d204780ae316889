from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.data import text
from bench.data.csr import Csr
from bench.data.prepared import load_raw
from bench.data.source import DataError
from bench.data.text import Grammar, LineError, parse_file, parse_line
from bench.settings import DataSpec

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(
    FLOATS.map(repr),
    FLOATS.map(lambda value: f"{value:.17e}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        ["1", "0", "-0", "+3", "1.", ".5", "1e3", "1E-30", "9" * 25, "0.1234567890123456"]
    ),
)
NUM_LABELS, NUM_FEATURES = 50, 70

Point = tuple[list[int], list[tuple[int, str]]]


def ascending(stop: int, least: int = 0) -> st.SearchStrategy[list[int]]:
    return st.sets(st.integers(0, stop - 1), min_size=least, max_size=8).map(sorted)


@st.composite
def points(draw: st.DrawFn, least_labels: int = 0) -> list[Point]:
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        labels = draw(ascending(NUM_LABELS, least_labels))
        features = draw(ascending(NUM_FEATURES, 0 if labels else 1))
        rows.append((labels, [(feature, draw(NUMBERS)) for feature in features]))
    return rows


def as_xmlrepo(rows: list[Point], base: int) -> str:
    lines = []
    for labels, features in rows:
        tokens = [",".join(str(label + base) for label in labels)]
        tokens += [f"{feature + base}:{value}" for feature, value in features]
        lines.append(" ".join(tokens))
    return "".join(f"{line}\n" for line in lines)


def as_vw(rows: list[Point], label_base: int, feature_base: int) -> str:
    lines = []
    for labels, features in rows:
        names = ",".join(str(label + label_base) for label in labels)
        tokens = [
            str(feature + feature_base) + ("" if value == "1" else f":{value}")
            for feature, value in features
        ]
        lines.append(" ".join([f"{names} |", *tokens]))
    return "\n".join(lines)  # without the last newline


def assert_equal(rows: list[Point], features: Csr, labels: Csr) -> None:
    assert features.num_rows == labels.num_rows == len(rows)
    for i, (expected_labels, expected_features) in enumerate(rows):
        own = slice(labels.offsets[i], labels.offsets[i + 1])
        assert labels.ids[own].tolist() == expected_labels
        own = slice(features.offsets[i], features.offsets[i + 1])
        assert features.ids[own].tolist() == [feature for feature, _ in expected_features]
        expected = np.array([float(value) for _, value in expected_features], dtype=np.float32)
        values = np.ones(features.ids.size) if features.values is None else features.values
        np.testing.assert_array_equal(values[own], expected)


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("block_bytes", [7, 1 << 24])
@settings(max_examples=60, deadline=None)
@given(rows=points())
def test_xmlrepo_reads_back_what_was_written(tmp_path_factory, block_bytes, base, rows):
    path = tmp_path_factory.mktemp("xmlrepo") / "points.txt"
    path.write_text(f"{len(rows)} {NUM_FEATURES} {NUM_LABELS}\n" + as_xmlrepo(rows, base))
    grammar = Grammar("xmlrepo", base, base, NUM_LABELS, NUM_FEATURES, "index_base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block_bytes)
        header, num_bytes = text.read_header(path)
        features, labels = parse_file(path, grammar, skip_bytes=num_bytes, first_line=2)
    assert header == f"{len(rows)} {NUM_FEATURES} {NUM_LABELS}".encode()
    assert (features.num_columns, labels.num_columns) == (NUM_FEATURES, NUM_LABELS)
    assert_equal(rows, features, labels)


@pytest.mark.parametrize("block_bytes", [7, 1 << 24])
@settings(max_examples=60, deadline=None)
@given(rows=points(least_labels=1), bases=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_vw_reads_back_what_was_written(tmp_path_factory, block_bytes, rows, bases):
    path = tmp_path_factory.mktemp("vw") / "points.vw.gz"
    path.write_bytes(gzip.compress(as_vw(rows, *bases).encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text, "BLOCK_BYTES", block_bytes)
        features, labels = parse_file(path, Grammar("vw", *bases, None, None, "label_base"))
    assert labels.num_columns == max(label for names, _ in rows for label in names) + 1
    assert_equal(rows, features, labels)


@pytest.mark.parametrize("dialect", ["xmlrepo", "vw"])
@settings(max_examples=500, deadline=None)
@given(line=st.text(alphabet="0123456789 ,:|.-+eEa\r", max_size=14).map(str.encode))
@example(line=b"1,2 3:1e400")
@example(line=b"1,2 3:3.4028236e38")
@example(line=b" 3:1")
@example(line=b"3:1")
@example(line=b"1 |a 3:1")
@example(line=b"1 |a:2 3:1")
@example(line=b"1 | 3: 4")
@example(line=b"00000000001 |")
@example(line=b"1 | 3:00000000000000000001.5")
def test_kernel_accepts_exactly_what_the_slow_parser_accepts(tmp_path_factory, dialect, line):
    path = tmp_path_factory.mktemp("line") / "line.txt"
    path.write_bytes(line + b"\n")
    grammar = Grammar(dialect, 0, 0, NUM_LABELS, None, "index_base")  # type: ignore[arg-type]
    refusal = None
    try:
        expected_labels, expected_ids, expected_values = parse_line(line, grammar)
    except LineError as error:
        refusal = f"{path}, line 1: {error}"
    if refusal is not None:
        with pytest.raises(DataError) as caught:
            parse_file(path, grammar)
        assert str(caught.value) == refusal
        return
    features, labels = parse_file(path, grammar)
    assert labels.ids.tolist() == expected_labels
    assert features.ids.tolist() == expected_ids
    values = np.ones(features.ids.size) if features.values is None else features.values
    np.testing.assert_array_equal(values, np.array(expected_values, dtype=np.float32))


def test_points_without_labels_make_the_task_multilabel(tmp_path):
    (tmp_path / "train.txt").write_text("3 4 5\n1 0:1\n 0:1 3:2\n2:1\n")
    (tmp_path / "test.txt").write_text("1 4 5\n4 0:1\n")
    options = {"train": "train.txt", "test": "test.txt"}
    spec = DataSpec(source="xmlrepo", name="tiny", options=options)
    raw = load_raw(spec, tmp_path, tmp_path / "cache")
    assert raw.task == "multilabel"
    assert raw.train_labels.row_lengths.tolist() == [1, 0, 0]
    assert raw.train_features.ids.tolist() == [0, 0, 3, 2]


def test_a_new_split_draws_as_many_test_points_from_both_files(tmp_path):
    (tmp_path / "train.txt").write_text("4 9 9\n0 0:1\n1 1:2\n2 2:3\n3 3:4\n")
    (tmp_path / "test.txt").write_text("2 9 9\n4 4:1\n5 5:1\n")
    splits = set()
    for seed in range(4):
        options = {"train": "train.txt", "test": "test.txt", "new_split": seed}
        spec = DataSpec(source="xmlrepo", name="tiny", options=options)
        raw = load_raw(spec, tmp_path, tmp_path / "cache")
        assert (raw.train_labels.num_rows, raw.test_labels.num_rows) == (4, 2)
        labels = [*raw.train_labels.ids.tolist(), *raw.test_labels.ids.tolist()]
        # A point's features and labels stay together: here they are numbered alike.
        assert labels == [*raw.train_features.ids.tolist(), *raw.test_features.ids.tolist()]
        assert sorted(labels) == [0, 1, 2, 3, 4, 5]
        assert raw.train_features.values is not None
        by_label = dict(zip(raw.train_features.ids, raw.train_features.values, strict=True))
        assert all(by_label[i] == i + 1 for i in range(4) if i in by_label)
        splits.add(tuple(sorted(raw.test_labels.ids.tolist())))
    assert len(splits) > 1


def test_sizes_of_vw_are_those_of_the_training_file(tmp_path):
    (tmp_path / "train.vw").write_text("1 |words 0 5:2\n2 | 1\n")
    (tmp_path / "test.vw").write_text("7 | 3\n1 | 9\n")
    options = {"train": "train.vw", "test": "test.vw"}
    spec = DataSpec(source="vw", name="tiny", options=options)
    raw = load_raw(spec, tmp_path, tmp_path / "cache")
    assert raw.task == "multiclass"
    assert (raw.train_features.num_columns, raw.train_labels.num_columns) == (6, 2)
    # Feature 9 is unknown and left out; label 7 is unknown and a miss.
    assert (raw.test_features.num_columns, raw.test_features.ids.tolist()) == (6, [3])
    assert raw.test_features.row_lengths.tolist() == [1, 0]
    assert (raw.test_labels.num_columns, raw.test_labels.ids.tolist()) == (7, [6, 0])
    assert raw.test_features.values is None
