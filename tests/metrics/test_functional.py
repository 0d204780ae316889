from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.metrics import functional
from bench.metrics.hits import SparseLabels, find_hits

from . import reference

NUM_LABELS = 12
PLAIN = {
    "precision_at_k": reference.precision,
    "authors_precision_at_k": reference.authors_precision,
    "recall_at_k": reference.recall,
    "ndcg_at_k": reference.ndcg,
}
PROPENSITY_SCORED = {
    "psprecision_at_k": reference.psprecision,
    "psndcg_at_k": reference.psndcg,
}

# Test data of napkinXC (python/tests/test_metrics.py), with the values given there for k = 1, 2, 3.
PUBLISHED_TARGETS = [[1, 2, 3], [3, 4, 7]]
PUBLISHED_TOPS = [[1, 2, 4], [7, 6, 3]]
PUBLISHED = {
    "precision_at_k": [1, 3 / 4, 2 / 3],
    "recall_at_k": [1 / 3, 1 / 2, 2 / 3],
    "ndcg_at_k": [1, 0.8065736, 0.73463936],
}

# Our input, values of napkinXC 0.7.2 for k = 1 … 5. pyxclib publishes no worked numbers; napkinXC's
# own tests hold it to pyxclib on EURLex-4K. One point has no labels, another more than k.
MIXED_TARGETS = [[0, 3, 5, 6, 8, 9], [2], [], [1, 4], [0, 2, 7, 9]]
MIXED_TOPS = [[3, 1, 8, 0, 2], [4, 2, 0, 1, 3], [0, 1, 2, 3, 4], [5, 4, 6, 1, 9], [9, 3, 2, 8, 0]]
MIXED_WEIGHTS = [
    1.6828083127,
    1.7688937354,
    1.9840282011,
    2.4259661065,
    2.9701944021,
    3.6093112882,
    3.9960934232,
    4.605170186,
    4.605170186,
    5.7746614506,
]
NAPKINXC = {
    "precision_at_k": [0.4, 0.4, 0.4, 0.4, 0.36],
    "recall_at_k": [0.0833333333, 0.3833333333, 0.4666666667, 0.6, 0.65],
    "ndcg_at_k": [0.4, 0.4488153893, 0.4851237477, 0.5242236739, 0.5346498069],
    "psprecision_at_k": [0.4969009571, 0.4786579213, 0.5900279957, 0.5985224648, 0.6041273110],
    "psndcg_at_k": [0.4969009571, 0.4908823521, 0.5552374770, 0.5732923081, 0.5849355669],
}

_labels = st.lists(st.integers(0, NUM_LABELS - 1), unique=True, max_size=NUM_LABELS)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int]:
    """Predictions padded with -1 to one width, targets, and a k."""
    num_points = draw(st.integers(1, 6))
    width = draw(st.integers(1, NUM_LABELS))
    tops = []
    for _ in range(num_points):
        top = draw(_labels)[:width]
        tops.append(top + [-1] * (width - len(top)))
    targets = [draw(_labels) for _ in range(num_points)]
    return tops, targets, draw(st.integers(1, width))


def _score(name: str, tops: Tensor, targets: SparseLabels, k: int, weights: Tensor) -> float:
    score = getattr(functional, name)
    arguments = (tops, targets) if name in PLAIN else (tops, targets, weights)
    return float(score(*arguments, k=k))


@settings(max_examples=150, deadline=None)
@given(problems(), st.lists(st.floats(1.0, 50.0), min_size=NUM_LABELS, max_size=NUM_LABELS))
def test_every_metric_agrees_with_the_slow_reference(
    problem: tuple[list[list[int]], list[list[int]], int], weights: list[float]
) -> None:
    tops, targets, k = problem
    expected = {name: slow(tops, targets, k) for name, slow in PLAIN.items()}
    expected |= {name: slow(tops, targets, weights, k) for name, slow in PROPENSITY_SCORED.items()}
    for name, value in expected.items():
        weight_tensor = torch.tensor(weights, dtype=torch.float64)
        score = _score(name, torch.tensor(tops), reference.sparse(targets), k, weight_tensor)
        assert score == pytest.approx(value, abs=1e-12), name
        assert -1e-12 <= score <= 1 + 1e-12, name


@pytest.mark.parametrize(("name", "values"), PUBLISHED.items())
def test_published_example_of_napkinxc(name: str, values: list[float]) -> None:
    tops, targets = torch.tensor(PUBLISHED_TOPS), reference.sparse(PUBLISHED_TARGETS)
    scores = [_score(name, tops, targets, k, torch.ones(8)) for k in (1, 2, 3)]
    assert scores == pytest.approx(values, abs=1e-7)


@pytest.mark.parametrize(("name", "values"), NAPKINXC.items())
def test_recorded_values_of_napkinxc(name: str, values: list[float]) -> None:
    tops, targets = torch.tensor(MIXED_TOPS), reference.sparse(MIXED_TARGETS)
    weights = torch.tensor(MIXED_WEIGHTS, dtype=torch.float64)
    scores = [_score(name, tops, targets, k, weights) for k in range(1, 6)]
    assert scores == pytest.approx(values, abs=1e-9)


