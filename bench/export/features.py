"""From raw points, texts or sparse rows, to the features that a model was trained on."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch

from bench.data.csr import Csr, offsets_of
from bench.data.module import ExtremeDataModule
from bench.data.source import STANDARD_INPUT, DataError
from bench.data.sources import build_source, prepared_fingerprint
from bench.data.text import Grammar, parse_rows
from bench.data.textrows import Format as TextFormat
from bench.data.textrows import guess_format
from bench.data.texts import Numbering, TextsSource
from bench.data.transform import inverse_document_weights, outside_domain, weigh
from bench.data.vw import VwSource, within
from bench.data.xmlrepo import XmlRepoSource
from bench.export import FORMATS, Format
from bench.export.folder import FEATURES, VOCABULARY, ModelError, read_lines, read_tensors
from bench.settings import DataSpec


@runtime_checkable
class SparseRows(Protocol):
    """Rows as SciPy's `csr_matrix` and `csr_array` have them, whose package is not needed here."""

    indptr: npt.NDArray[Any]
    indices: npt.NDArray[Any]
    data: npt.NDArray[Any]
    shape: tuple[int, int]


#: Texts; rows as `{feature: value}`; or many rows at once.
Points = Sequence[str] | Sequence[Mapping[int, float]] | SparseRows | Csr


