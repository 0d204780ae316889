import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mach import decode
from bench.mach.decode import label_scores_block, pruned, pruned_kernel, top_k_reference
from bench.mach.decode.index import build_index
from bench.mach.hashing import build_hash
from tests.mach.problems import KINDS, SUMS, Drawn, assert_same, drawn_problems


@given(
    problem=drawn_problems(num_queries=[1, 2, 5], most_worlds=19, most_buckets=200, **SUMS),
    num_immediate=st.sampled_from([0, 1, 20, pruned_kernel.NUM_IMMEDIATE]),
)
@settings(max_examples=300, deadline=None)
def test_search_equals_reference(problem: Drawn, num_immediate: int) -> None:
    scores, table = problem.build()
    index = build_index(table.to(torch.uint8), problem.num_buckets)
    found = pruned.search(scores, index, problem.k, num_immediate=num_immediate)
    assert bool(found.is_proven.all())
    assert bool((found.num_scored <= found.num_encountered).all())
    assert_same((found.scores, found.labels), problem.expected())


def planted(num_labels: int, num_buckets: int, num_worlds: int, num_queries: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    table = build_hash("balanced", num_labels, num_buckets, num_worlds, seed).table()
    logits = torch.randn(num_queries, num_worlds, num_buckets, generator=generator)
    labels = torch.randint(num_labels, (num_queries,), generator=generator)
    logits.scatter_(2, table[:, labels].T.long().unsqueeze(2), 12.0)
    return logits.log_softmax(-1), table, labels


def test_peaked_scores_are_proven_after_few_labels():
    scores, table, labels = planted(20_000, 500, 8, 6)
    found = pruned.search(scores, build_index(table, 500), 5)
    assert bool(found.is_proven.all())
    assert torch.equal(found.labels[:, 0], labels)
    assert int(found.num_encountered.max()) < 20_000 // 5
    assert bool((found.num_read <= found.num_encountered).all())


def test_labels_encountered_once_are_hardly_ever_scored_on_peaked_scores():
    scores, table, labels = planted(200_000, 500, 16, 6)
    index = build_index(table, 500)
    found = pruned.search(scores, index, 1)
    assert torch.equal(found.labels[:, 0], labels)
    assert int(found.num_encountered.min()) > 500
    assert int(found.num_scored.max()) < 1.5 * pruned_kernel.NUM_IMMEDIATE
    eager = pruned.search(scores, index, 1, num_immediate=200_000)
    assert torch.equal(eager.num_scored, eager.num_encountered)
    assert_same((found.scores, found.labels), (eager.scores, eager.labels))


@pytest.mark.parametrize("elsewhere", [-1.0, -2.0, float("-inf")])
def test_a_label_that_one_world_alone_puts_first_is_found(elsewhere):
    # Every other world has it in a bucket as poor as most: it is met once, and must not be left.
    num_worlds, num_buckets = 8, 400
    table = build_hash("balanced", 40_000, num_buckets, num_worlds, 0).table()
    scores = torch.rand(6, num_worlds, num_buckets, generator=torch.Generator().manual_seed(4))
    scores -= 1.0
    for query in range(6):
        label = 5000 * query + 77
        scores[query].scatter_(1, table[:, label].long().unsqueeze(1), elsewhere)
        scores[query, query, table[query, label].long()] = 9.0
    found = pruned.search(scores, build_index(table, num_buckets), 5, num_immediate=0)
    assert_same((found.scores, found.labels), top_k_reference(scores, table, 5))


def labels_encountered(limit):
    return pruned.SearchBudget(pruned.SearchPrices(bucket=0.0, encounter=1.0, score=0.0), limit)


def test_search_that_gives_up_says_so_and_top_k_is_exact():
    scores = torch.rand(5, 6, 50, generator=torch.Generator().manual_seed(3))
    table = build_hash("balanced", 30_000, 50, 6, 0).table()
    index = build_index(table, 50)
    found = pruned.search(scores, index, 4, budget=labels_encountered(1))
    assert not bool(found.is_proven.any())
    assert_same(pruned.top_k(scores, table, 4, "sum"), top_k_reference(scores, table, 4))


def test_a_label_that_may_tie_is_still_looked_for():
    # Label 1 is encountered first, and the bound of the other is its score.
    index = build_index(torch.tensor([[1, 0]]), 2)
    found = pruned.search(torch.zeros(1, 1, 2), index, 1)
    assert found.labels.tolist() == [[0]]


@given(problem=drawn_problems(num_queries=[1], most_worlds=19, most_buckets=60, **SUMS))
@settings(max_examples=150, deadline=None)
def test_no_label_encountered_once_exceeds_its_bound(problem):
    """And none that was not encountered exceeds the rounded sum of the next buckets' scores."""
    scores, frontier, buckets, read = read_some(problem)
    every = label_scores_block(scores, torch.from_numpy(buckets), "sum")[0].numpy()
    times = read.sum(0)
    assert (every[times == 0] <= pruned_kernel.bound(frontier.nexts)).all()
    for label in np.flatnonzero(times == 1):
        world = int(read[:, label].argmax())
        value = np.float64(scores[0, world, buckets[world, label]])
        bound = pruned_kernel.bound_encountered_once(frontier.nexts, world, value)
        assert every[label] <= bound


@given(
    problem=drawn_problems(
        num_queries=[1],
        most_worlds=30,
        most_buckets=60,
        **SUMS | {"kinds": (*KINDS, "peaked", "outlier")},
    )
)
@settings(max_examples=150, deadline=None)
def test_no_score_left_half_way_could_have_won(problem):
    scores, frontier, buckets, read = read_some(problem)
    every = label_scores_block(scores, torch.from_numpy(buckets), "sum")[0].numpy()
    rest = np.empty(problem.num_worlds + 1)
    pruned_kernel.fill_rest(frontier.nexts, rest)
    excess = pruned_kernel.excess_of(frontier)
    flat = scores[0].reshape(-1).numpy()
    threshold = np.float32(np.median(every))
    for label in np.flatnonzero(read.sum(0) <= 1):
        row = buckets[:, label].astype(np.uint8)
        earlier = excess if read[:, label].any() else 0.0
        score, is_finished = pruned_kernel.score_label(
            flat, row, problem.num_buckets, rest, earlier, threshold
        )
        assert score == every[label] if is_finished else every[label] < threshold


def read_some(problem):
    """A query's scores, its frontier after some buckets, the table, and labels in read buckets."""
    scores, table = problem.build()
    shape = problem.num_worlds, problem.num_buckets
    frontier = pruned_kernel.start_frontier(
        scores[0].numpy(), np.empty(shape, np.float32), np.empty(shape, np.int32)
    )
    buckets = table.numpy()
    read = np.zeros(buckets.shape, dtype=bool)
    generator = np.random.default_rng(problem.seed)
    for world in generator.integers(problem.num_worlds, size=2 * problem.num_worlds):
        if frontier.depths[world] < problem.num_buckets:
            read[world] |= buckets[world] == frontier.ids[world, frontier.depths[world]]
            pruned_kernel.advance(frontier, scores[0].numpy(), world)
    return scores, frontier, buckets, read


def few_likely_labels(peak: float):
    """Scores of 24 queries, five labels of each raised as far as `peak`, and the table's index."""
    num_labels, num_worlds, num_buckets = 400_000, 32, 5000
    table = build_hash("balanced", num_labels, num_buckets, num_worlds, 0).table()
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(24, num_worlds, num_buckets, generator=generator)
    for label in torch.randint(num_labels, (5, 24), generator=generator):
        rise = peak + torch.randn(24, num_worlds, 1, generator=generator) / 2
        logits.scatter_add_(2, table[:, label].T.long().unsqueeze(2), rise)
    return logits.log_softmax(-1), build_index(table, num_buckets)


def price(found, budget):
    """What each search came to."""
    counts = (found.num_read, found.num_encountered, found.num_scored)
    return budget.prices.of_search(*(count.double() for count in counts))


def test_searches_end_near_their_limit():
    scores, index = few_likely_labels(5.0)
    prices = pruned.SearchPrices(bucket=3.0, encounter=0.25, score=2.0)
    free = price(pruned.search(scores, index, 5), pruned.SearchBudget(prices, 0.0))
    budget = pruned.SearchBudget(prices, float(free.median()))
    found = pruned.search(scores, index, 5, budget=budget)
    # Looked at before each bucket until no unseen label can win, and not in the few after that.
    most = 1.25 * budget.limit
    assert float(price(found, budget).max()) < most
    assert not bool(found.is_proven[free > most].any())
    assert 0 < int(found.is_proven.sum()) < 24


def test_labels_left_are_no_loss_where_scoring_them_would_be():
    scores, index = few_likely_labels(8.0)
    prices = pruned.SearchPrices(bucket=0.0, encounter=0.01, score=0.5)
    budget = pruned.SearchBudget(prices, 800.0)
    found = pruned.search(scores, index, 5, budget=budget)
    assert bool(found.is_proven.all())
    assert float((prices.score * found.num_encountered).min()) > 1.5 * budget.limit


def test_a_search_does_not_catch_up_with_what_its_budget_cannot_pay():
    # One label stands out, five are wanted: all labels met are to be scored in the end.
    scores, table, _ = planted(200_000, 500, 16, 6)
    index = build_index(table, 500)
    free = pruned.search(scores, index, 5)
    assert int(free.num_scored.min()) > 20_000
    budget = pruned.SearchBudget(pruned.SearchPrices(bucket=0.0, encounter=0.0, score=1.0), 5000.0)
    found = pruned.search(scores, index, 5, budget=budget)
    assert not bool(found.is_proven.any())
    assert int(found.num_scored.max()) <= 5000


@pytest.mark.parametrize("peak", [5.0, 8.0])
def test_forecast_does_not_give_up_before_the_best_labels_can_have_been_seen(peak):
    scores, index = few_likely_labels(peak)
    free = pruned.search(scores, index, 5)
    budget = pruned.typical_budget(index)
    # Longer than until the first forecast, and short of what a search may take.
    assert int(free.num_encountered.float().median()) > 1024
    assert float(price(free, budget).median()) < budget.limit
    limited = pruned.search(scores, index, 5, budget=budget)
    assert bool(limited.is_proven.all())
    assert_same((limited.scores, limited.labels), (free.scores, free.labels))


@pytest.mark.parametrize("k", [1, 5])
def test_forecast_gives_up_at_once_where_nothing_can_be_pruned(k):
    scores, index = few_likely_labels(0.0)
    budget = pruned.typical_budget(index)
    found = pruned.search(scores, index, k, budget=budget)
    assert not bool(found.is_proven.any())
    assert float(price(found, budget).max()) < budget.limit / 8


def test_forecast_gives_up_before_long_worlds_are_searched_again():
    # One label a bucket: eight best buckets of each world are used up before 1,024 labels are seen.
    num_labels, num_worlds = 10_000, 32
    table = build_hash("balanced", num_labels, num_labels, num_worlds, 0).table()
    index = build_index(table, num_labels)
    scores = torch.rand(
        4, num_worlds, num_labels, generator=torch.Generator().manual_seed(0)
    ).log_softmax(-1)
    found = pruned.search(scores, index, 5, budget=pruned.typical_budget(index))
    assert not bool(found.is_proven.any())
    assert int(found.num_encountered.max()) < 8 * num_worlds


def test_a_scan_is_taken_at_once_where_a_bucket_holds_what_it_is_worth(monkeypatch):
    scores, table, _ = planted(5000, 32, 4, 2)
    assert pruned.typical_budget(build_index(table, 32)) is None
    monkeypatch.setattr(pruned, "search", None)
    expected = top_k_reference(scores, table, 3)
    assert_same(pruned.top_k(scores, table, 3, "sum"), expected)


def test_marks_of_encountered_labels_do_not_outlive_a_search():
    # The second query must not take the first one's labels for its own, nor a second call.
    scores, table, _ = planted(5000, 100, 4, 1)
    index = build_index(table, 100)
    for _ in range(2):
        found = pruned.search(scores.expand(3, -1, -1).contiguous(), index, 7)
        expected = top_k_reference(scores, table, 7)
        assert_same((found.scores, found.labels), tuple(x.expand(3, -1) for x in expected))


def test_longer_lists_of_tied_buckets_begin_with_the_shorter_ones():
    # All buckets tie but in one world: lists grow in the middle of a tie.
    scores = torch.zeros(2, 3, 400)
    scores[:, 0, 7] = 1
    scores[1] = scores[1].flip(1)
    table = build_hash("universal", 3000, 400, 3, 5).table()
    found = pruned.search(scores, build_index(table, 400), 1000)
    assert_same((found.scores, found.labels), top_k_reference(scores, table, 1000))


@pytest.mark.parametrize("method", ["pruned", "auto"])
def test_tables_made_in_inference_mode_are_decoded(method):
    scores, table, _ = planted(2000, 50, 6, 4)
    with torch.inference_mode():
        made_there = table[:4].clone()
        found = decode.top_k(scores[:, :4], made_there, 3, method=method)
        again = decode.top_k(scores[:, :4], made_there, 3, method=method)
    expected = top_k_reference(scores[:, :4], table[:4], 3)
    assert_same(found, expected)
    assert_same(again, expected)


def test_index_of_other_sizes_is_refused():
    index = build_index(torch.zeros(2, 5, dtype=torch.int32), 3)
    with pytest.raises(ValueError, match="expected those of the index, R = 2, B = 3"):
        pruned.search(torch.zeros(1, 2, 4), index, 1)
    with pytest.raises(ValueError, match="k is 6; expected 1 to L = 5"):
        pruned.search(torch.zeros(1, 2, 3), index, 6)
