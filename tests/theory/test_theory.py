import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mach.decode import top_k_reference
from bench.mach.estimators import label_scores
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from bench.theory import bounds, moments, pairs, reconstruction, sizes
from bench.theory.moments import Moments
from bench.theory.reconstruction import Reconstruction
from tests.theory import reference


def trial_of(method, data=None, hidden_dims=(), **options):
    encoder = "mlp" if hidden_dims else "linear"
    return Trial(
        data=DataSpec(source="labels", name="x", options=data or {}),
        model=ModelSpec(method=method, encoder=encoder, hidden_dims=hidden_dims, options=options),
        train=TrainSpec(),
    )


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
    setting = Reconstruction(
        num_labels=max(num_labels, 2 * labels_per_point + 1),
        labels_per_point=labels_per_point,
        base_prob=base_prob,
        num_buckets=num_buckets,
        num_worlds=3,
        num_draws=2,
        num_points=20,
        rounding=rounding,
    )
    found = reconstruction.errors_of_draw(setting, seed, 1)
    slow = reference.errors(setting, seed, 1)
    assert set(found) == set(slow)
    for name, errors in found.items():
        ends = errors.items()
        assert {1, 3} <= set(errors)
        for r, error in ends:
            assert error == pytest.approx(slow[name][r], rel=1e-9, abs=1e-7), (name, r)


def test_buckets_hold_the_union_of_their_labels_not_the_sum():
    has_label = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.bool)
    means = reconstruction.bucket_means(has_label, torch.tensor([[0, 0, 2], [1, 2, 1]]), 3)
    assert means.tolist() == [[0.75, 0.0, 0.25], [0.0, 0.75, 0.5]]


def test_number_of_likely_labels_is_rounded_as_asked():
    common = {"num_labels": 100, "labels_per_point": 25, "base_prob": 0.9}
    sizes = {"num_buckets": 50, "num_worlds": 1, "num_draws": 2}
    assert Reconstruction(**common, **sizes).num_likely == 27
    assert Reconstruction(**common, **sizes, rounding="nearest").num_likely == 28


def test_quadratic_is_a_gap_where_it_does_not_exist():
    options = {"num_buckets": 5, "num_worlds": 2, "num_draws": 2, "num_points": 10}
    data = {"num_labels": 40, "labels_per_point": 4, "base_prob": 0.5}
    found = reconstruction.measure(trial_of("reconstruction", data, **options), 0)
    assert found.test["quadratic, R = 2"] is None
    assert found.test["mean, R = 2"] > 0
    assert "quadratic" not in found.curves["reconstruction"]


def test_a_published_point_is_met():
    # A read-off of the draft's figure at its own size: K = 10,000, V = 10, base_prob = 0.9, B = 50.
    data = {"num_labels": 10_000, "labels_per_point": 10, "base_prob": 0.9}
    options = {"num_buckets": 50, "num_worlds": 50, "num_draws": 4}
    found = reconstruction.measure(trial_of("reconstruction", data, **options), 0).test
    assert found["mean, R = 50"] == pytest.approx(19, abs=1)
    assert found["quadratic, R = 50"] == pytest.approx(7, abs=1)
    assert found["mean, R = 1"] == pytest.approx(41, abs=2)
    assert found["quadratic, R = 1"] == pytest.approx(46, abs=2)


# Mean and variance -------------------------------------------------------------------------------


def moments_of(family, distribution="zipf", draws=4096):
    data = {"distribution": distribution, "num_labels": 60, "label": 3}
    options = {"hash_family": family, "most_buckets": 32, "num_worlds": 4, "num_draws": draws}
    return moments.measure(trial_of("moments", data, **options), 7)


@pytest.mark.parametrize("distribution", ["zipf", "one_rival"])
def test_variance_formula_holds_within_its_standard_error(distribution):
    found = moments_of("independent", distribution)
    squares = found.facts["sum_of_squares_of_others"]
    probs = bounds.probabilities(distribution, 60, 3)
    assert squares == pytest.approx(sum(p * p for i, p in enumerate(probs) if i != 3))
    for B in (2, 8, 32):
        for R in (1, 4):
            name = f"variance, B = {B}, R = {R}"
            error = found.standard_errors[name]
            derived = bounds.variance(squares, B, R)
            assert 0 < error < 0.2 * derived
            assert abs(found.test[name] - derived) < 4 * error, (name, distribution)
        mean = f"mean of estimates, B = {B}"
        assert abs(found.test[mean] - probs[3]) < 4 * found.standard_errors[mean]


def test_printed_bound_fails_for_one_rival_by_its_own_factor():
    found = moments_of("independent", "one_rival")
    for B in (2, 8):
        bound = bounds.printed_variance_bound(0.0, B, 1)
        ratio = found.test[f"variance, B = {B}, R = 1"] / bound
        assert ratio == pytest.approx((B / (B - 1)) ** 3, rel=0.15)
        assert bounds.variance(1.0, B, 1) / bound == pytest.approx((B / (B - 1)) ** 3)


