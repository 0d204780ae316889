import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.experiments import theory
from bench.experiments.theory import Simulation
from bench.mach.decode import top_k_reference
from bench.mach.estimators import label_scores
from bench.settings import SettingsError
from bench.studies import theory as stated
from tests.theory import reference


def values(outcome):
    return {name: value for name, (value, _) in outcome.found.items()}


# The simulation ----------------------------------------------------------------------------------


@given(
    num_labels=st.integers(8, 25),
    labels_per_point=st.integers(1, 6),
    base_prob=st.sampled_from([0.5, 0.9, 1.0]),
    num_buckets=st.integers(2, 12),
    rounding=st.sampled_from(["down", "nearest"]),
    seed=st.integers(0, 5),
)
@settings(max_examples=25, deadline=None)
def test_errors_of_a_draw_are_those_of_the_slow_form(
    num_labels, labels_per_point, base_prob, num_buckets, rounding, seed
):
    setting = Simulation(
        num_labels=max(num_labels, 2 * labels_per_point + 1),
        labels_per_point=labels_per_point,
        base_prob=base_prob,
        num_buckets=num_buckets,
        num_worlds=3,
        num_points=20,
        rounding=rounding,
    )
    found = setting.errors_of_draw(seed, 1)
    slow = reference.errors(setting, seed, 1)
    assert set(found) == set(slow)
    for name, errors in found.items():
        ends = errors.items()
        assert {1, 3} <= set(errors)
        for r, error in ends:
            assert error == pytest.approx(slow[name][r], rel=1e-9, abs=1e-7), (name, r)


def test_buckets_hold_the_union_of_their_labels_not_the_sum():
    has_label = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    means = theory.bucket_means(has_label, torch.tensor([[0, 0, 2], [1, 2, 1]]), 3)
    assert means.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.75, 0.5]]


def test_number_of_likely_labels_is_rounded_as_asked():
    common = {"num_labels": 100, "labels_per_point": 25, "base_prob": 0.9}
    sizes = {"num_buckets": 50, "num_worlds": 1}
    assert Simulation(**common, **sizes).num_likely == 27
    assert Simulation(**common, **sizes, rounding="nearest").num_likely == 28


def test_quadratic_is_a_gap_where_it_does_not_exist():
    sizes = {"num_labels": 40, "labels_per_point": 4, "base_prob": 0.5, "num_buckets": 5}
    outcome = theory.reconstruction(0, num_worlds=2, num_draws=2, num_points=10, **sizes)
    assert outcome.found["quadratic, R = 2"] == (None, None)
    assert values(outcome)["mean, R = 2"] > 0
    assert "quadratic" not in outcome.curves["reconstruction"]


def test_a_published_point_is_met():
    # A read-off of the draft's figure at its own size: K = 10,000, V = 10, base_prob = 0.9, B = 50.
    sizes = {"num_labels": 10_000, "labels_per_point": 10, "base_prob": 0.9, "num_buckets": 50}
    found = values(theory.reconstruction(0, num_worlds=50, num_draws=4, **sizes))
    assert found["mean, R = 50"] == pytest.approx(19, abs=1)
    assert found["quadratic, R = 50"] == pytest.approx(7, abs=1)
    assert found["mean, R = 1"] == pytest.approx(41, abs=2)
    assert found["quadratic, R = 1"] == pytest.approx(46, abs=2)


# Mean and variance -------------------------------------------------------------------------------


def moments_of(distribution):
    options = {"hash_family": "independent", "most_buckets": 32, "num_worlds": 4}
    sizes = {"num_labels": 400, "label": 5, "num_draws": 4096}
    return theory.moments(7, distribution=distribution, **options, **sizes).found


@pytest.mark.parametrize("law", ["zipf", "one_rival"])
def test_variance_formula_holds_within_its_standard_error(law):
    found = moments_of(law)
    prob, squares = stated.prob_and_squares(law)
    for B in (2, 8, 32):
        for R in (1, 4):
            value, error = found[f"variance, B = {B}, R = {R}"]
            derived = stated.variance(squares, B, R)
            assert 0 < error < 0.2 * derived
            assert abs(value - derived) < 4 * error, (B, R)
        value, error = found[f"mean of estimates, B = {B}"]
        assert abs(value - prob) < 4 * error


