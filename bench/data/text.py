"""Sparse text lines to arrays: a byte-level kernel, and a slow parser that words the errors.

Both formats are one grammar: labels, then features in strictly ascending order.

    xmlrepo:  3,17 0:1 5:0.25          vw:  17 | 0:2 5 9

Ids that do not ascend are refused, not sorted: they are the mark of a file that was cut, pasted or
written with another index base, and every published set that we know has them in order. CRLF line
ends are refused too: a file that went through a text-mode transfer no longer has its published
checksum.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Task
from bench.data.linekernel import parse_bytes
from bench.data.raw import DataError

BLOCK_BYTES = 1 << 24
MAX_ID = 2**31 - 2
_MAX_SHOWN = 60
_NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Grammar:
    """How to read a line.

    Attributes:
        dialect: `xmlrepo` or `vw`.
        label_base: number of the first label in the file.
        feature_base: number of the first feature in the file.
        num_labels: L, or None to accept any id.
        num_features: D, or None to accept any id.
        base_option: options that state the bases, for error messages.
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


class LineError(ValueError):
    """A line does not follow the grammar; the message names the value and the expectation."""


def parse_line(line: bytes, grammar: Grammar) -> tuple[list[int], list[int], list[float]]:
    """Labels, feature ids and values of one line (without its newline), both counted from 0.

    The readable reference of the kernel: it accepts and refuses the same lines.

    Raises:
        LineError: the line does not follow the grammar.
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
            raise LineError(f"{_shown(label_text)} before '|'; expected a label and no weight")
    else:
        if not line.strip(b" "):
            raise LineError("the line is empty; expected labels or features")
        label_text, *tokens = line.split(b" ")
        if b":" in label_text:
            label_text, tokens = b"", [label_text, *tokens]
    labels = _ids(
        label_text.split(b",") if label_text else [],
        "label",
        grammar.label_base,
        grammar.stop(grammar.num_labels, grammar.label_base),
        grammar.base_option,
    )
    pairs = [token.partition(b":") for token in tokens if token]
    features = _ids(
        [name for name, _, _ in pairs],
        "feature",
        grammar.feature_base,
        grammar.stop(grammar.num_features, grammar.feature_base),
        grammar.base_option,
    )
    values = []
    for name, colon, text in pairs:
        if not colon and grammar.dialect == "vw":
            values.append(1.0)
            continue
        if not _NUMBER.fullmatch(text) or not abs(value := float(text)) <= _FLOAT32_MAX:
            raise LineError(
                f"value {_shown(text)} of feature {_shown(name)}; expected a finite 32-bit number"
            )
        values.append(value)
    return labels, features, values


def _ids(tokens: list[bytes], what: str, base: int, stop: int, option: str) -> list[int]:
    ids: list[int] = []
    for token in tokens:
        if not re.fullmatch(rb"[0-9]{1,10}", token):
            raise LineError(f"{what} {_shown(token)}; expected a whole number")
        number = int(token)
        if not base <= number < stop:
            raise LineError(
                f"{what} {number}; expected {base} to {stop - 1} (see {option} for the first id)"
            )
        if ids and number - base <= ids[-1]:
            raise LineError(f"{what} {number} after {ids[-1] + base}; expected ascending, no twice")
        ids.append(number - base)
    return ids


def _shown(text: bytes) -> str:
    cut = text[:_MAX_SHOWN]
    return repr(cut)[1:] + ("…" if len(text) > _MAX_SHOWN else "")


def read_header(path: Path) -> tuple[bytes, int]:
    """First line of a file (without newline), and its length in bytes with newline.

    Raises:
        DataError: the file is empty or unreadable.
    """
    for block in _blocks(path, 0):
        line = block[: block.index(b"\n")]
        return line, len(line) + 1
    raise DataError(f"{path}: the file is empty; expected at least one line")


def parse_file(
    path: Path, grammar: Grammar, *, skip_bytes: int = 0, first_line: int = 1
) -> tuple[Csr, Csr]:
    """All points of a plain or gzip-compressed file.

    Args:
        path: the file; a name that ends in `.gz` is decompressed.
        grammar: how to read a line.
        skip_bytes: bytes of a header that has been read already.
        first_line: number of the first line after it, for messages.

    Returns:
        Features and labels, with D and L from the grammar; where it has None, one more than the
        largest id.

    Raises:
        DataError: a line does not follow the grammar, the file is empty, or its compression broken.
    """
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    line_number = first_line
    for block in _blocks(path, skip_bytes):
        part = _parse_block(block, grammar, path, line_number)
        line_number += part[0].size
        parts.append(part)
    if not parts:
        raise DataError(f"{path}: the file has no points; expected at least one line of data")
    label_lengths, labels, feature_lengths, features, values = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    kept_values = None if np.all(values == 1.0) else values
    return (
        _csr(feature_lengths, features, kept_values, grammar.num_features),
        _csr(label_lengths, labels, None, grammar.num_labels),
    )


def settle_task(
    task: str | None, parts: Sequence[tuple[Path, int, Csr]], *, allow_unlabelled: bool = True
) -> Task:
    """The task that the labels allow, or the stated one if they allow it.

    Args:
        task: `multiclass`, `multilabel`, or None for multiclass if every point has one label.
        parts: path, number of the first data line, and labels of each file.
        allow_unlabelled: whether None may stand for multilabel where a point has no label.

    Raises:
        DataError: the stated task is unknown or does not fit, or a file has no labels at all.
    """
    if task not in (None, "multiclass", "multilabel"):
        raise DataError(f"option task is {task!r}; expected 'multiclass' or 'multilabel'")
    for path, first_line, labels in parts:
        if not labels.ids.size:
            raise DataError(f"{path}, line {first_line}: no point of the file has a label")
    if task == "multilabel":
        return "multilabel"
    for path, first_line, labels in parts:
        lengths = labels.row_lengths
        strict = task == "multiclass"
        wrong = np.flatnonzero(lengths != 1 if strict else lengths == 0)
        if wrong.size and (strict or not allow_unlabelled):
            raise DataError(
                f"{path}, line {first_line + wrong[0]}: {lengths[wrong[0]]} labels; expected "
                f"{'exactly one (task multiclass)' if strict else 'one, or option task=multilabel'}"
            )
        if np.any(lengths != 1):
            return "multilabel"
    return "multiclass"


def _csr(lengths, ids, values, num_columns) -> Csr:  # type: ignore[no-untyped-def]
    offsets = np.zeros(lengths.size + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if num_columns is None:
        num_columns = int(ids.max(initial=-1)) + 1
    return Csr(offsets, ids, values, num_columns)


def _blocks(path: Path, skip_bytes: int) -> Iterator[bytes]:
    """Blocks of whole lines, each ended by a newline; the file's last line may lack its own."""
    try:
        with cast(BinaryIO, (gzip.open if path.suffix == ".gz" else open)(path, "rb")) as stream:
            stream.read(skip_bytes)
            rest: list[bytes] = []
            while block := stream.read(BLOCK_BYTES):
                cut = block.rfind(b"\n") + 1
                if cut:
                    yield b"".join((*rest, block[:cut]))
                    rest = []
                rest.append(block[cut:])
            if tail := b"".join(rest):
                yield tail + b"\n"
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: broken compression ({error}); expected a whole .gz") from error
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; expected a readable file") from error


def _parse_block(
    block: bytes, grammar: Grammar, path: Path, line_number: int
) -> tuple[npt.NDArray[np.generic], ...]:
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
    return (
        label_lengths[:num_points].copy(),
        labels[:num_labels].copy(),
        feature_lengths[:num_points].copy(),
        features[:num_features].copy(),
        values[:num_features].copy(),
    )
