"""Sparse text lines to arrays: a byte-level kernel, and a slow parser that words the errors.

Both formats are one grammar: labels, then features in strictly ascending order.

    xmlrepo:  3,17 0:1 5:0.25          vw:  17 | 0:2 5 9

Ids that do not ascend are refused, not sorted: they are the mark of a file that was cut, pasted or
written with another index base, and every published set that we know has them in order. CRLF line
ends are refused too: a file that went through a text-mode transfer no longer has its published
checksum.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bench.data.cache import file_checksum
from bench.data.csr import Csr, Float32s, Int32s, Task, offsets_of
from bench.data.linekernel import parse_bytes
from bench.data.rowwriter import RowWriter
from bench.data.source import MAX_ID, DataError, data_files, opened, require_task
from bench.measure.memory import available_memory_bytes

BLOCK_BYTES = 1 << 24
#: A line is held in memory. The longest of the published sets takes some megabytes.
MAX_LINE_BYTES = 1 << 26
_MOST_DIGITS = 10
_MAX_SHOWN = 60
# Of labels or features seen: ids beyond so many times as many are a slip rather than a data set.
_PLAUSIBLE_RATIO = 1000
_PLAUSIBLE_COLUMNS = 100_000
_NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Grammar:
    """How to read a line: numbers of the first ids, and L and D, None to accept any id.

    `base_option` names the options that state the bases, for messages.
    """

    dialect: Literal["xmlrepo", "vw"]
    label_base: int
    feature_base: int
    num_labels: int | None
    num_features: int | None
    base_option: str

    def stop(self, num: int | None, base: int) -> int:
        """One past the last id that may stand in the file."""
        return base + num if num is not None else MAX_ID + 1


class Part(NamedTuple):
    """A file of points, or one of several that are one.

    A header of `skip_bytes` that ends before line `first_line` has been read already; it promises
    `num_points`, if that is not None.
    """

    path: Path
    grammar: Grammar
    skip_bytes: int = 0
    first_line: int = 1
    num_points: int | None = None


class Points(NamedTuple):
    """Some points that follow each other in a file: how many entries each has, and the entries."""

    label_lengths: Int32s
    labels: Int32s
    feature_lengths: Int32s
    features: Int32s
    values: Float32s


class LineError(ValueError):
    """A line does not follow the grammar; the message names the value and the expectation."""


class _EndlessLineError(Exception):
    """A line is longer than any point's; its reader knows which one."""


def _too_long(path: Path, line: int) -> DataError:
    return DataError(
        f"{path}, line {line}: longer than {MAX_LINE_BYTES:,} bytes; expected a point a line"
    )


def parse_line(line: bytes, grammar: Grammar) -> tuple[list[int], list[int], list[float]]:
    """Labels, feature ids and values of one line (without its newline), both counted from 0.

    The readable reference of the kernel: it accepts and refuses the same lines.
    """
    if line.startswith(b"\xef\xbb\xbf"):
        raise LineError("the file starts with a byte-order mark; expected plain ASCII")
    if b"\r" in line:
        raise LineError("the line has a carriage return (CRLF); expected LF alone")
    if grammar.dialect == "vw":
        head, bar, tail = line.partition(b"|")
        if not bar:
            raise LineError(f"no '|' in {_shown(line)}; expected 'label | features'")
        namespace, _, rest = tail.partition(b" ")
        if b":" in namespace or b"|" in tail:
            raise LineError(f"namespace {_shown(tail)}; expected one, without a weight")
        label_text, tokens = head.rstrip(b" "), rest.split(b" ")
        if b" " in label_text:
            raise LineError(
                f"{_shown(label_text)} before '|'; expected a label and no weight, or labels "
                "parted by commas alone"
            )
    else:
        if not line.strip(b" "):
            raise LineError("the line is empty; expected labels or features")
        label_text, *tokens = line.split(b" ")
        if b":" in label_text:
            label_text, tokens = b"", [label_text, *tokens]
    if label_text.endswith(b",") and tokens:
        raise LineError(
            f"a space after the comma of {_shown(label_text)}; expected labels parted by commas "
            "alone"
        )
    labels: list[int] = []
    for token in label_text.split(b",") if label_text else []:
        labels.append(_id(token, "label", labels, grammar))
    features: list[int] = []
    values = []
    for token in filter(None, tokens):
        name, colon, text = token.partition(b":")
        if not colon and grammar.dialect == "xmlrepo":
            raise LineError(
                f"{_shown(token)} has no ':'; expected feature:value, and before the features "
                "labels parted by commas alone"
            )
        features.append(_id(name, "feature", features, grammar))
        if not colon:
            values.append(1.0)
            continue
        if not _NUMBER.fullmatch(text) or not abs(value := float(text)) <= _FLOAT32_MAX:
            raise LineError(
                f"value {_shown(text)} of feature {_shown(name)}; expected a finite 32-bit number"
            )
        values.append(value)
    return labels, features, values


