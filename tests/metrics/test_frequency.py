from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.metrics.frequency import PROPENSITY, frequency_groups, inverse_propensity


def test_propensity_constants_are_the_published_ones():
    assert dict(PROPENSITY) == {
        "wikipedia": (0.5, 0.4),
        "amazon": (0.6, 2.6),
        "default": (0.55, 1.5),
    }


@pytest.mark.parametrize(("a", "b"), PROPENSITY.values(), ids=PROPENSITY)
def test_inverse_propensity_follows_the_formula(a, b):
    counts = [0, 1, 7, 100, 5000]
    weights = inverse_propensity(torch.tensor(counts), 20_000, a=a, b=b)
    scale = (math.log(20_000) - 1) * (b + 1) ** a
    expected = [1 + scale * math.exp(-a * math.log(count + b)) for count in counts]
    assert weights.dtype == torch.float64
    assert weights.tolist() == pytest.approx(expected, rel=1e-12)


def test_label_of_one_point_has_log_of_the_data_set_as_inverse_propensity():
    # At n_l = 1 the offset cancels: 1 + (ln N − 1) = ln N, whatever the constants.
    for a, b in PROPENSITY.values():
        weight = inverse_propensity(torch.tensor([1]), 1000, a=a, b=b)
        assert weight.item() == pytest.approx(math.log(1000))


def test_recorded_inverse_propensities_of_napkinxc():
    # napkinXC 0.7.2, A = 0.55, B = 1.5, 100 points.
    weights = inverse_propensity(torch.tensor([50, 25, 12, 1]), 100, a=0.55, b=1.5)
    assert weights.tolist() == pytest.approx(
        [1.6828083127, 1.9840282011, 2.4259661065, 4.6051701860], abs=1e-9
    )


def test_propensities_of_too_few_points_are_refused():
    with pytest.raises(ValueError, match="num_train_points is 2; expected at least 3"):
        inverse_propensity(torch.tensor([1]), 2, a=0.5, b=0.4)


def test_groups_cut_a_harmonic_distribution_at_thirds_of_its_mass():
    counts = torch.tensor([1, 1, 1, 1, 1, 1, 2, 2, 2, 6, 0])
    assert frequency_groups(counts).tolist() == [2, 2, 2, 2, 2, 2, 1, 1, 1, 0, 2]


def test_labels_of_equal_frequency_are_all_head():
    assert frequency_groups(torch.full((9,), 6)).tolist() == [0] * 9


@pytest.mark.parametrize("num_labels", [0, 1, 4])
def test_labels_never_seen_are_tail(num_labels):
    groups = frequency_groups(torch.zeros(num_labels, dtype=torch.int64))
    assert groups.tolist() == [2] * num_labels


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=60))
def test_groups_follow_frequency_and_hold_their_share(counts):
    groups = frequency_groups(torch.tensor(counts)).tolist()
    pairs = sorted(zip(counts, groups, strict=True), reverse=True)
    assert all(low >= high for (_, high), (_, low) in itertools.pairwise(pairs))
    by_count: dict[int, set[int]] = {}
    for count, group in pairs:
        by_count.setdefault(count, set()).add(group)
    assert all(len(members) == 1 for members in by_count.values())
    head = sum(count for count, group in pairs if group == 0)
    head_and_torso = sum(count for count, group in pairs if group <= 1)
    assert 3 * head >= sum(counts)
    assert 3 * head_and_torso >= 2 * sum(counts)
