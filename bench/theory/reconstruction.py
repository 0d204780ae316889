"""Label probabilities back from bucket means: the mean against the quadratic estimator.

The 2020 draft's simulation: V / base_prob of K labels have probability base_prob, the others none;
a thousand points draw their labels; in each world the labels are OR-ed into B buckets; a bucket's
probability is its mean over the points. How far the estimates are from the probabilities, as the
L2 norm over all K labels, is averaged over draws of points and hashes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.mach.estimators import quadratic_scores
from bench.settings import Trial, derive_seed
from bench.theory.outcome import Outcome, mean_and_error, read_options

#: Estimates that are a · mean + c; the draft's "mean" is the plain one, see `Reconstruction`.
LINEAR = ("mean", "unbiased mean", "mean less V/B")
#: Ways to read the draft's quadratic estimator; the first one is what its figure shows.
QUADRATIC = (
    "quadratic",
    "quadratic clipped to [0, 1]",
    "quadratic, V counted",
    "quadratic of each world, averaged",
)


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One setting of the simulation.

    The draft leaves open how many labels V / base_prob are where it is no whole number, which
    mean is meant, and which V the quadratic estimator takes. Its figure is that of `rounding`
    "down", the plain mean of the bucket probabilities (not the unbiased one, whose theorem is for
    probabilities that sum to 1), the nominal V, and estimates that may be negative.

    Attributes:
        num_labels: K, the draft's letter for L.
        labels_per_point: V.
        base_prob: probability of each label that has one.
        num_buckets: B.
        num_worlds: R, estimates are made for 1 … R worlds.
        num_draws: independent draws of points and hashes.
        num_points: label samples a draw.
        rounding: of V / base_prob, `down` or `nearest`.

    Source: the 2020 draft's simulation figure and theorem 6 (`PAPER.md` sections 9.2, 3.6).
    """

    num_labels: int
    labels_per_point: int
    base_prob: float
    num_buckets: int
    num_worlds: int
    num_draws: int
    num_points: int = 1000
    rounding: str = "down"

    def __post_init__(self) -> None:
        if self.rounding not in ("down", "nearest"):
            raise ValueError(f"rounding is {self.rounding!r}; expected 'down' or 'nearest'")
        if not 0 < self.base_prob <= 1:
            raise ValueError(f"base_prob is {self.base_prob}; expected above 0, at most 1")
        if self.num_draws < 2:
            raise ValueError(f"num_draws is {self.num_draws}; expected at least 2")

    @property
    def num_likely(self) -> int:
        """Labels that have a probability."""
        share = self.labels_per_point / self.base_prob
        return math.floor(share) if self.rounding == "down" else round(share)

    @property
    def has_quadratic(self) -> bool:
        """Whether the quadratic estimator exists: B > V + 1."""
        return self.num_buckets > self.labels_per_point + 1


def measure(trial: Trial, seed: int) -> Outcome:
    """Errors of every estimator, averaged over the draws.

    Args:
        trial: its options are those of :class:`Reconstruction`.
        seed: of the draws; each draw has a generator of its own.
    """
    setting = read_options(Reconstruction, trial)
    draws = _draws(setting, seed)
    curves: dict[str, dict[str, Any]] = {}
    test: dict[str, float | None] = {}
    standard_errors: dict[str, float] = {}
    for name in (*LINEAR, *QUADRATIC):
        worlds = sorted(draws[0].get(name, ()))
        pooled = [mean_and_error([draw[name][r] for draw in draws]) for r in worlds]
        if pooled:
            means, errors = zip(*pooled, strict=True)
            curves[name] = {"num_worlds": worlds, "error": means, "standard_error": errors}
        known = dict(zip(worlds, pooled, strict=True))
        for r in (setting.num_worlds, 1):
            quantity = f"{name}, R = {r}"
            test[quantity] = None
            if r in known:
                test[quantity], standard_errors[quantity] = known[r]
    return Outcome(
        test=test,
        standard_errors=standard_errors,
        curves={"reconstruction": curves},
        facts={"num_labels": setting.num_labels, "num_likely": setting.num_likely},
    )


