"""What is written block by block is what it is in memory, and several files are one."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data import countedrows, csr, text
from bench.data.cache import Entry, load_or_write
from bench.data.csr import Csr
from bench.data.prepared import load_dataset, load_raw
from bench.data.rowwriter import ArrayWriter, RowWriter
from bench.data.source import DataError
from bench.data.sources import raw_identity
from bench.settings import DataSpec


def lines(num_points: int, seed: int = 0, *, unit: bool = False) -> list[str]:
    """Points as the repository writes them; of one label or more each."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(num_points):
        labels = np.sort(draw.choice(29, draw.integers(1, 4), replace=False)) + 1
        features = np.sort(draw.choice(50, draw.integers(0, 9), replace=False))
        values = np.ones(9, int) if unit else draw.integers(1, 4, 9)
        cells = [f"{f}:{v}" for f, v in zip(features, values, strict=False)]
        found.append(" ".join([",".join(map(str, labels)), *cells]) + "\n")
    return found


def header(num_points: int) -> str:
    return f"{num_points} 50 30\n"


def write_sets(folder: Path, *, unit: bool = False) -> None:
    for name, num, seed in (("train", 300, 0), ("test", 80, 1)):
        content = header(num) + "".join(lines(num, seed, unit=unit))
        (folder / f"{name}.txt").write_text(content)
        vw = "".join(
            line.replace(" ", " | ", 1) for line in lines(num, seed, unit=unit) if " " in line
        )
        (folder / f"{name}.vw").write_text(vw)
        rows = [f"w{i % 9} w{i % 4} w{i % 5} zwölf,l{i % 7}\n" for i in range(num)]
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(rows))


def arrays(spec: DataSpec, folder: Path, cache: Path) -> dict[str, Any]:
    data = load_dataset(spec, folder, cache)
    found: dict[str, Any] = {"facts": data.facts, "rows": data.test_rows}
    for name, part in vars(data).items():
        if isinstance(part, Csr):
            found |= {
                f"{name}.{each}": getattr(part, each) for each in ("offsets", "ids", "values")
            }
    return found


