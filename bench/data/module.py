"""The data module that every method is given: from a `DataSpec` to loaders of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import Tensor

from bench.data.csr import Csr, Dataset, Int64s, JsonScalar, Task
from bench.data.loader import BatchLoader
from bench.data.prepared import load_dataset
from bench.settings import DataSpec, Order


class ExtremeDataModule(lightning.LightningDataModule):
    """Sparse points with very many labels, split, weighted and cut into batches.

    Args:
        spec: which data, in which form.
        batch_size: points a training batch.
        data_dir: folder that the source's file names are relative to.
        cache_dir: folder of the memory-mapped cache; made if absent.
        seed: of the training order, which differs in each epoch.
        eval_batch_size: points a validation or test batch.
        order: of training points, see :class:`bench.data.loader.BatchLoader`.
        drop_last: leave out a pass's incomplete last batch in training.
    """

    def __init__(
        self,
        spec: DataSpec,
        *,
        batch_size: int,
        data_dir: Path,
        cache_dir: Path,
        seed: int = 0,
        eval_batch_size: int = 256,
        order: Order = "points",
        drop_last: bool = False,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.data_dir = Path(data_dir)
        self.cache_dir = Path(cache_dir)
        self._seed = seed
        self._order = order
        self._drop_last = drop_last
        self._dataset: Dataset | None = None

    def prepare_data(self) -> None:
        """Build the cache entry if it is absent."""
        load_dataset(self.spec, self.data_dir, self.cache_dir)

    def setup(self, stage: str | None = None) -> None:
        """Map the data, once."""
        if self._dataset is None:
            self._dataset = load_dataset(self.spec, self.data_dir, self.cache_dir)

    @property
    def dataset(self) -> Dataset:
        """The mapped data.

        Raises:
            RuntimeError: before :meth:`setup`.
        """
        if self._dataset is None:
            raise RuntimeError("the data is not loaded; call setup() first")
        return self._dataset

    @property
    def num_features(self) -> int:
        """D."""
        return self.dataset.num_features

    @property
    def num_labels(self) -> int:
        """L."""
        return self.dataset.num_labels

    @property
    def task(self) -> Task:
        """`multiclass` or `multilabel`."""
        return self.dataset.task

    @property
    def facts(self) -> dict[str, JsonScalar]:
        """What a record states of the data."""
        return dict(self.dataset.facts)

    @property
    def label_counts(self) -> Tensor:
        """`(L,)` int64: training points of each label, validation points left out."""
        return torch.from_numpy(self.dataset.train_labels.column_counts())

    @property
    def label_fingerprint(self) -> str | None:
        """Digest of the labels' names in order, see :class:`bench.data.csr.Dataset`.

        A checkpoint that keeps it (`DataFacts.label_fingerprint`) is refused where label 7 is
        another one.
        """
        return self.dataset.label_fingerprint

    def train_dataloader(self, *, batch_size: int | None = None) -> BatchLoader:
        """Training batches, of `batch_size` points instead of the module's if given."""
        data = self.dataset
        size = self.batch_size if batch_size is None else batch_size
        return BatchLoader(
            data.train_features,
            data.train_labels,
            size,
            order=self._order,
            seed=self._seed,
            drop_last=self._drop_last,
        )

    def val_dataloader(self, *, batch_size: int | None = None) -> BatchLoader:
        """Validation batches in a fixed order; `batch_size` as in :meth:`train_dataloader`."""
        data = self.dataset
        return self._in_order(data.validation_features, data.validation_labels, batch_size)

    def test_dataloader(self, *, batch_size: int | None = None) -> BatchLoader:
        """Test batches in a fixed order; `batch_size` as in :meth:`train_dataloader`."""
        data = self.dataset
        return self._in_order(data.test_features, data.test_labels, batch_size)

    def predict_dataloader(self) -> BatchLoader:
        """The test points that are scored, in the order of their file.

        Only the order differs from :meth:`test_dataloader`. With `num_top_labels` or
        `max_test_points` some points of the file are left out:
        `numpy.sort(data.dataset.test_rows)` are the ones that are there, from 0.
        """
        data = self.dataset
        rows = None if data.test_rows is None else np.argsort(data.test_rows)
        return self._in_order(data.test_features, data.test_labels, None, rows)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of the data: its fingerprint."""
        return {"fingerprint": self.dataset.facts.get("fingerprint")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to train on with other data; any may be scored.

        Raises:
            ValueError: the checkpoint's training had other data.
        """
        own = self.state_dict()
        if state_dict != own and self.trainer is not None and self.trainer.state.fn == "fit":
            raise ValueError(
                f"the data's fingerprint is {own['fingerprint']}, in the checkpoint "
                f"{state_dict.get('fingerprint')}; expected the same data to train on"
            )

    def _in_order(
        self, features: Csr, labels: Csr, batch_size: int | None, rows: Int64s | None = None
    ) -> BatchLoader:
        size = self.eval_batch_size if batch_size is None else batch_size
        return BatchLoader(
            features, labels, size, order="file", seed=self._seed, is_exact=True, rows=rows
        )
