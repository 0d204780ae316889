from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.data import textrows
from bench.data.labels import label_name
from bench.data.prepared import load_raw
from bench.data.source import DataError, RawData
from bench.data.sources import raw_identity
from bench.data.texts import TextsSource
from bench.data.tokens import hashed_token, tokenizer
from bench.settings import DataSpec
from tests.data.rows import row_dicts

TRAIN = "text,label\nred fish red,a\nblue fish,b\nblue sky,b\n"
TEST = "text,label\nred sky green,a\nsky,new\n"


def build(folder: Path, train: str = "train.csv", **options: Any) -> RawData:
    return TextsSource(train=train, **options).build(folder)


def write(folder: Path, name: str, content: str | bytes) -> str:
    content = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def test_points_are_counts_of_tokens_by_falling_frequency(tmp_path):
    write(tmp_path, "train.csv", TRAIN)
    raw = build(tmp_path, test=write(tmp_path, "test.csv", TEST))
    # blue and fish are in two points, red and sky in one; b has two points, a one, new none.
    assert row_dicts(raw.train_features) == [{1: 1, 2: 2}, {0: 1, 1: 1}, {0: 1, 3: 1}]
    assert row_dicts(raw.test_features) == [{2: 1, 3: 1}, {3: 1}]
    assert raw.train_features.num_columns == 4
    assert raw.label_names == ("b", "a", "new")
    assert [list(row) for row in row_dicts(raw.train_labels)] == [[1], [0], [0]]
    assert [list(row) for row in row_dicts(raw.test_labels)] == [[1], [2]]
    assert (raw.train_labels.num_columns, raw.test_labels.num_columns) == (2, 3)
    assert raw.task == "multiclass"
    assert raw.facts["num_empty_points"] == 0


SAME = [(["red fish", "red"], ["b", "a"]), (["blue\tfish", ""], ["b"]), (["sky", "blue"], [])]


def same_as(name: str) -> str:
    """The points of `SAME` in a format."""
    if name.startswith("points.jsonl"):
        lines = [
            json.dumps({"title": t[0], "body": t[1] or None, "tags": labels, "id": 7})
            for t, labels in SAME
        ]
        return "\n\n".join(lines)
    cells = [[*texts, "|".join(labels)] for texts, labels in SAME]
    if name.startswith("points.tsv"):
        cells = [[cell.replace("\t", " ") for cell in row] for row in cells]
        return "title\tbody\ttags\n" + "".join("\t".join(row) + "\r\n" for row in cells)
    mark = ";" if name.startswith("semicolon") else ","
    return f"\ufefftitle{mark}body{mark}tags\n" + "".join(
        mark.join(f'"{cell}"' for cell in row) + "\n" for row in cells
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("points.csv", {"label_separator": "|"}),
        ("points.csv.gz", {"label_separator": "|"}),
        ("points.tsv", {"label_separator": "|"}),
        ("points.jsonl", {}),
        ("points.jsonl.gz", {}),
        ("semicolon.txt", {"label_separator": "|", "format": "csv", "delimiter": ";"}),
    ],
)
def test_formats_agree(tmp_path, name, options):
    write(tmp_path, name, same_as(name))
    write(tmp_path, "test.jsonl", '{"title": "red", "body": "sky", "tags": "a"}\n')
    if "format" in options:
        write(tmp_path, "test.jsonl", 'title;body;tags\nred;"sky";a\n')
    raw = build(
        tmp_path,
        name,
        test="test.jsonl",
        text_columns="title, body",
        label_column="tags",
        **options,
    )
    assert raw.label_names == ("b", "a")
    assert raw.task == "multilabel"
    # blue, fish in two points; red, sky in one.
    assert row_dicts(raw.train_features) == [{1: 1, 2: 2}, {0: 1, 1: 1}, {0: 1, 3: 1}]
    assert [sorted(row) for row in row_dicts(raw.train_labels)] == [[0, 1], [0], []]
    assert row_dicts(raw.test_features) == [{2: 1, 3: 1}]


