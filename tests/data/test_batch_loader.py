from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data.batch import Batch
from bench.data.csr import Csr, Dataset
from bench.data.loader import BatchLoader
from bench.data.module import ExtremeDataModule
from bench.settings import DataSpec, Order, derive_seed
from tests.data.rows import planted

SPEC = DataSpec(
    source="planted",
    name="tiny",
    options=planted(300, 90, 100, 30, labels_per_point=3),
    num_validation_points=37,
)


@pytest.fixture
def module(tmp_path: Path) -> ExtremeDataModule:
    module = ExtremeDataModule(
        SPEC, batch_size=32, data_dir=tmp_path, cache_dir=tmp_path, seed=5, eval_batch_size=20
    )
    module.setup()
    return module


def slow_batch(features: Csr, labels: Csr, index: list[int]) -> Batch:
    """One point at a time, as a reader would write it first."""
    parts: dict[str, list[float]] = {"f": [], "v": [], "l": []}
    feature_offsets, label_offsets = [0], [0]
    assert features.values is not None
    for i in index:
        for entry in range(features.offsets[i], features.offsets[i + 1]):
            parts["f"].append(int(features.ids[entry]))
            parts["v"].append(float(features.values[entry]))
        for entry in range(labels.offsets[i], labels.offsets[i + 1]):
            parts["l"].append(int(labels.ids[entry]))
        feature_offsets.append(len(parts["f"]))
        label_offsets.append(len(parts["l"]))
    return Batch(
        torch.tensor(feature_offsets),
        torch.tensor(parts["f"], dtype=torch.int64),
        torch.tensor(parts["v"]),
        torch.tensor(label_offsets),
        torch.tensor(parts["l"], dtype=torch.int64),
    )


def assert_same(batch: Batch, other: Batch) -> None:
    for name, tensor in vars(batch).items():
        expected = getattr(other, name)
        if tensor is None:
            assert expected is None
            continue
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected), name


def test_shuffled_batches_equal_point_by_point_slicing(module):
    data = module.dataset
    order = np.random.default_rng(derive_seed("shuffle", 5, 0)).permutation(263).tolist()
    batches = list(module.train_dataloader())
    assert len(batches) == len(module.train_dataloader()) == 9
    for i, batch in enumerate(batches):
        index = order[32 * i : 32 * (i + 1)]
        assert_same(batch, slow_batch(data.train_features, data.train_labels, index))


def test_each_epoch_has_its_own_order_and_every_point(module):
    loader = module.train_dataloader()
    first, second = ([batch.feature_ids for batch in loader] for _ in range(2))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.cat(first).bincount(), torch.cat(second).bincount())
    loader.set_epoch(0)
    again = [batch.feature_ids for batch in loader]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_order_of_a_pass_is_a_function_of_seed_and_number(module):
    data = module.dataset

    def loader(batch_size: int, seed: int) -> BatchLoader:
        return BatchLoader(data.train_features, data.train_labels, batch_size, "points", seed)

    def features(batches: BatchLoader) -> torch.Tensor:
        return torch.cat([batch.feature_ids for batch in batches])

    straight, jumped, other = loader(32, 5), loader(50, 5), loader(50, 0)
    for _ in range(2):
        for _ in zip(range(3), straight, strict=False):  # a pass that is left early counts
            pass
    torch.manual_seed(1)
    for each in (jumped, other):
        each.set_epoch(2)
    third = features(straight)
    assert torch.equal(third, features(jumped))
    assert not torch.equal(third, features(other))


def test_batches_of_another_size_leave_the_module_as_it_is(module):
    for loader, own, num_points in (
        (module.train_dataloader, 32, 263),
        (module.val_dataloader, 20, 37),
        (module.test_dataloader, 20, 90),
    ):
        assert next(iter(loader(batch_size=7))).num_points == 7
        assert loader(batch_size=7).num_points == num_points
        assert next(iter(loader())).num_points == own
        with pytest.raises(ValueError, match="batch_size is 0"):
            loader(batch_size=0)


def test_loader_without_points_has_no_batch(module):
    data = module.dataset
    none = (data.test_features.slice(0, 0), data.test_labels.slice(0, 0))
    assert list(BatchLoader(*none, 20, "file", 0)) == []


