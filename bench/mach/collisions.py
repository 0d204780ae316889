"""What a hash table does to labels: loads of buckets and labels that no world tells apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CollisionFacts:
    """Counts over an `(R, L)` table.

    Attributes:
        num_indistinguishable_pairs: pairs of labels that share a bucket in every world.
        expected_indistinguishable_pairs: the same for a random table, C(L, 2) · B^−R.
        num_shared_codes: distinct rows of R buckets that more than one label has.
        num_empty_buckets: over all worlds.
        min_bucket_load: labels in the emptiest bucket of any world.
        max_bucket_load: labels in the fullest bucket of any world.
    """

    num_indistinguishable_pairs: int
    expected_indistinguishable_pairs: float
    num_shared_codes: int
    num_empty_buckets: int
    min_bucket_load: int
    max_bucket_load: int


def count_collisions(table: Tensor, num_buckets: int) -> CollisionFacts:
    """Exact counts for a `(R, L)` table of buckets in [0, B).

    Groups of labels with equal codes are refined world by world; a label alone in its group is
    done, so that the work shrinks B-fold a world.
    """
    num_worlds, num_labels = table.shape
    loads = torch.stack([torch.bincount(row.long(), minlength=num_buckets) for row in table])
    open_labels = torch.arange(num_labels)
    groups = torch.zeros(num_labels, dtype=torch.int64)
    sizes = torch.tensor([num_labels])
    for row in table:
        codes = groups * num_buckets + row[open_labels].long()
        _, groups, counts = torch.unique(codes, return_inverse=True, return_counts=True)
        is_shared = counts[groups] > 1
        open_labels, groups = open_labels[is_shared], groups[is_shared]
        sizes = counts[counts > 1]
        if not open_labels.numel():
            break
    sizes = sizes[sizes > 1]
    log_expected = -num_worlds * math.log(num_buckets)
    return CollisionFacts(
        num_indistinguishable_pairs=int((sizes * (sizes - 1) // 2).sum()),
        expected_indistinguishable_pairs=math.comb(num_labels, 2) * math.exp(log_expected),
        num_shared_codes=sizes.numel(),
        num_empty_buckets=int((loads == 0).sum()),
        min_bucket_load=int(loads.min()),
        max_bucket_load=int(loads.max()),
    )


def num_worlds_to_distinguish(num_labels: int, num_buckets: int, failure: float) -> float:
    """Worlds that tell all pairs of labels apart with probability 1 − `failure` or more.

    R = log(L(L − 1) / (2·failure)) / log B, by a union bound over pairs of a 2-universal hash.

    Source: the 2020 draft's theorem 3 (`PAPER.md` section 3.2).

    Raises:
        ValueError: B < 2, or `failure` is not in (0, 1).
    """
    if num_buckets < 2 or not 0 < failure < 1:
        raise ValueError(
            f"num_buckets is {num_buckets}, failure {failure}; expected at least 2, and 0 to 1"
        )
    pairs = math.comb(num_labels, 2)
    return math.log(pairs / failure) / math.log(num_buckets) if pairs else 0.0
