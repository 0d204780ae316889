"""Labels as people write them: taken as meant, or refused with file and line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.data.labels import label_name
from bench.data.source import DataError, RawData
from bench.data.texts import TextsSource


def build(folder: Path, name: str, content: str, **options: object) -> RawData:
    (folder / name).write_bytes(content.encode())
    return TextsSource(train=name, test=name, **options).build(folder)  # type: ignore[arg-type]


def names(folder: Path, name: str, content: str, **options: object) -> set[str]:
    found = build(folder, name, content, **options).label_names
    assert found is not None
    return set(found)


@pytest.mark.parametrize("separator", [None, ","])
def test_a_cell_that_is_a_list_in_json_holds_its_labels(tmp_path, separator):
    cell = '["a", "b"]'
    options = {"label_separator": separator}
    quoted = cell.replace('"', '""')
    assert names(tmp_path, "a.csv", f'text,label\nx,"{quoted}"\n', **options) == {"a", "b"}
    assert names(tmp_path, "a.tsv", f"text\tlabel\nx\t{cell}\n", **options) == {"a", "b"}
    line = json.dumps({"text": "x", "label": cell})
    assert names(tmp_path, "a.jsonl", line, **options) == {"a", "b"}


@pytest.mark.parametrize("cell", ['["a", "b"', "['a', 'b']", "[a, b]", '["a" "b"]'])
def test_a_broken_list_is_refused_by_file_and_line(tmp_path, cell):
    with pytest.raises(DataError, match=r"a\.tsv, line 3, column 'label': .* a list in JSON such"):
        build(tmp_path, "a.tsv", f"text\tlabel\nx\ta\ny\t{cell}\n")


def test_a_name_that_begins_with_a_bracket_is_one(tmp_path):
    assert names(tmp_path, "a.tsv", "text\tlabel\nx\t[A] b\n") == {"[A] b"}
    assert names(tmp_path, "a.tsv", 'text\tlabel\nx\t["[A]"]\n') == {"[A]"}


def test_one_number_written_in_two_ways_is_one_label(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nx,1\ny,2\n")
    (tmp_path / "test.csv").write_text("text,label\nx,1.0\ny,2.00\n")
    raw = TextsSource(train="train.csv", test="test.csv").build(tmp_path)
    assert raw.label_names == ("1", "2")
    assert raw.test_labels.ids.tolist() == [0, 1]
    line = '{"text": "x", "label": [1, 1.0, "1"]}'
    assert names(tmp_path, "a.jsonl", line) == {"1"}


@pytest.mark.parametrize("name", ["1.5", "1.50", "007", "1.0.0", "v1.0"])
def test_other_numbers_keep_their_names(name):
    assert label_name(name) == name


@pytest.mark.parametrize("start", ["text,label\n", "\ufefftext,label\n"])
def test_a_header_within_a_joined_file_is_refused_by_its_line(tmp_path, start):
    with pytest.raises(DataError, match=r"a\.csv, line 3: the header again; expected points"):
        build(tmp_path, "a.csv", f"text,label\nx,a\n{start}y,b\n")


@pytest.mark.parametrize("word", ["nan", "NaN", "None", "null", "<NA>"])
@pytest.mark.parametrize("cell", ["{}", "a;{}", '["{}"]'])
def test_a_word_for_a_missing_value_is_refused_by_file_and_line(tmp_path, word, cell):
    content = f"text\tlabel\nx\ta\ny\t{cell.format(word)}\n"
    with pytest.raises(DataError, match=rf"line 3, .*label '{word}', which programs write for"):
        build(tmp_path, "a.tsv", content, label_separator=";")


def test_null_of_json_and_an_empty_cell_are_no_label(tmp_path):
    lines = ['{"text": "x", "label": null}', '{"text": "y", "label": ["a", null, ""]}']
    raw = build(tmp_path, "a.jsonl", "\n".join(lines), task="multilabel")
    assert raw.train_labels.row_lengths.tolist() == [0, 1]
    with pytest.raises(DataError, match="line 1, column 'label': no label; expected one"):
        build(tmp_path, "a.jsonl", lines[0])


@pytest.mark.parametrize(
    "written",
    ["sports\u200b", "\ufeffsports", "spo\u00adrts", "sports\u200d", "\u200esports\u2060"],
)
def test_labels_that_look_the_same_are_one(tmp_path, written):
    assert names(tmp_path, "a.csv", f"text,label\nx,sports\ny,{written}\n") == {"sports"}


def test_spaces_and_forms_of_characters_do_not_part_labels():
    assert label_name("new\u00a0york") == label_name("new  york\u3000") == "new york"
    assert label_name("e\u200b\u0301") == label_name("\u00e9")


@pytest.mark.parametrize(
    "name",
    [
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f467",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_joiners_that_show_are_kept(name):
    assert label_name(name) == name


def test_a_key_that_stands_twice_is_refused_by_file_and_line(tmp_path):
    lines = '{"text": "x", "label": "a"}\n{"text": "y", "label": "a", "label": "b"}\n'
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: key 'label' stands twice"):
        build(tmp_path, "a.jsonl", lines)


def test_lines_that_end_in_a_carriage_return_alone_are_refused_in_words_of_the_file(tmp_path):
    with pytest.raises(DataError) as caught:
        build(tmp_path, "a.csv", "text,label\rx,a\ry,b\r")
    assert "a.csv, line 1: a carriage return (CR) within a row" in str(caught.value)
    assert "newline" not in str(caught.value)
    assert "mode" not in str(caught.value)


def test_labels_of_testing_alone_do_not_count_for_l(tmp_path):
    (tmp_path / "train.csv").write_text("text,label\nx,b\ny,a\nz,b\n")
    for test in ("x,a\n", "x,new\ny,b\n", "x,aa\ny,zz\n"):
        (tmp_path / "test.csv").write_text(f"text,label\n{test}")
        raw = TextsSource(train="train.csv", test="test.csv").build(tmp_path)
        assert raw.train_labels.num_columns == 2
        assert raw.label_names is not None
        assert raw.label_names[:2] == ("b", "a")
    assert raw.test_labels.ids.tolist() == [2, 3]