@pytest.mark.parametrize("law", ["zipf", "one_rival"])
def test_what_is_stated_is_of_the_probabilities_that_are_drawn_from(law):
    probs = theory.probabilities(law, 400, 5)
    assert sum(probs) == pytest.approx(1)
    assert probs[5] == stated.prob_and_squares(law)[0]
    squares = sum(p * p for label, p in enumerate(probs) if label != 5)
    assert stated.prob_and_squares(law)[1] == pytest.approx(squares)


def test_printed_bound_fails_for_one_rival_by_its_own_factor():
    found = moments_of("one_rival")
    for B in (2, 8):
        bound = stated.printed_variance_bound(0.0, B, 1)
        ratio = found[f"variance, B = {B}, R = 1"][0] / bound
        assert ratio == pytest.approx((B / (B - 1)) ** 3, rel=0.15)
        assert stated.variance(1.0, B, 1) / bound == pytest.approx((B / (B - 1)) ** 3)


@pytest.mark.parametrize("family", ["independent", "universal", "murmur3", "balanced", "odp"])
def test_bucket_probabilities_are_those_of_a_loop(family):
    probs = theory.probabilities("zipf", 20, 2)
    hashes = theory.hash_table(family, (20, 4, 6), 1)
    assert hashes.shape == (6, 20)
    found = theory.bucket_probabilities(probs, hashes, 4)
    for buckets, scores in zip(hashes.tolist(), found.tolist(), strict=True):
        for bucket, score in zip(buckets, scores, strict=True):
            mass = sum(p for p, other in zip(probs, buckets, strict=True) if other == bucket)
            assert score == pytest.approx(mass)


def test_standard_error_of_a_variance_is_its_scatter():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(400, 500, generator=generator, dtype=torch.float64) ** 3
    found = [theory.variance_and_error(sample.tolist()) for sample in samples]
    scatter = torch.tensor([value for value, _ in found]).std()
    typical = math.sqrt(sum(error * error for _, error in found) / len(found))
    assert typical == pytest.approx(float(scatter), rel=0.25)


# Pairs and outcomes ------------------------------------------------------------------------------


@given(
    table=st.integers(2, 6).flatmap(
        lambda n: st.lists(
            st.lists(st.integers(0, 2), min_size=n, max_size=n), min_size=1, max_size=4
        )
    )
)
@settings(deadline=None)
def test_pairs_are_counted_as_by_comparing_all(table):
    found = theory.count_pairs(torch.tensor(table), 3)
    assert found == [reference.pairs(table, r) for r in range(1, len(table) + 1)]


def test_pairs_fall_as_expected():
    sizes = {"num_labels": 200, "num_buckets": 4, "num_worlds": 4, "num_draws": 200}
    found = theory.pairs(3, hash_family="independent", **sizes).found
    for r in range(1, 5):
        value, error = found[f"pairs, R = {r}"]
        assert abs(value - stated.expected_pairs(200, 4, r)) < 4 * error
        assert found[f"share with a pair, R = {r}"][0] <= 1


def test_bounds_of_worlds_undo_the_bounds_of_pairs():
    # Worlds needed by either form leave δ, by that form's own bound.
    for L, B in ((1000, 8), (105_033, 32), (670_091, 10_000)):
        sizes = {"num_labels": L, "num_buckets": B, "num_worlds": 3, "delta": 1e-3}
        found = values(theory.needed(0, dataset="x", **sizes))
        draft, first = found["worlds needed, draft of 2020"], found["worlds needed, 2018"]
        assert stated.expected_pairs(L, B, draft) == pytest.approx(1e-3)
        assert stated.pair_bound(L, B, first) == pytest.approx(1e-3)
        assert found["expected pairs"] == stated.expected_pairs(L, B, 3)


@pytest.mark.parametrize(
    ("num_worlds", "outputs", "outcomes"), [(2, 6, 9), (3, 9, 27), (4, 12, 81)]
)
def test_three_buckets_tell_outcomes_apart_at_linear_cost(num_worlds, outputs, outcomes):
    found = values(theory.outcomes(0, num_buckets=3, num_worlds=num_worlds))
    assert found == {"outputs": outputs, "outcomes told apart": outcomes}


