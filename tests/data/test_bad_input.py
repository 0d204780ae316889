from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bench.data.prepared import load_raw
from bench.data.source import DataError
from bench.settings import DataSpec
from tests.data.rows import planted

XMLREPO_TEST = b"1 4 5\n1 0:1\n"
VW_TEST = b"1 | 0\n"

XMLREPO_CASES = {
    "fewer points than the header says": (b"3 4 5\n1 0:1\n2 1:1\n", "line 3", "expected 3"),
    "more points than the header says": (b"1 4 5\n1 0:1\n2 1:1\n", "line 3", "expected 1"),
    "header of two numbers": (b"3 4\n1 0:1\n", "line 1", "'N D L'"),
    "header of zero": (b"1 0 5\n1 0:1\n", "line 1", "D is 0"),
    "no header": (b"1 0:1\n2 1:1\n", "line 1", "'N D L'"),
    "other D than the test file": (b"1 9 5\n1 0:1\n", "line 1", "expected 9"),
    "large feature": (b"2 4 5\n1 0:1\n1 4:1\n", "line 3", "feature 4; expected 0 to 3"),
    "large label": (b"2 4 5\n1 0:1\n5 0:1\n", "line 3", "label 5; expected 0 to 4"),
    "negative label": (b"1 4 5\n-1 0:1\n", "line 2", "label '-1'"),
    "fractional feature": (b"1 4 5\n1 0.5:1\n", "line 2", "feature '0.5'"),
    "huge label": (b"1 4 5\n99999999999999999999 0:1\n", "line 2", "label '9999"),
    "NaN": (b"1 4 5\n1 0:nan\n", "line 2", "value 'nan' of feature '0'"),
    "infinity": (b"1 4 5\n1 0:inf\n", "line 2", "value 'inf'"),
    "overflow": (b"1 4 5\n1 0:1e400\n", "line 2", "value '1e400'"),
    "overflow of 32 bits": (b"2 4 5\n1 0:1\n1 0:1e39\n", "line 3", "value '1e39'"),
    "no value": (b"1 4 5\n1 0\n", "line 2", "'0' has no ':'"),
    "value left out": (b"1 4 5\n1 0:\n", "line 2", "value '' of feature '0'"),
    "comma and space": (b"1 40 50\n5, 32 8:1\n", "line 2",
                        "a space after the comma of '5,'; expected labels parted by commas alone"),
    "space between labels": (b"1 40 50\n5 32 8:1\n", "line 2", "'32' has no ':'; expected"),
    "semicolon": (b"1 40 50\n5;32 8:1\n", "line 2", "label '5;32'; expected a whole number, parted "
                  "from others by commas alone"),
    "label of eleven digits": (b"1 40 50\n12345678901 8:1\n", "line 2",
                               "label '12345678901'; expected at most 10 digits"),
    "duplicate feature": (b"1 4 5\n1 2:1 2:1\n", "line 2", "feature 2 after 2"),
    "unsorted features": (b"1 4 5\n1 2:1 0:1\n", "line 2", "feature 0 after 2"),
    "duplicate label": (b"1 4 5\n1,1 2:1\n", "line 2", "label 1 after 1"),
    "unsorted labels": (b"1 4 5\n3,1 2:1\n", "line 2", "label 1 after 3"),
    "no labels at all": (b"2 4 5\n 2:1\n 1:1\n", "line 2", "no point of the file has a label"),
    "CRLF": (b"1 4 5\n1 2:1\r\n", "line 2", "CRLF"),
    "CRLF in the header": (b"1 4 5\r\n1 2:1\r\n", "line 1", "LF"),
    "byte-order mark": (b"\xef\xbb\xbf1 4 5\n1 2:1\n", "line 1", "byte-order mark"),
    "rubbish": (b"1 4 5\n1 2:1 \xff\xfe:1\n", "line 2", r"'\xff\xfe'"),
    "tab": (b"1 4 5\n1\t2:1\n", "line 2", r"'1\t2'"),
    "blank line": (b"2 4 5\n1 2:1\n\n", "line 3", "the line is empty"),
    "empty file": (b"", "train", "the file is empty"),
    "header alone": (b"1 4 5\n", "train", "no points"),
}  # fmt: skip

