"""Vowpal Wabbit text: `label | feature[:value] …`, as ODP, ImageNet and simplewiki come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.data.csr import Csr
from bench.data.source import MAX_ID, DataError, RawData, require_range
from bench.data.text import (
    Grammar,
    check_ids_seen,
    check_sizes,
    file_identity,
    parse_file,
    settle_task,
)
from bench.settings import coerce_fields


@dataclass(frozen=True, kw_only=True)
class VwSource:
    """Two files of points; a bar, with or without a namespace, parts labels from features.

    Attributes:
        train: training file, relative to the data folder; `.gz` is decompressed.
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
        """Checksums of both files; see `bench.data.source.Source`."""
        return file_identity(data_dir, cache_dir, train=self.train, test=self.test)

    def build(self, data_dir: Path) -> RawData:
        """Parse both files; see `bench.data.source.Source`."""
        bases, sizes = (self.label_base, self.feature_base), (self.num_labels, self.num_features)
        grammar = Grammar("vw", *bases, *sizes, base_option="options label_base, feature_base")
        paths = (data_dir / self.train, data_dir / self.test)
        (train_x, train_y), (test_x, test_y) = (parse_file(path, grammar) for path in paths)
        parts = [(paths[0], 1, train_y), (paths[1], 1, test_y)]
        task = settle_task(self.task, parts, allow_unlabelled=False)
        if self.num_labels is None:
            labels = [(paths[0], train_y), (paths[1], test_y)]
            check_ids_seen(labels, "label", self.label_base)
        if self.num_features is None:
            features = [(paths[0], train_x), (paths[1], test_x)]
            check_ids_seen(features, "feature", self.feature_base)
        num_features = train_x.num_columns
        num_labels = max(train_y.num_columns, test_y.num_columns)
        check_sizes(f"{paths[0]}, {paths[1]}", num_features, num_labels)
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=within(test_x, num_features),
            test_labels=Csr(test_y.offsets, test_y.ids, test_y.values, num_labels),
            task=task,
        )


def within(rows: Csr, num_columns: int) -> Csr:
    """Rows without their entries in later columns."""
    is_kept = rows.ids < num_columns
    offsets = np.concatenate([[0], np.cumsum(is_kept)])[rows.offsets]
    values = None if rows.values is None else rows.values[is_kept]
    return Csr(offsets, rows.ids[is_kept], values, num_columns)
