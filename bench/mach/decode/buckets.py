"""The `buckets` decode: the MACH authors' approximate one, for comparison; it may miss labels.

Only the m best buckets of each world are looked into. A label's score is the sum over those of its
buckets that are among them, all others counting 0; labels that are in fewer than `min_count` of
them are dropped, the bound being lowered until k labels are left.

Source: `approx_eval.py` of the authors' code, as described in `PAPER.md` section 6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.mach.decode import buckets_kernel
from bench.mach.decode.index import BucketIndex
from bench.mach.decode.workspace import Workspace
from bench.nn.ranking import UnrankableError

# Sums, counts and the labels seen, each `(P, L)`; the counts are left zero.
_Room = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.int32]]
_workspace: Workspace[_Room] = Workspace()


@dataclass(frozen=True)
class BucketsResult:
    """What the heuristic answered.

    Attributes:
        scores: `(N, k)` float32, best first; −inf where there is no label.
        labels: `(N, k)` int64; −1 where the buckets held fewer than k labels.
        num_scored: `(N,)` int64, distinct labels looked at.
    """

    scores: Tensor
    labels: Tensor
    num_scored: Tensor


def top_k(
    bucket_scores: Tensor,
    index: BucketIndex,
    k: int,
    *,
    num_best_buckets: int,
    min_count: int,
) -> BucketsResult:
    """About the k best labels of each query.

    Scores must be worth more than an absent bucket's 0: probabilities, not logits or logarithms.

    Args:
        bucket_scores: `(N, R, B)` on the CPU, at least 0.
        index: inverted lists of the table.
        k: labels wanted.
        num_best_buckets: m, 1 to B.
        min_count: 1 to R.

    Raises:
        UnrankableError: a score is negative or NaN.
        ValueError: sizes out of range or disagreeing.
    """
    num_queries, num_worlds, num_buckets = bucket_scores.shape
    if (num_worlds, num_buckets) != (index.num_worlds, index.num_buckets):
        raise ValueError(
            f"bucket scores have R = {num_worlds}, B = {num_buckets}; expected those of the index, "
            f"R = {index.num_worlds}, B = {index.num_buckets}"
        )
    for name, value, most in (
        ("k", k, index.num_labels),
        ("num_best_buckets", num_best_buckets, num_buckets),
        ("min_count", min_count, num_worlds),
    ):
        if not 1 <= value <= most:
            raise ValueError(f"{name} is {value}; expected 1 to {most}")
    scores = bucket_scores.detach().float().contiguous()
    if num_queries and not float(scores.min()) >= 0:
        raise UnrankableError("a bucket score is negative or NaN; expected probabilities")
    best = scores.topk(num_best_buckets, dim=2, sorted=False).indices
    threads = max(min(torch.get_num_threads(), numba.get_num_threads(), num_queries), 1)
    shape = (threads, index.num_labels)

    def room() -> _Room:
        counts = np.zeros(shape, dtype=np.int32)
        return np.empty(shape, dtype=np.float32), counts, np.empty(shape, dtype=np.int32)

    out_scores = np.full((num_queries, k), -np.inf, dtype=np.float32)
    out_labels = np.full((num_queries, k), -1, dtype=np.int64)
    num_scored = np.zeros(num_queries, dtype=np.int64)
    with _workspace.borrow(shape, room) as (sums, counts, seen):
        buckets_kernel.answer_queries(
            scores.numpy(),
            best.numpy(),
            index.lists,
            index.offsets,
            min_count,
            sums,
            counts,
            seen,
            out_scores,
            out_labels,
            num_scored,
        )
    return BucketsResult(
        torch.from_numpy(out_scores), torch.from_numpy(out_labels), torch.from_numpy(num_scored)
    )