VW_CASES = {
    "no bar": (b"1 0 2\n", "line 1", "no '|'"),
    "two bars": (b"1 | 0 | 2\n", "line 1", "namespace"),
    "space between labels": (b"1 2 | 0\n", "line 1", "or labels parted by commas alone"),
    "comma and space": (b"1, 2 | 0\n", "line 1", "'1, 2' before '|'"),
    "space after the last comma": (b"1, | 0\n", "line 1", "a space after the comma of '1,'"),
    "fused id": (b"1 | 0\n15193740 | 0\n2 | 0\n", "line 2", "label 15193740 makes L = 15,193,740, "
                 "of which 3 have a point; expected option num_labels"),
    "feature of nine digits": (b"1 | 5\n1 | 5 987654321\n", "line 2", "feature 987654321 makes "
                               "D = 987,654,322, of which 3 have a point; expected option num_f"),
    "feature of fifteen millions": (b"1 | 5\n2 | 7\n1 | 5 15000000\n", "line 3", "feature 15000000 "
                                    "makes D = 15,000,001, of which 4 have a point"),
    "weight": (b"1 0.5 | 0\n", "line 1", "expected a label and no weight"),
    "namespace weight": (b"1 |words:2 0\n", "line 1", "namespace"),
    "word for a label": (b"1 | 0\nseven | 0\n", "line 2", "label 'seven'"),
    "word for a feature": (b"1 | 0 word\n", "line 1", "feature 'word'"),
    "label below the base": (b"0 | 0\n", "line 1", "label 0; expected 1 to"),
    "no label": (b"1 | 0\n | 0\n", "line 2", "0 labels"),
    "duplicate feature": (b"1 | 0 3 3\n", "line 1", "feature 3 after 3"),
    "unsorted features": (b"1 | 3 0\n", "line 1", "feature 0 after 3"),
    "infinity": (b"1 | 3:-inf\n", "line 1", "value '-inf'"),
    "CRLF": (b"1 | 3\r\n", "line 1", "CRLF"),
    "byte-order mark": (b"\xef\xbb\xbf1 | 3\n", "line 1", "byte-order mark"),
    "empty file": (b"", "train", "no points"),
}  # fmt: skip


def refuse(tmp_path: Path, source: str, train: bytes, test: bytes, name: str = "train.txt") -> str:
    (tmp_path / name).write_bytes(train)
    (tmp_path / "test.txt").write_bytes(test)
    spec = DataSpec(source=source, name="bad", options={"train": name, "test": "test.txt"})
    with pytest.raises(DataError) as caught:
        load_raw(spec, tmp_path, tmp_path / "cache")
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.suffix == ".npy"]
    assert cached == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "test", "case"),
    [
        *(pytest.param("xmlrepo", XMLREPO_TEST, c, id=name) for name, c in XMLREPO_CASES.items()),
        *(pytest.param("vw", VW_TEST, case, id=f"vw {name}") for name, case in VW_CASES.items()),
    ],
)
def test_bad_file_is_refused_by_file_line_and_value(tmp_path, source, test, case):
    content, *expected = case
    message = refuse(tmp_path, source, content, test)
    assert str(tmp_path) in message
    for part in expected:
        assert part in message


def test_line_number_counts_on_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.text.BLOCK_BYTES", 16)
    message = refuse(tmp_path, "vw", b"1 | 0\n" * 999 + b"1 | x\n", VW_TEST)
    assert "line 1000:" in message


@pytest.mark.parametrize(
    ("source", "name", "content", "line"),
    [
        ("vw", "train.vw.gz", b"1 | 0\n" * 500 + b" " * (1 << 22), 501),
        ("vw", "train.vw", b"1 | 0\n" * 500 + b" " * (1 << 22), 501),
        ("xmlrepo", "train.txt", b"1" * (1 << 20), 1),
    ],
    ids=["gz", "plain", "header"],
)
def test_an_endless_line_ends_the_reading_of_its_file(
    tmp_path, monkeypatch, source, name, content, line
):
    monkeypatch.setattr("bench.data.text.BLOCK_BYTES", 1 << 10)
    monkeypatch.setattr("bench.data.text.MAX_LINE_BYTES", 1 << 14)
    train = gzip.compress(content) if name.endswith(".gz") else content
    message = refuse(tmp_path, source, train, VW_TEST, name)
    assert f"{name}, line {line}: longer than 16,384 bytes" in message


