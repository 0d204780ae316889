from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.data import textrows
from bench.data.source import DataError, RawData
from bench.data.texts import TextsSource
from tests.data.rows import row_dicts

ROWS = [
    {"title": "red fish", "body": "red", "tags": ["b", "a"], "id": 1},
    {"title": "blue Größe", "body": None, "tags": ["b"], "id": 2},
    {"title": "sky", "body": "blue", "tags": [], "id": 3},
]


@pytest.fixture
def parquet() -> Any:
    return pytest.importorskip("pyarrow.parquet", reason="pyarrow, the extra [parquet], is absent")


def write(parquet: Any, path: Path, rows: list[dict[str, Any]], **options: Any) -> None:
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path, **options)


def build(folder: Path, train: str, **options: Any) -> RawData:
    options = {"text_columns": "title,body", "label_column": "tags", "test": train, **options}
    return TextsSource(train=train, **options).build(folder)


@pytest.mark.parametrize("batch_rows", [1, 4096])
def test_parquet_gives_what_json_lines_give(parquet, tmp_path, monkeypatch, batch_rows):
    monkeypatch.setattr(textrows, "_BATCH_ROWS", batch_rows)
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    write(parquet, tmp_path / "a.parquet", ROWS, row_group_size=2)
    (tmp_path / "parts").mkdir()
    for number, part in enumerate((ROWS[:1], ROWS[1:])):
        write(parquet, tmp_path / "parts" / f"{number}.parquet", part)
    expected = build(tmp_path, "a.jsonl")
    for name in ("a.parquet", "parts"):
        found = build(tmp_path, name)
        for part in ("train_features", "train_labels", "test_features", "test_labels"):
            assert row_dicts(getattr(found, part)) == row_dicts(getattr(expected, part))
        assert found.label_names == expected.label_names
        assert found.task == "multilabel"


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"title": "x", "tags": "a"}], {}, "line 1: no column is called 'body'; found ['title'"),
        ([*ROWS, {"title": 7, "tags": "a"}], {"text_columns": "id"}, "line 1, column 'id': 1; exp"),
        ([{"title": "x", "tags": 1}, {"title": "y", "tags": None}], {"text_columns": "title"},
         "line 2, column 'tags': no label; expected one"),
    ],
)  # fmt: skip
def test_bad_rows_are_refused_by_file_row_and_column(parquet, tmp_path, rows, options, message):
    rows = [{**row, "title": str(row["title"]), "tags": row["tags"]} for row in rows]
    if isinstance(rows[0]["tags"], list):
        rows = rows[:3]
    write(parquet, tmp_path / "a.parquet", rows)
    with pytest.raises(DataError) as caught:
        build(tmp_path, "a.parquet", **options)
    assert f"{tmp_path / 'a.parquet'}, {message}" in str(caught.value)


def test_what_is_no_parquet_is_refused(parquet, tmp_path):
    (tmp_path / "a.parquet").write_text("text,label\nx,a\n")
    with pytest.raises(DataError, match=r"a\.parquet, after row 0: .*; expected a Parquet file"):
        build(tmp_path, "a.parquet")


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"need pyarrow, the extra \[parquet\]"):
        build(tmp_path, "a.parquet")
