"""The sets described in the data folder's README load with the sizes stated there."""

from __future__ import annotations

import pytest

from bench.data.prepared import load_dataset, load_raw
from bench.settings import DataSpec


def spec(folder: str, source: str = "xmlrepo", suffix: str = "txt") -> DataSpec:
    options = {"train": f"{folder}/train.{suffix}.gz", "test": f"{folder}/test.{suffix}.gz"}
    return DataSpec(source=source, name=folder, options=options, num_validation_points=500)


@pytest.mark.parametrize(
    ("data", "task", "sizes", "labels_per_point"),
    [
        (spec("delicious-983"), "multilabel", (12_920, 3_185, 500, 983), 19.05),
        (spec("citeulike-t"), "multilabel", (20_623, 5_156, 20_000, 52_946), 11.1),
        (spec("bible-verse-id"), "multiclass", (186_474, 31_086, 16_263, 31_086), 1.0),
        pytest.param(
            spec("simplewiki", "vw", "vw"),
            "multiclass",
            (608_623, 62_612, 89_822, 83_071),
            1.0,
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, DataSpec) else "",
)
def test_real_set_has_its_stated_sizes(data_dir, tmp_path, data, task, sizes, labels_per_point):
    if not (data_dir / data.name).is_dir():
        pytest.skip(f"{data.name} is not in {data_dir}")
    raw = load_raw(data, data_dir, tmp_path)
    assert raw.task == task
    assert sizes == (
        raw.train_features.num_rows,
        raw.test_features.num_rows,
        raw.train_features.num_columns,
        raw.train_labels.num_columns,
    )
    dataset = load_dataset(data, data_dir, tmp_path)
    assert dataset.facts["num_train_points"] == sizes[0] - 500
    assert dataset.facts["labels_per_point"] == pytest.approx(labels_per_point, abs=0.05)


def test_citeulike_ceiling_leaves_out_the_untrained_labels(data_dir, tmp_path):
    if not (data_dir / "citeulike-t").is_dir():
        pytest.skip(f"citeulike-t is not in {data_dir}")
    facts = load_dataset(spec("citeulike-t"), data_dir, tmp_path).facts
    assert facts["ceiling"] == pytest.approx(0.88, abs=0.01)
