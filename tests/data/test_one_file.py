"""What must not depend on how much is held back, on what is tested on, or on a draw."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from bench.data import prepared
from bench.data.csr import Csr
from bench.data.module import ExtremeDataModule
from bench.data.prepared import load_dataset
from bench.data.source import DataError, RawData
from bench.data.transform import prepare
from bench.experiments.training import data_facts
from bench.mach.module import Mach
from bench.metrics.frequency import PROPENSITY, inverse_propensity
from bench.metrics.torchmetric import metrics_of_data
from bench.settings import DataSpec
from tests.data.rows import planted

OPTIONS: dict[str, Any] = {"train": "train.vw", "test": "test.vw"}
PLANTED = planted(400, 60, 100, 30, labels_per_point=3)


def module(folder: Path, spec: DataSpec, cache: str = "cache") -> ExtremeDataModule:
    sizes = {"batch_size": 4, "eval_batch_size": 2}
    data = ExtremeDataModule(spec, **sizes, data_dir=folder, cache_dir=folder / cache)
    data.setup()
    return data


def vw(folder: Path, train: str, test: str, **settings: Any) -> DataSpec:
    (folder / "train.vw").write_text(train)
    (folder / "test.vw").write_text(test)
    settings = {"num_validation_points": 0, **settings}
    return DataSpec(source="vw", name="mine", options=OPTIONS, **settings)


def features_of(loader: Any) -> list[int]:
    return torch.cat([batch.feature_ids for batch in loader]).tolist()


# Order -----------------------------------------------------------------------------------------


def test_answers_come_in_the_order_of_the_file(tmp_path):
    train = "".join(f"1 | {i}\n" for i in range(5))
    spec = vw(tmp_path, train, train)
    data = module(tmp_path, spec)
    assert features_of(data.test_dataloader()) == [0, 2, 1, 3, 4]  # as records were made
    assert features_of(data.predict_dataloader()) == [0, 1, 2, 3, 4]


def test_chosen_points_are_asked_in_the_order_of_the_file(tmp_path):
    train = "".join(f"{1 + i % 2} | {i}\n" for i in range(9))
    data = module(tmp_path, vw(tmp_path, train, train, max_test_points=4))
    asked = features_of(data.predict_dataloader())
    assert len(asked) == 4
    assert asked == sorted(features_of(data.test_dataloader()))
    assert data.dataset.test_rows is not None
    assert asked == np.sort(data.dataset.test_rows).tolist()
    labels = torch.cat([batch.label_ids for batch in data.predict_dataloader()]).tolist()
    assert labels == [i % 2 for i in asked]


# Propensities ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_validation_points", [0, 50, 200])
def test_propensities_are_those_of_the_whole_training_file(tmp_path, num_validation_points):
    spec = DataSpec(source="planted", name="planted", options=PLANTED)
    spec = dataclasses.replace(spec, num_validation_points=num_validation_points)
    dataset = load_dataset(spec, tmp_path, tmp_path)
    whole = dataclasses.replace(spec, num_validation_points=0)
    counts = load_dataset(whole, tmp_path, tmp_path).train_labels.column_counts()
    assert dataset.num_file_points == 400
    assert dataset.file_label_counts().tolist() == counts.tolist()
    a, b = PROPENSITY["default"]
    found = metrics_of_data(spec, dataset, most=10)._inverse_propensities
    assert found is not None
    assert torch.equal(found, inverse_propensity(torch.from_numpy(counts), 400, a=a, b=b))


def test_groups_held_back_as_a_whole_count_for_propensities():
    offsets = np.arange(41)
    rows = Csr(offsets, (np.arange(40) % 5).astype(np.int32), None, 5)
    raw = RawData(rows, rows, rows, rows, "multilabel",
                  train_groups=np.repeat(np.arange(4), 10).astype(np.int32))  # fmt: skip
    spec = DataSpec(source="none", name="tiny", num_validation_points=3)
    dataset = prepare(spec, raw).dataset
    assert (dataset.train_labels.num_rows, dataset.validation_labels.num_rows) == (30, 3)
    assert dataset.num_file_points == 40
    assert dataset.file_label_counts().tolist() == [8] * 5


def test_a_model_is_told_what_it_is_trained_on(tmp_path):
    spec = DataSpec(source="planted", name="planted", options=PLANTED, num_validation_points=200)
    data = module(tmp_path, spec)
    facts = data_facts(data)
    assert facts.num_train_points == 200
    assert torch.equal(
        facts.label_counts, torch.from_numpy(data.dataset.train_labels.column_counts())
    )


# L, and who may predict ------------------------------------------------------------------------


def test_labels_of_the_test_file_alone_are_misses_and_do_not_move_l(tmp_path):
    train = "1,2 | 0\n2 | 1\n1 | 0 1\n"
    spec = vw(tmp_path, train, "1,7 | 0\n9 | 1\n", ks=(1, 3))
    spec = dataclasses.replace(spec, options={**OPTIONS, "task": "multilabel"})
    data = module(tmp_path, spec)
    assert (data.num_labels, data.num_features) == (2, 2)
    assert data.facts["ceiling"] == pytest.approx(1 / 3)
    metrics = metrics_of_data(spec, data.dataset, most=2)
    for batch in data.test_dataloader(batch_size=2):
        metrics.update(torch.tensor([[0, 1]] * 2), batch)
    found = metrics.compute()
    # One of two labels of a point is found, of the other point none.
    assert found["R@1"].item() == pytest.approx(0.25)
    assert found["PSP@1"].item() < 0.5


def test_a_model_of_other_labels_is_refused_before_it_predicts(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, names in ((one, "ab"), (other, "ba")):
        folder.mkdir()
        lines = [f"w{i} w{i + 1},{names[i % 3 == 0]}\n" for i in range(12)]
        (folder / "train.csv").write_text("text,label\n" + "".join(lines))
    options = {"train": "train.csv", "test": "train.csv"}
    spec = DataSpec(source="texts", name="t", options=options, num_validation_points=2, ks=(1,))
    theirs, mine = module(one, spec), module(other, spec)
    assert theirs.num_labels == mine.num_labels
    assert theirs.label_fingerprint != mine.label_fingerprint
    model = Mach(data_facts(theirs), num_buckets=2, num_worlds=1, ks=(1,))
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"label_fingerprint of the data is .*, of the model"):
        trainer.predict(model, datamodule=mine)
    (other / "train.csv").write_text("text,label\nx y,a\ny,b\nz,c\nx,c\n")
    with pytest.raises(ValueError, match="num_labels of the data is 3, of the model 2"):
        trainer.predict(model, datamodule=module(other, spec))


def test_names_of_labels_decide_and_not_what_is_tested_on(tmp_path):
    options = {"train": "train.csv", "test": "test.csv"}
    spec = DataSpec(source="texts", name="t", options=options, num_validation_points=0, ks=(1,))
    (tmp_path / "train.csv").write_text("text,label\nx,a\ny,b\nz,b\nx,c\nx,c\n")
    found = set()
    for test in ("x,a\n", "y,new\nx,b\n"):
        (tmp_path / "test.csv").write_text(f"text,label\n{test}")
        found.add(module(tmp_path, spec).label_fingerprint)
    assert len(found) == 1
    chosen = dataclasses.replace(spec, num_top_labels=2)
    (tmp_path / "test.csv").write_text("text,label\ny,b\n")
    assert module(tmp_path, chosen).label_fingerprint not in found


# Warnings --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_warned", set())


def test_that_no_test_label_occurs_in_training_is_said_once(tmp_path, caplog):
    spec = vw(tmp_path, "1 | 0\n2 | 1\n", "5 | 0\n6 | 1\n", ks=(1,))
    with caplog.at_level(logging.WARNING):
        module(tmp_path, spec)
        module(tmp_path, spec)
    [said] = caplog.messages
    assert said.startswith("mine: none of the test labels occur in training")


def test_numbers_of_a_set_that_others_filter_are_said_to_be_unfiltered(tmp_path, caplog):
    for name in ("train.txt", "test.txt"):
        (tmp_path / name).write_text("2 4 5\n1 0:1\n2 1:1\n")
    options = {"train": "train.txt", "test": "test.txt"}
    spec = DataSpec(source="xmlrepo", name="LF", options=options, num_validation_points=0, ks=(1,))
    assert "is_unfiltered" not in module(tmp_path, spec).facts
    (tmp_path / "filter_labels_test.txt").write_text("0 1\n")
    assert module(tmp_path, spec, "new").facts["is_unfiltered"] is True
    assert "measured and published numbers cannot be compared" in caplog.text


# Transformations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weighting", "value", "expected"),
    [
        ("binary", "0", "expected values above 0"),
        ("binary", "-2", "expected values above 0"),
        ("tfidf", "0", "expected counts from 1"),
        ("tfidf", "2.37", "expected counts from 1"),
        ("tfidf", "-3", "expected counts from 1"),
        ("tfidf", "0.5", "expected counts from 1"),
    ],
)
@pytest.mark.parametrize("place", ["training", "test"])
def test_a_value_outside_a_weightings_domain_is_refused_by_row_and_value(
    tmp_path, weighting, value, expected, place
):
    good, bad = "1 | 0:2\n2 | 1\n", f"1 | 0:2\n2 | 1\n1 | 0:1 1:{value}\n"
    files = (bad, good) if place == "training" else (good, bad)
    spec = vw(tmp_path, *files, feature_weighting=weighting)
    with pytest.raises(DataError) as caught:
        load_dataset(spec, tmp_path, tmp_path / "cache")
    assert f"{place} point 3 (in the order of the file, from 1) has value {value} of feature 1" in (
        str(caught.value)
    )
    assert expected in str(caught.value)


def test_values_within_the_domain_are_taken(tmp_path):
    spec = vw(tmp_path, "1 | 0:0.5 1:3\n2 | 1\n", "1 | 0:1e-9\n", feature_weighting="binary")
    values = load_dataset(spec, tmp_path, tmp_path / "cache").train_features.values
    np.testing.assert_allclose(values, [2**-0.5, 2**-0.5, 1.0])