def _id(
    token: bytes, what: Literal["label", "feature"], before: list[int], grammar: Grammar
) -> int:
    """A token's id, counted from 0; `before` are the ids of that kind to its left."""
    is_label = what == "label"
    base = grammar.label_base if is_label else grammar.feature_base
    stop = grammar.stop(grammar.num_labels if is_label else grammar.num_features, base)
    if not re.fullmatch(rb"[0-9]+", token):
        alone = ", parted from others by commas alone" if is_label else ""
        raise LineError(f"{what} {_shown(token)}; expected a whole number{alone}")
    if len(token) > _MOST_DIGITS:
        raise LineError(f"{what} {_shown(token)}; expected at most {_MOST_DIGITS} digits")
    number = int(token)
    if not base <= number < stop:
        raise LineError(
            f"{what} {number}; expected {base} to {stop - 1} (see {grammar.base_option} for the "
            "first id)"
        )
    if before and number - base <= before[-1]:
        raise LineError(f"{what} {number} after {before[-1] + base}; expected ascending, no twice")
    return number - base


def _shown(text: bytes) -> str:
    cut = text[:_MAX_SHOWN]
    return repr(cut)[1:] + ("…" if len(text) > _MAX_SHOWN else "")


def read_header(path: Path) -> tuple[bytes, int]:
    """First line of a file (without newline), and its length in bytes with newline."""
    try:
        for block in _blocks(path, 0):
            line = block[: block.index(b"\n")]
            return line, len(line) + 1
    except _EndlessLineError:
        raise _too_long(path, 1) from None
    raise DataError(f"{path}: the file is empty; expected at least one line")


def parse_header(line: bytes) -> tuple[int, int, int] | None:
    """N, D and L of a first line (without its newline); None where it is no header."""
    match = re.fullmatch(rb"([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18}) *", line)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def parse_points(part: Part) -> Iterator[Points]:
    """The points of a plain or gzip-compressed file, a block at a time.

    Bad lines and other numbers of points are a `DataError`.
    """
    path, first_line, num_points = part.path, part.first_line, part.num_points
    line_number = first_line
    try:
        for block in _blocks(path, part.skip_bytes):
            points = _parse_block(block, part.grammar, path, line_number)
            line_number += points.label_lengths.size
            if num_points is not None and line_number - first_line > num_points:
                raise DataError(
                    f"{path}, line {first_line + num_points}: one more point; expected "
                    f"{num_points} by its header"
                )
            yield points
    except _EndlessLineError:
        raise _too_long(path, line_number) from None
    if line_number == first_line:
        raise DataError(f"{path}: the file has no points; expected at least one line of data")
    if num_points is not None and line_number - first_line < num_points:
        raise DataError(
            f"{path}, line {line_number - 1}: the file ends after {line_number - first_line} "
            f"points; expected {num_points} by its header"
        )


def parse_rows(path: Path, grammar: Grammar) -> Iterator[tuple[int, Points]]:
    """Points to predict, a block at a time, each block with the line of its first point.

    As :func:`parse_points`, but in one pass, for standard input has no second: a header `N D L` may
    lead or be missing, and so may all points.

    Args:
        path: the file; `-` is standard input.
        grammar: how to read a line; D as the model has it.
    """
    line_number, header = 1, None
    try:
        for block in _blocks(path, 0):
            if line_number == 1 and grammar.dialect == "xmlrepo":
                head, _, rest = block.partition(b"\n")
                header = parse_header(head)
                if header is not None:
                    line_number, block = 2, rest
                    if grammar.num_features not in (None, header[1]):
                        raise DataError(
                            f"{path}, line 1: D is {header[1]}; expected {grammar.num_features}, "
                            "as the model has features"
                        )
            points = _parse_block(block, grammar, path, line_number)
            yield line_number, points
            line_number += points.label_lengths.size
    except _EndlessLineError:
        raise _too_long(path, line_number) from None
    if header is not None and line_number - 2 != header[0]:
        raise DataError(
            f"{path}, line {line_number - 1}: the file ends after {line_number - 2} points; "
            f"expected {header[0]} by its header"
        )


