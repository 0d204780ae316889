"""What MACH's papers state of hashes and of sizes, measured without data: a function each.

The functions that give an `Outcome` are the targets of cards (`bench.experiments.cards`): their
keyword arguments are the options of a trial, the first one is the seed of all that they draw.
Letters as everywhere: L labels, B buckets, R worlds, V labels a point.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bench.mach.decode import top_k_reference
from bench.mach.estimators import label_scores, quadratic_scores
from bench.mach.hashing import build_hash
from bench.measure.experiment import Context
from bench.methods.arithmetic import DataSizes, parts_of, problem_of
from bench.methods.cards import check_options, method_class
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial, derive_seed

#: Buckets drawn for every label by itself; what theorems suppose, and no family that one can store.
INDEPENDENT = "independent"
#: Estimates that are a · mean + c; the draft's "mean" is the plain one.
LINEAR = ("mean", "unbiased mean", "mean less V/B")
#: Ways to read the draft's quadratic estimator; the first one is what its figure shows.
QUADRATIC = (
    "quadratic",
    "quadratic clipped to [0, 1]",
    "quadratic, V counted",
    "quadratic of each world, averaged",
)
_SHOWN_RANKS = (1, 2, 5, 10, 20, 50)
_LARGEST_CODE = 1 << 62


class Outcome(NamedTuple):
    """What a measurement found.

    Attributes:
        found: quantity → value and its standard error over draws; None where the value does not
            exist, and where nothing was drawn.
        curves: what figures show beside it, JSON values.
    """

    found: Mapping[str, tuple[float | None, float | None]]
    curves: Mapping[str, Any] = {}


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Measure what the trial's card names and return the parts of its record.

    All draws come from the trial's replicate: the same trial gives the same numbers to the bit.
    """
    context.require_cpu()
    method = trial.model.method
    measure: Callable[..., Outcome] = method_class(method, "theory")
    options: dict[str, Any] = dict(trial.model.options)
    if trial.model.hidden_dims:
        options["hidden_dims"] = trial.model.hidden_dims
    seed = derive_seed("theory", trial.replicate)
    try:
        inspect.signature(measure).bind(seed, **options)
    except TypeError as error:
        raise SettingsError(f"options of {method!r}: {error}") from error
    context.phase("measure")
    found, curves = measure(seed, **options)
    errors = {name: error for name, (_, error) in found.items() if error is not None}
    return {
        "data": {name: options[name] for name in ("num_labels",) if name in options},
        "test": {name: value for name, (value, _) in found.items()},
        "estimators": {"standard_errors": errors, "curves": dict(curves)},
    }


def _refuse_unless(is_right: bool, what: str, value: object, expected: str) -> None:
    if not is_right:
        raise SettingsError(f"{what} is {value!r}; expected {expected}")


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent draws, two or more, and its standard error.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (count - 1) / count)


def variance_and_error(values: Sequence[float]) -> tuple[float, float]:
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


def hash_table(family: str, sizes: tuple[int, int, int], seed: int) -> Tensor:
    """`(R, L)` int64 buckets of L labels, B buckets and R hashes, by a family or `independent`."""
    if family != INDEPENDENT:
        return build_hash(family, *sizes, seed).table().long()
    num_labels, num_buckets, num_hashes = sizes
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(num_buckets, (num_hashes, num_labels), generator=generator)