@pytest.mark.parametrize("family", ["independent", "universal", "murmur3", "balanced", "odp"])
def test_bucket_probabilities_are_those_of_a_loop(family):
    setting = Moments(
        distribution="zipf",
        num_labels=20,
        label=2,
        hash_family=family,
        most_buckets=4,
        num_worlds=1,
        num_draws=6,
    )
    found = moments.bucket_probabilities(setting, 4, 1)
    assert found.shape == (6, 20)
    for scores in found:
        # Labels of a bucket have its probability, no less than the sum of theirs.
        groups: dict[float, float] = {}
        for score, p in zip(scores.tolist(), setting.probs, strict=True):
            groups[round(score, 9)] = groups.get(round(score, 9), 0.0) + p
        assert len(groups) <= 4
        assert sum(groups.values()) == pytest.approx(1)
        for score, mass in groups.items():
            assert score == pytest.approx(mass, abs=1e-8)


def test_standard_error_of_a_variance_is_its_scatter():
    generator = torch.Generator().manual_seed(0)
    samples = torch.randn(400, 500, generator=generator, dtype=torch.float64) ** 3
    found = [moments.variance_and_error(sample.tolist()) for sample in samples]
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
    found = pairs.count_pairs(torch.tensor(table), 3)
    assert found == [reference.pairs(table, r) for r in range(1, len(table) + 1)]


def test_pairs_fall_as_expected():
    options = {"hash_family": "independent", "num_buckets": 4, "num_worlds": 4, "num_draws": 200}
    found = pairs.measure(trial_of("pairs", {"num_labels": 200}, **options), 3)
    for r in range(1, 5):
        name = f"pairs, R = {r}"
        expected = bounds.expected_pairs(200, 4, r)
        assert abs(found.test[name] - expected) < 4 * found.standard_errors[name]


def test_bounds_of_worlds_undo_the_bounds_of_pairs():
    # Worlds needed by either form leave δ, by that form's own bound.
    for L, B in ((1000, 8), (105_033, 32), (670_091, 10_000)):
        needed, first = bounds.worlds_needed(L, B, 1e-3), bounds.worlds_needed_2018(L, B, 1e-3)
        assert L * (L - 1) / 2 * B**-needed == pytest.approx(1e-3)
        assert L**2 * B**-first == pytest.approx(1e-3)
        assert bounds.pair_bound(L, B, 3) > bounds.expected_pairs(L, B, 3)


@pytest.mark.parametrize(
    ("num_worlds", "outputs", "outcomes"), [(2, 6, 9), (3, 9, 27), (4, 12, 81)]
)
def test_three_buckets_tell_outcomes_apart_at_linear_cost(num_worlds, outputs, outcomes):
    trial = trial_of("outcomes", num_buckets=3, num_worlds=num_worlds)
    found = pairs.measure_outcomes(trial, 0).test
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
    full = sizes.count(trial_of("counted", data, of="full_softmax"), 0).test
    assert full["parameters"] == 7 * 11 + 11
    assert full["parameter bytes"] == 4 * full["parameters"]
    assert full["bytes with momentum"] == 12 * full["parameters"]
    assert full["training bytes"] == 16 * full["parameters"]
    mach = sizes.count(trial_of("counted", data, of="mach", num_buckets=3, num_worlds=5), 0).test
    assert mach["parameters"] == mach["output parameters"] == 5 * (7 * 3 + 3)


def test_hidden_layers_are_told_from_output_layers():
    data = {"num_features": 100, "num_labels": 50, "task": "multilabel"}
    options = {"of": "mach", "num_buckets": 6, "num_worlds": 2, "num_hashed_features": 10}
    found = sizes.count(trial_of("counted", data, hidden_dims=(4,), **options), 0).test
    assert found["output parameters"] == 2 * (4 * 6 + 6)
    assert found["parameters"] == 2 * (10 * 4 + 4) + 2 * (4 * 6 + 6)
    assert found["output training bytes"] == 16 * 2 * (4 * 6 + 6)
    assert found["input training bytes"] == pytest.approx(16 * 2 * (10 * 4 + 4))


def test_options_that_a_measurement_has_not_are_refused():
    with pytest.raises(SettingsError, match=r"options of 'pairs'.*'colour'"):
        pairs.measure(trial_of("pairs", colour="red"), 0)
    options = {"num_buckets": 5, "num_worlds": 2, "num_draws": 2, "rounding": "up"}
    data = {"num_labels": 40, "labels_per_point": 4, "base_prob": 0.5}
    with pytest.raises(SettingsError, match="rounding is 'up'"):
        reconstruction.measure(trial_of("reconstruction", data, **options), 0)
    with pytest.raises(SettingsError, match="sizes of 'x'"):
        sizes.count(trial_of("counted", {"width": 3}, of="mach"), 0)
