"""Text with labels, as people have it: CSV, TSV or JSON Lines, plain or `.gz`."""

from __future__ import annotations

import functools
import glob
import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from bench.data.cache import file_checksum
from bench.data.csr import Csr, Task
from bench.data.labels import CellError, label_name, listed_labels
from bench.data.source import MAX_ID, DataError, RawData, missing, require_range, require_task
from bench.data.textrows import FORMATS, Format, Table, guess_format, read_rows, wide_cells
from bench.data.tokens import hashed_token, tokenizer
from bench.settings import coerce_fields

_REMEMBERED_TOKENS = 1 << 18


@dataclass(frozen=True, kw_only=True)
class TextsSource:
    """Files of points, each a text and its labels; see `bench.data.textrows` for the formats.

    The value of a feature is how often its token occurs (`DataSpec.feature_weighting` makes it
    `binary` or `tfidf`). Features are numbered by falling document frequency in training, labels
    by falling number of training points, ties by name. Labels that occur in testing alone come
    last and do not count for L: no model knows them, and they are misses. What labels are called
    is in `bench.data.labels`.

    Reads the files twice, first for labels and vocabulary, then for the points, and holds no text
    but that of one row: in memory are the distinct tokens of the training texts (about 250 bytes
    each; none with `num_hashed_features`), the distinct labels, and the arrays that are built (8
    bytes a feature of a point, 4 a label).

    Attributes:
        train: training file relative to the data folder, or a pattern of several (`part-*.csv`).
        test: test file or pattern; None splits the training files.
        text_columns: name of the column of text; several, parted by commas, are read end to end.
        label_column: name of the column of labels.
        label_separator: what parts the labels of a point; None makes the cell one label.
            A list of labels needs none, in JSON Lines or as a cell: `["a", "b"]`.
        format: `csv`, `tsv` or `jsonl`; None goes by the file's name.
        delimiter: between cells of CSV; None is a comma.
        has_header: whether the first row names the columns; if not, they are called `1`, `2`, ….
        split_column: column with `train` or `test` for each point.
        test_share: without `test` and `split_column` this share of the texts is tested on. Which
            ones is drawn by a hash of the text: equal texts are never parted, and order does not
            matter.
        seed: of that draw.
        lowercase: whether case is left aside.
        token_pattern: regular expression of a token; None for the one of `bench.data.tokens`.
        min_document_frequency: tokens of fewer training points are no features.
        max_features: keep this many tokens, those of most training points; None keeps all.
        num_hashed_features: D of hashed tokens, whose collisions add up; None has a vocabulary.
        task: `multiclass` (exactly one label a point), `multilabel`, or None to go by the files.
    """

    version: ClassVar[int] = 2

    train: str
    test: str | None = None
    text_columns: str = "text"
    label_column: str = "label"
    label_separator: str | None = None
    format: str | None = None
    delimiter: str | None = None
    has_header: bool = True
    split_column: str | None = None
    test_share: float = 0.1
    seed: int = 0
    lowercase: bool = True
    token_pattern: str | None = None
    min_document_frequency: int = 1
    max_features: int | None = None
    num_hashed_features: int | None = None
    task: str | None = None

    def __post_init__(self) -> None:
        coerce_fields(self, DataError)
        sizes = ("min_document_frequency", "max_features", "num_hashed_features")
        require_range(self, sizes, 1, MAX_ID)
        if self.num_hashed_features is not None and (
            self.max_features is not None or self.min_document_frequency > 1
        ):
            raise DataError(
                "option num_hashed_features needs no vocabulary; expected neither max_features nor "
                "min_document_frequency beside it"
            )
        if not 0 < self.test_share < 1:
            raise DataError(f"option test_share is {self.test_share!r}; expected 0 to 1, open")
        if self.test is not None and self.split_column is not None:
            raise DataError("options test and split_column both choose test points; expected one")
        if self.label_separator == "":
            raise DataError("option label_separator is empty; expected None or what parts labels")
        if self.format not in (None, *FORMATS):
            raise DataError(f"option format is {self.format!r}; expected one of {FORMATS}")
        if self.delimiter is not None and (
            len(self.delimiter) != 1 or self.delimiter in '"\r\n' or self.format in ("tsv", "jsonl")
        ):
            raise DataError(
                f"option delimiter is {self.delimiter!r}; expected one character, and CSV"
            )
        require_task(self.task)
        tokenizer(self.token_pattern, lowercase=self.lowercase)

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Checksums of all files in reading order; see `bench.data.source.Source`."""
        return {
            role: [file_checksum(path, cache_dir) for path in self._paths(data_dir, role)]
            for role in self._roles
        }

    def build(self, data_dir: Path) -> RawData:
        """Read all files twice; see `bench.data.source.Source`."""
        with wide_cells():
            first = self._survey(data_dir)
            labels = _numbered(first.train_labels, first.test_labels)
            features = self.numbering(self._vocabulary(first))
            train, test = _Rows(), _Rows()
            for point in self._points(data_dir):
                counts = self._counts(point.text, features)
                try:
                    ids = sorted(labels[name] for name in point.labels)
                except KeyError as error:
                    raise DataError(f"{data_dir / self.train}: label {error} is new") from error
                (test if point.is_test else train).add(counts, ids)
        return RawData(
            train_features=train.features(features.num_features),
            train_labels=train.labels(len(first.train_labels)),
            test_features=test.features(features.num_features),
            test_labels=test.labels(len(labels)),
            task=first.task(self.task),
            facts={"num_empty_points": train.num_empty + test.num_empty},
            label_names=tuple(labels),
        )

    def vocabulary(self, data_dir: Path) -> tuple[str, ...] | None:
        """The tokens in the order of their numbers, from one reading; None if they are hashed."""
        with wide_cells():
            return self._vocabulary(self._survey(data_dir))

    def numbering(self, vocabulary: Sequence[str] | None) -> Numbering:
        """Numbers of the tokens of a vocabulary, or of hashed ones."""
        if vocabulary is not None:
            numbers = {token: number for number, token in enumerate(vocabulary)}
            return Numbering(len(numbers), numbers.get)
        assert self.num_hashed_features is not None
        hashed = functools.partial(hashed_token, num_hashed_features=self.num_hashed_features)
        remembered = functools.lru_cache(_REMEMBERED_TOKENS)(hashed)
        return Numbering(self.num_hashed_features, remembered)

    def read_texts(self, path: Path, format: Format | None) -> Iterator[tuple[int, str]]:
        """Line and text of each row of a file that need have no labels.

        Args:
            path: read as the training files are; `-` is standard input.
            format: of the file; None goes by its name.
        """
        columns = [""] if format == "lines" else self._text_names
        with wide_cells():
            for line, values in read_rows(path, self._table(path, columns, format)):
                try:
                    yield line, "\n".join(map(_text, values))
                except CellError as error:
                    raise DataError(
                        f"{path}, line {line}, column {self.text_columns!r}: {error}"
                    ) from error

    def features_of(self, texts: Iterable[str], numbering: Numbering) -> Csr:
        """How often each token occurs in each text, as :meth:`build` counts them."""
        rows = _Rows()
        for text in texts:
            rows.add(self._counts(text, numbering), ())
        return rows.features(numbering.num_features)

    def _counts(self, text: str, numbering: Numbering) -> Counter[int | None]:
        counts = Counter(map(numbering.number, self._tokens(text)))
        counts.pop(None, None)
        return counts

    @functools.cached_property
    def _text_names(self) -> list[str]:
        return [name.strip() for name in self.text_columns.split(",")]

    @functools.cached_property
    def _tokens(self) -> Callable[[str], list[str]]:
        return tokenizer(self.token_pattern, lowercase=self.lowercase)

    @property
    def _roles(self) -> tuple[str, ...]:
        return ("train",) if self.test is None else ("train", "test")

    def _paths(self, data_dir: Path, role: str) -> list[Path]:
        """Files of an option; a name that exists is no pattern."""
        name = getattr(self, role)
        if (data_dir / name).is_file():
            return [data_dir / name]
        # Not `Path.glob`, which refuses absolute patterns.
        found = sorted(glob.glob(str(data_dir / name)))  # noqa: PTH207
        paths = [path for path in map(Path, found) if path.is_file()]
        if not paths:
            raise missing(data_dir, name, role)
        return paths

    def _points(self, data_dir: Path) -> Iterator[_Point]:
        texts = self._text_names
        columns = [*texts, self.label_column]
        if self.split_column is not None:
            columns.append(self.split_column)
        for role in self._roles:
            for path in self._paths(data_dir, role):
                for line, values in read_rows(path, self._table(path, columns)):
                    column = self.text_columns
                    try:
                        text = "\n".join(map(_text, values[: len(texts)]))
                        column = self.label_column
                        labels = self._labels(values[len(texts)])
                        is_test = role == "test"
                        if self.split_column is not None:
                            column = self.split_column
                            is_test = _is_test(values[-1])
                        elif self.test is None:
                            is_test = self._is_drawn(text)
                    except CellError as error:
                        raise DataError(
                            f"{path}, line {line}, column {column!r}: {error}"
                        ) from error
                    yield _Point(text, labels, is_test)

    def _table(self, path: Path, columns: Sequence[str], format: Format | None = None) -> Table:
        found = format or self.format or guess_format(path)
        if found is None:
            raise DataError(
                f"{path}: the name has no known ending; expected option format, one of {FORMATS}"
            )
        return Table(
            format=cast(Format, found),
            delimiter="\t" if found == "tsv" else (self.delimiter or ","),
            has_header=self.has_header,
            columns=columns,
        )

    def _labels(self, value: Any) -> frozenset[str]:
        """Names of a point's labels; equal ones count once."""
        listed = value if isinstance(value, list) else listed_labels(value)
        names: list[Any] = [value] if listed is None else listed
        if listed is None and isinstance(value, str) and self.label_separator is not None:
            names = value.split(self.label_separator)
        labels = frozenset(label_name(name) for name in names if name is not None) - {""}
        is_alone = self.label_separator is None and listed is None
        if not labels and (self.task == "multiclass" or (is_alone and self.task is None)):
            raise CellError("no label; expected one, or option task=multilabel for points without")
        if self.task == "multiclass" and len(labels) > 1:
            raise CellError(f"{len(labels)} labels; expected one (task multiclass)")
        return labels

    def _is_drawn(self, text: str) -> bool:
        key = f"texts\x1f{self.seed}\x1f{text}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(key, digest_size=8).digest()
        return int.from_bytes(digest, "little") < self.test_share * 2**64

    def _survey(self, data_dir: Path) -> _Survey:
        first = _Survey()
        for point in self._points(data_dir):
            first.add(point, None if self.num_hashed_features else self._tokens)
        first.check(self, data_dir)
        return first

    def _vocabulary(self, first: _Survey) -> tuple[str, ...] | None:
        if self.num_hashed_features is not None:
            return None
        frequent = {
            token: count
            for token, count in first.document_frequencies.items()
            if count >= self.min_document_frequency
        }
        if not frequent:
            raise DataError(
                f"no token of the training texts occurs in {self.min_document_frequency} of them; "
                "expected at least one (see options text_columns, token_pattern)"
            )
        return tuple(_numbered(frequent, keep=self.max_features))


