from collections import Counter

import pytest
import torch

from bench.mach.decode.buckets import top_k
from bench.mach.decode.index import build_index
from bench.mach.hashing import build_hash


def slow_answer(scores, table, k, num_best, min_count):
    """The rule, label by label."""
    hits: Counter[int] = Counter()
    sums: dict[int, float] = {}
    for world in range(table.shape[0]):
        best = scores[world].topk(num_best).indices.tolist()
        for label in range(table.shape[1]):
            bucket = int(table[world, label])
            if bucket in best:
                hits[label] += 1
                sums[label] = sums.get(label, 0.0) + float(scores[world, bucket])
    needed = min_count
    while needed > 1 and sum(count >= needed for count in hits.values()) < k:
        needed -= 1
    kept = [label for label, count in hits.items() if count >= needed]
    return sorted(kept, key=lambda label: (-sums[label], label))[:k]


@pytest.mark.parametrize("num_best", [1, 3, 12])
@pytest.mark.parametrize("min_count", [1, 2, 4])
def test_answers_follow_the_rule(num_best, min_count):
    generator = torch.Generator().manual_seed(num_best)
    scores = torch.rand(9, 4, 12, generator=generator).double().softmax(-1).float()
    table = build_hash("universal", 150, 12, 4, 2).table()
    found = top_k(scores, build_index(table, 12), 6, num_best_buckets=num_best, min_count=min_count)
    for query in range(9):
        expected = slow_answer(scores[query], table, 6, num_best, min_count)
        assert [label for label in found.labels[query].tolist() if label >= 0] == expected


def test_with_all_buckets_and_no_bound_it_is_exact():
    from bench.mach.decode import top_k_reference

    scores = torch.rand(5, 3, 20, generator=torch.Generator().manual_seed(0))
    table = build_hash("balanced", 300, 20, 3, 0).table()
    found = top_k(scores, build_index(table, 20), 8, num_best_buckets=20, min_count=1)
    assert torch.equal(found.labels, top_k_reference(scores, table, 8)[1])
    assert found.num_scored.tolist() == [300] * 5


def test_places_without_a_label_are_marked():
    table = torch.tensor([[0, 1]])
    index = build_index(table, 3)
    found = top_k(
        torch.tensor([[[0.1, 0.2, 0.7]], [[0.1, 0.6, 0.3]]]),
        index,
        2,
        num_best_buckets=1,
        min_count=1,
    )
    assert found.labels.tolist() == [[-1, -1], [1, -1]]
    assert found.scores[0].tolist() == [-float("inf")] * 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 301}, "k is 301; expected 1 to 300"),
        ({"num_best_buckets": 21}, "num_best_buckets is 21"),
        ({"min_count": 4}, "min_count is 4"),
        ({"bucket_scores": torch.full((1, 3, 20), -1.0)}, "expected probabilities"),
        ({"bucket_scores": torch.full((1, 3, 20), float("nan"))}, "expected probabilities"),
        ({"bucket_scores": torch.zeros(1, 2, 20)}, "expected those of the index"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, message):
    index = build_index(build_hash("balanced", 300, 20, 3, 0).table(), 20)
    arguments = {
        "bucket_scores": torch.zeros(1, 3, 20),
        "index": index,
        "k": 5,
        "num_best_buckets": 2,
        "min_count": 1,
    }
    with pytest.raises(ValueError, match=message):
        top_k(**(arguments | change))
