"""FAISS `IndexPQ` made to sum bucket scores: the best table scan known where B is a power of two.

A product quantiser with R sub-quantisers whose B centroids are one-hot vectors: a query's look-up
table of inner products is its bucket scores themselves, a label's code its R buckets.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.experiments.decoding.decoders import Decoder
from bench.experiments.decoding.problems import Problem
from bench.settings import SettingsError


class FaissPQ(Decoder):
    """Labels by FAISS; B must be 16 or 256, which is where its scan is specialised.

    Its ties and its order of additions are its own, so that labels may differ where scores are
    equal but for rounding.

    Raises:
        SettingsError: another B, or FAISS is not installed (the `decode` extra).
    """

    is_exact = False

    def __init__(self, problem: Problem, *, k: int) -> None:
        super().__init__(problem, k=k)
        worlds, buckets = problem.num_worlds, problem.num_buckets
        if buckets not in (16, 256):
            raise SettingsError(f"FAISS decoder with B = {buckets}; expected 16 or 256")
        try:
            faiss: Any = importlib.import_module("faiss")
        except ImportError:
            raise SettingsError(
                "FAISS is not installed; in a clone of the project, "
                ".venv/bin/python -m pip install -e '.[decode]' installs it"
            ) from None
        faiss.omp_set_num_threads(torch.get_num_threads())
        self.index = faiss.IndexPQ(
            worlds * buckets, worlds, buckets.bit_length() - 1, faiss.METRIC_INNER_PRODUCT
        )
        one_hot = np.eye(buckets, dtype=np.float32)
        faiss.copy_array_to_vector(np.tile(one_hot, (worlds, 1)).ravel(), self.index.pq.centroids)
        self.index.is_trained = True
        codes = problem.table.T.contiguous().numpy().astype(np.uint8)
        if buckets == 16:  # two codes a byte, the first one in the low half
            codes = (codes[:, 0::2] | (codes[:, 1::2] << 4)).astype(np.uint8)
        faiss.copy_array_to_vector(np.ascontiguousarray(codes).ravel(), self.index.codes)
        self.index.ntotal = problem.num_labels

    def top_k(self, queries: Tensor) -> Tensor:
        """Labels by `IndexPQ.search`."""
        flat = queries.reshape(queries.shape[0], -1).numpy()
        return torch.from_numpy(self.index.search(flat, self.k)[1])

    def decode_bytes(self) -> int:
        """Bytes of the codes and centroids."""
        return int(self.index.codes.size()) + 4 * int(self.index.pq.centroids.size())
