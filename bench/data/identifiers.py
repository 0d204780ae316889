"""Lexer for Python source that keeps the identifiers alone, each as a number.

Comments, strings (with prefixes, triple quotes; f-strings as a whole), numbers and hard keywords
are left out. The lexer works on bytes and never imports, compiles or tokenises what it reads, so
that every Python finds the same identifiers; a byte of 128 or more counts as a letter. Nested equal
quotes inside an f-string (Python 3.12) end it early.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bench.data.csr import Int32s
from bench.store.kernels import njit

UInt64s = npt.NDArray[np.uint64]

SHINGLE_TOKENS = 5
SIGNATURE_BINS = 64
EMPTY_BIN = np.uint64(2**64 - 1)

# The hard keywords of Python 3.11 to 3.13; written down, because a later Python may have others.
KEYWORDS = (
    b"False None True and as assert async await break class continue def del elif else except "
    b"finally for from global if import in is lambda nonlocal not or pass raise return try while "
    b"with yield"
)

# Classes of bytes: 0 other, 1 identifier start, 2 digit, 3 quote, 4 comment.
_KINDS = np.zeros(256, dtype=np.uint8)
_KINDS[128:] = 1
for _letter in b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_":
    _KINDS[_letter] = 1
_KINDS[48:58] = 2
_KINDS[[34, 39]] = 3
_KINDS[35] = 4
_IS_PREFIX = np.zeros(256, dtype=np.bool_)
for _letter in b"rRbBuUfFtT":
    _IS_PREFIX[_letter] = True


class IdentifierTable:
    """Numbers identifiers from 0 in order of first appearance, comparing their bytes exactly."""

    def __init__(self) -> None:
        self._slots = np.full(1 << 16, -1, dtype=np.int32)
        self._hashes: UInt64s = np.empty(1 << 15, dtype=np.uint64)
        self._ends: npt.NDArray[np.int64] = np.zeros((1 << 15) + 1, dtype=np.int64)
        self._pool: npt.NDArray[np.uint8] = np.empty(1 << 20, dtype=np.uint8)
        self._num_names = 0
        self._num_keywords = 0
        self._num_keywords = self.lex(KEYWORDS).size

    @property
    def num_names(self) -> int:
        """Distinct identifiers so far."""
        return self._num_names - self._num_keywords

    @property
    def name_hashes(self) -> UInt64s:
        """`(num_names,)` 64-bit hash of each identifier's bytes, the same in every run."""
        return self._hashes[self._num_keywords : self._num_names]

    def name(self, identifier: int) -> bytes:
        """Bytes of an identifier."""
        entry = identifier + self._num_keywords
        return self._pool[self._ends[entry] : self._ends[entry + 1]].tobytes()

    def lex(self, source: bytes) -> Int32s:
        """Identifiers of a source file, in order, as int32 numbers."""
        self._reserve(len(source))
        # The kernel looks two bytes ahead; the newline ends whatever the file leaves open.
        data = np.frombuffer(source + b"\n\n\n", dtype=np.uint8)
        tokens = np.empty(len(source) // 2 + 1, dtype=np.int32)
        num_tokens, self._num_names = _lex(
            data,
            self._num_keywords,
            self._slots,
            self._hashes,
            self._ends,
            self._pool,
            self._num_names,
            tokens,
        )
        return tokens[:num_tokens].copy()

    def _reserve(self, num_bytes: int) -> None:
        """Room for all names that a file of `num_bytes` can have."""
        used = int(self._ends[self._num_names])
        if used + num_bytes > self._pool.size:
            self._pool = np.resize(self._pool, 2 * (used + num_bytes))
        needed = self._num_names + num_bytes // 2 + 1
        if needed > self._hashes.size:
            self._hashes = np.resize(self._hashes, 2 * needed)
            self._ends = np.resize(self._ends, 2 * needed + 1)
        if 2 * needed > self._slots.size:
            size = 1 << (4 * needed - 1).bit_length()
            self._slots = np.full(size, -1, dtype=np.int32)
            _rehash(self._slots, self._hashes, self._num_names)


def signature(stream: UInt64s) -> UInt64s:
    """`(SIGNATURE_BINS,)` one-permutation MinHash of a stream's shingles of identifiers.

    The share of equal bins of two signatures estimates the Jaccard similarity of the streams.

    Source: Li, Owen, Zhang 2012 (one permutation hashing).
    """
    bins = np.full(SIGNATURE_BINS, EMPTY_BIN, dtype=np.uint64)
    _minhash(stream, bins)
    return bins


@njit(cache=True)
def _lex(data, num_keywords, slots, hashes, ends, pool, num_names, tokens):  # type: ignore[no-untyped-def]
    size = data.size - 2
    mask = slots.size - 1
    num_tokens = 0
    at = 0
    while at < size:
        kind = _KINDS[data[at]]
        if kind == 0:
            at += 1
        elif kind == 4:
            while at < size and data[at] != 10:
                at += 1
        elif kind == 2:
            while _KINDS[data[at]] == 1 or _KINDS[data[at]] == 2 or data[at] == 46:
                at += 1
        elif kind == 3:
            quote = data[at]
            if data[at + 1] == quote and data[at + 2] == quote:
                at += 3
                while at < size and not (
                    data[at] == quote and data[at + 1] == quote and data[at + 2] == quote
                ):
                    at += 2 if data[at] == 92 else 1
                at += 3
            else:
                at += 1
                while at < size and data[at] != quote and data[at] != 10:
                    at += 2 if data[at] == 92 else 1
                at += 1
        else:
            start = at
            value = np.uint64(14695981039346656037)  # FNV-1a
            is_prefix = True
            while _KINDS[data[at]] == 1 or _KINDS[data[at]] == 2:
                value = (value ^ np.uint64(data[at])) * np.uint64(1099511628211)
                is_prefix = is_prefix and _IS_PREFIX[data[at]]
                at += 1
            if is_prefix and at - start <= 2 and _KINDS[data[at]] == 3:
                continue
            slot = np.int64(_mix(value) & np.uint64(mask))
            entry = slots[slot]
            while entry >= 0:
                if hashes[entry] == value and ends[entry + 1] - ends[entry] == at - start:
                    is_equal = True
                    for byte in range(at - start):
                        if pool[ends[entry] + byte] != data[start + byte]:
                            is_equal = False
                            break
                    if is_equal:
                        break
                slot = (slot + 1) & mask
                entry = slots[slot]
            if entry < 0:
                entry = num_names
                slots[slot] = entry
                hashes[entry] = value
                for byte in range(at - start):
                    pool[ends[entry] + byte] = data[start + byte]
                ends[entry + 1] = ends[entry] + at - start
                num_names += 1
            if entry >= num_keywords:
                tokens[num_tokens] = entry - num_keywords
                num_tokens += 1
    return num_tokens, num_names


@njit(cache=True)
def _mix(value):  # type: ignore[no-untyped-def]
    """Finaliser of MurmurHash3: every input bit moves every output bit."""
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xFF51AFD7ED558CCD)
    value ^= value >> np.uint64(33)
    value *= np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


@njit(cache=True)
def _rehash(slots, hashes, num_names):  # type: ignore[no-untyped-def]
    mask = slots.size - 1
    for entry in range(num_names):
        slot = np.int64(_mix(hashes[entry]) & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = entry


@njit(cache=True)
def _minhash(stream, bins):  # type: ignore[no-untyped-def]
    shift = np.uint64(58)  # the top 6 bits choose one of 64 bins
    for start in range(stream.size - SHINGLE_TOKENS + 1):
        value = np.uint64(0)
        for token in range(SHINGLE_TOKENS):
            value = _mix(value ^ stream[start + token]) + np.uint64(token)
        index = np.int64(value >> shift)
        if value < bins[index]:
            bins[index] = value