# Label probabilities back from bucket means ------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """One setting of the 2020 draft's simulation.

    V / base_prob of K labels have probability base_prob, the others none; a thousand points draw
    their labels; in each world the labels are OR-ed into B buckets; a bucket's probability is its
    mean over the points. How far the estimates are from the probabilities, as the L2 norm over all
    K labels, is averaged over draws of points and hashes.

    The draft leaves open how many labels V / base_prob are where it is no whole number, which
    mean is meant, and which V the quadratic estimator takes. Its figure is that of `rounding`
    "down", the plain mean of the bucket probabilities (not the unbiased one, whose theorem is for
    probabilities that sum to 1), the nominal V, and estimates that may be negative.

    Source: the 2020 draft's simulation figure and theorem 6 (`PAPER.md` sections 9.2, 3.6).
    """

    num_labels: int
    labels_per_point: int
    base_prob: float
    num_buckets: int
    num_worlds: int
    num_points: int = 1000
    rounding: str = "down"

    def __post_init__(self) -> None:
        known = ("down", "nearest")
        _refuse_unless(self.rounding in known, "rounding", self.rounding, "'down' or 'nearest'")
        _refuse_unless(0 < self.base_prob <= 1, "base_prob", self.base_prob, "0 to 1, not 0")

    @property
    def num_likely(self) -> int:
        """Labels that have a probability."""
        share = self.labels_per_point / self.base_prob
        return math.floor(share) if self.rounding == "down" else round(share)

    def errors_of_draw(self, seed: int, draw: int) -> dict[str, dict[int, float]]:
        """Estimator → number of worlds → L2 norm of the error, in one draw.

        The quadratic estimator exists where B > V + 1. Its readings that only the ends of the
        curve are compared with are known there alone.
        """
        B, V = self.num_buckets, self.labels_per_point
        generator = np.random.default_rng(derive_seed("reconstruction", seed, draw))
        likely = self.num_likely
        points = generator.random((likely, self.num_points)) < self.base_prob
        has_label = torch.from_numpy(points)
        shape = (self.num_worlds, self.num_labels)
        hashes = torch.from_numpy(generator.integers(0, B, shape, dtype=np.int32))
        buckets = bucket_means(has_label, hashes[:, :likely].long(), B)
        # The first labels are the likely ones: a hash knows no order.
        truth = torch.zeros(self.num_labels, dtype=torch.float64)
        truth[:likely] = self.base_prob
        counted = float(has_label.sum()) / self.num_points

        sums, sums_of_quadratic = torch.zeros_like(truth), torch.zeros_like(truth)
        errors: dict[str, dict[int, float]] = {}
        for world in range(self.num_worlds):
            r = world + 1
            sums += buckets[world].index_select(0, hashes[world])
            found = self._linear_errors(sums / r)
            if B > V + 1:
                own = quadratic_scores(buckets[world], 1, B, V)
                sums_of_quadratic += own.index_select(0, hashes[world])
                estimate = quadratic_scores(sums, r, B, V)
                readings = [estimate]
                if r in (1, self.num_worlds):
                    other = quadratic_scores(sums, r, B, counted)
                    readings += [estimate.clamp(0, 1), other, sums_of_quadratic / r]
                norms = [float(torch.linalg.vector_norm(each - truth)) for each in readings]
                found |= dict(zip(QUADRATIC, norms, strict=False))
            for name, error in found.items():
                errors.setdefault(name, {})[r] = error
        return errors

    def _linear_errors(self, means: Tensor) -> dict[str, float]:
        """Error of each linear estimator a · mean + c, from the means' first two moments."""
        B, V, prob = self.num_buckets, self.labels_per_point, self.base_prob
        scale = B / (B - 1)
        factors = ((1.0, 0.0), (scale, -scale / B), (scale, -scale * V / B))
        total, squares = float(means.sum()), float((means * means).sum())
        likely = float(means[: self.num_likely].sum())
        errors = {}
        for name, (a, c) in zip(LINEAR, factors, strict=True):
            square = a * a * squares + 2 * a * c * total + self.num_labels * c * c
            square += self.num_likely * (prob * prob - 2 * prob * c) - 2 * prob * a * likely
            errors[name] = math.sqrt(max(square, 0.0))
        return errors


def bucket_means(has_label: Tensor, hashes: Tensor, num_buckets: int) -> Tensor:
    """`(R, B)` float64: in each world, the share of N points with any of M labels of a bucket.

    Args:
        has_label: `(M, N)` bool.
        hashes: `(R, M)` int64.
        num_buckets: B.
    """
    # A label's bucket holds those that share it: no (R, B, N) array, of which most would be empty.
    shares = (hashes.unsqueeze(2) == hashes.unsqueeze(1)).float()
    any_label = shares @ has_label.float() > 0
    means = torch.zeros(len(hashes), num_buckets, dtype=torch.float64)
    # Labels of one bucket write the same number.
    return means.scatter_(1, hashes, any_label.double().mean(2))


def reconstruction(seed: int, *, num_draws: int, **options: Any) -> Outcome:
    """Errors of every estimator in a :class:`Simulation`, averaged over draws."""
    _refuse_unless(num_draws >= 2, "num_draws", num_draws, "at least 2")
    try:
        setting = Simulation(**options)
    except TypeError as error:
        raise SettingsError(f"options of 'reconstruction': {error}") from error
    # A draw to a thread: within a draw, operations are too short to be shared. With other load on
    # the machine, threads that wait for each other took 15 times the processor time of one.
    num_threads = torch.get_num_threads()
    with ThreadPoolExecutor(num_threads, initializer=lambda: torch.set_num_threads(1)) as pool:
        draws = list(pool.map(partial(setting.errors_of_draw, seed), range(num_draws)))
    torch.set_num_threads(num_threads)

    found: dict[str, tuple[float | None, float | None]] = {}
    curves: dict[str, dict[str, Any]] = {}
    for name in (*LINEAR, *QUADRATIC):
        worlds = sorted(draws[0].get(name, ()))
        pooled = {r: mean_and_error([draw[name][r] for draw in draws]) for r in worlds}
        for r in (setting.num_worlds, 1):
            found[f"{name}, R = {r}"] = pooled.get(r, (None, None))
        if pooled:
            means, errors = zip(*pooled.values(), strict=True)
            curves[name] = {"num_worlds": worlds, "error": means, "standard_error": errors}
    return Outcome(found, {"reconstruction": curves})