def test_files_without_header_and_several_parts(tmp_path):
    write(tmp_path, "part-2.csv", "y,sky\n")
    write(tmp_path, "part-1.csv", "x,red\nx,blue\n")
    write(tmp_path, "test.csv", "y,red\n")
    columns = {"has_header": False, "text_columns": "2", "label_column": "1"}
    raw = build(tmp_path, "part-*.csv", test="test.csv", **columns)
    assert [list(row) for row in row_dicts(raw.train_labels)] == [[0], [0], [1]]
    assert raw.label_names == ("x", "y")


def test_column_states_the_split(tmp_path):
    write(tmp_path, "train.csv", "label,part,text\na,train,red\nb,test,red\na,train,blue\n")
    raw = build(tmp_path, split_column="part")
    assert (raw.train_features.num_rows, raw.test_features.num_rows) == (2, 1)


def many_texts(num_texts: int = 2000, copies: int = 1) -> list[str]:
    return [f"word{i} common,l{i % 7}" for i in range(num_texts)] * copies


def is_tested(folder: Path, lines: list[str], **options: Any) -> set[str]:
    write(folder, "train.csv", "\n".join(["text,label", *lines]) + "\n")
    raw = build(folder, num_hashed_features=1 << 30, **options)
    first = {hashed_token(line.split()[0], 1 << 30): line for line in lines}
    return {first[min(row.keys() & first.keys())] for row in row_dicts(raw.test_features)}


def test_seeded_split_has_its_share_and_is_the_same_in_any_order(tmp_path):
    lines = many_texts()
    drawn = is_tested(tmp_path, lines, test_share=0.2)
    assert len(drawn) == pytest.approx(400, abs=60)
    assert is_tested(tmp_path, lines[::-1], test_share=0.2) == drawn
    assert is_tested(tmp_path, lines, test_share=0.2, seed=1) != drawn
    assert is_tested(tmp_path, lines, test_share=0.1) < drawn


def test_equal_texts_are_never_parted(tmp_path):
    lines = [f"word{i % 50} common,l{i % 7}" for i in range(1000)]
    write(tmp_path, "train.csv", "\n".join(["text,label", *lines]) + "\n")
    raw = build(tmp_path, test_share=0.3, num_hashed_features=1 << 30)
    common = hashed_token("common", 1 << 30)
    train, test = (
        {i for row in row_dicts(part) for i in row} - {common}
        for part in (raw.train_features, raw.test_features)
    )
    assert train
    assert test
    assert not train & test


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["blue", "fish", "red", "sky"]),
        ({"min_document_frequency": 2}, ["blue", "fish"]),
        ({"max_features": 3}, ["blue", "fish", "red"]),
        ({"token_pattern": "[a-z]{4}"}, ["blue", "fish"]),
        ({"token_pattern": "(?:^|,)(red|sky)"}, ["red"]),
    ],
)
def test_vocabulary_is_limited_by_options(tmp_path, options, names):
    write(tmp_path, "train.csv", TRAIN)
    raw = build(tmp_path, test=write(tmp_path, "test.csv", TEST), **options)
    assert raw.train_features.num_columns == len(names)
    lines = ["red fish red", "blue fish", "blue sky"]
    if options.get("token_pattern", "").startswith("("):
        lines = ["red", "", ""]
    for row, line in zip(row_dicts(raw.train_features), lines, strict=True):
        assert {names[i]: n for i, n in row.items()} == Counter(
            w for w in line.split() if w in names
        )


def test_hashed_features_add_up_where_they_collide(tmp_path):
    write(tmp_path, "train.csv", TRAIN)
    raw = build(tmp_path, test=write(tmp_path, "test.csv", TEST), num_hashed_features=2)
    for row, line in zip(row_dicts(raw.test_features), ["red sky green", "sky"], strict=True):
        assert row == Counter(hashed_token(token, 2) for token in line.split())
    assert raw.train_features.num_columns == 2