@dataclass(frozen=True)
class Parsed:
    """The points of some files, one below the other, and the number of each file's first one."""

    features: Csr
    labels: Csr
    parts: Sequence[Part]
    starts: Sequence[int]

    def place(self, row: int) -> str:
        """File and line of a point."""
        number = bisect.bisect_right(self.starts, row) - 1
        part = self.parts[number]
        return f"{part.path}, line {part.first_line + row - self.starts[number]}"


def parse_files(parts: Sequence[Part], scratch: Path | None = None) -> Parsed:
    """Features and labels of all points of some files; D and L are those of the first grammar.

    Where that has None, one more than the largest id. Arrays are files of the folder `scratch`.
    """
    features, labels = RowWriter(scratch), RowWriter(scratch)
    widths, starts, num_rows = [0, 0], [], 0
    for part in parts:
        starts.append(num_rows)
        for points in parse_points(part):
            values = None if np.all(points.values == 1.0) else points.values
            features.add(Csr(offsets_of(points.feature_lengths), points.features, values, 0))
            labels.add(Csr(offsets_of(points.label_lengths), points.labels, None, 0))
            ids = (points.features, points.labels)
            widths = [max(w, int(i.max(initial=-1)) + 1) for w, i in zip(widths, ids, strict=True)]
            num_rows += points.label_lengths.size
    grammar = parts[0].grammar
    num_features = widths[0] if grammar.num_features is None else grammar.num_features
    num_labels = widths[1] if grammar.num_labels is None else grammar.num_labels
    return Parsed(features.finish(num_features), labels.finish(num_labels), parts, starts)


def parse_file(path: Path, grammar: Grammar, **header: int) -> tuple[Csr, Csr]:
    """Features and labels of all points of one file, in memory; see :func:`parse_points`."""
    parsed = parse_files([Part(path, grammar, **header)])
    return parsed.features, parsed.labels


def file_identity(data_dir: Path, cache_dir: Path, **files: str) -> Mapping[str, Any]:
    """SHA-256 (hex) of each named file, by the option that names it; of several in their order."""
    checksums: dict[str, Any] = {}
    for role, name in files.items():
        found = [file_checksum(path, cache_dir) for path in data_files(data_dir, name, role)]
        checksums[role] = found[0] if (data_dir / name).is_file() else found
    return checksums


def check_sizes(where: str, num_features: int | None, num_labels: int | None) -> None:
    """Refuse sizes whose columns could not even be counted in the memory that there is."""
    needed = 8 * ((num_features or 0) + (num_labels or 0))
    available = available_memory_bytes()
    if available is not None and needed > available:
        sizes = (("D", num_features), ("L", num_labels))
        stated = " and ".join(f"{name} = {size:,}" for name, size in sizes if size)
        raise DataError(
            f"{where}: {stated}; to count points by column alone takes {needed / 2**30:.1f} GiB, "
            f"and {available / 2**30:.1f} GiB are available"
        )


def check_ids_seen(parsed: Sequence[Parsed], what: Literal["label", "feature"], base: int) -> None:
    """Refuse an L or D that one line sets far beyond the ids that have a point: a slip of an id."""
    found = [each.labels if what == "label" else each.features for each in parsed]
    num = max(rows.num_columns for rows in found)
    if num <= _PLAUSIBLE_COLUMNS:
        return
    seen = sum(rows.ids.size for rows in found)  # at most
    if num <= _PLAUSIBLE_RATIO * seen:
        is_seen = np.zeros(num, dtype=bool)
        for rows in found:
            for _, block in rows.blocks():
                is_seen[block.ids] = True
        seen = int(np.count_nonzero(is_seen))
    else:
        seen = np.unique(np.concatenate([rows.ids for rows in found])).size
    if num <= max(_PLAUSIBLE_COLUMNS, _PLAUSIBLE_RATIO * seen):
        return
    rows, source = max(zip(found, parsed, strict=True), key=lambda pair: pair[0].num_columns)
    row = int(np.searchsorted(rows.offsets, rows.ids.argmax(), side="right")) - 1
    letter = "L" if what == "label" else "D"
    raise DataError(
        f"{source.place(row)}: {what} {num - 1 + base} makes {letter} = {num:,}, of which {seen:,} "
        f"have a point; expected option num_{what}s where that is meant"
    )