@dataclass(frozen=True)
class _Point:
    """A row: its text, its labels, and whether it is tested on."""

    text: str
    labels: frozenset[str]
    is_test: bool


class _Survey:
    """What the first reading finds: labels, document frequencies, how many labels points have."""

    def __init__(self) -> None:
        self.train_labels: Counter[str] = Counter()
        self.test_labels: Counter[str] = Counter()
        self.document_frequencies: Counter[str] = Counter()
        self._num_points = {False: 0, True: 0}
        self._has_one_label_each = True

    def add(self, point: _Point, tokens: Callable[[str], list[str]] | None) -> None:
        self._num_points[point.is_test] += 1
        self._has_one_label_each &= len(point.labels) == 1
        (self.test_labels if point.is_test else self.train_labels).update(point.labels)
        if tokens is not None and not point.is_test:
            self.document_frequencies.update(set(tokens(point.text)))

    def check(self, source: TextsSource, data_dir: Path) -> None:
        for is_test, labels in ((False, self.train_labels), (True, self.test_labels)):
            if not labels:
                raise DataError(
                    f"{data_dir / ((is_test and source.test) or source.train)}: "
                    f"{self._num_points[is_test]} points to {'test' if is_test else 'train'} on, "
                    "none of them with a label; expected some (see options test, split_column, "
                    "test_share)"
                )

    def task(self, stated: str | None) -> Task:
        if stated == "multilabel" or not self._has_one_label_each:
            return "multilabel"
        return "multiclass"