def test_propensity_scored_precision_by_hand() -> None:
    # Point 0 finds its light label (2 of at most 8), point 1 its only one (4 of 4): 6 / 12, whereas
    # the mean of the two points' own ratios would be 5 / 8.
    targets = reference.sparse([[0, 1], [2]])
    score = functional.psprecision_at_k(
        torch.tensor([[0], [2]]), targets, torch.tensor([2.0, 8.0, 4.0]), k=1
    )
    assert score.item() == 0.5


def test_perfect_predictions_score_one_where_labels_allow_it() -> None:
    tops, targets = torch.tensor([[4, 1, 0], [3, 0, 1]]), reference.sparse([[1, 4], [3]])
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    scores = {name: _score(name, tops, targets, 3, weights) for name in PLAIN | PROPENSITY_SCORED}
    assert scores.pop("precision_at_k") == pytest.approx(0.5)
    assert scores == pytest.approx(dict.fromkeys(scores, 1.0))


@pytest.mark.parametrize("name", [*PLAIN, *PROPENSITY_SCORED])
def test_points_without_labels_count_as_zero(name: str) -> None:
    tops = torch.tensor([[0], [1]])
    some = _score(name, tops, reference.sparse([[0], []]), 1, torch.ones(2))
    none = _score(name, tops, reference.sparse([[], []]), 1, torch.ones(2))
    assert some == (1.0 if name in PROPENSITY_SCORED else 0.5)
    assert none == 0.0


def test_authors_precision_is_never_below_precision() -> None:
    tops, targets = torch.tensor(MIXED_TOPS), reference.sparse(MIXED_TARGETS)
    for k in range(1, 6):
        ours = functional.precision_at_k(tops, targets, k=k)
        assert functional.authors_precision_at_k(tops, targets, k=k) >= ours


def test_padding_misses_even_when_its_key_would_meet_a_neighbour() -> None:
    # Point 1's padding -1 has the key of point 0's label 4, the largest one.
    hits = find_hits(torch.tensor([[0], [-1]]), reference.sparse([[4], [1]]))
    assert not hits.any()


def test_order_of_targets_and_dtype_of_predictions_do_not_matter() -> None:
    tops = torch.tensor([[9, 2], [0, 5]])
    expected = [[True, False], [False, True]]
    assert find_hits(tops, reference.sparse([[9, 1, 4], [5, 3]])).tolist() == expected
    assert find_hits(
        tops.int().T.contiguous().T, reference.sparse([[1, 4, 9], [3, 5]])
    ).tolist() == (expected)


def test_hits_at_the_scale_of_the_largest_data_sets_do_not_overflow() -> None:
    label = 100_000_000 - 1
    targets = SparseLabels(torch.arange(1001), torch.full((1000,), label))
    hits = find_hits(torch.full((1000, 1), label, dtype=torch.int32), targets)
    assert hits.all()


@pytest.mark.parametrize(
    ("tops", "targets", "k", "message"),
    [
        ([[0, 1]], [[0]], 3, "k is 3; expected 1 to K = 2"),
        ([[0, 1]], [[0]], 0, "k is 0"),
        ([[0, 1]], [[0], [1]], 1, r"expected \(2,\) for 1 predicted points"),
        ([[1, 2, 1]], [[0]], 1, "point 0 of the batch predicts label 1 twice"),
        ([[1, 2]], [[0, 0]], 1, "same target label twice"),
        ([[1, 2]], [[-4]], 1, "target label -4 is negative"),
        ([[0.5, 2.0]], [[0]], 1, "expected integers"),
        ([0, 1], [[0]], 1, r"expected \(N, K\)"),
    ],
)
def test_impossible_arguments_are_refused_by_name(
    tops: list[list[int]], targets: list[list[int]], k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        functional.precision_at_k(torch.tensor(tops), reference.sparse(targets), k=k)


def test_no_points_are_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        functional.recall_at_k(torch.zeros(0, 5, dtype=torch.int64), reference.sparse([]), k=5)


def test_offsets_that_do_not_end_at_the_ids_are_refused() -> None:
    targets = SparseLabels(torch.tensor([0, 3]), torch.tensor([1]))
    with pytest.raises(ValueError, match="offsets end at 3"):
        functional.recall_at_k(torch.tensor([[0]]), targets, k=1)


@pytest.mark.parametrize(("tops", "targets"), [([[3]], [[0]]), ([[0]], [[3]])])
def test_labels_without_a_propensity_are_refused(
    tops: list[list[int]], targets: list[list[int]]
) -> None:
    with pytest.raises(ValueError, match="label 3 is out of range; expected ids below 3"):
        functional.psprecision_at_k(
            torch.tensor(tops), reference.sparse(targets), torch.ones(3), k=1
        )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_on_a_gpu_equal_those_on_the_cpu() -> None:
    tops, targets = torch.tensor(MIXED_TOPS), reference.sparse(MIXED_TARGETS)
    weights = torch.tensor(MIXED_WEIGHTS)
    on_gpu = SparseLabels(targets.offsets.cuda(), targets.ids.cuda())
    for name in PLAIN | PROPENSITY_SCORED:
        expected = _score(name, tops, targets, 5, weights)
        score = _score(name, tops.cuda(), on_gpu, 5, weights.cuda())
        assert score == pytest.approx(expected, abs=1e-12), name