# Mean and variance of the estimate ---------------------------------------------------------------


def moments(
    seed: int,
    *,
    distribution: str,
    num_labels: int,
    label: int,
    hash_family: str,
    most_buckets: int,
    num_worlds: int,
    num_draws: int,
) -> Outcome:
    """Mean of a label's estimate and its variance, for one world and for R, at each B.

    B is 2, 8, 32 … up to the most; at each B so many hashes are drawn. Bucket probabilities are
    exact: what a perfectly trained world would say.
    """
    is_multiple = num_draws % num_worlds == 0 and num_draws >= 4 * num_worlds
    _refuse_unless(is_multiple, "num_draws", num_draws, "a multiple of num_worlds, 4 or more times")
    probs = probabilities(distribution, num_labels, label)
    found: dict[str, tuple[float | None, float | None]] = {}
    means: dict[str, Any] = {}
    for B in (B for i in range(16) if (B := 2 * 4**i) <= most_buckets):
        own = derive_seed("moments", seed, B)
        hashes = hash_table(hash_family, (num_labels, B, num_draws), own)
        scores = bucket_probabilities(probs, hashes, B)
        alone = _estimates(scores[:, label], 1, B)
        together = _estimates(scores[:, label].view(-1, num_worlds).sum(1), num_worlds, B)
        found[f"mean of estimates, B = {B}"] = mean_and_error(alone)
        found[f"variance, B = {B}, R = 1"] = variance_and_error(alone)
        found[f"variance, B = {B}, R = {num_worlds}"] = variance_and_error(together)
        ranks = [rank for rank in _SHOWN_RANKS if rank <= num_labels]
        pooled = [mean_and_error(_estimates(scores[:, rank - 1], 1, B)) for rank in ranks]
        means[str(B)] = {
            "prob": [probs[rank - 1] for rank in ranks],
            "mean": [mean for mean, _ in pooled],
            "standard_error": [error for _, error in pooled],
        }
    return Outcome(found, {"means": means} if distribution == "zipf" else {})


def probabilities(distribution: str, num_labels: int, label: int) -> list[float]:
    """Probabilities `(L,)`: 1 over the rank, or all of it on the `one_rival` that follows a label.

    >>> [round(p, 3) for p in probabilities("zipf", 3, 0)]
    [0.545, 0.273, 0.182]
    """
    known = distribution in ("zipf", "one_rival")
    _refuse_unless(known, "distribution", distribution, "'zipf' or 'one_rival'")
    _refuse_unless(0 <= label < num_labels - 1, "label", label, f"0 to {num_labels - 2}")
    if distribution == "one_rival":
        return [float(index == label + 1) for index in range(num_labels)]
    total = math.fsum(1 / rank for rank in range(1, num_labels + 1))
    return [1 / rank / total for rank in range(1, num_labels + 1)]


def bucket_probabilities(probs: Sequence[float], hashes: Tensor, num_buckets: int) -> Tensor:
    """`(num_draws, L)` float64: probability of each label's bucket under each hash."""
    buckets = torch.zeros(len(hashes), num_buckets, dtype=torch.float64)
    each = torch.tensor(probs, dtype=torch.float64).expand(hashes.shape)
    return buckets.scatter_add_(1, hashes, each).gather(1, hashes)


def _estimates(sums: Tensor, num_worlds: int, num_buckets: int) -> list[float]:
    found: list[float] = label_scores(sums, num_worlds, num_buckets, "mean", "softmax").tolist()
    return found


# Labels that no world tells apart ----------------------------------------------------------------


def pairs(
    seed: int,
    *,
    num_labels: int,
    hash_family: str,
    num_buckets: int,
    num_worlds: int,
    num_draws: int,
) -> Outcome:
    """Pairs of labels that no world tells apart, and share of draws with any, for 1 … R worlds."""
    is_code = num_buckets**num_worlds <= _LARGEST_CODE
    _refuse_unless(is_code, "num_worlds", num_worlds, "B to the power of it below 2^62")
    _refuse_unless(num_draws >= 2, "num_draws", num_draws, "at least 2")
    counts = []
    for draw in range(num_draws):
        sizes = (num_labels, num_buckets, num_worlds)
        hashes = hash_table(hash_family, sizes, derive_seed("pairs", seed, draw))
        counts.append(count_pairs(hashes, num_buckets))
    found: dict[str, tuple[float | None, float | None]] = {}
    for r, of_draws in enumerate(zip(*counts, strict=True), start=1):
        found[f"pairs, R = {r}"] = mean_and_error(of_draws)
        found[f"share with a pair, R = {r}"] = mean_and_error([n > 0 for n in of_draws])
    return Outcome(found)