class _Rows:
    """The growing arrays of a split."""

    def __init__(self) -> None:
        self._lengths = (array("q", [0]), array("q", [0]))
        self._features, self._counts, self._labels = array("i"), array("f"), array("i")
        self.num_empty = 0

    def add(self, counts: Mapping[int | None, int], labels: Sequence[int]) -> None:
        features = sorted(cast(Mapping[int, int], counts))
        self._features.extend(features)
        self._counts.extend(map(counts.__getitem__, features))
        self._labels.extend(labels)
        self._lengths[0].append(len(self._features))
        self._lengths[1].append(len(self._labels))
        self.num_empty += not features

    def features(self, num_features: int) -> Csr:
        counts = np.frombuffer(self._counts, dtype=np.float32)
        return Csr(
            np.frombuffer(self._lengths[0], dtype=np.int64),
            np.frombuffer(self._features, dtype=np.int32),
            None if np.all(counts == 1) else counts,
            num_features,
        )

    def labels(self, num_labels: int) -> Csr:
        return Csr(
            np.frombuffer(self._lengths[1], dtype=np.int64),
            np.frombuffer(self._labels, dtype=np.int32),
            None,
            num_labels,
        )


@dataclass(frozen=True)
class Numbering:
    """D, and what gives a token its number, or None where it is no feature."""

    num_features: int
    number: Callable[[str], int | None]


def _numbered(
    counts: Mapping[str, int], others: Mapping[str, int] | None = None, *, keep: int | None = None
) -> dict[str, int]:
    """Numbers of names by falling count, ties by name; then of others that have no count."""
    names = sorted(counts, key=lambda name: (-counts[name], name))[:keep]
    names += sorted(set(others or ()) - counts.keys())
    return {name: number for number, name in enumerate(names)}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise CellError(f"{value!r:.60}; expected text")
    return value


def _is_test(value: Any) -> bool:
    if value not in ("train", "test"):
        raise CellError(f"{value!r:.60}; expected 'train' or 'test'")
    return bool(value == "test")