def test_hash_of_a_token_is_the_same_everywhere():
    # BLAKE2b of 8 bytes, little endian, by the command `b2sum -l 64`.
    assert [hashed_token(token, 1 << 20) for token in ("fish", "größe")] == [760944, 129268]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The QUICK-brown fox's 2nd_try", ["the", "quick", "brown", "fox", "s", "2nd_try"]),
        ("Größe, ÄRGER; straße", ["größe", "ärger", "straße"]),
        ("u\u0308ber \u00fcber", ["über", "über"]),
        ("東京タワー is high", ["東", "京", "タ", "ワ", "ー", "is", "high"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("ภาษาไทย", ["ภาษาไทย"]),
        ("abc東def", ["abc", "東", "def"]),
        ("naïve café—no·dot", ["naïve", "café", "no", "dot"]),
        ("😀 emoji 👍🏽", ["emoji"]),
        ("ÅNGSTRÖM İstanbul", ["ångström", "i\u0307stanbul"]),
        ("", []),
    ],
)
def test_default_tokens_of_scripts(text, tokens):
    assert tokenizer(None, lowercase=True)(text) == tokens


def test_case_is_kept_on_demand():
    assert tokenizer(None, lowercase=False)("Red Größe") == ["Red", "Größe"]


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x2FF)))
def test_plain_text_has_the_tokens_that_it_has_among_other_text(text):
    split = tokenizer(None, lowercase=True)
    assert [*split(text), "ж"] == split(f"{text} ж")


@pytest.mark.parametrize(
    ("name", "content", "options", "names"),
    [
        # Trimmed, composed, kept in the cache.
        ("a.csv", 'text,label\nx," new\n  york|Mu\u0308nchen|München"\ny,new york\n',
         {"label_separator": "|"}, ("new york", "München")),
        # Whole numbers, in JSON and as programs write columns with gaps.
        ("a.jsonl", '{"text": "x", "label": [8, "7", 8.0]}\n{"text": "x", "label": 7}', {}, "78"),
        ("a.csv", "text,label\nx,1\ny,1.0\nz,2\nz,2.00\nz,1.5\n", {}, ("1", "2", "1.5")),
        # A list in JSON, with a separator or without.
        ("a.csv", 'text,label\nx,"[""a"", ""b""]"\n', {}, "ab"),
        ("a.tsv", 'text\tlabel\nx\t["a", "b"]\n', {"label_separator": ","}, "ab"),
        ("a.jsonl", json.dumps({"text": "x", "label": '["a", "b"]'}), {}, "ab"),
        # A name in brackets.
        ("a.tsv", "text\tlabel\nx\t[A] b\n", {}, ("[A] b",)),
        ("a.tsv", 'text\tlabel\nx\t["[A]"]\n', {}, ("[A]",)),
        # What looks the same.
        *(("a.csv", f"text,label\nx,sports\ny,{written}\n", {}, ("sports",)) for written in (
            "sports\u200b", "\ufeffsports", "spo\u00adrts", "sports\u200d", "\u200esports\u2060")),
        # null and an empty name are none.
        ("a.jsonl", '{"text": "x", "label": null}\n{"text": "y", "label": ["a", null, ""]}',
         {"task": "multilabel"}, "a"),
    ],
)  # fmt: skip
def test_labels_are_called_as_they_are_meant(tmp_path, name, content, options, names):
    write(tmp_path, name, content)
    spec = DataSpec(
        source="texts",
        name="t",
        options={"train": name, "test": name, **options},
    )
    assert load_raw(spec, tmp_path, tmp_path / "cache").label_names == tuple(names)
    assert load_raw(spec, tmp_path, tmp_path / "cache").label_names == tuple(names)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("new\u00a0york", "new york"),
        ("new  york\u3000", "new york"),
        ("e\u200b\u0301", "\u00e9"),
        *((each, each) for each in ("1.5", "1.50", "007", "1.0.0", "v1.0")),
        # Joiners that show, and the tags of a flag.
        *((each, each) for each in (
            "\u0645\u06cc\u200c\u062e\u0648", "\U0001f468\u200d\U0001f467",
            "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f")),
    ],
)  # fmt: skip
def test_name_of_a_label(written, name):
    assert label_name(written) == name


