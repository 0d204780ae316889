"""An exported folder is whole or absent, and refused where it is not as it was written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bench import Predictor
from bench.data.cache import sealed
from bench.export import folder as layout
from bench.export.features import _escaped, _unescaped
from bench.export.folder import ModelError, read_lines, read_tensors, write_folder
from tests.export.models import MODELS, export, exported, planted, trial_of

NAMES = {"model.json", "weights.safetensors", "labels.txt", "features.safetensors"}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    data = planted(num_top_labels=12, feature_weighting="tfidf")
    return exported(MODELS["mach"], tmp_path_factory.mktemp("made"), data)


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def test_a_folder_says_what_it_is_of(made):
    about = json.loads((made / "model.json").read_text())
    assert {path.name for path in made.iterdir()} == NAMES
    assert set(about["sha256"]) == NAMES - {"model.json"}
    assert (about["format"], about["method"]) == (1, "mach")
    assert about["settings"]["num_buckets"] == 16
    hashes = {name: value for name, value in about["identity"].items() if name.startswith("hash ")}
    assert hashes["hash family"] == "balanced"
    assert hashes["hash num_labels"] == 12
    assert isinstance(hashes["hash seed"], int)
    assert about["data"]["feature_weighting"] == "tfidf"
    assert about["record"]["trial_id"]
    assert about["versions"]["method"] >= 1
    assert about["provenance"]["packages"]["torch"]
    # Hash functions are the model, not their tables.
    assert not any("table" in name for name in load_file(made / "weights.safetensors"))


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_torn_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=rf"model/{name}.* is not as it was written"):
        Predictor.load(copy)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(ModelError, match=name):
        Predictor.load(copy)


def test_a_changed_weight_is_refused_by_its_digest(copy):
    path = copy / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"weights.safetensors is not as it was written .*SHA-256"):
        Predictor.load(copy)
    assert Predictor.load(copy, verify=False).num_labels == 12


def test_a_changed_word_of_the_description_is_refused(copy):
    path = copy / "model.json"
    path.write_text(path.read_text().replace('"num_buckets": 16', '"num_buckets": 17'))
    with pytest.raises(ModelError, match=r"model\.json is not as it was written"):
        Predictor.load(copy)


def _described(path: Path, **changes: object) -> None:
    """Describe a folder otherwise, with a digest as a program would write it."""
    about = json.loads((path / "model.json").read_text())
    del about["seal"]
    (path / "model.json").write_text(sealed(about | changes))


def test_another_format_is_refused_by_its_number(copy):
    _described(copy, format=2)
    with pytest.raises(ModelError, match=r"format is 2; expected 1, which this version reads"):
        Predictor.load(copy)


def test_hash_functions_that_are_made_otherwise_today_are_refused(copy):
    about = json.loads((copy / "model.json").read_text())
    _described(copy, identity=about["identity"] | {"hash family": "murmur3"})
    with pytest.raises(ModelError, match="losses, layers or hash functions are others"):
        Predictor.load(copy)


def test_a_method_that_is_not_registered_here_is_named(copy):
    _described(copy, method="users_own")
    with pytest.raises(ModelError, match="method is 'users_own'; expected one of"):
        Predictor.load(copy)


def test_weights_of_another_shape_are_named(copy):
    about = json.loads((copy / "model.json").read_text())
    _described(copy, facts=about["facts"] | {"num_features": 121})
    with pytest.raises(ModelError, match=r"first\.weight is .*\(120, 24\); expected .*\(121, 24\)"):
        Predictor.load(copy)


def test_code_that_behaves_differently_since_is_told_of(copy, caplog):
    _described(copy, versions={"method": 1, "protocol": 0})
    Predictor.load(copy)
    assert "points or labels may be found otherwise than then" in caplog.text


def test_no_folder_and_no_model_are_told_apart_from_a_broken_one(tmp_path):
    with pytest.raises(ModelError, match=r"has no model.json; expected a folder of `bench export`"):
        Predictor.load(tmp_path)


def _write(target: Path, text: str = "a", *, replace: bool = False) -> None:
    tensors = {"weights.safetensors": {"w": torch.zeros(2)}}
    write_folder(target, {}, tensors=tensors, lines={"labels.txt": [text]}, replace=replace)


def test_a_folder_that_is_there_is_replaced_only_where_that_is_asked_for(tmp_path):
    target = tmp_path / "below" / "model"
    _write(target)
    with pytest.raises(ModelError, match=r"exists; expected a new folder, or --replace"):
        _write(target, "b")
    _write(target, "b", replace=True)
    assert read_lines(target / "labels.txt") == ["b"]
    assert [path.name for path in target.parent.iterdir()] == ["model"]
    with pytest.raises(ModelError, match="exists and is no exported model"):
        _write(target.parent, replace=True)
    assert target.is_dir()


def test_what_fails_half_way_leaves_nothing_and_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "model"
    _write(target)

    def fail(path: Path) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "file_digest", fail)
    with pytest.raises(OSError, match="No space"):
        _write(target, "b", replace=True)
    assert read_lines(target / "labels.txt") == ["a"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_tensors_are_those_that_safetensors_reads_and_lie_as_torchs_own(tmp_path):
    parts = {
        "odd": torch.arange(7.0),
        "wide": torch.randn(33, 16),
        "ids": torch.arange(5),
        "half": torch.randn(3, 5).bfloat16(),
        "none": torch.zeros(0, 4),
        "turned": torch.randn(6, 3).t(),
    }
    layout._write_tensors(tmp_path / "x", parts)
    found = read_tensors(tmp_path / "x")
    plain = load_file(tmp_path / "x")
    assert set(found) == set(parts)
    for name, tensor in parts.items():
        assert torch.equal(found[name], tensor)
        assert torch.equal(plain[name], tensor)
        assert found[name].data_ptr() % 64 == 0
    assert plain["wide"].data_ptr() % 64 == 0  # mapped, not copied


def test_a_token_with_line_ends_and_backslashes_is_kept():
    for token in ("a", "\\", "\n", "\\n", "\n\\", "\\\\n", "a\\\nb", "\u2028", "\ud800"):
        assert "\n" not in _escaped(token)
        assert _unescaped(_escaped(token)) == token


def test_weights_that_were_not_kept_are_missed_before_anything_is_written(tmp_path):
    trial = trial_of(planted(), MODELS["mach"])
    with pytest.raises(ModelError, match=rf"no weights of trial {trial.trial_id}; `bench run x`"):
        export(trial, tmp_path, how="bench run x")
    assert not (tmp_path / "model").exists()
