"""The draft's simulation of the quadratic estimator, with all that was read off its figure."""

from __future__ import annotations

from collections.abc import Mapping

from bench.settings import DataSpec, Scalar, Trial
from bench.study import Profile
from bench.theory.published import Claim
from bench.theory.studies.grid import trial_of

_DRAFT = "2020 draft, simulation figure"
_GRID: Mapping[int, tuple[int, ...]] = {10_000: (50, 100, 500), 100_000: (100, 500, 1000)}
_DRAWS: Mapping[int, int] = {10_000: 400, 100_000: 100}
_R = 50


def figure_quadratic(profile: Profile) -> list[Trial]:
    """The mean and the quadratic estimator as the 2020 draft simulated them, number by number.

    Claim: from bucket means alone the quadratic estimator comes nearer to multi-label probabilities
    than the mean does once there are many worlds, and is worse with one; every number read off the
    draft's figure is met within the ±1 that it can be read to.
    Command: `make figure-quadratic`. Hardware: 2 CPU cores. Duration: about 4 minutes.
    Expected: all published numbers agree. 400 draws at K = 10,000 and 100 at K = 100,000 where the
    draft took 10,000: each number has its standard error. Subtracting V/B from the mean, which is
    linear, comes nearer still.
    """
    trials = []
    for num_labels, nums_buckets in _GRID.items():
        for labels_per_point in (10, 25, 50):
            for base_prob in (0.5, 0.9):
                trials += [
                    _reconstruction(num_labels, labels_per_point, base_prob, num_buckets)
                    for num_buckets in nums_buckets
                ]
    # How V / base_prob is rounded decides where it is no whole number.
    for num_labels, labels_per_point, num_buckets in ((10_000, 25, 50), (100_000, 50, 100)):
        options: dict[str, Scalar] = {"rounding": "nearest"}
        trials.append(_reconstruction(num_labels, labels_per_point, 0.9, num_buckets, **options))
    return trials


def _reconstruction(
    num_labels: int, labels_per_point: int, base_prob: float, num_buckets: int, **more: Scalar
) -> Trial:
    options: dict[str, Scalar] = {"num_worlds": _R, "num_draws": _DRAWS.get(num_labels, 4), **more}
    data = DataSpec(
        source="sparse_probabilities",
        name=f"K = {num_labels:,}",
        options={
            "num_labels": num_labels,
            "labels_per_point": labels_per_point,
            "base_prob": base_prob,
            "rounding": options.pop("rounding", "down"),
        },
    )
    return trial_of(data, "reconstruction", {"num_buckets": num_buckets, **options})


def quadratic_smoke() -> list[Trial]:
    """One setting with a quadratic estimator and one that has none, few draws."""
    return [_reconstruction(300, 5, 0.9, b, num_worlds=3, num_draws=3) for b in (5, 20)]


def read_offs() -> tuple[Claim, ...]:
    """K, V, base_prob, B, R → the mean's and the quadratic estimator's error, coarse within ±1."""
    found = {
        (10_000, 10, 0.9, 50, 50): (19.0, 7.0),
        (10_000, 10, 0.9, 100, 50): (10.0, 4.5),
        (10_000, 10, 0.9, 500, 50): (2.5, 2.0),
        (10_000, 25, 0.9, 50, 50): (39.0, 28.0),
        (10_000, 10, 0.5, 50, 50): (18.5, 5.5),
        (10_000, 10, 0.9, 50, 1): (41.0, 46.0),
        (100_000, 10, 0.9, 100, 50): (33.0, 14.0),
        (100_000, 50, 0.9, 100, 50): (126.0, 82.0),
        (100_000, 10, 0.5, 100, 50): (31.0, 10.0),
    }
    claims = []
    for (K, V, base_prob, B, R), values in found.items():
        beside: dict[str, Scalar] = {
            "num_labels": K,
            "labels_per_point": V,
            "base_prob": base_prob,
            "num_buckets": B,
            "rounding": "down",
        }
        for name, value in zip(("mean", "quadratic"), values, strict=True):
            claims.append(
                Claim(
                    label="",
                    metrics={f"{name}, R = {R}": value},
                    source=_DRAFT,
                    part=f"K = {K:,}",
                    tag="F",
                    beside=beside,
                    tolerance=1.0,
                )
            )
    return tuple(claims)
