"""The papers' formulas of variance and of indistinguishable labels; never imports torch.

Letters as everywhere: L labels, B buckets, R worlds, p the probabilities of a point's labels.
"""

from __future__ import annotations

import math


def zipf(num_labels: int) -> list[float]:
    """Probabilities `(L,)` that fall as 1 over the rank and sum to 1.

    >>> [round(p, 3) for p in zipf(3)]
    [0.545, 0.273, 0.182]
    """
    total = math.fsum(1 / rank for rank in range(1, num_labels + 1))
    return [1 / rank / total for rank in range(1, num_labels + 1)]


def probabilities(distribution: str, num_labels: int, label: int) -> list[float]:
    """Probabilities `(L,)`: `zipf`, or all of it on the `one_rival` that follows a label."""
    if distribution == "zipf":
        return zipf(num_labels)
    return [float(place == label + 1) for place in range(num_labels)]


def variance(sum_of_squares: float, num_buckets: int, num_worlds: int) -> float:
    """Variance of a label's unbiased estimate: Σ_{k≠i} p_k² / (R(B − 1)).

    Holds for hashes under which any three labels are independent, and exact bucket probabilities.
    Two labels share a bucket with probability 1/B, which adds the other's p to the bucket's: a
    variance of p_k²(B − 1)/B² each, times the estimator's (B/(B − 1))² and 1/R.

    Args:
        sum_of_squares: Σ p_k² over the other labels.
        num_buckets: B.
        num_worlds: R.
    """
    return sum_of_squares / (num_worlds * (num_buckets - 1))


def printed_variance_bound(prob: float, num_buckets: int, num_worlds: int) -> float:
    """Bound of that variance as printed: ((B − 1)/B)² (1 − p_i) / (RB).

    A rival that holds all the mass exceeds it by (B/(B − 1))³: its first factor looks inverted.

    Source: the 2020 draft's theorem 2 (`PAPER.md` section 3.3).
    """
    return ((num_buckets - 1) / num_buckets) ** 2 * (1 - prob) / (num_worlds * num_buckets)


def expected_pairs(num_labels: int, num_buckets: int, num_worlds: int) -> float:
    """Expected number of pairs of labels that share a bucket in every world: L(L − 1)/2 · B^−R.

    Also the 2020 draft's bound of the probability that there is such a pair (its theorem 3).

    >>> expected_pairs(100, 10, 2)
    49.5
    """
    return num_labels * (num_labels - 1) / 2 / float(num_buckets) ** num_worlds


def pair_bound(num_labels: int, num_buckets: int, num_worlds: int) -> float:
    """The 2018 and NeurIPS bound of that probability: L² B^−R."""
    return num_labels**2 / float(num_buckets) ** num_worlds


def worlds_needed(num_labels: int, num_buckets: int, delta: float) -> float:
    """R from which on no pair is left with probability 1 − δ: log(L(L − 1)/(2δ)) / log B.

    Source: the 2020 draft's theorem 3.
    """
    return math.log(num_labels * (num_labels - 1) / (2 * delta)) / math.log(num_buckets)


def worlds_needed_2018(num_labels: int, num_buckets: int, delta: float) -> float:
    """The same by the earlier bound: 2 log(L/√δ) / log B.

    Source: Huang et al. 2018, Medini et al. 2019 (`PAPER.md` section 3.2).
    """
    return 2 * math.log(num_labels / math.sqrt(delta)) / math.log(num_buckets)
