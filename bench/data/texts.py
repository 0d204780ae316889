"""Text with labels, as people have it: CSV, TSV or JSON Lines, plain or `.gz`."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np

from bench.data.cache import file_checksum
from bench.data.countedrows import CountedRows, Numbers, renumbered
from bench.data.csr import Csr, Int32s, Int64s, Task
from bench.data.labels import CellError, label_name, listed_labels
from bench.data.rowwriter import RowWriter, stacked
from bench.data.source import MAX_ID, DataError, RawData, data_files, require_range, require_task
from bench.data.textrows import FORMATS, Format, Table, guess_format, read_rows, wide_cells
from bench.data.tokens import hashed_token, tokenizer
from bench.data.words import TextBlock, WordTable
from bench.settings import coerce_fields

_REMEMBERED = 1 << 18  # tokens and labels


@dataclass(frozen=True, kw_only=True)
class TextsSource:
    """Files of points, each a text and its labels; see `bench.data.textrows` for the formats.

    The value of a feature is how often its token occurs (`DataSpec.feature_weighting` makes it
    `binary` or `tfidf`). Features are numbered by falling document frequency in training, labels
    by falling number of training points, ties by name. Labels that occur in testing alone come
    last and do not count for L: no model knows them, and they are misses. What labels are called
    is in `bench.data.labels`.

    Reads the files once, and holds no more text than a few MB: in memory are the distinct tokens of
    all texts (none with `num_hashed_features`) and labels, about 200 bytes each. What is built is
    written block by block.

    Attributes:
        train: training file relative to the data folder; a folder or a pattern (`part-*.csv`) is
            all of its files as one, see `bench.data.source.data_files`.
        test: likewise; None splits the training files.
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
            role: [
                file_checksum(path, cache_dir)
                for path in data_files(data_dir, getattr(self, role), role)
            ]
            for role in self._roles
        }

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Read all files once; see `bench.data.source.Source`."""
        read = self._read(data_dir, (RowWriter(scratch) for _ in range(4)))
        counts = read.train.labels.tally(len(read.labels))
        labels = _ranked(read.labels, counts)  # those of testing alone have no count
        num_features, new_ids = self.num_hashed_features, None
        vocabulary = self._vocabulary(read)
        if vocabulary is not None:
            num_features, new_ids = len(vocabulary), _new_ids(read.tokens, vocabulary)
        assert num_features is not None

        def finished(rows: CountedRows, num_columns: int, new_ids: Int32s | None) -> Csr:
            found = rows.finish(num_columns)
            if new_ids is None:
                return found
            blocks = (renumbered(block, new_ids) for _, block in found.blocks())
            return stacked(blocks, num_columns, scratch)

        splits = (read.train, read.test)
        features = [finished(split.features, num_features, new_ids) for split in splits]
        widths = (int(np.count_nonzero(counts)), len(labels))
        new_ids = _new_ids(read.labels, labels)
        train_labels, test_labels = (
            finished(split.labels, width, new_ids)
            for split, width in zip(splits, widths, strict=True)
        )
        num_empty = sum(
            int(np.count_nonzero(block.row_lengths == 0))
            for rows in features
            for _, block in rows.blocks()
        )
        return RawData(
            train_features=features[0],
            train_labels=train_labels,
            test_features=features[1],
            test_labels=test_labels,
            task=read.task(self.task),
            facts={"num_empty_points": num_empty},
            label_names=tuple(labels),
        )

    def vocabulary(self, data_dir: Path) -> tuple[str, ...] | None:
        """The tokens in the order of their numbers, from one reading; None if they are hashed."""
        return self._vocabulary(self._read(data_dir, itertools.repeat(None)))

    def numbering(self, vocabulary: Sequence[str] | None) -> Numbering:
        """Numbers of the tokens of a vocabulary, or of hashed ones."""
        if vocabulary is not None:
            known = _Known((token, number) for number, token in enumerate(vocabulary))
            return Numbering(len(known), known.__getitem__)
        assert self.num_hashed_features is not None
        hashed = functools.partial(hashed_token, num_hashed_features=self.num_hashed_features)
        remembered = functools.lru_cache(_REMEMBERED)(hashed)
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
        rows = CountedRows(RowWriter(None))
        for text in texts:
            rows.add(map(numbering.number, self._tokens(text)))
        return rows.finish(numbering.num_features)

    @functools.cached_property
    def _text_names(self) -> list[str]:
        return [name.strip() for name in self.text_columns.split(",")]

    @functools.cached_property
    def _tokens(self) -> Callable[[str], list[str]]:
        return tokenizer(self.token_pattern, lowercase=self.lowercase)

    @property
    def _roles(self) -> tuple[str, ...]:
        return ("train",) if self.test is None else ("train", "test")

    def _points(self, data_dir: Path) -> Iterator[tuple[str, frozenset[str], bool]]:
        """Text and labels of each point, and whether it is tested on."""
        texts = self._text_names
        columns = [*texts, self.label_column]
        if self.split_column is not None:
            columns.append(self.split_column)
        for role in self._roles:
            for path in data_files(data_dir, getattr(self, role), role):
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
                    yield text, labels, is_test

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
        labels = frozenset(_label(name) for name in names if name is not None) - {""}
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

    def _read(self, data_dir: Path, writers: Iterable[RowWriter | None]) -> _Reading:
        """All points; `writers` take those of training and of testing, features before labels."""
        read = _Reading(self, iter(writers))
        train, test, numbers = read.train, read.test, read.labels.__getitem__
        with wide_cells():
            for text, labels, is_test in self._points(data_dir):
                split = test if is_test else train
                split.texts.add(text)
                split.labels.add(map(numbers, labels))
                read.has_one_label_each &= len(labels) == 1
        train.texts.flush()
        test.texts.flush()
        read.check(data_dir)
        return read

    def _vocabulary(self, read: _Reading) -> tuple[str, ...] | None:
        if self.num_hashed_features is not None:
            return None
        counts = read.train.features.tally(read.table.size)
        frequent = _ranked(read.tokens, counts, self.min_document_frequency)
        if not frequent:
            raise DataError(
                f"no token of the training texts occurs in {self.min_document_frequency} of them; "
                "expected at least one (see options text_columns, token_pattern)"
            )
        return tuple(frequent[: self.max_features])


class _Split:
    """The points of training or of testing."""

    def __init__(
        self, read: _Reading, writers: Iterator[RowWriter | None], *, is_tallied: bool
    ) -> None:
        source = read.source
        self.features = CountedRows(next(writers), is_tallied=is_tallied)
        self.labels = CountedRows(next(writers), is_tallied=True)
        self.texts = TextBlock(
            read.table,
            source._tokens,
            self.features.add_block,
            is_plain=source.token_pattern is None,
            lowercase=source.lowercase,
        )


class _Reading:
    """What a reading finds; labels, and tokens but hashed ones, are numbered as they come."""

    def __init__(self, source: TextsSource, writers: Iterator[RowWriter | None]) -> None:
        self.source = source
        is_hashed = source.num_hashed_features is not None
        self.table = WordTable(source.numbering(None).number if is_hashed else None)
        self.labels = Numbers()
        self.train = _Split(self, writers, is_tallied=not is_hashed)
        self.test = _Split(self, writers, is_tallied=False)
        self.has_one_label_each = True

    @functools.cached_property
    def tokens(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.table.names())}

    def check(self, data_dir: Path) -> None:
        source = self.source
        for split, option, what in (
            (self.train, source.train, "train"),
            (self.test, source.test or source.train, "test"),
        ):
            if not split.labels.tally(len(self.labels)).any():
                raise DataError(
                    f"{data_dir / option}: {split.labels.num_rows} points to {what} on, none of "
                    "them with a label; expected some (see options test, split_column, test_share)"
                )

    def task(self, stated: str | None) -> Task:
        if stated == "multilabel" or not self.has_one_label_each:
            return "multilabel"
        return "multiclass"


class _Known(dict[str, int]):
    """Numbers of known tokens."""

    def __missing__(self, token: str) -> int:
        return -1


@dataclass(frozen=True)
class Numbering:
    """D, and what gives a token its number, or −1 where it is no feature."""

    num_features: int
    number: Callable[[str], int]


def _ranked(numbers: Mapping[str, int], counts: Int64s, least: int = 0) -> list[str]:
    """Names of at least so many counts, by falling count, ties by name."""
    by_number = counts.tolist()
    names = sorted(name for name, number in numbers.items() if by_number[number] >= least)
    names.sort(key=lambda name: by_number[numbers[name]], reverse=True)  # a stable sort still
    return names


def _new_ids(numbers: Mapping[str, int], names: Iterable[str]) -> Int32s:
    """For each number the place of its name among `names`; −1 where it has none."""
    new_ids = np.full(len(numbers), -1, dtype=np.int32)
    old = np.fromiter(map(numbers.__getitem__, names), dtype=np.int64)
    new_ids[old] = np.arange(old.size, dtype=np.int32)
    return new_ids


_known_name = functools.lru_cache(_REMEMBERED)(label_name)


def _label(value: Any) -> str:
    return _known_name(value) if isinstance(value, str) else label_name(value)


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