def test_label_counts_are_those_of_the_training_split(module):
    counts = torch.cat([batch.label_ids for batch in module.train_dataloader()]).bincount(
        minlength=30
    )
    assert torch.equal(module.label_counts, counts)
    assert module.label_counts.dtype == torch.int64


def test_module_before_setup_says_so(tmp_path):
    module = ExtremeDataModule(SPEC, batch_size=2, data_dir=tmp_path, cache_dir=tmp_path)
    with pytest.raises(RuntimeError, match="call setup"):
        _ = module.dataset


def test_second_module_reads_the_cache(module, tmp_path, monkeypatch):
    def refuse(*args: object) -> None:
        raise AssertionError("prepared again")

    monkeypatch.setattr("bench.data.prepared.prepare", refuse)
    other = ExtremeDataModule(SPEC, batch_size=32, data_dir=tmp_path, cache_dir=tmp_path)
    other.setup()
    assert other.facts == module.facts
    assert other.facts["num_train_points"] == 263


def test_csr_refuses_arrays_that_do_not_fit_and_rows_outside():
    ids = np.zeros(3, dtype=np.int32)
    with pytest.raises(ValueError, match="ids have shape"):
        Csr(np.array([0, 2]), ids, None, 3)
    for rows in (Csr(np.array([0]), ids[:0], None, 3), Csr(np.array([0, 1, 3]), ids, None, 3)):
        assert rows.rows(np.empty(0, dtype=np.int64)).num_rows == 0
        for index in (-1, rows.num_rows):
            with pytest.raises(IndexError, match="outside"):
                rows.rows(np.array([index]))


def _parts(data: Dataset, order: Order, *, drop_last: bool = False) -> BatchLoader:
    return BatchLoader(
        data.train_features, data.train_labels, 32, order, seed=5, drop_last=drop_last
    )


@pytest.mark.parametrize(
    ("split", "drop_last"), [("train", False), ("train", True), ("val", False), ("test", False)]
)
def test_file_order_gives_the_same_batches_in_every_pass(module, split, drop_last):
    data = module.dataset
    part = "validation" if split == "val" else split
    features, labels = (getattr(data, f"{part}_{kind}") for kind in ("features", "labels"))
    size = 32 if split == "train" else 20
    loader = _parts(data, "file", drop_last=drop_last)
    if split != "train":
        loader = getattr(module, f"{split}_dataloader")()
    num_batches = features.num_rows // size if drop_last else -(-features.num_rows // size)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader) == num_batches
        for i, batch in enumerate(batches):
            index = list(range(size * i, min(size * (i + 1), features.num_rows)))
            assert_same(batch, slow_batch(features, labels, index))


def test_order_by_batches_moves_whole_batches_of_the_file(module):
    whole = list(_parts(module.dataset, "file"))
    loader = _parts(module.dataset, "batches")
    orders = []
    for _ in range(2):
        places = []
        for batch in loader:
            (place,) = (
                i
                for i, other in enumerate(whole)
                if torch.equal(batch.feature_ids, other.feature_ids)
            )
            assert_same(batch, whole[place])
            places.append(place)
        assert sorted(places) == list(range(9))
        orders.append(places)
    assert orders[0] != orders[1]
    assert list(range(9)) not in orders


def test_shuffled_points_without_the_incomplete_batch_fill_every_batch(module):
    whole, dropped = (
        list(_parts(module.dataset, "points", drop_last=drop)) for drop in (False, True)
    )
    assert [batch.num_points for batch in dropped] == [32] * 8
    for batch, other in zip(dropped, whole[:8], strict=True):
        assert_same(batch, other)


def test_fewer_points_than_a_batch_leave_nothing_to_train_on(module):
    data = module.dataset
    with pytest.raises(ValueError, match="expected at most the 263 points"):
        BatchLoader(data.train_features, data.train_labels, 264, "file", 0, drop_last=True)


def test_module_hands_order_and_tail_to_training_alone(tmp_path):
    module = ExtremeDataModule(
        SPEC, batch_size=32, data_dir=tmp_path, cache_dir=tmp_path, order="file", drop_last=True
    )
    module.setup()
    assert len(module.train_dataloader()) == 8
    first = next(iter(module.train_dataloader()))
    assert_same(first, next(iter(_parts(module.dataset, "file"))))
    assert sum(batch.num_points for batch in module.val_dataloader()) == 37
