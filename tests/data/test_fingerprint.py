from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.data.planted import PlantedSource
from bench.data.prepared import load_dataset, load_raw
from bench.data.source import DataError
from bench.data.sources import data_fingerprint, source_version
from bench.data.vw import VwSource
from bench.settings import DataSpec
from tests.data.rows import planted

PLANTED = DataSpec(
    source="planted",
    name="tiny",
    options=planted(50, 10, 80, 5),
    num_validation_points=5,
)
VW = DataSpec(
    source="vw",
    name="text",
    options={"train": "train.vw", "test": "test.vw"},
    num_validation_points=1,
)
# Another value of each field, and whether the prepared data depends on it.
OTHER: dict[str, tuple[Any, bool]] = {
    "source": ("xmlrepo", True),
    "name": ("renamed", False),
    "options": ({**PLANTED.options, "seed": 1}, True),
    "num_top_labels": (3, True),
    "feature_weighting": ("binary", True),
    "normalize_rows": (False, True),
    "num_validation_points": (6, True),
    "max_test_points": (7, True),
    "split_seed": (1, True),
    "propensity": ("amazon", False),
    "ks": ((1,), False),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with files that have long been there."""
    for name, text in (("train.vw", "1 | 0 3\n2 | 1\n1 | 3\n"), ("test.vw", "2 | 1\n")):
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1_000_000, 1_000_000))
    return tmp_path


def fingerprint(spec: DataSpec, folder: Path) -> str | None:
    return data_fingerprint(spec, folder, folder / "cache")


def test_prepared_data_states_the_fingerprint_that_was_foretold(folder):
    for spec in (PLANTED, VW):
        foretold = fingerprint(spec, folder)
        assert foretold is not None
        facts = load_dataset(spec, folder, folder / "cache").facts
        assert facts["fingerprint"] == foretold
        assert facts["name"] == spec.name


@pytest.mark.parametrize("name", [entry.name for entry in dataclasses.fields(DataSpec)])
def test_fingerprint_follows_the_settings_that_make_the_data(name, folder):
    value, counts = OTHER[name]
    changed = dataclasses.replace(PLANTED, **{name: value})
    assert (fingerprint(changed, folder) != fingerprint(PLANTED, folder)) == counts


def test_stating_a_default_changes_nothing(folder):
    stated = dataclasses.replace(PLANTED, options={**PLANTED.options, "seed": 0}, split_seed=0)
    assert fingerprint(stated, folder) == fingerprint(PLANTED, folder)


def test_fingerprint_follows_the_content_of_files_not_their_times(folder):
    first = fingerprint(VW, folder)
    os.utime(folder / "train.vw", (2_000_000, 2_000_000))
    assert fingerprint(VW, folder) == first
    (folder / "train.vw").write_text("1 | 0 3\n2 | 1\n2 | 3\n")
    assert fingerprint(VW, folder) != first


@pytest.mark.parametrize("target", ["bench.data.planted.PlantedSource", "bench.data.sources"])
def test_raised_version_makes_other_data(folder, monkeypatch, target):
    first = fingerprint(PLANTED, folder)
    name = "VERSION" if target.endswith("sources") else "version"
    monkeypatch.setattr(f"{target}.{name}", 1000)
    assert fingerprint(PLANTED, folder) not in (first, None)


def test_data_that_cannot_be_had_has_no_fingerprint(folder):
    (folder / "test.vw").unlink()
    wrong = dataclasses.replace(PLANTED, options={"num_labels": 5})
    for spec in (VW, wrong, dataclasses.replace(PLANTED, source="unknown")):
        assert fingerprint(spec, folder) is None


def test_source_version_is_the_sources():
    assert source_version(PLANTED) == PlantedSource.version
    with pytest.raises(DataError, match="expected one of"):
        source_version(dataclasses.replace(PLANTED, source="unknown"))


def test_file_that_changes_while_it_is_read_is_not_cached(folder, monkeypatch):
    build = VwSource.build

    def change_and_build(self: VwSource, data_dir: Path, scratch: Path) -> Any:
        raw = build(self, data_dir, scratch)
        (folder / "train.vw").write_text("1 | 0\n2 | 1\n")
        return raw

    with monkeypatch.context() as patch:
        patch.setattr(VwSource, "build", change_and_build)
        with pytest.raises(DataError, match="changed while"):
            load_raw(VW, folder, folder / "cache")
    assert load_raw(VW, folder, folder / "cache").train_labels.num_rows == 2


def test_identity_of_data_needs_no_torch():
    program = "import sys, bench.data.prepared; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
