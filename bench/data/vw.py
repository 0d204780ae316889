"""Vowpal Wabbit text: `label | feature[:value] …`, as ODP, ImageNet and simplewiki come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from bench.data.cache import file_checksum
from bench.data.csr import Csr
from bench.data.raw import DataError, RawData
from bench.data.text import (
    MAX_ID,
    Grammar,
    check_labels_seen,
    check_sizes,
    parse_file,
    settle_task,
)
from bench.typed import coerce_fields


@dataclass(frozen=True, kw_only=True)
class VwSource:
    """Two files of points; a bar, with or without a namespace, parts labels from features.

    Attributes:
        train: training file, relative to the data folder; `.gz` is decompressed.
        test: test file, likewise.
        label_base: number of the first label in the files.
        feature_base: number of the first feature in the files.
        num_labels: L; None takes one more than the largest label of both files.
        num_features: D, likewise.
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
        for name, least in (
            ("label_base", 0),
            ("feature_base", 0),
            ("num_labels", 1),
            ("num_features", 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= MAX_ID:
                raise DataError(f"option {name} is {value}; expected {least} to {MAX_ID}")
        check_sizes("options num_features, num_labels", self.num_features, self.num_labels)

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Checksums of both files; see `bench.data.raw.Source`."""
        return file_identity(data_dir, cache_dir, train=self.train, test=self.test)

    def build(self, data_dir: Path) -> RawData:
        """Parse both files; see `bench.data.raw.Source`."""
        grammar = Grammar(
            dialect="vw",
            label_base=self.label_base,
            feature_base=self.feature_base,
            num_labels=self.num_labels,
            num_features=self.num_features,
            base_option="options label_base, feature_base",
        )
        paths = (data_dir / self.train, data_dir / self.test)
        (train_x, train_y), (test_x, test_y) = (parse_file(path, grammar) for path in paths)
        task = settle_task(
            self.task,
            [(paths[0], 1, train_y), (paths[1], 1, test_y)],
            allow_unlabelled=False,
        )
        num_features = max(train_x.num_columns, test_x.num_columns)
        num_labels = max(train_y.num_columns, test_y.num_columns)
        if self.num_labels is None:
            check_labels_seen([(paths[0], train_y), (paths[1], test_y)], num_labels)
        check_sizes(f"{paths[0]}, {paths[1]}", num_features, num_labels)
        return RawData(
            train_features=_widened(train_x, num_features),
            train_labels=_widened(train_y, num_labels),
            test_features=_widened(test_x, num_features),
            test_labels=_widened(test_y, num_labels),
            task=task,
        )


def _widened(rows: Csr, num_columns: int) -> Csr:
    return Csr(rows.offsets, rows.ids, rows.values, num_columns)


def file_identity(data_dir: Path, cache_dir: Path, **files: str) -> Mapping[str, Any]:
    """SHA-256 (hex) of each named file, by the option that names it.

    Raises:
        DataError: a file is missing.
    """
    checksums = {}
    for role, name in files.items():
        path = data_dir / name
        if not path.is_file():
            raise DataError(
                f"{path}: no such file; expected the {role} data (option {role}) in {data_dir}"
            )
        checksums[role] = file_checksum(path, cache_dir)
    return checksums
