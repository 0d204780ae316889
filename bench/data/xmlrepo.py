"""Text format of the Extreme Classification Repository: header `N D L`, then `l,l f:v f:v …`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.data.csr import Csr, Int64s
from bench.data.rowwriter import stacked
from bench.data.source import MAX_ID, DataError, RawData, data_files
from bench.data.text import (
    Grammar,
    Parsed,
    Part,
    check_sizes,
    file_identity,
    parse_files,
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
        train: training file, relative to the data folder; `.gz` is decompressed. A folder or a
            pattern is all of its files as one, see `bench.data.source.data_files`; each has a
            header of its own, or the first has one for all.
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
        """Checksums of all files; see `bench.data.source.Source`."""
        return file_identity(data_dir, cache_dir, train=self.train, test=self.test)

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Parse all files; see `bench.data.source.Source`."""
        train, test = (
            self._parsed(data_files(data_dir, name, role), scratch)
            for role, name in (("train", self.train), ("test", self.test))
        )
        _check_alike(train.parts[0], test.parts[0])
        task = settle_task(self.task, [train, test])
        features, labels = [train.features, test.features], [train.labels, test.labels]
        if self.new_split is not None:
            sizes = [rows.num_rows for rows in labels]
            order = np.random.default_rng(derive_seed("new split", self.new_split)).permutation(
                sum(sizes)
            )
            drawn = np.split(order, [sizes[0]])
            features = _drawn(features, drawn, scratch)
            labels = _drawn(labels, drawn, scratch)
        return RawData(
            train_features=features[0],
            train_labels=labels[0],
            test_features=features[1],
            test_labels=labels[1],
            task=task,
            facts={"is_unfiltered": True} if _needs_filter(data_dir / self.test) else {},
        )

    def _parsed(self, paths: Sequence[Path], scratch: Path | None) -> Parsed:
        """Points of files that each have a header, or of which the first has one for all."""
        first = read_part(paths[0], self.index_base)
        parts, num_points = [first], None
        for path in paths[1:]:
            has_header = parse_header(read_header(path)[0]) is not None
            if len(parts) == 1 and not has_header:  # as `split` cuts a file
                num_points = first.num_points
                parts = [first._replace(num_points=None)]
            if has_header != (num_points is None):
                raise DataError(
                    f"{path}, line 1: {'a' if has_header else 'no'} header 'N D L'; expected one "
                    f"in each file, or in {paths[0]} alone"
                )
            part = read_part(path, self.index_base) if has_header else Part(path, first.grammar)
            _check_alike(first, part)
            parts.append(part)
        parsed = parse_files(parts, scratch)
        found = parsed.labels.num_rows
        if num_points not in (None, found):
            raise DataError(
                f"{parsed.place(found - 1)}: the files end after {found} points; expected "
                f"{num_points} by the header of {paths[0]}"
            )
        return parsed


def _check_alike(first: Part, other: Part) -> None:
    for what, name in (("D", "num_features"), ("L", "num_labels")):
        expected, found = (getattr(part.grammar, name) for part in (first, other))
        if found != expected:
            raise DataError(
                f"{other.path}, line 1: {what} is {found}; expected {expected} as {first.path}"
            )


def _drawn(files: Sequence[Csr], drawn: Sequence[Int64s], scratch: Path | None) -> list[Csr]:
    """Rows by their numbers among those of all files."""
    num_columns = files[0].num_columns
    blocks = (block for rows in files for _, block in rows.blocks())
    together = stacked(blocks, num_columns, scratch)
    return [
        stacked((block for _, block in together.blocks_of(index)), num_columns, scratch)
        for index in drawn
    ]


def read_part(path: Path, index_base: int = 0) -> Part:
    """A file as its header says."""
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
    return Part(path, grammar, skip_bytes=num_bytes, first_line=2, num_points=num_points)


def _needs_filter(test: Path) -> bool:
    """Whether a test file is of an LF data set: by a name, or by a filter file beside it."""
    names = (test.name, test.parent.name)
    return any(name.casefold().startswith(("lf-", "lf_")) for name in names) or any(
        test.parent.glob("*filter_labels*")
    )