def _draws(setting: Reconstruction, seed: int) -> list[dict[str, dict[int, float]]]:
    """Errors of each draw, a draw to a thread.

    Within a draw, operations are too short to be shared: with other load on the machine, two
    threads that wait for each other at every one took 15 times the processor time of one.
    """
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(num_threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        found = list(pool.map(partial(errors_of_draw, setting, seed), range(setting.num_draws)))
    torch.set_num_threads(num_threads)
    return found


def errors_of_draw(setting: Reconstruction, seed: int, draw: int) -> dict[str, dict[int, float]]:
    """Estimator → number of worlds → L2 norm of the error, in one draw.

    The readings that only the ends of the curve are compared with are known there alone.
    """
    generator = np.random.default_rng(derive_seed("reconstruction", seed, draw))
    likely = setting.num_likely
    points = generator.random((likely, setting.num_points)) < setting.base_prob
    has_label = torch.from_numpy(points)
    shape = (setting.num_worlds, setting.num_labels)
    hashes = torch.from_numpy(generator.integers(0, setting.num_buckets, shape, dtype=np.int32))
    buckets = bucket_means(has_label, hashes[:, :likely].long(), setting.num_buckets)
    # The first labels are the likely ones: a hash knows no order.
    truth = torch.zeros(setting.num_labels, dtype=torch.float64)
    truth[:likely] = setting.base_prob
    counted = float(has_label.sum()) / setting.num_points

    sums = torch.zeros_like(truth)
    sums_of_quadratic = torch.zeros_like(truth)
    errors: dict[str, dict[int, float]] = {name: {} for name in LINEAR}
    if setting.has_quadratic:
        errors |= {name: {} for name in QUADRATIC}
    for world in range(setting.num_worlds):
        r = world + 1
        sums += buckets[world].index_select(0, hashes[world])
        for name, error in _linear_errors(setting, sums / r).items():
            errors[name][r] = error
        if not setting.has_quadratic:
            continue
        own = _quadratic(setting, buckets[world], 1)
        sums_of_quadratic += own.index_select(0, hashes[world])
        estimate = _quadratic(setting, sums, r)
        errors["quadratic"][r] = _norm(estimate - truth)
        if r in (1, setting.num_worlds):
            other = _quadratic(setting, sums, r, labels_per_point=counted)
            found = (estimate.clamp(0, 1), other, sums_of_quadratic / r)
            for name, reading in zip(QUADRATIC[1:], found, strict=True):
                errors[name][r] = _norm(reading - truth)
    return errors


def bucket_means(has_label: Tensor, hashes: Tensor, num_buckets: int) -> Tensor:
    """`(R, B)` float64: in each world, the share of points with any label of a bucket.

    Args:
        has_label: `(M, N)` bool, which of N points have each of M labels.
        hashes: `(R, M)` int64 buckets of these labels.
        num_buckets: B.
    """
    # A label's bucket holds those that share it: no (R, B, N) array, of which most would be empty.
    shares = (hashes.unsqueeze(2) == hashes.unsqueeze(1)).float()
    any_label = shares @ has_label.float() > 0
    means = torch.zeros(len(hashes), num_buckets, dtype=torch.float64)
    # Labels of one bucket write the same number.
    return means.scatter_(1, hashes, any_label.double().mean(2))


def _quadratic(
    setting: Reconstruction, sums: Tensor, num_worlds: int, labels_per_point: float | None = None
) -> Tensor:
    labels = setting.labels_per_point if labels_per_point is None else labels_per_point
    return quadratic_scores(sums, num_worlds, setting.num_buckets, labels)


def _norm(errors: Tensor) -> float:
    return float(torch.linalg.vector_norm(errors))


def _linear_errors(setting: Reconstruction, means: Tensor) -> Mapping[str, float]:
    """Error of each linear estimator a · mean + c, from the means' first two moments."""
    B, V, prob = setting.num_buckets, setting.labels_per_point, setting.base_prob
    scale = B / (B - 1)
    factors = {
        "mean": (1.0, 0.0),
        "unbiased mean": (scale, -scale / B),
        "mean less V/B": (scale, -scale * V / B),
    }
    total, squares = float(means.sum()), float((means * means).sum())
    likely = float(means[: setting.num_likely].sum())
    errors = {}
    for name, (a, c) in factors.items():
        square = a * a * squares + 2 * a * c * total + setting.num_labels * c * c
        square += setting.num_likely * (prob * prob - 2 * prob * c) - 2 * prob * a * likely
        errors[name] = math.sqrt(max(square, 0.0))
    return errors