CODES = {"A": (1, 6, 3, 1), "B": (1, 2, 4, 6), "C": (3, 4, 1, 6), "D": (6, 2, 4, 1)}
TABLES = [{1: 4, 3: 2, 6: 1}, {2: 2, 4: 2, 6: 3}, {1: 2, 3: 3, 4: 2}, {1: 4, 6: 3}]


def test_count_min_sketch_of_the_poster_is_machs_decode():
    # The stream ABCAACD, 4 hashes into 7 buckets: the poster's tables, and by them each letter's
    # count as the smallest of its buckets.
    stream = "ABCAACD"
    assert reference.count_min(stream, CODES) == TABLES
    letters = sorted(CODES)
    table = torch.tensor([[CODES[letter][row] for letter in letters] for row in range(4)])
    scores = torch.zeros(1, 4, 7)
    for letter in stream:
        scores[0, torch.arange(4), torch.tensor(CODES[letter])] += 1
    assert scores[0].tolist() == [[row.get(b, 0) for b in range(7)] for row in TABLES]
    smallest, order = top_k_reference(scores, table.to(torch.uint8), 4, reduction="min")
    sketched = {letters[i]: int(n) for i, n in zip(order[0], smallest[0], strict=True)}
    assert sketched == {"A": 3, "B": 2, "C": 2, "D": 1}  # B shares a bucket with D, or A, or C
    # As probabilities, the mean over worlds; unbiased, the letters' estimates need not be ordered.
    sums, order = top_k_reference(scores / 7, table.to(torch.uint8), 4)
    assert letters[int(order[0, 0])] == "A"
    best = float(label_scores(sums[0, 0], 4, 7, "mean", "softmax"))
    assert best == pytest.approx(7 / 6 * ((4 + 3 + 3 + 4) / 28 - 1 / 7))


# Sizes -------------------------------------------------------------------------------------------


def test_parameters_of_a_linear_layer_are_counted():
    data = {"num_features": 7, "num_labels": 11}
    full = values(theory.counted(0, of="full_softmax", **data))
    assert full["parameters"] == 7 * 11 + 11
    assert full["parameter bytes"] == 4 * full["parameters"]
    assert full["bytes with momentum"] == 12 * full["parameters"]
    assert full["training bytes"] == 16 * full["parameters"]
    mach = values(theory.counted(0, of="mach", num_buckets=3, num_worlds=5, **data))
    assert mach["parameters"] == mach["output parameters"] == 5 * (7 * 3 + 3)


def test_hidden_layers_are_told_from_output_layers():
    data = {"num_features": 100, "num_labels": 50, "task": "multilabel"}
    options = {"of": "mach", "num_buckets": 6, "num_worlds": 2, "num_hashed_features": 10}
    found = values(theory.counted(0, hidden_dims=(4,), **data, **options))
    assert found["output parameters"] == 2 * (4 * 6 + 6)
    assert found["parameters"] == 2 * (10 * 4 + 4) + 2 * (4 * 6 + 6)
    assert found["output training bytes"] == 16 * 2 * (4 * 6 + 6)
    assert found["input training bytes"] == pytest.approx(16 * 2 * (10 * 4 + 4))


def test_values_that_a_measurement_cannot_take_are_refused():
    sizes = {"num_labels": 40, "num_buckets": 5, "num_worlds": 2, "num_draws": 2}
    simulated = {**sizes, "labels_per_point": 4, "base_prob": 0.5}
    with pytest.raises(SettingsError, match="rounding is 'up'"):
        theory.reconstruction(0, rounding="up", **simulated)
    with pytest.raises(SettingsError, match="num_draws is 1; expected at least 2"):
        theory.pairs(0, hash_family="murmur3", **{**sizes, "num_draws": 1})
    with pytest.raises(SettingsError, match="num_worlds is 40; expected B to the power of it"):
        theory.pairs(0, hash_family="murmur3", **{**sizes, "num_worlds": 40})
    with pytest.raises(SettingsError, match="distribution is 'flat'"):
        theory.probabilities("flat", 10, 1)
    with pytest.raises(SettingsError, match="label is 9; expected 0 to 8"):
        theory.probabilities("zipf", 10, 9)
