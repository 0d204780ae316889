import pytest
import torch

from bench.mach.decode import filtered, label_scores_block, top_k_reference
from bench.mach.hashing import build_hash


def problem(seed=0, *, queries=7, worlds=4, buckets=12, labels=150):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(queries, worlds, buckets, generator=generator)
    return scores, build_hash("universal", labels, buckets, worlds, seed).table()


def slow_answer(scores, table, k, num_best, reduction):
    """The rule, label by label: pairs (score, label), best first."""
    best = set(scores[0].topk(num_best).indices.tolist())
    kept = [label for label in range(table.shape[1]) if int(table[0, label]) in best]
    every = label_scores_block(scores[None], table, reduction)[0]
    return sorted(((float(every[label]), label) for label in kept), key=lambda p: (-p[0], p[1]))[:k]


@pytest.mark.parametrize("reduction", ["sum", "min", "median"])
@pytest.mark.parametrize("num_best", [1, 3, 12])
def test_answers_follow_the_rule(num_best, reduction):
    scores, table = problem(num_best)
    found, labels = filtered.top_k(
        scores, table, 20, num_best_buckets=num_best, reduction=reduction
    )
    for query in range(7):
        expected = slow_answer(scores[query], table, 20, num_best, reduction)
        size = len(expected)
        assert labels[query].tolist() == [label for _, label in expected] + [-1] * (20 - size)
        # To the bit: additions in the order of the worlds.
        assert found[query, :size].tolist() == [score for score, _ in expected]
        assert torch.isneginf(found[query, size:]).all()


def test_ties_go_to_the_smaller_label():
    _, table = problem()
    _, labels = filtered.top_k(
        torch.zeros(2, 4, 12), table, 150, num_best_buckets=12, reduction="sum"
    )
    assert labels.tolist() == [list(range(150))] * 2


def test_with_all_buckets_it_is_exact():
    scores, table = problem(5)
    for reduction in ("sum", "median"):
        found = filtered.top_k(scores, table, 30, num_best_buckets=12, reduction=reduction)
        exact = top_k_reference(scores, table, 30, reduction=reduction)
        assert all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


def test_the_plain_way_answers_as_the_kernel(monkeypatch):
    monkeypatch.setattr(filtered, "_BLOCK_FLOATS", 300)  # two queries at a time
    scores, table = problem(3)
    best = scores[:, 0].topk(3, dim=1, sorted=False).indices
    plain = filtered._masked_top_k(scores, table, 20, best, "sum")
    kernel = filtered.top_k(scores, table, 20, num_best_buckets=3, reduction="sum")
    assert all(torch.equal(a, b) for a, b in zip(plain, kernel, strict=True))


@pytest.mark.parametrize(("k", "num_best"), [(0, 3), (151, 3), (5, 0), (5, 13)])
def test_impossible_sizes_are_refused(k, num_best):
    scores, table = problem()
    with pytest.raises(ValueError, match="expected 1 to"):
        filtered.top_k(scores, table, k, num_best_buckets=num_best, reduction="sum")