def count_pairs(hashes: Tensor, num_buckets: int) -> list[int]:
    """Pairs of labels of `(R, L)` hashes that share a bucket in each of the first r = 1 … R."""
    codes = torch.zeros_like(hashes[0])
    found = []
    for buckets in hashes:
        codes = codes * num_buckets + buckets
        sizes = codes.unique(return_counts=True)[1]
        found.append(int((sizes * (sizes - 1) // 2).sum()))
    return found


def outcomes(seed: int, *, num_buckets: int, num_worlds: int) -> Outcome:
    """How many of B^R outcomes the decode tells apart, by how many outputs.

    Each is given a code of its own, its worlds are sure of their buckets, and it counts if it
    alone scores highest.
    """
    B, R = num_buckets, num_worlds
    labels = torch.arange(B**R)
    codes = torch.stack([labels // B**world % B for world in range(R)])
    scores = torch.nn.functional.one_hot(codes.t(), B).float()
    best, first = top_k_reference(scores, codes.to(torch.uint8), min(2, B**R))
    is_alone = (best[:, 0] > best[:, -1]) | torch.tensor(B**R == 1)
    num_distinct = int((is_alone & (first[:, 0] == labels)).sum())
    return _undrawn({"outputs": scores[0].numel(), "outcomes told apart": num_distinct})


def _undrawn(found: Mapping[str, float]) -> Outcome:
    """Of what was counted, not drawn."""
    return Outcome({name: (float(value), None) for name, value in found.items()})


def needed(
    seed: int, *, dataset: str, num_labels: int, num_buckets: int, num_worlds: int, delta: float
) -> Outcome:
    """R by which a pair is left with probability δ at most, and pairs expected at the R in use.

    Source: the 2020 draft's theorem 3; Huang et al. 2018, Medini et al. 2019 (`PAPER.md` section
    3.2).
    """
    twice, digits = num_labels * (num_labels - 1), math.log(num_buckets)
    found = {
        "worlds needed, draft of 2020": math.log(twice / (2 * delta)) / digits,
        "worlds needed, 2018": 2 * math.log(num_labels / math.sqrt(delta)) / digits,
        "expected pairs": twice / 2 / float(num_buckets) ** num_worlds,
    }
    return _undrawn(found)


# Sizes -------------------------------------------------------------------------------------------


def counted(
    seed: int,
    *,
    of: str,
    num_features: int,
    num_labels: int,
    task: str = "multiclass",
    hidden_dims: tuple[int, ...] = (),
    **options: Any,
) -> Outcome:
    """Parameters and bytes of a method's model at some sizes; nothing is allocated.

    Bytes of training are those of plain Adam: parameters, dense gradients and two moments.
    """
    known = task in ("multiclass", "multilabel")
    _refuse_unless(known, "task", task, "'multiclass' or 'multilabel'")
    linear = ModelSpec(method=of, encoder="linear", options=options)
    model = replace(linear, encoder="mlp", hidden_dims=hidden_dims) if hidden_dims else linear
    check_options(model)
    trial = Trial(data=DataSpec(source="none", name=""), model=model, train=TrainSpec())
    sizes = DataSizes(
        num_features=num_features,
        num_labels=num_labels,
        task=task,
        num_train_points=1,
        entries_per_point=1.0,
    )
    weights = parts_of(problem_of(trial, sizes)).weights
    total = sum(each.size for each in weights)
    output = sum(
        each.size for each in weights if not (hidden_dims and each.name.startswith("encoder."))
    )
    parameters = sum(each.num_bytes for each in weights)
    moments = 2 * sum(each.num_bytes for each in weights if each.is_trained)
    kept = [parameters, moments // 2, moments]
    found = {
        "parameters": total,
        "parameter bytes": kept[0],
        "bytes with momentum": kept[0] + kept[2],
        "training bytes": sum(kept),
        "output parameters": output,
        "output training bytes": sum(kept) * output / total,
        "input training bytes": sum(kept) * (1 - output / total),
    }
    return _undrawn(found)


def stated(
    seed: int,
    *,
    what: str,
    num_rows: int,
    num_columns: int,
    num_copies: int = 1,
    bytes_per_weight: int = 4,
) -> Outcome:
    """Weights and bytes of a matrix that no class of the suite holds, by its stated shape."""
    weights = num_rows * num_columns * num_copies
    return _undrawn({"parameters": weights, "bytes": weights * bytes_per_weight})
