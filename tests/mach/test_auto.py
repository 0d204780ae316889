import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mach.decode import auto, pruned
from bench.mach.decode.index import build_index
from bench.mach.hashing import build_hash
from tests.mach.costs import TYPICAL, use_costs
from tests.mach.problems import Drawn, assert_same, drawn_problems
from tests.mach.test_pruned import planted

CHEAP_SEARCH = auto.Costs(
    (10,), (1e-6,), (10,), (1e-6,), 1e-12, 1e-12, 1e-12, (10,), (1e-12,), (1e-12,), 1e-12
)
CHEAP_SCAN = auto.Costs(
    (10,), (1e-15,), (10,), (1e-15,), 1e-15, 1e-15, 1e-6, (10,), (1e-6,), (1e-6,), 1e-6
)
# A search begins, and its forecast ends it.
SCAN_WORTH_2000_LABELS = auto.Costs(
    (10,), (6.4e-9,), (10,), (6.4e-9,), 1e-12, 1e-12, 1e-12, (10,), (1.3e-9,), (1.8e-8,), 1e-12
)


@given(
    problem=drawn_problems(
        num_queries=[1, 3, 20], most_worlds=7, most_buckets=60, most_labels=500, most_k=30
    ),
    costs=st.sampled_from([CHEAP_SEARCH, CHEAP_SCAN, TYPICAL]),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_the_reference_whichever_way_is_taken(
    problem: Drawn, costs: auto.Costs
) -> None:
    use_costs(costs)
    scores, table = problem.build()
    table = table.int()
    for _ in range(2):
        found = auto.top_k(scores, table, problem.k, problem.reduction)
        assert_same(found, problem.expected())


def count_searched(monkeypatch):
    searched = []
    search = pruned.search

    def counting(scores, *arguments, **options):
        searched.append(scores.shape[0])
        return search(scores, *arguments, **options)

    monkeypatch.setattr("bench.mach.decode.pruned.search", counting)
    return searched


def test_scan_that_is_cheap_is_taken_without_a_try(monkeypatch):
    scores, table, _ = planted(2000, 50, 4, 3)
    searched = count_searched(monkeypatch)
    use_costs(CHEAP_SCAN)
    auto.top_k(scores, table, 2, "sum")
    assert searched == []


def test_searches_that_win_take_over_the_batch(monkeypatch):
    scores, table, _ = planted(20_000, 500, 6, 60)
    searched = count_searched(monkeypatch)
    use_costs(CHEAP_SEARCH)
    auto.top_k(scores, table, 2, "sum")
    assert searched == [8, 32, 20]


def test_searches_that_lose_are_tried_ever_more_rarely(monkeypatch):
    table = build_hash("balanced", 60_000, 500, 6, 0).table()
    scores = torch.rand(600, 6, 500, generator=torch.Generator().manual_seed(0))
    searched = count_searched(monkeypatch)
    use_costs(SCAN_WORTH_2000_LABELS)
    auto.top_k(scores, table, 3, "sum")
    assert searched == [8, 2, 2, 2]  # after 64, 128 and 256 others


def test_costs_are_fitted_once_in_a_process_and_are_positive():
    use_costs(None)
    found = auto.costs()
    assert min(found.pack, found.single_pack, found.select, found.bucket) > 0
    lists = found.tile_gather + found.single_gather + found.visit + found.meet
    assert all(cost > 0 for cost in lists)
    assert auto.costs() is found


def test_costs_are_those_of_the_number_of_threads(monkeypatch):
    use_costs(None)
    fits = []
    monkeypatch.setattr(auto, "_fit", lambda: fits.append(torch.get_num_threads()) or TYPICAL)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 1, 2):
            torch.set_num_threads(number)
            auto.costs()
    finally:
        torch.set_num_threads(threads)
    assert fits == [1, 2]


def test_an_index_in_use_is_priced_anew_when_the_number_of_threads_changes(monkeypatch):
    scores, table, _ = planted(2000, 50, 4, 3)
    use_costs(None)
    fits = []

    def fitted():
        fits.append(torch.get_num_threads())
        return CHEAP_SCAN if len(fits) == 1 else CHEAP_SEARCH

    monkeypatch.setattr(auto, "_fit", fitted)
    searched = count_searched(monkeypatch)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            auto.top_k(scores, table, 2, "sum")
            assert bool(searched) == (number == 2)
    finally:
        torch.set_num_threads(threads)
    assert fits == [1, 2]


def test_searches_that_lose_at_one_table_are_still_tried_at_another(monkeypatch):
    hopeless = torch.rand(100, 6, 500, generator=torch.Generator().manual_seed(0))
    first, second = (build_hash("balanced", 60_000, 500, 6, seed).table() for seed in (0, 1))
    searched = count_searched(monkeypatch)
    use_costs(SCAN_WORTH_2000_LABELS)
    auto.top_k(hopeless, first, 3, "sum")
    assert len(searched) == 2
    auto.top_k(hopeless, second, 3, "sum")
    assert searched[2:] == searched[:2]


def test_scored_labels_are_counted_by_the_way_taken():
    scores, table, _ = planted(5000, 100, 4, 3)
    index = build_index(table, 100)
    use_costs(CHEAP_SCAN)
    assert auto.num_scored(scores, index, 2).tolist() == [5000] * 3
    use_costs(CHEAP_SEARCH)
    assert int(auto.num_scored(scores, index, 2).max()) < 5000
