"""Files of points to predict: their formats, with and without labels, and what is wrong in them."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from bench import Predictor
from bench.data.source import DataError
from bench.export.features import FeatureMap
from bench.export.folder import ModelError
from bench.settings import DataSpec
from tests.data.rows import row_dicts
from tests.export.models import MODELS, exported, write_texts

TEXTS = ["bako mi", "ko\nkoko", "", "tübü rami", "lolo ba ba"]


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> Predictor:
    folder = tmp_path_factory.mktemp("texts")
    return Predictor.load(exported(MODELS["centroid"], folder, write_texts(folder)))


def _rows_of(**options) -> FeatureMap:
    """Of 20 features, as a source of rows would have trained on them."""
    source = options.pop("source", "xmlrepo")
    spec = DataSpec(
        source=source,
        name="rows",
        options={"train": "train", "test": "test", **options},
        normalize_rows=False,
    )
    return FeatureMap(spec=spec, num_features=20)


def _read(features: FeatureMap, path: Path, format=None, batch_size: int = 2):
    found = list(features.read(path, format, batch_size))
    lines = [line for some, _ in found for line in some]
    return lines, [row for _, rows in found for row in row_dicts(rows)], [len(s) for s, _ in found]


def test_texts_are_read_from_every_format_with_labels_or_without(texts, tmp_path):
    plain = [text for text in TEXTS if "\n" not in text]
    expected = texts.top_k(plain, 3)
    (tmp_path / "a.txt").write_text("".join(f"{text}\n" for text in plain))
    (tmp_path / "b.csv").write_text("title,body\n" + "".join(f'"{t}",\n' for t in plain))
    (tmp_path / "c.csv").write_text("body,x,title\n" + "".join(f'"{t}",y,\n' for t in plain))
    (tmp_path / "d.tsv").write_text("title\tlabel\tbody\n" + "".join(f"{t}\tq\t\n" for t in plain))
    objects = [json.dumps({"title": None, "body": text, "label": ["a"]}) for text in plain]
    (tmp_path / "e.jsonl").write_text("\n".join(objects))
    with gzip.open(tmp_path / "f.jsonl.gz", "wt") as stream:
        stream.write("\n".join(objects))
    for path in sorted(tmp_path.iterdir()):
        found = list(texts.predict(path, 3, batch_size=3))
        assert [names for _, names, _ in found] == expected[0], path.name
        np.testing.assert_array_equal([scores for *_, scores in found], expected[1])
    assert [line for line, *_ in texts.predict(tmp_path / "b.csv", 3)] == [2, 3, 4, 5]
    assert [line for line, *_ in texts.predict(tmp_path / "a.txt", 3)] == [1, 2, 3, 4]


def test_a_quoted_cell_may_span_lines_and_its_point_is_told_by_the_first(texts, tmp_path):
    path = tmp_path / "points"
    path.write_text('title,body\n"bako\nmi",x\nkoko,y\n')
    found = list(texts.predict(path, 1, format="csv"))
    assert [line for line, *_ in found] == [2, 4]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "title,label\nx,y\n", r"a.csv, line 1: no column is called 'body'"),
        ("a.csv", "title,body\nx,y\nz\n", r"a.csv, line 3: 1 columns; expected 2"),
        ("a.jsonl", '{"title": 7, "body": ""}', r"a.jsonl, line 1, .*: 7; expected text"),
        ("a.jsonl", '{"title": "x"}', r"a.jsonl, line 1: no key 'body'"),
        ("a.jsonl", "x", r"a.jsonl, line 1, character 1: .*; expected a JSON object a line"),
        ("a.dat", "x", r"a.dat: the name has no known ending; expected --format"),
        ("a.txt", b"x\n\xff\n", r"a.txt, line 2: byte 1 is 0xff; expected UTF-8"),
    ],
)
def test_what_is_wrong_with_a_text_is_said_with_its_line(texts, tmp_path, name, content, message):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(texts.predict(tmp_path / name))


def test_rows_of_a_file_may_have_labels_a_header_both_or_neither(tmp_path):
    points = ["0:1 5:0.25", "19:2", "3:1 4:1 7:1"]
    labels = ["4,9 ", "", "123456 "]
    rows = [{0: 1.0, 5: 0.25}, {19: 2.0}, {3: 1.0, 4: 1.0, 7: 1.0}]
    for header, names in (("", labels), ("3 20 500\n", labels), ("3 20 500\n", ["", "", ""])):
        path = tmp_path / "points.txt"
        path.write_text(header + "".join(f"{n}{p}\n" for n, p in zip(names, points, strict=True)))
        first = 2 if header else 1
        found = _read(_rows_of(), path)
        assert found == ([first, first + 1, first + 2], rows, [2, 1])


def test_rows_are_numbered_as_in_the_training_files(tmp_path):
    (tmp_path / "a.txt").write_text("1:1 20:2\n")
    assert _read(_rows_of(index_base=1), tmp_path / "a.txt")[1] == [{0: 1.0, 19: 2.0}]
    # As in testing, features that no training point has are left out.
    (tmp_path / "a.vw").write_text("3 | 1 20:2 99:1\n| 4\n |n 5\n")
    rows = [{0: 1.0, 19: 2.0}, {3: 1.0}, {4: 1.0}]
    vw = _rows_of(source="vw", feature_base=1)
    assert _read(vw, tmp_path / "a.vw")[:2] == ([1, 2, 3], rows)
    assert _read(vw, tmp_path / "a.txt", "xmc")[1] == [{0: 1.0, 19: 2.0}]


@pytest.mark.parametrize("block", [8, 1 << 24])
def test_batches_are_full_whatever_blocks_a_file_is_read_in(block, tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.text.BLOCK_BYTES", block)
    (tmp_path / "a.txt").write_text("".join(f"{row % 20}:1\n" for row in range(23)))
    lines, rows, sizes = _read(_rows_of(), tmp_path / "a.txt", batch_size=5)
    assert lines == list(range(1, 24))
    assert rows == [{row % 20: 1.0} for row in range(23)]
    assert sizes == [5, 5, 5, 5, 3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0:1\n20:1\n", r"line 2: feature 20; expected 0 to 19"),
        ("0:1\n\n", r"line 2: the line is empty; expected labels or features"),
        ("0:1\n3:x\n", r"line 2: value 'x' of feature '3'; expected a finite 32-bit number"),
        ("2 20 5\n0:1\n", r"line 2: the file ends after 1 points; expected 2 by its header"),
        ("1 20 5\n0:1\n0:1\n", r"line 3: the file ends after 2 points; expected 1 by its header"),
        ("1 30 5\n0:1\n", r"line 1: D is 30; expected 20, as the model has features"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_line(tmp_path, content, message):
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match=rf"a.txt, {message}"):
        _read(_rows_of(), tmp_path / "a.txt")


def test_a_weight_where_counts_are_expected_is_said_with_its_line(tmp_path):
    spec = DataSpec(source="planted", name="rows", feature_weighting="binary")
    (tmp_path / "a.txt").write_text("1 20 5\n" + "0:1 3:-2\n")
    with pytest.raises(DataError, match=r"a.txt, line 2: value -2 of feature 3 .* above 0"):
        _read(FeatureMap(spec=spec, num_features=20), tmp_path / "a.txt")


def test_texts_are_refused_by_a_model_of_rows(tmp_path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    with pytest.raises(ModelError, match="the points are texts, and the model was trained on rows"):
        _read(_rows_of(), tmp_path / "a.csv", "csv")


def test_an_empty_file_has_no_points(texts, tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert list(texts.predict(tmp_path / "a.txt")) == []
    assert _read(_rows_of(), tmp_path / "a.txt")[0] == []


def test_standard_input_is_read_as_it_comes(texts):
    read, write = os.pipe()
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        with io.FileIO(write, "w") as stream:
            stream.write(b"bako mi\nko koko\n")
            found = texts.predict("-", 2, batch_size=2)
            labels = [next(found)[1], next(found)[1]]  # the writer has not come to its end
        assert labels == texts.top_k(["bako mi", "ko koko"], 2)[0]
        assert next(found, None) is None
    finally:
        os.dup2(kept, 0)
        os.close(read)
