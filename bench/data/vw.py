"""Vowpal Wabbit text: `label | feature[:value] …`, as ODP, ImageNet and simplewiki come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.data.csr import Csr
from bench.data.rowwriter import stacked
from bench.data.source import MAX_ID, DataError, RawData, data_files, require_range
from bench.data.text import (
    Grammar,
    Part,
    check_ids_seen,
    check_sizes,
    file_identity,
    parse_files,
    settle_task,
)
from bench.settings import coerce_fields


@dataclass(frozen=True, kw_only=True)
class VwSource:
    """Two files of points; a bar, with or without a namespace, parts labels from features.

    Attributes:
        train: training file, relative to the data folder; `.gz` is decompressed. A folder or a
            pattern is all of its files as one, see `bench.data.source.data_files`.
        test: test file, likewise.
        label_base: number of the first label in the files.
        feature_base: number of the first feature in the files.
        num_labels: L; None takes one more than the training file's largest label. Larger ones of
            the test file are labels that no model knows.
        num_features: D, likewise; larger ones of the test file are left out, as unseen words are.
        task: `multiclass` (exactly one label a point), `multilabel`, or None to go by the files.
    """

    version: ClassVar[int] = 1

    train: str
    test: str
    label_base: int = 1
    feature_base: int = 0
    num_labels: int | None = None
    num_features: int | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        coerce_fields(self, DataError)
        require_range(self, ("label_base", "feature_base"), 0, MAX_ID)
        require_range(self, ("num_labels", "num_features"), 1, MAX_ID)
        check_sizes("options num_features, num_labels", self.num_features, self.num_labels)

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Checksums of all files; see `bench.data.source.Source`."""
        return file_identity(data_dir, cache_dir, train=self.train, test=self.test)

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Parse all files; see `bench.data.source.Source`."""
        bases, sizes = (self.label_base, self.feature_base), (self.num_labels, self.num_features)
        grammar = Grammar("vw", *bases, *sizes, base_option="options label_base, feature_base")
        train, test = (
            parse_files([Part(path, grammar) for path in data_files(data_dir, name, role)], scratch)
            for role, name in (("train", self.train), ("test", self.test))
        )
        task = settle_task(self.task, [train, test], allow_unlabelled=False)
        if self.num_labels is None:
            check_ids_seen([train, test], "label", self.label_base)
        if self.num_features is None:
            check_ids_seen([train, test], "feature", self.feature_base)
        num_features = train.features.num_columns
        labels = test.labels
        num_labels = max(train.labels.num_columns, labels.num_columns)
        paths = f"{data_dir / self.train}, {data_dir / self.test}"
        check_sizes(paths, num_features, num_labels)
        known = (within(block, num_features) for _, block in test.features.blocks())
        return RawData(
            train_features=train.features,
            train_labels=train.labels,
            test_features=stacked(known, num_features, scratch),
            test_labels=Csr(labels.offsets, labels.ids, labels.values, num_labels),
            task=task,
        )


def within(rows: Csr, num_columns: int) -> Csr:
    """Rows without their entries in later columns."""
    is_kept = rows.ids < num_columns
    offsets = np.concatenate([[0], np.cumsum(is_kept)])[rows.offsets]
    values = None if rows.values is None else rows.values[is_kept]
    return Csr(offsets, rows.ids[is_kept], values, num_columns)
