"""What the papers state without data, as three studies: simulation, theorems, sizes.

Each number of theirs is a `Claim` beside the trial that it is of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from bench.methods.card import THEORY
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.grids import study
from bench.studies.published import Claim, Tag
from bench.studies.study import Profile, Study

_TRAIN = TrainSpec(trial_timeout_seconds=1800.0)


def _trial(part: str, method: str, *hidden_dims: int, **options: Scalar) -> Trial:
    encoder: Literal["mlp", "linear"] = "mlp" if hidden_dims else "linear"
    return Trial(
        data=DataSpec(source="none", name=part),
        model=ModelSpec(method=method, encoder=encoder, hidden_dims=hidden_dims, options=options),
        train=_TRAIN,
    )


def _claim(
    part: str, source: tuple[Tag, str], metrics: Mapping[str, float], beside: Any, **more: Any
) -> Claim:
    tag, text = source
    named = {"label": "", "part": part, "tag": tag, "source": text, **more}
    return Claim(metrics=metrics, beside=beside, **named)


# The simulation ----------------------------------------------------------------------------------


def figure_quadratic(profile: Profile) -> list[Trial]:
    """The mean and the quadratic estimator as the 2020 draft simulated them, number by number.

    Claim: from bucket means alone the quadratic estimator comes nearer to multi-label probabilities
    than the mean does once there are many worlds, and is worse with one; every number read off the
    draft's figure is found within the ±1 that it can be read to.
    Command: `make figure-quadratic`. Hardware: 2 CPU cores. Duration: about 4 minutes on 2 cores.
    Expected: all published numbers agree. 400 draws at K = 10,000 and 100 at K = 100,000 where the
    draft took 10,000: each number has its standard error. Subtracting V/B from the mean, which is
    linear, comes nearer still.
    """
    sizes = {10_000: (400, (50, 100, 500)), 100_000: (100, (100, 500, 1000))}
    trials = [
        _simulated(K, V, base_prob, B, num_worlds=50, num_draws=num_draws)
        for K, (num_draws, nums_buckets) in sizes.items()
        for V in (10, 25, 50)
        for base_prob in (0.5, 0.9)
        for B in nums_buckets
    ]
    # How V / base_prob is rounded decides where it is no whole number.
    nearest: dict[str, Any] = {"num_worlds": 50, "rounding": "nearest"}
    trials.append(_simulated(10_000, 25, 0.9, 50, num_draws=400, **nearest))
    trials.append(_simulated(100_000, 50, 0.9, 100, num_draws=100, **nearest))
    return trials


def _simulated(K: int, V: int, base_prob: float, B: int, **options: Scalar) -> Trial:
    sizes = {"num_labels": K, "labels_per_point": V, "base_prob": base_prob, "num_buckets": B}
    return _trial(f"K = {K:,}", "reconstruction", **{"rounding": "down", **sizes, **options})


def _quadratic_smoke() -> list[Trial]:
    """One setting with a quadratic estimator and one that has none, few draws."""
    return [_simulated(300, 5, 0.9, B, num_worlds=3, num_draws=3) for B in (5, 20)]


_DRAFT: tuple[Tag, str] = ("F", "2020 draft, simulation figure")
#: K, V, base_prob, B, R → errors of the mean and of the quadratic estimator.
_READ_OFF: Mapping[tuple[int, int, float, int, int], tuple[float, float]] = {
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


def _quadratic_claims() -> Iterator[Claim]:
    for (K, V, base_prob, B, R), (mean, quadratic) in _READ_OFF.items():
        metrics = {f"mean, R = {R}": mean, f"quadratic, R = {R}": quadratic}
        beside: dict[str, Any] = {"labels_per_point": V, "base_prob": base_prob, "num_buckets": B}
        beside["rounding"] = "down"
        yield _claim(f"K = {K:,}", _DRAFT, metrics, beside, tolerance=1.0)


# The theorems ------------------------------------------------------------------------------------

_FAMILIES = ("independent", "universal", "murmur3", "balanced", "odp")
_LAWS: Mapping[str, str] = {"zipf": "Zipf, L = 400", "one_rival": "one rival, L = 400"}
_LABEL = {"num_labels": 400, "label": 5}
_PAIRS: Mapping[tuple[int, int], str] = {
    (1000, 8): "pairs of L = 1,000, B = 8",
    (105_033, 32): "pairs of L = 105,033, B = 32",
}
_NEEDED, _PICTURE = "published settings", "3 buckets"


def figure_theory(profile: Profile) -> list[Trial]:
    """MACH's theorems against draws of real hash functions: what holds, and what does not.

    Claim: the mean is unbiased; its variance is Σp_k²/(R(B − 1)) where labels are hashed
    independently, and can exceed the bound that the 2020 draft prints; pairs of labels that no
    world tells apart vanish as B^−R; three buckets tell 9, 27 and 81 outcomes apart by 6, 9 and 12
    outputs.
    Command: `make figure-theory`. Hardware: 2 CPU cores. Duration: about 2 minutes on 2 cores.
    Expected: the printed bound fails for one rival with all the mass, eight times at B = 2; the
    derived variance holds for independent hashes and `murmur3`. `universal` and `odp`, families
    like the papers', are only pairwise independent: on Zipfian labels they vary up to 2.4 and 1.4
    times as much as derived, and leave many pairs at once in few draws; `balanced`, whose buckets
    are equal, varies less, and its mean is lower by about 1/L; so is that of `odp` where it had to
    redraw.
    """
    drawn = {"most_buckets": 32, "num_worlds": 8, "num_draws": 8192}
    trials = [_moments(law, family, drawn) for law in _LAWS for family in _FAMILIES]
    trials += [_pairs(1000, 8, family, 9, 1000) for family in _FAMILIES]
    trials += [_pairs(105_033, 32, family, 6, 30) for family in _FAMILIES]
    return [*trials, *_needed(), *_picture()]


def _moments(law: str, family: str, drawn: Mapping[str, Scalar]) -> Trial:
    named: dict[str, Scalar] = {"distribution": law, "hash_family": family}
    return _trial(_LAWS[law], "moments", **named, **_LABEL, **drawn)


def _pairs(L: int, B: int, family: str, num_worlds: int, num_draws: int) -> Trial:
    sizes = {"num_labels": L, "num_buckets": B, "num_worlds": num_worlds, "num_draws": num_draws}
    return _trial(_PAIRS[L, B], "pairs", hash_family=family, **sizes)


#: Data set → L, B, R as published, and our reckoning of R by both bounds, with its last digit.
_SETTINGS: Mapping[str, tuple[int, int, int, float, float, float]] = {
    "ODP": (105_033, 32, 25, 8.5, 8.7, 0.05),
    "ImageNet": (21_841, 512, 20, 4.2, 4.3, 0.05),
    "Wiki10-31K": (30_938, 2000, 32, 3.6, 3.6, 0.1),
    "Delicious-200K": (205_443, 5000, 32, 3.6, 3.6, 0.1),
    "Amazon-670K": (670_091, 10_000, 32, 3.6, 3.6, 0.1),
    "Amazon search": (49_460_000, 10_000, 32, 4.5, 4.6, 0.05),
}


def _needed() -> list[Trial]:
    trials = []
    for dataset, (L, B, R, *_) in _SETTINGS.items():
        sizes = {"num_labels": L, "num_buckets": B, "num_worlds": R}
        trials.append(_trial(_NEEDED, "needed", dataset=dataset, delta=1e-3, **sizes))
    return trials


def _picture() -> list[Trial]:
    return [_trial(_PICTURE, "outcomes", num_buckets=3, num_worlds=R) for R in (2, 3, 4)]


def _theory_smoke() -> list[Trial]:
    """Every measurement with few draws."""
    drawn = {"most_buckets": 8, "num_worlds": 2, "num_draws": 64}
    families = ("independent", "balanced")
    moments = [_moments(law, family, drawn) for law in _LAWS for family in families]
    return [*moments, _pairs(1000, 8, "murmur3", 3, 5), *_needed()[:1], *_picture()[:2]]


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


def variance(sum_of_squares: float, num_buckets: int, num_worlds: int) -> float:
    """Variance of a label's unbiased estimate: Σ_{k≠i} p_k² / (R(B − 1)).

    Holds for hashes under which any three labels are independent, and exact bucket probabilities.
    Two labels share a bucket with probability 1/B, which adds the other's p to the bucket's: a
    variance of p_k²(B − 1)/B² each, times the estimator's (B/(B − 1))² and 1/R.
    """
    return sum_of_squares / (num_worlds * (num_buckets - 1))


def printed_variance_bound(prob: float, num_buckets: int, num_worlds: int) -> float:
    """Bound of that variance as printed: ((B − 1)/B)² (1 − p_i) / (RB).

    A rival that holds all the mass exceeds it by (B/(B − 1))³: its first factor looks inverted.

    Source: the 2020 draft's theorem 2 (`PAPER.md` section 3.3).
    """
    return ((num_buckets - 1) / num_buckets) ** 2 * (1 - prob) / (num_worlds * num_buckets)


def prob_and_squares(law: str) -> tuple[float, float]:
    """Probability p of the label that is looked at, and Σ p² over all others."""
    if law == "one_rival":
        return 0.0, 1.0
    num_labels, label = _LABEL["num_labels"], _LABEL["label"]
    total = math.fsum(1 / rank for rank in range(1, num_labels + 1))
    probs = [1 / rank / total for rank in range(1, num_labels + 1)]
    prob = probs[label]
    return prob, sum(p * p for p in probs) - prob * prob


_PAIRWISE = "only pairs are independent: heavy labels with neighbouring ids collide together"
_EQUAL = "buckets of equal sizes: two labels share one with less than 1/B"
_REDRAWN = "hashes that leave a bucket empty are redrawn: two labels share one with less than 1/B"
#: Family → why its mean is not p, and why its variance is not the derived one.
_WHY: Mapping[str, tuple[str, str]] = {
    "universal": ("", _PAIRWISE),
    "balanced": (_EQUAL, _EQUAL),
    "odp": (_REDRAWN, _PAIRWISE),
}
_THEOREM_1: tuple[Tag, str] = ("A", "theorem 1: p_i")
_DERIVED: tuple[Tag, str] = ("I", "Σp_k²/(R(B−1))")
_THEOREM_2: tuple[Tag, str] = ("A", "draft's theorem 2: ((B−1)/B)²(1−p_i)/(RB)")
_PRODUCT: tuple[Tag, str] = ("A", "L(L−1)/2 · B^−R")
_THEOREM_3: tuple[Tag, str] = ("A", "draft's theorem 3: L(L−1)/2 · B^−R")
_OLDER: tuple[Tag, str] = ("M", "2018 and NeurIPS: L² B^−R")
_BOUNDS: tuple[Tag, str] = ("I", "reckoned from the bounds")
_ARTICLE: tuple[Tag, str] = ("M", "the article on MACH that this suite began with")


def _theory_claims() -> Iterator[Claim]:
    for law, part in _LAWS.items():
        for family in _FAMILIES:
            yield from _moment_claims(law, part, family)
    bound: dict[str, Any] = {"beside": {"method": "pairs"}, "relation": "≤", "num_errors": 4.0}
    for (L, B), part in _PAIRS.items():
        few, many = ((2, 4, 6), (7, 8, 9)) if L == 1000 else ((1, 2, 3, 4), ())
        number = {f"pairs, R = {R}": expected_pairs(L, B, R) for R in few}
        yield _claim(part, _PRODUCT, number, **bound)
        for R in many:
            share = f"share with a pair, R = {R}"
            yield _claim(part, _THEOREM_3, {share: expected_pairs(L, B, R)}, **bound)
            yield _claim(part, _OLDER, {share: pair_bound(L, B, R)}, **bound)
    for dataset, (*_, draft, first, tolerance) in _SETTINGS.items():
        needed = {"worlds needed, draft of 2020": draft, "worlds needed, 2018": first}
        yield _claim(_NEEDED, _BOUNDS, needed, {"dataset": dataset}, tolerance=tolerance)
    expected = {"expected pairs": 1.3e-28}
    yield _claim(_NEEDED, _BOUNDS, expected, {"dataset": "ODP"}, tolerance=0.05e-28)
    for R, outputs, outcomes in ((2, 6.0, 9.0), (3, 9.0, 27.0), (4, 12.0, 81.0)):
        both = {"outputs": outputs, "outcomes told apart": outcomes}
        yield _claim(_PICTURE, _ARTICLE, both, {"num_worlds": R})


def _moment_claims(law: str, part: str, family: str) -> Iterator[Claim]:
    prob, squares = prob_and_squares(law)
    common: dict[str, Any] = {"beside": {"hash_family": family}, "num_errors": 4.0}
    why_mean, why_variance = _WHY.get(family, ("", ""))
    inverted = "the printed factor looks inverted"
    for B in (2, 8, 32):
        mean = {f"mean of estimates, B = {B}": prob}
        yield _claim(part, _THEOREM_1, mean, why=why_mean, **common)
        derived = {f"variance, B = {B}, R = {R}": variance(squares, B, R) for R in (1, 8)}
        yield _claim(part, _DERIVED, derived, why=why_variance, **common)
        printed = {f"variance, B = {B}, R = 1": printed_variance_bound(prob, B, 1)}
        yield _claim(part, _THEOREM_2, printed, relation="≤", why=inverted, **common)


# Sizes -------------------------------------------------------------------------------------------


def table_claims(profile: Profile) -> list[Trial]:
    """Every size and ratio of sizes that the papers claim, counted on the suite's own models.

    Claim: the published parameter counts, bytes and reductions follow from shapes, up to rounding
    that is named where it matters.
    Command: `make table-claims`. Hardware: 2 CPU cores. Duration: about 2 minutes on 2 cores.
    Expected: of 14 published numbers 6 agree. 480×, 125×, 40 billion parameters and 160 GB agree
    with rounded numbers of labels and weights only, 320 and 0.6 GB with 8 bytes a weight, 5.77
    billion and DSSM's 200 million within 0.2 and 9 % with shapes that are inferred or from memory.
    Our own reckoning from the same shapes stands beside, and agrees.
    """
    return list(_models().values())


def _models() -> dict[str, Trial]:
    """Models and shapes of which something is claimed, each under a name of ours."""

    def counted(
        part: str, D: int, L: int, B: int = 0, R: int = 0, hidden: tuple[int, ...] = (), **more: Any
    ) -> Trial:
        of = {"of": "mach", "num_buckets": B, "num_worlds": R} if B else {"of": "full_softmax"}
        return _trial(part, "counted", *hidden, num_features=D, num_labels=L, **of, **more)

    def shape(part: str, what: str, num_rows: int, num_columns: int, **more: int) -> Trial:
        sizes = {"num_rows": num_rows, "num_columns": num_columns}
        return _trial(part, "stated", what=what, **sizes, **more)

    odp, imagenet = ("ODP", 422_713, 105_033), ("ImageNet", 6144, 21_841)
    search, texts = "Amazon search", "multi-label data sets, two hidden layers of 500"
    millions = ("Amazon-3M", 337_067, 2_812_281)
    many: dict[str, Any] = {"task": "multilabel"}
    hashed: dict[str, Any] = {"num_hashed_features": 80_000, "hidden": (2000,)}
    full, fused = "full layer, update fused", "MACH's layers, update fused"
    bits = {"32 bits": 4, "bfloat16": 2, "float8": 1}
    return {
        "ODP": counted(*odp),
        "ODP 4 × 50": counted(*odp, 4, 50),
        "ODP 32 × 25": counted(*odp, 32, 25),
        "ImageNet": counted(*imagenet),
        "ImageNet 512 × 20": counted(*imagenet, 512, 20),
        # The slides round the products up, and a full layer would see MACH's hashed input.
        "slides": counted(search, 80_000, 50_000_000, hidden=(2000,)),
        "search": counted(search, 80_000, 49_460_000, hidden=(2000,)),
        "search 10,000": counted(search, 715_000, 49_460_000, 10_000, 32, **hashed),
        "search 20,000": counted(search, 715_000, 49_460_000, 20_000, 32, **hashed),
        "DSSM": shape(search, "DSSM's token vectors", 715_000, 256),
        **{
            f"search {kind}": shape(search, full, 49_460_000, 2000, bytes_per_weight=size)
            for kind, size in bits.items()
        },
        "Wiki10-31K": counted(texts, 101_938, 30_938, 2000, 32, (500, 500), **many),
        "Delicious-200K": counted(texts, 782_585, 205_443, 5000, 32, (500, 500), **many),
        "Amazon-670K": counted(texts, 135_909, 670_091, 10_000, 32, (500, 500), **many),
        "3M of 2020": counted(*millions, 10_000, 16, (4096,), num_hashed_features=100_000, **many),
        "3M": counted(*millions, hidden=(768,), **many),
        **{
            f"3M {kind}": shape("Amazon-3M", full, 2_812_281, 768, bytes_per_weight=size)
            for kind, size in bits.items()
        },
        "3M 10,000": counted(*millions, 10_000, 16, (768,), **many),
        "3M fused": shape("Amazon-3M", fused, 10_000, 768, num_copies=16, bytes_per_weight=2),
    }


_ABSTRACT: tuple[Tag, str] = ("ABS", "arXiv 1810.04254, abstract")
_ICLR: tuple[Tag, str] = ("ABS", "ICLR 2018 submission")
_TABLE: tuple[Tag, str] = ("A", "NeurIPS slides, table 1")
_PAGE_3: tuple[Tag, str] = ("A", "NeurIPS slides, p. 3")
_PAGE_8: tuple[Tag, str] = ("A", "NeurIPS slides, p. 8")
_OURS: tuple[Tag, str] = ("I", "our earlier reckoning")
_SCRIPTS: tuple[Tag, str] = ("I", "our earlier reckoning, from the authors' scripts")
_SLIDES: tuple[Tag, str] = ("I", "100 B and 5.77 B of the slides")
_ELMO: tuple[Tag, str] = ("ABS", "arXiv 2510.11168, abstract; whole training")
_W, _BYTES, _OUTPUT, _LEAN = "parameters", "parameter bytes", "output training bytes", "bytes"
_INPUT = "input training bytes"
_ROUNDED = "the paper rounds: 422,713 × 105,033 weights are 44.4 billion"
_DOUBLES = "8 bytes a weight, later texts count 4"
_BOTH = f"{_DOUBLES}; {_ROUNDED}"
_480 = "L/(BR) is 525; 160 GB over 0.338 GB, the rounded sizes, is 473"
_125 = "L/(BR) is 131 with L = 105,033; 125 is that of 100,000 labels"
_INFERRED = "the input of 80,000 and the hidden width of 2,000 are inferred"
_TOKENS = "715,000 tokens is from memory; what else DSSM's towers hold is not stated"

Size = tuple[str, str, str, float, float, tuple[Tag, str], str]
#: Model, words of the claim, quantity, value, tolerance, source, what explains a difference.
_SIZES: tuple[Size, ...] = (
    ("ODP", "40 B parameters", _W, 40e9, 0.5e9, _ABSTRACT, _ROUNDED),
    ("ODP", "160 GB", _BYTES, 160e9, 0.5e9, _ABSTRACT, _ROUNDED),
    ("ODP 4 × 50", "0.3 GB at 9 %", _BYTES, 0.3e9, 0.05e9, _ABSTRACT, ""),
    ("ODP 4 × 50", "480× smaller", _W, 480, 5, _ABSTRACT, _480),
    ("ODP", "320 GB", _BYTES, 320e9, 5e9, _ICLR, _BOTH),
    ("ODP 4 × 50", "0.6 GB", _BYTES, 0.6e9, 0.05e9, _ICLR, _DOUBLES),
    ("ODP 32 × 25", "125×", _W, 125, 0.5, _TABLE, _125),
    ("ODP 32 × 25", "338 M parameters", _W, 338e6, 0.5e6, _OURS, ""),
    ("ODP 32 × 25", "1.35 GB", _BYTES, 1.35e9, 0.005e9, _OURS, ""),
    ("ImageNet 512 × 20", "2×", _W, 2, 0.5, _TABLE, ""),
    ("ImageNet", "134 M parameters", _W, 134e6, 0.5e6, _OURS, ""),
    ("ImageNet 512 × 20", "62.9 M parameters", _W, 62.9e6, 0.1e6, _OURS, ""),
    ("slides", "100 B parameters", "output parameters", 100e9, 0.5e9, _PAGE_3, ""),
    ("slides", "1.2 TB", "bytes with momentum", 1.2e12, 0.05e12, _PAGE_3, ""),
    ("search 10,000", "5.77 B", _W, 5.77e9, 0.005e9, _PAGE_8, _INFERRED),
    ("search 20,000", "6.4 B", _W, 6.4e9, 0.05e9, _PAGE_8, _INFERRED),
    ("search 10,000", "an order of magnitude fewer parameters", _W, 10, 0, _SLIDES, ""),
    ("DSSM", "DSSM, 200 M", _W, 200e6, 5e6, _PAGE_8, _TOKENS),
    ("search", "full layer, Adam", _OUTPUT, 1583e9, 1e9, _OURS, ""),
    ("search 10,000", "MACH's output layers, Adam", _OUTPUT, 10.2e9, 0.05e9, _OURS, ""),
    ("search 10,000", "MACH's first layers, Adam", _INPUT, 82e9, 0.5e9, _OURS, ""),
    ("search 32 bits", "32 bits, update fused", _LEAN, 396e9, 0.5e9, _OURS, ""),
    ("search bfloat16", "bfloat16, update fused", _LEAN, 198e9, 0.5e9, _OURS, ""),
    ("search float8", "float8, update fused", _LEAN, 99e9, 0.5e9, _OURS, ""),
    ("Wiki10-31K", "Wiki10-31K", _W, 1.67e9, 0.005e9, _SCRIPTS, ""),
    ("Delicious-200K", "Delicious-200K", _W, 12.6e9, 0.05e9, _SCRIPTS, ""),
    ("Amazon-670K", "Amazon-670K", _W, 2.34e9, 0.005e9, _SCRIPTS, ""),
    ("3M of 2020", "2020 configuration", _W, 7.2e9, 0.05e9, _OURS, ""),
    ("3M", "full layer, Adam", _OUTPUT, 34.6e9, 0.05e9, _OURS, ""),
    ("3M 32 bits", "32 bits, update fused", _LEAN, 8.6e9, 0.05e9, _OURS, ""),
    ("3M bfloat16", "bfloat16, update fused", _LEAN, 4.3e9, 0.05e9, _OURS, ""),
    ("3M float8", "float8, update fused", _LEAN, 2.2e9, 0.05e9, _OURS, ""),
    ("3M 10,000", "MACH's layers, Adam", _OUTPUT, 2.0e9, 0.05e9, _OURS, ""),
    ("3M fused", "MACH's layers, fused", _LEAN, 0.25e9, 0.005e9, _OURS, ""),
    ("3M bfloat16", "3 M labels in 6.6 GiB (ELMO)", _LEAN, 6.6 * 2**30, 0, _ELMO, ""),
)
#: Words of a claim → the model whose quantity is divided by this one's, or what else is claimed.
_OVER = {
    "480× smaller": "ODP",
    "125×": "ODP",
    "2×": "ImageNet",
    "an order of magnitude fewer parameters": "slides",
}
_RELATIONS: Mapping[str, Literal["≤", "≥"]] = {
    "an order of magnitude fewer parameters": "≥",
    "3 M labels in 6.6 GiB (ELMO)": "≤",
}


def _size_claims() -> Iterator[Claim]:
    models = _models()
    for name, label, quantity, value, tolerance, source, why in _SIZES:
        more: dict[str, Any] = {"label": label, "tolerance": tolerance, "why": why}
        if label in _OVER:
            more["over"] = _settings(models[_OVER[label]])
        relation = _RELATIONS.get(label, "=")
        beside = _settings(models[name])
        part = models[name].data.name
        yield _claim(part, source, {quantity: value}, beside, relation=relation, **more)


def _settings(trial: Trial) -> dict[str, Scalar]:
    """Settings that distinguish a trial from all others, as tables name them."""
    widths = "-".join(map(str, trial.model.hidden_dims)) or None
    return {"method": trial.model.method, "hidden_dims": widths, **trial.model.options}


def _claims_smoke() -> list[Trial]:
    """A full layer, a MACH and a stated shape."""
    models = _models()
    return [models[name] for name in ("ODP", "ODP 4 × 50", "3M fused")]


def _study(
    function: Callable[[Profile], list[Trial]],
    smoke: Callable[[], list[Trial]],
    claims: Iterator[Claim],
    primary_metrics: tuple[str, ...],
) -> Study:
    return study(
        function,
        smoke=smoke,
        primary_metrics=primary_metrics,
        profiles=("cpu",),
        part=lambda trial: trial.data.name,
        published=tuple(claims),
        kind=THEORY,
    )


_ERRORS = ("mean, R = 50", "quadratic, R = 50", "mean less V/B, R = 50", "mean, R = 1")
_THEOREMS = ("variance, B = 8, R = 1", "mean of estimates, B = 8", "pairs, R = 3")

STUDIES: Mapping[str, Callable[[], Study]] = {
    "figure-quadratic": lambda: _study(
        figure_quadratic, _quadratic_smoke, _quadratic_claims(), (*_ERRORS, "quadratic, R = 1")
    ),
    "figure-theory": lambda: _study(
        figure_theory,
        _theory_smoke,
        _theory_claims(),
        (*_THEOREMS, "worlds needed, draft of 2020", "outcomes told apart"),
    ),
    "table-claims": lambda: _study(
        table_claims, _claims_smoke, _size_claims(), ("parameters", "bytes")
    ),
}