def settle_task(
    task: str | None, parsed: Sequence[Parsed], *, allow_unlabelled: bool = True
) -> Task:
    """The task that the labels of points allow; stated or not.

    Not stated, it is `multiclass` if every point has one label. `allow_unlabelled`: whether it may
    else be multilabel where a point has none.
    """
    require_task(task)
    for each in parsed:
        if not each.labels.ids.size:
            raise DataError(f"{each.place(0)}: no point of the file has a label")
    if task == "multilabel":
        return "multilabel"
    strict = task == "multiclass"
    for each in parsed:
        has_one_each = True
        for first, block in each.labels.blocks():
            lengths = block.row_lengths
            has_one_each &= bool(np.all(lengths == 1))
            wrong = np.flatnonzero(lengths != 1 if strict else lengths == 0)
            if wrong.size and (strict or not allow_unlabelled):
                raise DataError(
                    f"{each.place(first + int(wrong[0]))}: {lengths[wrong[0]]} labels; expected "
                    + ("exactly one (task multiclass)" if strict
                       else "one, or option task=multilabel")
                )  # fmt: skip
        if not has_one_each:
            return "multilabel"
    return "multiclass"


def _blocks(path: Path, skip_bytes: int) -> Iterator[bytes]:
    """Blocks of complete lines, each ended by a newline; the file's last one may lack its own."""
    with opened(path) as stream:
        stream.read(skip_bytes)
        rest: list[bytes] = []
        held = 0
        while block := stream.read(BLOCK_BYTES):
            cut = block.rfind(b"\n") + 1
            if cut:
                yield b"".join((*rest, block[:cut]))
                rest = []
            rest.append(block[cut:])
            held = len(block) - cut + (0 if cut else held)
            if held > MAX_LINE_BYTES:
                raise _EndlessLineError
        if tail := b"".join(rest):
            yield tail + b"\n"


def _parse_block(block: bytes, grammar: Grammar, path: Path, line_number: int) -> Points:
    size = len(block)
    data = np.frombuffer(block, dtype=np.uint8)
    num_lines = block.count(b"\n")
    # Bounds by the shortest entry ("1," and " 1"); pages that are never written cost nothing.
    label_lengths = np.empty(num_lines, dtype=np.int32)
    feature_lengths = np.empty(num_lines, dtype=np.int32)
    labels = np.empty(size // 2 + 1, dtype=np.int32)
    features = np.empty(size // 2 + 1, dtype=np.int32)
    values = np.empty(size // 2 + 1, dtype=np.float32)
    odd = np.empty((size // 4 + 1, 3), dtype=np.int64)
    bad_start, num_points, num_labels, num_features, num_odd = parse_bytes(
        data,
        grammar.dialect == "vw",
        grammar.label_base,
        grammar.stop(grammar.num_labels, grammar.label_base),
        grammar.feature_base,
        grammar.stop(grammar.num_features, grammar.feature_base),
        label_lengths,
        labels,
        feature_lengths,
        features,
        values,
        odd,
    )
    odd_error = None
    for entry, start, stop in odd[:num_odd].tolist():
        value = float(block[start:stop])
        if not math.isfinite(value) or abs(value) > _FLOAT32_MAX:
            odd_error = start
            break
        values[entry] = value
    if odd_error is not None:
        bad_start = block.rfind(b"\n", 0, odd_error) + 1
    if bad_start >= 0:
        where = line_number + block.count(b"\n", 0, bad_start)
        line = block[bad_start : block.index(b"\n", bad_start)]
        message = f"cannot read {_shown(line)}"
        try:
            parse_line(line, grammar)
        except LineError as error:
            message = str(error)
        raise DataError(f"{path}, line {where}: {message}")
    return Points(
        label_lengths[:num_points].copy(),
        labels[:num_labels].copy(),
        feature_lengths[:num_points].copy(),
        features[:num_features].copy(),
        values[:num_features].copy(),
    )
