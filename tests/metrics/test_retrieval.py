from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.metrics import functional, retrieval
from bench.metrics.hits import SparseLabels
from bench.metrics.torchmetric import RankingMetrics

from . import reference

NUM_LABELS = 12
KS = (1, 3, 6)
_labels = st.lists(st.integers(0, NUM_LABELS - 1), unique=True, max_size=NUM_LABELS)
_bought = st.dictionaries(st.integers(0, NUM_LABELS - 1), st.integers(1, 40), max_size=NUM_LABELS)
Purchases = Sequence[Mapping[int, float]]


@st.composite
def searches(draw: st.DrawFn) -> tuple[list[list[int]], Purchases]:
    """Predictions padded with −1 to six, and what was bought."""
    purchases = draw(st.lists(_bought, min_size=1, max_size=6))
    tops = [draw(_labels)[: KS[-1]] for _ in purchases]
    return [top + [-1] * (KS[-1] - len(top)) for top in tops], purchases


def _parts(purchases: Purchases) -> tuple[SparseLabels, Tensor]:
    targets = reference.sparse([list(bought) for bought in purchases])
    weights = [float(weight) for bought in purchases for weight in bought.values()]
    return targets, torch.tensor(weights)


def _functional(tops: Tensor, targets: SparseLabels, weights: Tensor, k: int) -> dict[str, float]:
    values = {
        "MAP": retrieval.average_precision_at_k(tops, targets, k=k),
        "MRR": retrieval.reciprocal_rank_at_k(tops, targets, k=k),
        "wR": retrieval.weighted_recall_at_k(tops, targets, weights, k=k),
        "wnDCG": retrieval.weighted_ndcg_at_k(tops, targets, weights, k=k),
        "wMAP": retrieval.average_precision_at_k(tops, targets, weights, k=k),
        "wMRR": retrieval.reciprocal_rank_at_k(tops, targets, weights, k=k),
    }
    return {name: float(value) for name, value in values.items()}


@settings(max_examples=150, deadline=None)
@given(searches())
def test_every_metric_agrees_with_the_slow_reference(
    search: tuple[list[list[int]], Purchases],
) -> None:
    tops, purchases = search
    targets, weights = _parts(purchases)
    for k in KS:
        expected = reference.search_metrics(tops, purchases, k)
        found = _functional(torch.tensor(tops), targets, weights, k)
        assert found == pytest.approx(expected, abs=1e-12)
        assert all(-1e-12 <= value <= 1 + 1e-12 for value in found.values())


@settings(max_examples=50, deadline=None)
@given(searches(), st.sets(st.integers(1, 5), max_size=3))
def test_streamed_over_any_batches_they_are_those_of_the_reference(
    search: tuple[list[list[int]], Purchases], cuts: set[int]
) -> None:
    tops, purchases = search
    metrics = RankingMetrics(KS, weighted=True)
    for start, stop in itertools.pairwise([0, *sorted(cuts), 6]):
        part = purchases[start:stop]
        if part:
            rows = [list(bought) for bought in part]
            weights = [float(weight) for bought in part for weight in bought.values()]
            batch = reference.batch_of(rows, weights)
            metrics.update(torch.tensor(tops[start:stop]), batch)
    found = {name: value.item() for name, value in metrics.compute().items()}
    plain = RankingMetrics(KS)
    plain.update(torch.tensor(tops), reference.batch_of([list(b) for b in purchases]))
    expected = {name: value.item() for name, value in plain.compute().items()}
    for k in KS:
        searched = reference.search_metrics(tops, purchases, k)
        expected |= {f"{name}@{k}": value for name, value in searched.items()}
    assert found == pytest.approx(expected, abs=1e-12)


def test_equal_weights_give_the_unweighted_metrics() -> None:
    tops, rows = torch.tensor([[3, 1, 8], [4, 2, 0], [5, 9, 7]]), [[0, 3, 8, 9], [2], []]
    targets = reference.sparse(rows)
    weights = torch.full((5,), 7.0)
    for k in (1, 2, 3):
        found = retrieval.weighted_recall_at_k(tops, targets, weights, k=k)
        assert found == pytest.approx(float(functional.recall_at_k(tops, targets, k=k)))
        found = retrieval.weighted_ndcg_at_k(tops, targets, weights, k=k)
        assert found == pytest.approx(float(functional.ndcg_at_k(tops, targets, k=k)))


@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, -2.0], [1.0, float("nan")], [1.0]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    targets = SparseLabels(torch.tensor([0, 2]), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="weight"):
        retrieval.weighted_recall_at_k(torch.tensor([[1]]), targets, torch.tensor(weights), k=1)


def test_a_batch_without_weights_is_refused_where_they_are_asked_for() -> None:
    with pytest.raises(ValueError, match="no label_weights"):
        RankingMetrics((1,), weighted=True).update(torch.tensor([[1]]), reference.batch_of([[1]]))
