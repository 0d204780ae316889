"""What a data file holds, in one pass: checksum, size, points, and how far its ids reach."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from bench.data.download.catalogue import PublishedSet
from bench.data.download.checksums import FilePin
from bench.data.source import DataError
from bench.store.kernels import njit

BLOCK_BYTES = 1 << 22
_MAX_LINE_BYTES = 1 << 28
_HEADER = re.compile(rb"([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,18}) *\r?")


def count_file(path: Path, known: PublishedSet, *, place: Path | None = None) -> FilePin:
    """Checksum and sizes of a file that should be one of the set's.

    In the repository's format D and L are the header's, and the header's N must be that of the
    lines; in VW's they are what the largest ids come to, counted from the set's bases. Lines are
    counted and not judged: what is wrong inside of one is told when the set is read.

    Args:
        path: the file; `.gz` is decompressed.
        known: whose format and bases are taken.
        place: name for messages, if not `path`.

    Raises:
        DataError: the file is empty, cut off, or not of the set's format.
    """
    shown = place or path
    status = path.stat()
    with path.open("rb") as raw:
        hashing = _Hashing(raw)
        try:
            if path.suffix == ".gz":
                # GzipFile needs no more of a stream than `read`.
                with gzip.GzipFile(fileobj=cast(Any, hashing)) as stream:
                    sizes = _sizes(cast(IO[bytes], stream), known, shown)
            else:
                sizes = _sizes(cast(IO[bytes], hashing), known, shown)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(
                f"{shown}: broken compression ({error}); expected a whole .gz"
            ) from error
        while hashing.read(BLOCK_BYTES):
            pass
    return FilePin(
        sha256=hashing.digest.hexdigest(),
        num_bytes=hashing.num_bytes,
        mtime_ns=status.st_mtime_ns,
        num_points=sizes[0],
        num_features=sizes[1],
        num_labels=sizes[2],
    )


def read_header(line: bytes) -> tuple[int, int, int] | None:
    """N, D, L if the line (without its newline) is a header of the repository's format."""
    match = _HEADER.fullmatch(line)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def open_text(path: Path) -> IO[bytes]:
    """The decompressed bytes of a file, by its first bytes: gzip, bzip2 or plain."""
    with path.open("rb") as stream:
        magic = stream.read(3)
    if magic.startswith(b"\x1f\x8b"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic == b"BZh":
        return cast(IO[bytes], bz2.open(path, "rb"))
    return path.open("rb")


class _Hashing:
    """A stream that remembers the checksum and the number of the bytes read from it."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self.digest = hashlib.sha256()
        self.num_bytes = 0

    def read(self, size: int = -1) -> bytes:
        block = self._raw.read(size)
        self.digest.update(block)
        self.num_bytes += len(block)
        return block


def _sizes(stream: IO[bytes], known: PublishedSet, shown: Path) -> tuple[int, int, int]:
    blocks = _blocks(stream, shown)
    first = next(blocks, None)
    if first is None:
        raise DataError(f"{shown}: the file is empty; expected points")
    return (_xmlrepo if known.source == "xmlrepo" else _vw)(first, blocks, known, shown)


def _blocks(stream: IO[bytes], shown: Path) -> Iterator[bytes]:
    """Blocks of whole lines, each ended by a newline; the file's last line may lack its own."""
    num_lines = 0
    for block in _whole_lines(stream, shown):
        place = block.find(b"\r")
        if place >= 0:
            line = num_lines + block.count(b"\n", 0, place) + 1
            raise DataError(
                f"{shown}, line {line}: a carriage return (CRLF); expected lines that end in LF "
                "alone, as they were published"
            )
        num_lines += block.count(b"\n")
        yield block


def _whole_lines(stream: IO[bytes], shown: Path) -> Iterator[bytes]:
    rest = b""
    while block := stream.read(BLOCK_BYTES):
        cut = block.rfind(b"\n") + 1
        if cut:
            yield rest + block[:cut]
            rest = b""
        rest += block[cut:]
        if len(rest) > _MAX_LINE_BYTES:
            raise DataError(f"{shown}: a line of more than {_MAX_LINE_BYTES:,} bytes")
    if rest:
        yield rest + b"\n"


def _xmlrepo(
    first: bytes, blocks: Iterator[bytes], known: PublishedSet, shown: Path
) -> tuple[int, int, int]:
    line = first[: first.index(b"\n")]
    header = read_header(line)
    if header is None:
        raise DataError(f"{shown}, line 1: {line[:60]!r}; expected a header of three numbers")
    num_points = first.count(b"\n") - 1 + sum(block.count(b"\n") for block in blocks)
    if num_points != header[0]:
        raise DataError(
            f"{shown}: {num_points:,} points; expected {header[0]:,} by its header "
            "(the file was cut off or changed)"
        )
    return header


def _vw(
    first: bytes, blocks: Iterator[bytes], known: PublishedSet, shown: Path
) -> tuple[int, int, int]:
    bases = [int(known.options.get(name) or 0) for name in ("label_base", "feature_base")]
    # Points; largest label and feature; smallest label and feature.
    counts = np.array([0, -1, -1, np.iinfo(np.int64).max, np.iinfo(np.int64).max])
    block: bytes | None = first
    while block is not None:
        bad = int(_count_vw(np.frombuffer(block, dtype=np.uint8), counts))
        if bad >= 0:
            line = block[bad : block.index(b"\n", bad)]
            raise DataError(
                f"{shown}, line {counts[0] + 1}: {line[:60]!r}; "
                "expected 'label | feature:value …' with whole numbers for names"
            )
        block = next(blocks, None)
    for what, base, smallest in zip(("label", "feature"), bases, counts[3:].tolist(), strict=True):
        if smallest < base:
            raise DataError(f"{shown}: smallest {what} is {smallest}; expected {base} or more")
    return int(counts[0]), int(counts[2]) - bases[1] + 1, int(counts[1]) - bases[0] + 1


@njit(cache=True)
def _number(data, at):  # type: ignore[no-untyped-def]
    """Whole number at `at`, after spaces, and where it ends; -1 if there is none."""
    while data[at] == 32:
        at += 1
    begin = at
    number = 0
    while 48 <= data[at] <= 57 and at - begin < 18:
        number = number * 10 + (data[at] - 48)
        at += 1
    return (number if at > begin else -1), at


@njit(cache=True)
def _count_vw(data, counts):  # type: ignore[no-untyped-def]
    """Add whole lines to the counts; the start of the first bad line, or -1."""
    at = 0
    while at < data.size:
        start = at
        label, at = _number(data, at)
        while data[at] != 124 and data[at] != 10:  # a weight or a tag
            at += 1
        if label < 0 or data[at] == 10:
            return start
        counts[1] = max(counts[1], label)
        counts[3] = min(counts[3], label)
        while data[at] != 32 and data[at] != 10:  # the bar and a namespace
            at += 1
        while True:
            while data[at] == 32:
                at += 1
            if data[at] == 10:
                break
            feature, at = _number(data, at)
            if feature < 0:
                return start
            counts[2] = max(counts[2], feature)
            counts[4] = min(counts[4], feature)
            while data[at] != 32 and data[at] != 10:  # a value
                at += 1
        counts[0] += 1
        at += 1
    return -1
