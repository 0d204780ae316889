"""What each source builds from small inputs, to the byte.

A failure means that a source or the preparation gives other data than before. If that is meant,
raise the `version` of the source (or `VERSION` of `bench.data.transform`), so that records of the
old data are known for what they are, and pin the new checksums here. If it is not meant, it is a
bug.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.data.csr import Csr, Dataset
from bench.data.prepared import load_dataset
from bench.data.sources import source_version
from bench.data.transform import VERSION
from bench.settings import DataSpec
from tests.data.python_packages import install, random_files
from tests.data.rows import planted

PARTS = ("train", "validation", "test")
PINNED_MESSAGE = (
    "the data built is not what it was: raise the version of the source or of "
    "bench.data.transform, then pin the new value"
)
VW_LINES = "1 | 0 3:2 7\n2 |n 1 4:0.5\n1 | 3\n3 | 2:3 5 6\n2 | 0 1 9\n1 | 8\n"
XMLREPO_LINES = "0,2 0:1 3:0.25\n1 2:2\n 1:4 4:1\n2,3 0:0.5 2:1.5 4:3\n3 3:1\n"
TEXT_LINES = (
    'text,labels\nDie Größe zählt,b|a\n"zwei Zeilen,\nein Wert",a\n東京 tower,c|b\n'
    "die die die,\nein Turm,c\nzählt Zeilen,a|c\n"
)


def spec(source: str, options: dict[str, Any], **settings: Any) -> DataSpec:
    return DataSpec(source=source, name=source, options=options, normalize_rows=False, **settings)


DRAWN = {"num_validation_points": 30, "max_test_points": 40}
POINTS = {"num_train_points": 200, "num_test_points": 60, "num_labels": 40}
LOG = {"num_words": 50, "num_known_words": 20, "num_unknown_slots": 10, "num_pair_slots": 15}
TEXTS = {"label_column": "labels", "label_separator": "|", "test_share": 0.3}
MANY = {"num_labels": 20, "max_train_points": 500, "distributions": "many"}
SPECS = {
    each.source: each
    for each in (
        spec("planted", planted(200, 60, 90, 30, labels_per_point=2), num_top_labels=20, **DRAWN),
        spec("searchlog", {**POINTS, **LOG}, num_top_labels=30, **DRAWN),
        spec("vw", {"train": "data.vw", "test": "data.vw"}, num_validation_points=2),
        spec("xmlrepo", {"train": "data.txt", "test": "data.txt"}, num_validation_points=1),
        spec("texts", {"train": "data.csv", **TEXTS}, num_validation_points=1),
        spec("pysource", MANY, feature_weighting="binary", num_validation_points=50),
    )
}
# Version of the source, version of the preparation, checksum of all arrays.
PINNED = {
    "planted": (1, 1, "597507ee95510bc58a897a071e0ecdf8267fd3dd5c33015f25d239f5e50c06ed"),
    "searchlog": (1, 1, "ed39085e7ebf9bae93d86fac8edea13a3e010898a92b56483d3fe024c91cdfef"),
    "vw": (1, 1, "e1ad6689af10f16f2a6571c88ed2a928eecba0f717c2ba1c5ed9c7edfb553cae"),
    "xmlrepo": (1, 1, "dd13d7a1b4062e3d08bd2b7015adae9ffb738110379cd942b22ef94f159ff7aa"),
    "texts": (2, 1, "9fba12950a1aa87d4d84a2bc13533130c969b41de49344c4233f90d6c63dc318"),
    "pysource": (3, 1, "35f341da4a0e47ae3a578bf9451d628f9763fb56eedf38a43d9fa1bad71e8f19"),
}
QUICKSTART_CHECKSUM = "909cbf399a8d1ccf4eb0ba55e5e21066b49e6bf5806d5430af5b380434181e30"


def checksum(data: Dataset) -> str:
    """SHA-256 (hex) of all arrays: lengths, ids, values."""
    digest = hashlib.sha256()
    for part in PARTS:
        for kind in ("features", "labels"):
            rows: Csr = getattr(data, f"{part}_{kind}")
            digest.update(f"{part} {kind} {rows.num_rows} {rows.num_columns}\n".encode())
            digest.update(rows.offsets.astype("<i8").tobytes())
            digest.update(rows.ids.astype("<i4").tobytes())
            if rows.values is not None:
                digest.update(rows.values.astype("<f4").tobytes())
    return digest.hexdigest()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data.vw").write_text(VW_LINES)
    (tmp_path / "data.txt").write_text("5 5 4\n" + XMLREPO_LINES)
    (tmp_path / "data.csv").write_text(TEXT_LINES, encoding="utf-8")
    install(tmp_path / "site", "many", random_files())
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path


@pytest.mark.parametrize("source", SPECS)
def test_source_builds_the_data_of_its_version(source, folder):
    data = load_dataset(SPECS[source], folder, folder / "cache")
    built = (source_version(SPECS[source]), VERSION, checksum(data))
    assert built == PINNED[source], PINNED_MESSAGE


def test_weights_are_those_of_the_preparations_version(folder):
    # Logarithms and roots may differ in their last bit between machines: no checksum here.
    weighted = dataclasses.replace(SPECS["planted"], feature_weighting="tfidf", normalize_rows=True)
    values = load_dataset(weighted, folder, folder / "cache").train_features.values
    assert values is not None
    moments = [values.sum(dtype=float), float(values @ np.arange(values.size, dtype=float))]
    assert (VERSION, moments) == (1, pytest.approx([608.1355, 751942.99], rel=1e-6)), PINNED_MESSAGE


def test_quickstart_has_the_same_data_for_everyone(tmp_path):
    options = {"num_labels": 20_000, "max_train_points": 400_000, "max_test_points": 20_000}
    quickstart = spec("pysource", options, feature_weighting="binary")
    data = load_dataset(quickstart, tmp_path, tmp_path)
    assert data.facts["corpus_matches_constraints"], "not installed by constraints.txt"
    assert (data.num_labels, data.facts["num_train_points"]) == (20_000, 379_988)
    assert (source_version(quickstart), checksum(data)) == (3, QUICKSTART_CHECKSUM), PINNED_MESSAGE
