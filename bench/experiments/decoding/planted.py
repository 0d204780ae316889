"""Planted bucket scores: worlds that know a few labels of each query, more or less surely."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from bench.experiments.decoding.problems import Problem, describe
from bench.mach.hashing import build_hash
from bench.settings import SettingsError, derive_seed

#: Labels that a query's worlds agree on, and their shares of the planted probability.
_SHARES = (0.5, 0.125, 0.125, 0.125, 0.125)
_LOGIT_NOISE = 1.0
# Worlds are not equally sure of a label.
_BUMP_NOISE = 0.5


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
    num_labels: int,
    num_worlds: int,
    num_buckets: int,
    peak: float,
    num_queries: int = 1024,
    hash_family: str = "balanced",
    seed: int = 0,
) -> Problem:
    """Log-softmax of Gaussian logits with bumps in the buckets of a query's own labels.

    Args:
        data_dir: unused; nothing is read.
        cache_dir: unused.
        num_labels: L.
        num_worlds: R.
        num_buckets: B.
        peak: probability, about, that a world gives to the buckets of the query's five labels
            together, half of it to the first one's; 0 plants nothing (the worst case of a decode
            that prunes).
        num_queries: N.
        hash_family: see `bench.mach.hashing`.
        seed: of labels, logits and hashes.

    Raises:
        SettingsError: the peak is not in [0, 1).
    """
    if not 0 <= peak < 1:
        raise SettingsError(f"peak is {peak}; expected 0 up to, not including, 1")
    hashes = build_hash(hash_family, num_labels, num_buckets, num_worlds, seed)
    table = hashes.table()
    generator = torch.Generator().manual_seed(derive_seed("planted scores", seed))
    labels = torch.randint(num_labels, (num_queries, len(_SHARES)), generator=generator)
    scores = torch.empty(num_queries, num_worlds, num_buckets)
    block = max((1 << 24) // (num_worlds * num_buckets), 1)
    for start in range(0, num_queries, block):
        logits = scores[start : start + block]
        logits.normal_(0, _LOGIT_NOISE, generator=generator)
        if peak > 0:
            _plant(logits, table, labels[start : start + block], peak, generator)
        logits -= logits.logsumexp(dim=2, keepdim=True)
    return Problem(scores, hashes, table, describe(scores, num_labels))


def _plant(
    logits: Tensor, table: Tensor, labels: Tensor, peak: float, generator: torch.Generator
) -> None:
    """Raise the logits `(n, R, B)` of the labels' buckets, in index."""
    background = logits.logsumexp(dim=2)
    odds = peak / (1 - peak)
    # The least first, so that labels that share a bucket leave it with the larger bump.
    for index in reversed(range(len(_SHARES))):
        noise = _BUMP_NOISE * torch.randn(background.shape, generator=generator)
        bump = background + math.log(odds * _SHARES[index]) + noise
        buckets = table[:, labels[:, index]].T.long().unsqueeze(2)
        logits.scatter_(2, buckets, bump.unsqueeze(2))
