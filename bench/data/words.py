"""Tokens of many texts to numbers, by a kernel that keeps every distinct one once, as bytes.

Plain texts (ASCII, tokens by default) are cut by the kernel itself, as `bench.data.tokens` cuts
them; the tokens of others it is given one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.data.csr import Int32s, Int64s
from bench.store.kernels import njit

# Ends each of the tokens that are given one by one; no byte of UTF-8.
_END = b"\xff"
_BLOCK_BYTES = 1 << 20
_BLOCK_TEXTS = 1 << 16
_REMEMBERED = 1 << 20


class WordTable:
    """Numbers of tokens: from 0 in the order in which they come, or what `hashed` gives them.

    `size` is how many tokens are known; those that are hashed are forgotten now and then.
    """

    def __init__(self, hashed: Callable[[str], int] | None = None) -> None:
        self._hashed = hashed
        self._clear()

    def _clear(self) -> None:
        self.size = 0
        self._features = np.empty(0, dtype=np.int32)  # of hashed tokens
        self._slots = np.full(1 << 10, -1, dtype=np.int32)
        self._hashes: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
        self._ends: Int64s = np.zeros(1, dtype=np.int64)
        self._pool: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)

    def names(self, first: int = 0) -> list[str]:
        """The tokens in the order of their numbers, from one on."""
        ends = self._ends[first : self.size + 1].tolist()
        start = ends[0]
        pool = self._pool[start : ends[-1]].tobytes()
        return [
            pool[begin - start : end - start].decode("utf-8", "surrogatepass")
            for begin, end in itertools.pairwise(ends)
        ]

    def number(
        self, data: npt.NDArray[np.uint8], ends: Int64s, is_cut: npt.NDArray[np.bool_], lower: bool
    ) -> tuple[Int64s, Int32s]:
        """Offsets `(N + 1,)` and numbers of the tokens of texts.

        Args:
            data: the texts, one behind the other; at the end one more byte.
            ends: `(N + 1,)` from 0; of each text.
            is_cut: `(N,)`; a text is tokens that each end in 255.
            lower: whether to make plain text lower case.
        """
        most = data.size // 2 + int(np.count_nonzero(data == _END[0])) + ends.size
        if self._hashed is not None and self.size > _REMEMBERED:
            self._clear()
        first = self.size
        self._reserve(most, data.size)
        offsets = np.zeros(ends.size, dtype=np.int64)
        ids = np.empty(most, dtype=np.int32)
        num_ids, self.size = _number(
            data, ends, is_cut, lower, self._slots, self._hashes, self._ends, self._pool,
            self.size, offsets, ids,
        )  # fmt: skip
        ids = ids[:num_ids]
        if self._hashed is None:
            return offsets, ids
        new = np.fromiter(map(self._hashed, self.names(first)), np.int32, self.size - first)
        self._features = np.concatenate([self._features, new])
        return offsets, self._features[ids]

    def _reserve(self, num_names: int, num_bytes: int) -> None:
        needed = self.size + num_names
        if needed > self._hashes.size:
            room = needed + self.size // 2
            self._hashes = _longer(self._hashes, room)
            self._ends = _longer(self._ends, room + 1)
            num_slots = 1 << (2 * room).bit_length()
            if num_slots > self._slots.size:
                self._slots = np.full(num_slots, -1, dtype=np.int32)
                _rehash(self._slots, self._hashes, self.size)
        used = int(self._ends[self.size])
        if used + num_bytes > self._pool.size:
            self._pool = _longer(self._pool, used + used // 2 + num_bytes)


class TextBlock:
    """Texts that are numbered together: `take` is given offsets and numbers of their tokens.

    Args:
        table: of all texts.
        tokens: from a text to its tokens.
        is_plain: whether these are the default ones.
        lowercase: whether they are in lower case.
        take: of blocks in order.
    """

    def __init__(
        self,
        table: WordTable,
        tokens: Callable[[str], list[str]],
        take: Callable[[Int64s, Int32s], object],
        *,
        is_plain: bool,
        lowercase: bool,
    ) -> None:
        self._table, self._tokens, self._take = table, tokens, take
        self._is_plain, self._lower = is_plain, lowercase
        self._clear()

    def _clear(self) -> None:
        self._data, self._ends, self._is_cut = bytearray(), [0], bytearray()

    def add(self, text: str) -> None:
        """Add a text."""
        is_cut = not (self._is_plain and text.isascii())
        if is_cut:
            for token in self._tokens(text):
                self._data += token.encode("utf-8", "surrogatepass") + _END
        else:
            self._data += text.encode()
        self._is_cut.append(is_cut)
        self._ends.append(len(self._data))
        if len(self._data) > _BLOCK_BYTES or len(self._ends) > _BLOCK_TEXTS:
            self.flush()

    def flush(self) -> None:
        """Hand out what was added."""
        self._data.append(0)
        data = np.frombuffer(self._data, dtype=np.uint8)
        is_cut = np.frombuffer(self._is_cut, dtype=np.bool_)
        found = self._table.number(data, np.array(self._ends, np.int64), is_cut, self._lower)
        self._clear()
        self._take(*found)


def _longer(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    longer = np.empty(size, dtype=array.dtype)
    longer[: array.size] = array
    return longer


@njit(cache=True)
def _number(  # type: ignore[no-untyped-def]
    data, text_ends, is_cut, lower, slots, hashes, ends, pool, size, offsets, ids
):
    """Write offsets and numbers; how many numbers, and how many tokens the table has now."""
    is_word = np.zeros(256, dtype=np.bool_)
    for byte in range(128):
        is_digit = 48 <= byte <= 57
        is_letter = 65 <= byte <= 90 or 97 <= byte <= 122
        is_word[byte] = is_digit or is_letter or byte == 95
    mask = slots.size - 1
    num_ids = 0
    for text in range(text_ends.size - 1):
        at = text_ends[text]
        stop = text_ends[text + 1]
        cut = is_cut[text]
        while at < stop:
            if not cut and not is_word[data[at]]:
                at += 1
                continue
            # A new token goes to the end of the pool, and stays there if it is not known.
            base = ends[size]
            end = base
            value = np.uint64(0xCBF29CE484222325)
            while at < stop and (data[at] != 255 if cut else is_word[data[at]]):
                byte = data[at]
                if not cut and lower and 65 <= byte <= 90:
                    byte += np.uint8(32)
                pool[end] = byte
                value = (value ^ np.uint64(byte)) * np.uint64(0x100000001B3)
                end += 1
                at += 1
            at += 1  # the end of a token, or what no word has
            value ^= value >> np.uint64(32)
            slot = np.int64(value) & mask
            while True:
                number = slots[slot]
                if number < 0:
                    number = size
                    slots[slot] = number
                    hashes[number] = value
                    ends[number + 1] = end
                    size += 1
                    break
                if hashes[number] == value:
                    start = ends[number]
                    is_same = ends[number + 1] - start == end - base
                    byte_at = 0
                    while is_same and byte_at < end - base:
                        is_same = pool[start + byte_at] == pool[base + byte_at]
                        byte_at += 1
                    if is_same:
                        break
                slot = (slot + 1) & mask
            ids[num_ids] = number
            num_ids += 1
        offsets[text + 1] = num_ids
    return num_ids, size


@njit(cache=True)
def _rehash(slots, hashes, size):  # type: ignore[no-untyped-def]
    mask = slots.size - 1
    for number in range(size):
        slot = np.int64(hashes[number]) & mask
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = number