@pytest.mark.parametrize("settings", [
    {"source": "xmlrepo", "feature_weighting": "tfidf"},
    {"source": "xmlrepo", "feature_weighting": "raw", "normalize_rows": False},
    {"source": "xmlrepo", "feature_weighting": "binary", "num_top_labels": 9},
    {"source": "xmlrepo", "options": {"new_split": 3}},
    {"source": "vw", "feature_weighting": "tfidf"},
    {"source": "texts", "feature_weighting": "tfidf"},
    {"source": "texts", "options": {"num_hashed_features": 40}},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("unit", [False, True])
def test_blocks_of_any_size_give_the_same_arrays(tmp_path, monkeypatch, settings, unit):
    write_sets(tmp_path, unit=unit)
    ending = {"xmlrepo": "txt", "vw": "vw", "texts": "csv"}[settings["source"]]
    options = {"train": f"train.{ending}", "test": f"test.{ending}", **settings.get("options", {})}
    settings = {**settings, "options": options, "num_validation_points": 20}
    spec = DataSpec(name="tiny", **settings)
    whole = arrays(spec, tmp_path, tmp_path / "whole")
    monkeypatch.setattr(csr, "BLOCK_ROWS", 7)
    monkeypatch.setattr(text, "BLOCK_BYTES", 200)
    monkeypatch.setattr(countedrows, "_BLOCK", 10)
    parted = arrays(spec, tmp_path, tmp_path / "parted")
    assert whole.keys() == parted.keys()
    for name, array in whole.items():
        np.testing.assert_array_equal(array, parted[name], err_msg=name)


def test_values_are_kept_from_the_first_block_that_has_some(tmp_path):
    ones = Csr(np.array([0, 2, 3]), np.array([1, 2, 0], np.int32), None, 3)
    twos = Csr(np.array([0, 1]), np.array([2], np.int32), np.array([2], np.float32), 3)
    for folder in (None, tmp_path):
        writer = RowWriter(folder)
        for block in (ones, twos, ones):
            writer.add(block)
        rows = writer.finish(3)
        assert rows.offsets.tolist() == [0, 2, 3, 4, 6, 7]
        assert rows.ids.tolist() == [1, 2, 0, 2, 1, 2, 0]
        assert rows.values is not None
        assert rows.values.tolist() == [1, 1, 1, 2, 1, 1, 1]


def test_an_entry_takes_the_files_that_were_written_for_it_and_no_others(tmp_path):
    def build(folder: Path) -> Entry:
        writers = [ArrayWriter(folder, np.int32) for _ in range(3)]
        for writer in writers:
            writer.append(np.arange(5))
            writer.append(np.arange(3))
        kept, cut, _ = (writer.finish() for writer in writers)
        return Entry({"kept": kept, "cut": cut[1:], "plain": np.arange(2)}, {})

    entry = load_or_write(tmp_path, "key", build)
    assert {path.name for path in (tmp_path / "key").iterdir()} == {
        "kept.npy", "cut.npy", "plain.npy", "meta.json"}  # fmt: skip
    assert entry.arrays["kept"].tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert entry.arrays["cut"].tolist() == [1, 2, 3, 4, 0, 1, 2]
    assert isinstance(entry.arrays["kept"].base, np.memmap)


def test_a_disk_that_is_full_leaves_nothing(tmp_path, monkeypatch):
    write_sets(tmp_path)
    spec = DataSpec(
        source="xmlrepo", name="tiny", options={"train": "train.txt", "test": "test.txt"}
    )

    def fail(self: ArrayWriter, block: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrayWriter, "append", fail)
    with pytest.raises(OSError, match="No space left"):
        load_raw(spec, tmp_path, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


# Several files as one ---------------------------------------------------------------------------


def folder_of(folder: Path, contents: dict[str, str]) -> None:
    folder.mkdir()
    for name, content in contents.items():
        data = content.encode()
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


def raw_of(folder: Path, source: str, **options: Any) -> tuple[Any, DataSpec]:
    spec = DataSpec(source=source, name="parts", options=options)
    return load_raw(spec, folder, folder / "cache"), spec


def assert_same(one: Csr, other: Csr) -> None:
    np.testing.assert_array_equal(one.offsets, other.offsets)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.values, other.values)
    assert one.num_columns == other.num_columns


@pytest.mark.parametrize("headers", ["each", "first"])
def test_a_folder_of_repository_files_is_one_set(tmp_path, headers):
    write_sets(tmp_path)
    rows = lines(300)
    parts = [rows[:100], rows[100:250], rows[250:]]
    nums = [300, None, None] if headers == "first" else [100, 150, 50]
    names = ("part-0.txt", "part-1.txt.gz", "part-2.txt")
    folder_of(tmp_path / "parts", {
        name: (header(num) if num else "") + "".join(part)
        for name, num, part in zip(names, nums, parts, strict=True)
    } | {"_SUCCESS": "", ".crc": "x"})  # fmt: skip
    whole, _ = raw_of(tmp_path, "xmlrepo", train="train.txt", test="test.txt")
    for name in ("parts", "parts/part-*"):
        found, _ = raw_of(tmp_path, "xmlrepo", train=name, test="test.txt")
        assert_same(found.train_features, whole.train_features)
        assert_same(found.train_labels, whole.train_labels)


def test_folders_of_vw_and_of_texts_are_one_set(tmp_path):
    write_sets(tmp_path)
    rows = (tmp_path / "train.vw").read_text().splitlines(keepends=True)
    folder_of(tmp_path / "v", {"a": "".join(rows[:9]), "b": "".join(rows[9:])})
    whole, _ = raw_of(tmp_path, "vw", train="train.vw", test="test.vw")
    found, _ = raw_of(tmp_path, "vw", train="v", test="test.vw")
    assert_same(found.train_features, whole.train_features)
    head, *cells = (tmp_path / "train.csv").read_text().splitlines()
    parts = {f"{i}.csv": "\n".join([head, *cells[i::2]]) for i in range(2)}
    folder_of(tmp_path / "t", parts)
    found, spec = raw_of(tmp_path, "texts", train="t", test="test.csv")
    (tmp_path / "joined.csv").write_text("\n".join([head, *cells[0::2], *cells[1::2]]))
    whole, _ = raw_of(tmp_path, "texts", train="joined.csv", test="test.csv")
    assert_same(found.train_features, whole.train_features)
    assert found.label_names == whole.label_names
    before = raw_identity(spec, tmp_path, tmp_path / "cache")
    for number in range(2):
        (tmp_path / "t" / f"{number}.csv").rename(tmp_path / "t" / f"x{1 - number}.csv")
    assert raw_identity(spec, tmp_path, tmp_path / "cache") != before  # another order


@pytest.mark.parametrize(("source", "contents", "message"), [
    ("xmlrepo", {"a": "1 50 30\n1 2:1\n", "b": "2 50 30\n1 2:1\n1 x:1\n"},
     "parts/b, line 3: feature 'x'"),
    ("xmlrepo", {"a": "3 50 30\n1 2:1\n", "b": "1 2:1\n1 x:1\n"}, "parts/b, line 2: feature 'x'"),
    ("xmlrepo", {"a": "1 50 30\n1 2:1\n", "b": "1 51 30\n1 2:1\n"},
     "parts/b, line 1: D is 51; expected 50 as "),
    ("xmlrepo", {"a": "9 50 30\n1 2:1\n", "b": "1 2:1\n"},
     "parts/b, line 1: the files end after 2 points; expected 9 by the header of "),
    ("xmlrepo", {"a": "1 50 30\n1 2:1\n", "b": "1 50 30\n1 2:1\n", "c": "1 2:1\n"},
     "parts/c, line 1: no header 'N D L'; expected one in each file, or in "),
    ("xmlrepo", {"a": "2 50 30\n1 2:1\n", "b": "1 2:1\n", "c": "1 50 30\n1 2:1\n"},
     "parts/c, line 1: a header 'N D L'; expected one in each file, or in "),
    ("vw", {"a": "1 | 2\n", "b": "1 | 2\n1 2 | 3\n"}, "parts/b, line 2: '1 2' before '|'"),
    ("vw", {"a": "1 | 2\n", "b": "1 | 2\n1 | 5\n | 3\n"}, "parts/b, line 3: 0 labels; expected"),
    ("vw", {"a": "1 | 2\n", "b": "1 | 2\n1 | 987654321\n"},
     "parts/b, line 2: feature 987654321 makes D"),
    ("texts", {"a.csv": "text,label\nx,a\n", "b.csv": "text,label\nx,a\ny,\n"},
     "parts/b.csv, line 3, column 'label': no label"),
    ("texts", {"a.csv": "text,label\nx,a\n", "b.txt": "text,label\nx,a\n"},
     "parts/b.txt: the name has no known ending"),
    ("texts", {"_a": ""}, "parts: no such file; expected the train data"),
])  # fmt: skip
def test_errors_name_the_file_of_several(tmp_path, source, contents, message):
    write_sets(tmp_path)
    folder_of(tmp_path / "parts", contents)
    ending = {"xmlrepo": "txt", "vw": "vw", "texts": "csv"}[source]
    with pytest.raises(DataError) as caught:
        raw_of(tmp_path, source, train="parts", test=f"test.{ending}")
    assert message in str(caught.value)


def test_a_folder_in_the_folder_is_refused(tmp_path):
    write_sets(tmp_path)
    (tmp_path / "parts" / "more").mkdir(parents=True)
    with pytest.raises(DataError, match=r"parts/more: a folder; expected files alone in .*parts"):
        raw_of(tmp_path, "vw", train="parts", test="test.vw")
