"""Rows of CSV, TSV and JSON Lines files, one at a time, with the line that each begins on.

* CSV: comma separated unless stated otherwise, quoted by `"`; a quoted cell may span lines.
* TSV: tab separated and never quoted, as its registered type has it. A quoted file with tabs is
  CSV with a tab for its delimiter.
* JSON Lines: an object a line.
* Parquet, by pyarrow (the extra `[parquet]`): columns of text, and labels as text, whole numbers or
  lists of them. A row stands for a line: the first is 1.
* Plain lines, of which each is a text: for points without labels alone, and none is skipped.

All are UTF-8; a byte-order mark at the start, as spreadsheets write it, is skipped. Blank lines
are skipped. No line and no cell of a text file may be longer than
`MAX_CHARACTERS`.
"""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.data.source import DataError, opened

Format = Literal["csv", "tsv", "jsonl", "parquet", "lines"]
#: Of points with labels.
FORMATS: tuple[Format, ...] = ("csv", "tsv", "jsonl", "parquet")
MAX_CHARACTERS = 1 << 24
# Rows of a Parquet file in memory at a time.
_BATCH_ROWS = 1 << 12


@dataclass(frozen=True, kw_only=True)
class Table:
    """How a file is to be read, and the columns that are handed out.

    Without a header columns are called by their position, `1` first.
    """

    format: Format
    delimiter: str
    has_header: bool
    columns: Sequence[str]


def guess_format(path: Path) -> Format | None:
    """Format by a file's name, `.gz` left aside; None for any other ending."""
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower().removeprefix(".")
    if suffix in ("jsonl", "ndjson"):
        return "jsonl"
    return next((each for each in FORMATS if each == suffix), None)


def read_rows(path: Path, table: Table) -> Iterator[tuple[int, list[Any]]]:
    """Line number and wanted values of each row: text, or any JSON value.

    A `DataError` has the line in which the file is not of its format, broken, or lacks a column.
    """
    if table.format == "parquet":
        return _records(path, table)
    lines = _lines(path)
    if table.format == "lines":
        return ((number, [line.rstrip("\r\n")]) for number, line in enumerate(lines, start=1))
    return _objects(path, lines, table) if table.format == "jsonl" else _cells(path, lines, table)


@contextlib.contextmanager
def wide_cells() -> Iterator[None]:
    """Let `csv` read cells of up to `MAX_CHARACTERS`; its own limit, of the process, is 131,072."""
    before = csv.field_size_limit(MAX_CHARACTERS)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _lines(path: Path) -> Iterator[str]:
    with opened(path) as stream:
        number = 0
        while line := stream.readline(MAX_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_CHARACTERS:
                raise DataError(
                    f"{path}, line {number}: longer than {MAX_CHARACTERS:,} bytes; expected a row"
                )
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield line.decode()
            except UnicodeDecodeError as error:
                is_wide = number == 1 and line[:2] in (b"\xff\xfe", b"\xfe\xff")
                raise DataError(
                    f"{path}, line {number}: byte {error.start + 1} is "
                    f"0x{line[error.start]:02x}; expected UTF-8"
                    + (" (this is UTF-16)" if is_wide else "")
                ) from error


def _cells(path: Path, lines: Iterator[str], table: Table) -> Iterator[tuple[int, list[Any]]]:
    reader = csv.reader(
        lines,
        delimiter=table.delimiter,
        quoting=csv.QUOTE_NONE if table.format == "tsv" else csv.QUOTE_MINIMAL,
        strict=True,
    )
    header: list[str] | None = None
    indices: list[int] = []
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):
                quotes = "" if table.format == "tsv" else ", and quotes around cells with one"
                raise DataError(
                    f"{path}, line {line}: a carriage return (CR) within a row; expected lines "
                    f"that end in LF or CRLF, not in CR alone{quotes}"
                ) from error
            raise DataError(
                f"{path}, line {line}: {error}; expected cells parted by {table.delimiter!r}"
                + ("" if table.format == "tsv" else ', with quotes doubled inside of quotes ("")')
            ) from error
        if row is None:
            break
        if not row:
            continue
        if header is None:
            header = row if table.has_header else [str(i + 1) for i in range(len(row))]
            indices = [_index(path, line, header, name) for name in table.columns]
            if table.has_header:
                continue
        if (
            row[-1].endswith(header[-1])  # seldom, and soon seen
            and table.has_header
            and [row[0].removeprefix("\ufeff"), *row[1:]] == header
        ):
            raise DataError(
                f"{path}, line {line}: the header again; expected points (of files joined end to "
                "end, the first one's header alone)"
            )
        if len(row) != len(header):
            raise DataError(f"{path}, line {line}: {len(row)} columns; expected {len(header)}")
        yield line, [row[index] for index in indices]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {twice!r:.60} stands twice in an object")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_object)  # `json.loads` would make one for each line


def _index(path: Path, line: int, header: Sequence[str], name: str) -> int:
    if header.count(name) != 1:
        what = "no column" if name not in header else "more than one column"
        shown = [each[:40] for each in header[:20]]
        raise DataError(f"{path}, line {line}: {what} is called {name!r}; found {shown}")
    return header.index(name)


def _objects(path: Path, lines: Iterator[str], table: Table) -> Iterator[tuple[int, list[Any]]]:
    for number, line in enumerate(lines, start=1):
        if line.isspace():
            continue
        try:
            row = _DECODER.decode(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{path}, line {number}, character {error.colno}: {error.msg}; expected a JSON "
                "object a line"
            ) from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number}: {error}; expected a JSON object") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: {line.strip()[:40]!r}; expected a JSON object")
        for name in table.columns:
            if name not in row:
                raise DataError(f"{path}, line {number}: no key {name!r}; found {sorted(row)[:20]}")
        yield number, [row[name] for name in table.columns]


def _records(path: Path, table: Table) -> Iterator[tuple[int, list[Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: Parquet files need pyarrow, the extra [parquet]; expected it to be installed"
        ) from error
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            for name in table.columns:
                _index(path, 1, names, name)
            columns = list(dict.fromkeys(table.columns))
            for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                values = {name: batch.column(name).to_pylist() for name in columns}
                cells = (values[name] for name in table.columns)
                for row in zip(*cells, strict=True):
                    number += 1
                    yield number, list(row)
    except (OSError, ArrowException) as error:
        raise DataError(f"{path}, after row {number}: {error}; expected a Parquet file") from error
