"""Every label scored, as a decoder."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.mach import decode
from bench.mach.hashing import UniversalHash
from bench.settings import SettingsError

_SCORE_TYPES = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


class Dense(Decoder):
    """Every label scored, see `bench.mach.decode.dense`.

    Args:
        problem: see :class:`Decoder`.
        k: labels wanted.
        recompute: whether the hash is computed anew for each block of labels and no table kept;
            for a `universal` hash.
        score_type: `float32`, or `float16` or `bfloat16` to see what rounding the bucket scores
            does to the labels.

    Raises:
        SettingsError: another hash is to be recomputed, or an unknown type.
    """

    def __init__(
        self, problem: Problem, *, k: int, recompute: bool = False, score_type: str = "float32"
    ) -> None:
        super().__init__(problem, k=k)
        if score_type not in _SCORE_TYPES:
            raise SettingsError(
                f"score_type is {score_type!r}; expected one of {', '.join(_SCORE_TYPES)}"
            )
        self.score_type = _SCORE_TYPES[score_type]
        self.is_exact = score_type == "float32"
        self.table: Tensor | UniversalHash = problem.table
        if recompute:
            if not isinstance(problem.hashes, UniversalHash):
                raise SettingsError(
                    f"hash is {type(problem.hashes).__name__}; expected UniversalHash to recompute"
                )
            self.table = replace(problem.hashes, num_labels=problem.num_labels)

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `decode.top_k`."""
        return decode.top_k(queries.to(self.score_type), self.table, self.k)[1]

    def decode_bytes(self) -> int:
        """Bytes of the table, or of the hash's coefficients."""
        if isinstance(self.table, Tensor):
            return self.table.nbytes
        return self.table.coefficients().nbytes