@dataclass(frozen=True, kw_only=True)
class FeatureMap:
    """What was done with the training points, as far as it can be done with others.

    Attributes:
        spec: data that the model was trained on; of its source, how files are to be read.
        num_features: D.
        vocabulary: token of each feature; None where there are no texts, or tokens are hashed.
        idf: `(D,)` float64, inverse document weights; None where features are not weighted so.
    """

    spec: DataSpec
    num_features: int
    vocabulary: tuple[str, ...] | None = None
    idf: npt.NDArray[np.float64] | None = None

    @classmethod
    def of_data(cls, data: ExtremeDataModule) -> FeatureMap:
        """That of a data module's training points; texts are read once for their vocabulary.

        Raises:
            DataError: the files have changed since they were prepared.
        """
        spec, features = data.spec, data.dataset.train_features
        vocabulary = idf = None
        if spec.source == "texts":
            vocabulary = cast(TextsSource, build_source(spec)).vocabulary(data.data_dir)
            now = prepared_fingerprint(spec, data.data_dir, data.cache_dir)
            if now != data.facts["fingerprint"]:
                raise DataError(f"{spec.name}: the files have changed since they were prepared")
        if spec.feature_weighting == "tfidf":
            idf = inverse_document_weights(features.column_counts(), features.num_rows)
        return cls(spec=spec, num_features=data.num_features, vocabulary=vocabulary, idf=idf)

    @classmethod
    def of_folder(cls, folder: Path, spec: DataSpec, num_features: int) -> FeatureMap:
        """That of an exported model."""
        vocabulary = idf = None
        if (folder / VOCABULARY).is_file():
            vocabulary = tuple(map(_unescaped, read_lines(folder / VOCABULARY)))
        if (folder / FEATURES).is_file():
            idf = read_tensors(folder / FEATURES)["idf"].numpy()
        return cls(spec=spec, num_features=num_features, vocabulary=vocabulary, idf=idf)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What `features.safetensors` holds; nothing: there is none."""
        return {} if self.idf is None else {"idf": torch.from_numpy(self.idf)}

    def lines(self) -> list[str] | None:
        """What `vocabulary.txt` holds; None: there is none."""
        return None if self.vocabulary is None else [_escaped(token) for token in self.vocabulary]

    @property
    def label_base(self) -> int:
        """Number of the first label in the source's own files."""
        source = self._source
        if isinstance(source, VwSource):
            return source.label_base
        return source.index_base if isinstance(source, XmlRepoSource) else 0

    @functools.cached_property
    def _source(self) -> TextsSource | XmlRepoSource | VwSource | None:
        """The source, where it says how points are written; others number features from 0."""
        if self.spec.source not in ("texts", "vw", "xmlrepo"):
            return None
        return cast(TextsSource | XmlRepoSource | VwSource, build_source(self.spec))

    @functools.cached_property
    def _numbering(self) -> Numbering:
        return self._texts.numbering(self.vocabulary)

    @property
    def _texts(self) -> TextsSource:
        if not isinstance(self._source, TextsSource):
            raise ModelError(
                f"the points are texts, and the model was trained on rows of source "
                f"{self.spec.source!r}; expected rows of features 0 to {self.num_features - 1}"
            )
        return self._source

    def weighted(self, rows: Csr, place: Callable[[int], str]) -> Csr:
        """Raw rows as the model wants them.

        Args:
            rows: `(N, D)`.
            place: what a row is called in an error.

        Raises:
            DataError: a value that the weighting is not made for.
        """
        found = outside_domain(self.spec, rows)
        if found is not None:
            raise DataError(f"{place(found[0])}: {found[1]}")
        return weigh(self.spec, rows, self.idf)

    def raw(self, points: Points) -> Csr:
        """Texts or rows of a program as rows.

        Raises:
            DataError: which of them is not what was expected.
            ModelError: texts, for a model of rows.
        """
        if isinstance(points, str | bytes | Mapping):
            raise DataError(f"points are {points!r:.60}; expected a list of texts or of rows")
        if isinstance(points, Csr):
            return self._checked(points)
        if isinstance(points, SparseRows):
            return self._checked(
                Csr(
                    np.asarray(points.indptr, dtype=np.int64),
                    np.asarray(points.indices),
                    np.asarray(points.data, dtype=np.float32),
                    int(points.shape[1]),
                )
            )
        some = list(points)
        if some and all(isinstance(point, str) for point in some):
            return self._texts.features_of(cast(list[str], some), self._numbering)
        return self._of_mappings(some)

    def _of_mappings(self, points: Sequence[Any]) -> Csr:
        for number, point in enumerate(points):
            if not isinstance(point, Mapping):
                raise DataError(
                    f"row {number}: {point!r:.60}; expected a text, or values by feature "
                    "({7: 1.0}), in all rows the same"
                )
        entries = [sorted(point.items()) for point in points]
        flat = list(itertools.chain.from_iterable(entries))
        return self._checked(
            Csr(
                offsets_of(np.array([len(each) for each in entries], dtype=np.int64)),
                np.array([feature for feature, _ in flat], dtype=np.int64),
                np.array([value for _, value in flat], dtype=np.float32),
                self.num_features,
            )
        )

    def _checked(self, rows: Csr) -> Csr:
        """Rows whose features are those of the model, ascending, and whose values are finite."""
        if rows.num_columns != self.num_features:
            raise DataError(f"rows have {rows.num_columns} columns; expected {self.num_features}")
        ids = rows.ids.astype(np.int64)
        is_wrong = (ids < 0) | (ids >= self.num_features)
        expected = f"0 to {self.num_features - 1}"
        if not is_wrong.any():
            is_wrong = np.diff(ids, prepend=-1) <= 0
            starts = rows.offsets[:-1][rows.row_lengths > 0]
            is_wrong[starts] = False
            expected = "each feature once, ascending"
        if not is_wrong.any() and rows.values is not None:
            is_wrong = ~np.isfinite(rows.values)
            expected = "a finite value"
        if is_wrong.any():
            entry = int(np.argmax(is_wrong))
            row = int(np.searchsorted(rows.offsets, entry, side="right")) - 1
            value = 1.0 if rows.values is None else float(rows.values[entry])
            raise DataError(
                f"row {row}: feature {ids[entry]} with value {value:g}; expected {expected}"
            )
        return Csr(rows.offsets, ids.astype(np.int32), rows.values, rows.num_columns)

    def read(
        self, path: Path, format: Format | None, batch_size: int
    ) -> Iterator[tuple[Sequence[int], Csr]]:
        """Weighted rows of a file in its order, and the line that each begins on.

        Args:
            path: the file, decompressed if its name ends in `.gz`; `-` is standard input.
            format: of the file; None goes by its name, and by what the model was trained on.
            batch_size: rows at a time; there are no more in memory than a block of 16 MB holds.

        Raises:
            DataError: file, line, value and what was expected.
            ModelError: texts, for a model of rows.
        """
        batches = (
            self._read_rows(path, self._dialect(path, format), batch_size)
            if self._has_rows(path, format)
            else self._read_texts(path, self._text_format(path, format), batch_size)
        )
        for lines, rows in batches:
            yield lines, self.weighted(rows, functools.partial(_place, path, lines))

    def _has_rows(self, path: Path, format: Format | None) -> bool:
        if format is None:
            return not isinstance(self._source, TextsSource)
        return format in ("xmc", "vw")

    def _dialect(self, path: Path, format: Format | None) -> Literal["xmlrepo", "vw"]:
        if format is None:
            name = path.name.removesuffix(".gz")
            is_vw = name.endswith(".vw") or isinstance(self._source, VwSource)
            return "vw" if is_vw else "xmlrepo"
        return "vw" if format == "vw" else "xmlrepo"

    def _text_format(self, path: Path, format: Format | None) -> TextFormat:
        if format not in (None, "texts"):
            return cast(TextFormat, format)
        found = guess_format(path) or cast("TextFormat | None", self._texts.format)
        if found is None and (
            path == STANDARD_INPUT or path.name.removesuffix(".gz").endswith(".txt")
        ):
            found = "lines"
        if found is None:
            raise DataError(
                f"{path}: the name has no known ending; expected --format, one of {FORMATS}"
            )
        return found

    def _read_texts(
        self, path: Path, format: TextFormat, batch_size: int
    ) -> Iterator[tuple[Sequence[int], Csr]]:
        texts = self._texts
        rows = texts.read_texts(path, format)
        while some := list(itertools.islice(rows, batch_size)):
            lines = [line for line, _ in some]
            yield lines, texts.features_of((text for _, text in some), self._numbering)

    def _read_rows(
        self, path: Path, dialect: Literal["xmlrepo", "vw"], batch_size: int
    ) -> Iterator[tuple[Sequence[int], Csr]]:
        source, base, num_features = self._source, 0, cast("int | None", self.num_features)
        if isinstance(source, XmlRepoSource):
            base = source.index_base
        elif isinstance(source, VwSource):
            base, num_features = source.feature_base, source.num_features
        grammar = Grammar(
            dialect=dialect,
            label_base=0,
            feature_base=base,
            num_labels=None,
            num_features=num_features,
            base_option="the model's training files",
        )
        rest, first = Csr(offsets_of(np.zeros(0, np.int64)), *_NOTHING, self.num_features), 1
        for line, points in parse_rows(path, grammar):
            first = line if rest.num_rows == 0 else first
            width = max(self.num_features, int(points.features.max(initial=-1)) + 1)
            block = Csr(offsets_of(points.feature_lengths), points.features, points.values, width)
            rows = rest.followed_by(within(block, self.num_features))
            for start in range(0, rows.num_rows - batch_size + 1, batch_size):
                yield range(first, first + batch_size), rows.slice(start, start + batch_size)
                first += batch_size
            rest = rows.slice(rows.num_rows - rows.num_rows % batch_size, rows.num_rows)
        if rest.num_rows:
            yield range(first, first + rest.num_rows), rest


_NOTHING = (np.zeros(0, np.int32), np.zeros(0, np.float32))


def _place(path: Path, lines: Sequence[int], row: int) -> str:
    return f"{path}, line {lines[row]}"


def _escaped(token: str) -> str:
    return token.replace("\\", "\\\\").replace("\n", "\\n")


def _unescaped(line: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in line.split("\\\\"))
