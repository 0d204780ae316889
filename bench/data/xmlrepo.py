"""Text format of the Extreme Classification Repository: header `N D L`, then `l,l f:v f:v …`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.data.source import MAX_ID, DataError, RawData
from bench.data.text import (
    Grammar,
    check_sizes,
    file_identity,
    parse_file,
    parse_header,
    read_header,
    settle_task,
)
from bench.settings import coerce_fields, derive_seed


@dataclass(frozen=True, kw_only=True)
class XmlRepoSource:
    """Two files of points. Points without labels are kept, and count as misses when tested.

    The repository's LF data sets (LF-AmazonTitles-131K, …) have a filter file beside them: pairs of
    a point and a label that is the point itself, which published numbers leave out of the answers
    and of what is relevant. It is not read, so that numbers on those sets are unfiltered and not
    to be compared with published ones; a record's `is_unfiltered` marks them, and a run warns.

    Attributes:
        train: training file, relative to the data folder; `.gz` is decompressed.
        test: test file, likewise.
        index_base: number of the first label and of the first feature in the files: 0 or 1. Checked
            by the ids: one outside the header's range is refused.
        task: `multiclass` (exactly one label a point), `multilabel`, or None to go by the files.
        new_split: seed of another split than the published one: the points of both files are put
            together, and as many as before are drawn for testing.
    """

    version: ClassVar[int] = 1

    train: str
    test: str
    index_base: int = 0
    task: str | None = None
    new_split: int | None = None

    def __post_init__(self) -> None:
        coerce_fields(self, DataError)
        if self.index_base not in (0, 1):
            raise DataError(f"option index_base is {self.index_base!r}; expected 0 or 1")

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Checksums of both files; see `bench.data.source.Source`."""
        return file_identity(data_dir, cache_dir, train=self.train, test=self.test)

    def build(self, data_dir: Path) -> RawData:
        """Parse both files; see `bench.data.source.Source`."""
        train, test = data_dir / self.train, data_dir / self.test
        (train_x, train_y), (test_x, test_y) = (
            parse_file(path, grammar, **header)
            for path in (train, test)
            for grammar, header in [read_grammar(path, self.index_base)]
        )
        for what, column, expected in (
            ("D", test_x.num_columns, train_x.num_columns),
            ("L", test_y.num_columns, train_y.num_columns),
        ):
            if column != expected:
                raise DataError(
                    f"{test}, line 1: {what} is {column}; expected {expected} as {train}"
                )
        task = settle_task(self.task, [(train, 2, train_y), (test, 2, test_y)])
        if self.new_split is not None:
            order = np.random.default_rng(derive_seed("new split", self.new_split)).permutation(
                train_x.num_rows + test_x.num_rows
            )
            parts = np.split(order, [train_x.num_rows])
            train_x, test_x = (train_x.followed_by(test_x).rows(part) for part in parts)
            train_y, test_y = (train_y.followed_by(test_y).rows(part) for part in parts)
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=test_x,
            test_labels=test_y,
            task=task,
            facts={"is_unfiltered": True} if _needs_filter(test) else {},
        )


def read_grammar(path: Path, index_base: int = 0) -> tuple[Grammar, dict[str, int]]:
    """How to read a file by its header, and what `bench.data.text.parse_points` skips of it."""
    line, num_bytes = read_header(path)
    header = parse_header(line)
    if header is None:
        raise DataError(
            f"{path}, line 1: header {line[:60]!r}; expected three whole numbers 'N D L', "
            "ended by LF and without byte-order mark"
        )
    for what, number in zip("NDL", header, strict=True):
        if not 1 <= number <= MAX_ID:
            raise DataError(f"{path}, line 1: {what} is {number}; expected 1 to {MAX_ID}")
    num_points, num_features, num_labels = header
    check_sizes(f"{path}, line 1", num_features, num_labels)
    sizes = (num_labels, num_features)
    grammar = Grammar("xmlrepo", index_base, index_base, *sizes, base_option="option index_base")
    return grammar, {"skip_bytes": num_bytes, "first_line": 2, "num_points": num_points}


def _needs_filter(test: Path) -> bool:
    """Whether a test file is of an LF data set: by a name, or by a filter file beside it."""
    names = (test.name, test.parent.name)
    return any(name.casefold().startswith(("lf-", "lf_")) for name in names) or any(
        test.parent.glob("*filter_labels*")
    )
