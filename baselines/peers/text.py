"""Prepared rows as text, the only form that some libraries train from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from bench.data.csr import Csr, Float32s

# Words of so many rows are in memory at a time.
_BLOCK_ROWS = 4096


def row_values(features: Csr) -> Float32s:
    """`(nnz,)` float32 in memory: the values of all entries, 1 where none are stored."""
    if features.values is None:
        return np.ones(features.ids.size, dtype=np.float32)
    return np.array(features.values)


def feature_texts(features: Csr) -> Iterator[str]:
    """`id:value id:value …` of each row, exact to the bit of a float32; "" without entries."""
    for start in range(0, features.num_rows, _BLOCK_ROWS):
        block = features.slice(start, start + _BLOCK_ROWS)
        pairs = zip(block.ids.tolist(), row_values(block).tolist(), strict=True)
        words = list(map("%d:%.9g".__mod__, pairs))
        for begin, end in pairwise(block.offsets.tolist()):
            yield " ".join(words[begin:end])


def label_texts(labels: Csr, base: int) -> Iterator[str]:
    """`label,label …` of each row, counted from `base`; "" without labels."""
    ids = (labels.ids + base).tolist()
    for begin, end in pairwise(labels.offsets.tolist()):
        yield ",".join(map(str, ids[begin:end]))