def test_labels_of_testing_alone_do_not_count_for_l(tmp_path):
    write(tmp_path, "train.csv", "text,label\nx,b\ny,a\nz,b\n")
    for test in ("x,a\n", "x,new\ny,b\n", "x,aa\ny,zz\n"):
        raw = build(tmp_path, test=write(tmp_path, "test.csv", f"text,label\n{test}"))
        assert raw.train_labels.num_columns == 2
        assert raw.label_names is not None
        assert raw.label_names[:2] == ("b", "a")
    assert raw.test_labels.ids.tolist() == [2, 3]


def test_long_cells_are_read_and_the_limit_of_csv_is_as_before(tmp_path):
    before = csv.field_size_limit()
    write(tmp_path, "train.csv", f"text,label\n{'word ' * 60_000},a\n")
    raw = build(tmp_path, test="train.csv")
    assert row_dicts(raw.train_features) == [{0: 60_000}]
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "words,label\nx,a\n", {}, "line 1: no column is called 'text'; found ['words', "),
        ("a.csv", "text,text,label\n", {}, "line 1: more than one column is called 'text'"),
        ("a.csv", "text,label\nx,a\n\ny\n", {}, "line 4: 1 columns; expected 2"),
        ("a.csv", 'text,label\n"x\ny",a\n"z\n', {}, "line 4: unexpected end of data"),
        ("a.csv", 'text,label\n"x"y,a\n', {}, "line 2: ',' expected after '\"'"),
        ("a.csv", b"text,label\nx,a\n\xe4,b\n", {}, "line 3: byte 1 is 0xe4; expected UTF-8"),
        ("a.csv", "text,label\n".encode("utf-16"), {}, "1: byte 1 is 0xff; expected UTF-8 (th"),
        ("a.csv", "text,label\nx,\n", {}, "line 2, column 'label': no label; expected one"),
        ("a.csv", 'text,label\n"x\ny",a\nz,\n', {}, "line 4, column 'label': no label"),
        ("a.csv", "text,label\nx,a|b\n", {"task": "multiclass", "label_separator": "|"},
         "line 2, column 'label': 2 labels; expected one"),
        ("a.csv", "text,label\nx,a\x01b\n", {}, "line 2, column 'label': label 'a\\x01b' holds"),
        ("a.csv", "text,label,s\nx,a,val\n", {"split_column": "s"},
         "line 2, column 's': 'val'; expected 'train' or 'test'"),
        ("a.csv", "text,label,s\nx,a,train\n", {"split_column": "s"},
         "0 points to test on, none of them with a label"),
        ("a.csv", "text,label\n", {}, "0 points to train on"),
        ("a.csv", "", {}, "0 points to train on"),
        ("a.csv", "text,label\n!?,a\n", {"test": "a.csv"}, "no token of the training texts"),
        ("a.tsv", "text\tlabel\nx\ta\tb\n", {}, "line 2: 3 columns; expected 2"),
        ("a.jsonl", '{"text": "x"}\n', {}, "line 1: no key 'label'; found ['text']"),
        ("a.jsonl", '\n{"text": "x", }\n', {}, "line 2, character 15: "),
        ("a.jsonl", "[1]\n", {}, "line 1: '[1]'; expected a JSON object"),
        ("a.jsonl", "[" * 99_999, {}, "line 1: maximum recursion depth"),
        ("a.jsonl", '{"text": 1, "label": "a"}\n', {}, "line 1, column 'text': 1; expected text"),
        ("a.jsonl", '{"text": "x", "label": 1.5}\n', {}, "column 'label': 1.5; expected labels"),
        ("a.jsonl", '{"text": "x", "label": true}\n', {}, "column 'label': True; expected labels"),
        ("a.jsonl", '{"text": "x", "label": "\\ud800"}\n', {}, "holds '\\ud800'"),
        *(("a.tsv", f"text\tlabel\nx\ta\ny\t{cell}\n", {},
           "; expected a label, or a list in JSON such as") for cell in (
               '["a", "b"', "['a', 'b']", "[a, b]", '["a" "b"]')),
        *(("a.tsv", f"text\tlabel\nx\ta\ny\t{cell.format(word)}\n", {"label_separator": ";"},
           f"line 3, column 'label': label '{word}', which programs write for a missing value")
          for word in ("nan", "NaN", "None", "null", "<NA>") for cell in ("{}", "a;{}", '["{}"]')),
        *(("a.csv", f"text,label\nx,a\n{mark}text,label\ny,b\n", {},
           "line 3: the header again; expected points") for mark in ("", "\ufeff")),
        ("a.jsonl", '{"text": "x", "label": null}', {}, "line 1, column 'label': no label"),
        ("a.jsonl", '{"text": "y", "label": "a", "label": "b"}', {}, "line 1: key 'label' stands"),
        ("a.csv", "text,label\rx,a\ry,b\r", {}, "1: a carriage return (CR) within a row; expected"),
        ("a.txt", "text,label\n", {}, "the name has no known ending; expected option format"),
        ("b*.csv", None, {}, "b*.csv: no such file; expected the train data"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_file_line_and_column(tmp_path, name, content, options, message):
    if content is not None:
        write(tmp_path, name, content)
    spec = DataSpec(source="texts", name="bad", options={"train": name, **options})
    with pytest.raises(DataError) as caught:
        load_raw(spec, tmp_path, tmp_path / "cache")
    assert str(tmp_path / name) in str(caught.value) or "no token" in message
    assert message in str(caught.value)


def test_truncated_gzip_is_refused(tmp_path):
    packed = gzip.compress(b"text,label\n" + b"red fish,a\n" * 100)
    (tmp_path / "train.csv.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match="broken compression"):
        build(tmp_path, "train.csv.gz")


@pytest.mark.parametrize(("name", "head"), [("a.csv", 'text,label\n"'), ("a.jsonl", '{"text": "')])
def test_endless_row_is_refused(tmp_path, monkeypatch, name, head):
    monkeypatch.setattr(textrows, "MAX_CHARACTERS", 1000)
    write(tmp_path, name, head + "x" * 5000)
    with pytest.raises(DataError, match=r"line \d: longer than 1,000 bytes"):
        build(tmp_path, name)
    if name == "a.csv":
        write(tmp_path, name, head + "x\n" * 5000)
        with pytest.raises(DataError, match="line 2: field larger than field limit"):
            build(tmp_path, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_share": 1.0}, "option test_share is 1.0"),
        ({"test": "x", "split_column": "s"}, "both choose test points"),
        ({"max_features": 0}, "option max_features is 0"),
        ({"num_hashed_features": 9, "max_features": 2}, "needs no vocabulary"),
        ({"label_separator": ""}, "option label_separator is empty"),
        ({"format": "xlsx"}, "option format is 'xlsx'; expected one of"),
        ({"delimiter": "||"}, "option delimiter is '||'"),
        ({"delimiter": ";", "format": "tsv"}, "option delimiter is ';'"),
        ({"task": "ranking"}, "option task is 'ranking'"),
        ({"token_pattern": "("}, r"option token_pattern is '\('"),
        ({"token_pattern": "(a)(b)"}, "at most one group"),
        ({"token_pattern": "a*"}, "one that needs a character"),
    ],
)
def test_bad_option_is_named(options, message):
    with pytest.raises(DataError, match=message):
        TextsSource(train="x.csv", **options)


def test_identity_follows_content_and_order_of_the_files(tmp_path):
    write(tmp_path, "p1.csv", TRAIN)
    write(tmp_path, "p2.csv", TEST)
    spec = DataSpec(source="texts", name="t", options={"train": "p*.csv"})
    first = raw_identity(spec, tmp_path, tmp_path / "cache")
    assert raw_identity(spec, tmp_path, tmp_path / "cache") == first
    write(tmp_path, "p1.csv", TEST)
    write(tmp_path, "p2.csv", TRAIN)
    assert raw_identity(spec, tmp_path, tmp_path / "cache") != first
