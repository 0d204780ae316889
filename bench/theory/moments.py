"""Mean and variance of MACH's estimate of a label's probability, over draws of real hashes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.mach.estimators import label_scores
from bench.mach.hashing import build_hash
from bench.settings import Trial, derive_seed
from bench.theory.bounds import probabilities
from bench.theory.outcome import Outcome, mean_and_error, read_options

#: Buckets drawn for every label by itself; what theorems suppose, and no family that one can store.
INDEPENDENT = "independent"
_SHOWN_RANKS = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, kw_only=True)
class Moments:
    """One distribution, one family of hashes.

    Bucket probabilities are exact: what a perfectly trained world would say.

    Attributes:
        distribution: `zipf`, or `one_rival`: one other label has all of the probability.
        num_labels: L.
        label: whose estimate is looked at; with `zipf` also its rank, counted from 0.
        hash_family: of `bench.mach.hashing`, or `independent`.
        most_buckets: measured are B = 2, 8, 32 … up to this one.
        num_worlds: R of the second variance, beside R = 1; divides the draws.
        num_draws: hashes drawn for each B.
    """

    distribution: str
    num_labels: int
    label: int
    hash_family: str
    most_buckets: int
    num_worlds: int
    num_draws: int

    def __post_init__(self) -> None:
        if self.distribution not in ("zipf", "one_rival"):
            raise ValueError(
                f"distribution is {self.distribution!r}; expected 'zipf' or 'one_rival'"
            )
        if not 0 <= self.label < self.num_labels - 1:
            raise ValueError(f"label is {self.label}; expected 0 to {self.num_labels - 2}")
        if self.num_draws % self.num_worlds or self.num_draws < 4 * self.num_worlds:
            raise ValueError(
                f"num_draws is {self.num_draws}; expected a multiple of num_worlds = "
                f"{self.num_worlds}, at least four of them"
            )

    @property
    def probs(self) -> list[float]:
        """Probability of each label."""
        return probabilities(self.distribution, self.num_labels, self.label)

    @property
    def nums_buckets(self) -> list[int]:
        """Each B."""
        return [2 * 4**i for i in range(16) if 2 * 4**i <= self.most_buckets]


def measure(trial: Trial, seed: int) -> Outcome:
    """Mean of the estimate and its variance, for one world and for R, at each B.

    Args:
        trial: its options are those of :class:`Moments`.
        seed: of the hashes.
    """
    setting = read_options(Moments, trial)
    probs, label, R = setting.probs, setting.label, setting.num_worlds
    found: dict[str, tuple[float, float]] = {}
    curves: dict[str, Any] = {"variances": {"num_buckets": [], "variance": []}}
    for B in setting.nums_buckets:
        scores = bucket_probabilities(setting, B, seed)
        alone = _estimates(scores[:, label], 1, B)
        together = _estimates(scores[:, label].view(-1, R).sum(1), R, B)
        found[f"mean of estimates, B = {B}"] = mean_and_error(alone)
        found[f"variance, B = {B}, R = 1"] = variance_and_error(alone)
        found[f"variance, B = {B}, R = {R}"] = variance_and_error(together)
        curves["variances"]["num_buckets"].append(B)
        curves["variances"]["variance"].append(found[f"variance, B = {B}, R = 1"][0])
        if setting.distribution == "zipf":
            curves.setdefault("means", {})[str(B)] = _means(scores, probs, B)
    return Outcome(
        test={name: value for name, (value, _) in found.items()},
        standard_errors={name: error for name, (_, error) in found.items()},
        curves=curves,
        facts={
            "num_labels": setting.num_labels,
            "prob": probs[label],
            "sum_of_squares_of_others": math.fsum(p * p for p in probs) - probs[label] ** 2,
        },
    )


def _means(scores: Tensor, probs: Sequence[float], num_buckets: int) -> dict[str, list[float]]:
    """Mean estimates of some labels beside their probabilities."""
    ranks = [rank for rank in _SHOWN_RANKS if rank <= len(probs)]
    pooled = [mean_and_error(_estimates(scores[:, rank - 1], 1, num_buckets)) for rank in ranks]
    return {
        "prob": [probs[rank - 1] for rank in ranks],
        "mean": [mean for mean, _ in pooled],
        "standard_error": [error for _, error in pooled],
    }


def bucket_probabilities(setting: Moments, num_buckets: int, seed: int) -> Tensor:
    """`(num_draws, L)` float64: probability of each label's bucket under each hash."""
    probs = torch.tensor(setting.probs, dtype=torch.float64)
    shape = (setting.num_draws, setting.num_labels)
    seed = derive_seed("moments", seed, num_buckets)
    if setting.hash_family == INDEPENDENT:
        generator = torch.Generator().manual_seed(seed)
        table = torch.randint(num_buckets, shape, generator=generator)
    else:
        sizes = (setting.num_labels, num_buckets, setting.num_draws)
        table = build_hash(setting.hash_family, *sizes, seed).table().long()
    buckets = torch.zeros(setting.num_draws, num_buckets, dtype=torch.float64)
    return buckets.scatter_add_(1, table, probs.expand(shape)).gather(1, table)


def _estimates(sums: Tensor, num_worlds: int, num_buckets: int) -> list[float]:
    found: list[float] = label_scores(sums, num_worlds, num_buckets, "mean", "softmax").tolist()
    return found


def variance_and_error(values: list[float]) -> tuple[float, float]:
    """Variance of n independent draws, three or more, and its standard error from their moments.

    The error is √((m₄ − s⁴ (n − 3)/(n − 1)) / n).

    >>> variance_and_error([1.0, -1.0, 1.0, -1.0])[0]
    1.3333333333333333
    """
    count = len(values)
    mean = math.fsum(values) / count
    spread = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    fourth = math.fsum((value - mean) ** 4 for value in values) / count
    square = (fourth - spread * spread * (count - 3) / (count - 1)) / count
    return spread, math.sqrt(max(square, 0.0))