def test_points_beyond_the_header_end_the_reading(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.data.text.BLOCK_BYTES", 64)
    message = refuse(tmp_path, "xmlrepo", b"3 4 5\n" + b"1 0:1\n" * 5000 + b"x\n", XMLREPO_TEST)
    assert "line 5: one more point; expected 3 by its header" in message


@pytest.mark.parametrize(
    ("source", "options", "where"),
    [
        ("xmlrepo", {}, "train.txt, line 1: D = 2,147,483,646 and L = 2,147,483,646; to count"),
        ("vw", {"num_labels": 2**31 - 2}, "options num_features, num_labels: L = 2,147,483,646"),
        ("vw", {"num_labels": 10**12}, "option num_labels is 1000000000000; expected 1 to 2147"),
        ("vw", {"num_features": 10**10}, "option num_features is 10000000000; expected 1 to"),
        ("vw", {"label_base": -5}, "option label_base is -5; expected 0 to 2147483646"),
        ("vw", {"feature_base": 2**31}, "option feature_base is 2147483648; expected 0 to"),
        ("csv", {}, "source is 'csv'; expected one of"),
        ("vw", {"base": 1}, "no option ['base']"),
        ("vw", {"test": None}, "'test'"),
        ("xmlrepo", {"index_base": 2}, "index_base is 2"),
        ("planted", planted(0, 1, 9, 2), "num_train_points is 0"),
        ("pysource", {"num_labels": 1}, "num_labels is 1"),
        ("vw", {"label_base": "1"}, "VwSource.label_base is '1'; expected a whole number"),
        ("xmlrepo", {"index_base": 0.5}, "XmlRepoSource.index_base is 0.5; expected a whole"),
        ("texts", {"lowercase": "yes"}, "TextsSource.lowercase is 'yes'; expected True or False"),
        ("texts", {"min_document_frequency": 1.5}, "TextsSource.min_document_frequency is 1.5"),
    ],
)
def test_impossible_sizes_and_options_are_named(tmp_path, monkeypatch, source, options, where):
    monkeypatch.setattr("bench.data.text.available_memory_bytes", lambda: 2**33)
    (tmp_path / "train.txt").write_bytes(b"1 2147483646 2147483646\n1 0:1\n")
    (tmp_path / "test.txt").write_bytes(b"1 2147483646 2147483646\n1 0:1\n")
    if source not in ("planted", "pysource"):
        options = {"train": "train.txt", "test": "test.txt"} | options
    options = {name: value for name, value in options.items() if value is not None}
    spec = DataSpec(source=source, name="bad", options=options)
    with pytest.raises(DataError) as caught:
        load_raw(spec, tmp_path, tmp_path / "cache")
    assert where in str(caught.value)


def test_a_label_far_beyond_the_others_is_taken_where_its_number_is_stated(tmp_path):
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_bytes(b"1 | 0\n15193740 | 0\n")
    options: dict[str, int | str] = {"train": "train.txt", "test": "test.txt"}
    spec = DataSpec(source="vw", name="wide", options=options | {"num_labels": 15_193_740})
    assert load_raw(spec, tmp_path, tmp_path / "cache").train_labels.num_columns == 15_193_740


ZIPPED = gzip.compress(b"1 | 0 2 5\n" * 1000, mtime=0)
WRONG_CHECKSUM = ZIPPED[:-6] + bytes([ZIPPED[-6] ^ 1]) + ZIPPED[-5:]


@pytest.mark.parametrize("content", [*(ZIPPED[:n] for n in (5, 15, 30)), WRONG_CHECKSUM, VW_TEST])
def test_broken_gzip_is_refused(tmp_path, content):
    message = refuse(tmp_path, "vw", content, VW_TEST, "train.vw.gz")
    assert "train.vw.gz: broken compression" in message


def test_missing_file_is_named(tmp_path):
    spec = DataSpec(source="vw", name="none", options={"train": "a.vw", "test": "b.vw"})
    with pytest.raises(DataError, match=r"a\.vw: no such file; expected .*option train.* in "):
        load_raw(spec, tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("multiclass", "line 3: 2 labels; expected exactly one"),
        ("ranking", "option task is 'ranking'; expected 'multiclass' or 'multilabel'"),
    ],
)
def test_stated_task_must_fit(tmp_path, task, message):
    (tmp_path / "train.txt").write_bytes(b"2 4 5\n1 0:1\n1,2 0:1\n")
    (tmp_path / "test.txt").write_bytes(XMLREPO_TEST)
    options = {"train": "train.txt", "test": "test.txt", "task": task}
    spec = DataSpec(source="xmlrepo", name="bad", options=options)
    with pytest.raises(DataError, match=message):
        load_raw(spec, tmp_path, tmp_path / "cache")
