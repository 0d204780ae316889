import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.mach import estimators
from bench.mach.decode import top_k_reference
from bench.mach.hashing import build_hash
from bench.nn.losses import LossKind

NUM_DRAWS = 4000


@cache
def tables(family: str, num_labels: int, num_buckets: int) -> Tensor:
    """`(NUM_DRAWS, L)` independent hash tables."""
    if family == "random":
        generator = torch.Generator().manual_seed(0)
        return torch.randint(num_buckets, (NUM_DRAWS, num_labels), generator=generator)
    return build_hash(family, num_labels, num_buckets, NUM_DRAWS, seed=1).table().long()


def estimates(family: str, probs: Tensor, num_buckets: int, num_worlds: int, label: int) -> Tensor:
    """Unbiased estimates of one label from exact bucket probabilities, `num_worlds` hashes each."""
    table = tables(family, probs.numel(), num_buckets)
    buckets = torch.zeros(NUM_DRAWS, num_buckets).scatter_add_(1, table, probs.expand_as(table))
    scores = buckets.gather(1, table[:, label : label + 1]).view(-1, num_worlds).sum(1)
    return estimators.label_scores(scores, num_worlds, num_buckets, "mean", "softmax")


def variance_ratio(
    family: str, probs: Tensor, num_buckets: int, num_worlds: int, label: int = 5
) -> float:
    """Observed variance over Σ_{k≠i} p_k² / (R(B − 1))."""
    draws = estimates(family, probs, num_buckets, num_worlds, label)
    others = float((probs**2).sum() - probs[label] ** 2)
    return float(draws.var()) * num_worlds * (num_buckets - 1) / others


def zipf(num_labels: int) -> Tensor:
    probs = 1 / torch.arange(1.0, num_labels + 1)
    return probs / probs.sum()


@pytest.mark.parametrize("family", ["random", "universal", "murmur3", "balanced"])
@pytest.mark.parametrize("num_buckets", [2, 8, 32])
def test_mean_is_unbiased(family: str, num_buckets: int) -> None:
    probs = zipf(400)
    for label in (0, 5, 300):
        draws = estimates(family, probs, num_buckets, 1, label)
        # Five standard errors; `balanced` collides (L/B − 1)/(L − 1) of the time, less than 1/B.
        bias = 1 / (probs.numel() - 1) if family == "balanced" else 0
        assert (
            abs(float(draws.mean() - probs[label]))
            < 5 * float(draws.std()) / math.sqrt(NUM_DRAWS) + bias
        )


@pytest.mark.parametrize("family", ["random", "murmur3"])
@pytest.mark.parametrize(("num_buckets", "num_worlds"), [(2, 1), (8, 1), (8, 4), (32, 1)])
@pytest.mark.parametrize("is_zipfian", [False, True])
def test_mean_has_the_variance_of_independent_hashes(
    family: str, num_buckets: int, num_worlds: int, is_zipfian: bool
) -> None:
    # 1000 to 4000 estimates: a variance scatters by √(2/1000) = 4.5 % if normal, and by up to
    # twice that where one heavy rival collides rarely; 20 % holds both and no wrong factor.
    probs = zipf(400) if is_zipfian else torch.full((400,), 1 / 400)
    assert abs(variance_ratio(family, probs, num_buckets, num_worlds) - 1) < 0.2


def test_balanced_buckets_have_less_variance_than_independent_hashes() -> None:
    # With equal loads and equal weights none is left at all; 400 = 8 · 50.
    assert variance_ratio("balanced", torch.full((400,), 1 / 400), 8, 1) < 1e-3
    assert variance_ratio("balanced", zipf(400), 8, 1) < 1


def test_pairwise_independence_does_not_bound_the_variance() -> None:
    # Neighbouring heavy ids collide together under ((a·x + b) mod p) mod B.
    assert variance_ratio("universal", zipf(400), 8, 1, label=0) > 1.5


@pytest.mark.parametrize("estimator", list(estimators.ESTIMATORS))
@pytest.mark.parametrize("loss", ["softmax", "bce"])
def test_estimator_equals_its_formula(estimator: str, loss: LossKind) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 5, 7, generator=generator)
    table = torch.randint(7, (5, 20), generator=generator)
    scores, labels = top_k_reference(
        estimators.bucket_scores(logits, loss, estimator),
        table,
        20,
        reduction=estimators.reduction(estimator),
    )
    final = estimators.label_scores(scores, 5, 7, estimator, loss)

    probs = logits.double().softmax(-1) if loss == "softmax" else logits.double().sigmoid()
    per_world = probs.gather(2, table.expand(3, -1, -1))
    mean = per_world.mean(1)
    expected = {
        "mean": 7 / 6 * (mean - 1 / 7) if loss == "softmax" else mean,
        "min": per_world.amin(1),
        "median": per_world.median(1).values,
        "logit_sum": logits.double().gather(2, table.expand(3, -1, -1)).sum(1),
        "log_mean": per_world.log().mean(1),
    }[estimator]
    torch.testing.assert_close(final.double(), expected.gather(1, labels), rtol=1e-5, atol=1e-6)


@given(labels_per_point=st.floats(0, 20), prob=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_quadratic_recovers_the_probability_from_exact_means(
    labels_per_point: float, prob: float
) -> None:
    num_buckets = 50
    # The mean that solves p̂² + M p̂ + V − B·mean = 0 at p̂ = prob.
    spare = num_buckets - labels_per_point - 1
    mean = (prob**2 + spare * prob + labels_per_point) / num_buckets
    reduced = torch.tensor(4 * mean, dtype=torch.float64)
    found = float(estimators.quadratic_scores(reduced, 4, num_buckets, labels_per_point))
    assert found == pytest.approx(prob, abs=1e-9)


def test_quadratic_refuses_more_labels_than_buckets() -> None:
    with pytest.raises(ValueError, match="num_buckets is 3"):
        estimators.quadratic_scores(torch.zeros(1), 1, 3, 2.0)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="estimator is 'max'; expected one of mean"):
        estimators.reduction("max")
    with pytest.raises(ValueError, match="loss is 'hinge'"):
        estimators.bucket_scores(torch.zeros(1, 1, 2), "hinge", "mean")  # type: ignore[arg-type]


def test_one_bucket_has_no_unbiased_estimate_and_gives_the_mean() -> None:
    assert float(estimators.label_scores(torch.tensor(3.0), 3, 1, "mean", "softmax")) == 1.0
