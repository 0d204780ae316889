import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mach import auto, pruned
from bench.mach.hashing import build_hash
from bench.mach.index import build_index
from tests.mach.costs import TYPICAL
from tests.mach.problems import Drawn, assert_same, drawn_problems
from tests.mach.test_pruned import planted

CHEAP_WALK = auto.Costs(
    (10,), (1e-6,), (10,), (1e-6,), 1e-12, 1e-12, 1e-12, (10,), (1e-12,), (1e-12,), 1e-12
)
CHEAP_SCAN = auto.Costs(
    (10,), (1e-15,), (10,), (1e-15,), 1e-15, 1e-15, 1e-6, (10,), (1e-6,), (1e-6,), 1e-6
)


@given(
    problem=drawn_problems(
        num_queries=[1, 3, 20], most_worlds=7, most_buckets=60, most_labels=500, most_k=30
    ),
    costs=st.sampled_from([CHEAP_WALK, CHEAP_SCAN, TYPICAL]),
)
@settings(max_examples=60, deadline=None)
def test_labels_are_those_of_the_reference_whichever_way_is_taken(
    problem: Drawn, costs: auto.Costs
) -> None:
    auto.use_costs(costs)
    scores, table = problem.build()
    table = table.int()
    for _ in range(2):
        found = auto.top_k(scores, table, problem.k, problem.reduction)
        assert_same(found, problem.expected())


def count_walked(monkeypatch):
    walked = []
    walk = pruned.walk

    def counting(scores, *arguments, **options):
        walked.append(scores.shape[0])
        return walk(scores, *arguments, **options)

    monkeypatch.setattr("bench.mach.pruned.walk", counting)
    return walked


def test_scan_that_is_cheap_is_taken_without_a_try(monkeypatch):
    scores, table, _ = planted(2000, 50, 4, 3)
    walked = count_walked(monkeypatch)
    auto.use_costs(CHEAP_SCAN)
    auto.top_k(scores, table, 2, "sum")
    assert walked == []


def test_walks_that_win_take_over_the_batch(monkeypatch):
    scores, table, _ = planted(20_000, 500, 6, 60)
    walked = count_walked(monkeypatch)
    auto.use_costs(CHEAP_WALK)
    auto.top_k(scores, table, 2, "sum")
    assert walked == [8, 32, 20]


def test_walks_that_lose_are_tried_ever_more_rarely(monkeypatch):
    table = build_hash("balanced", 60_000, 500, 6, 0).table()
    scores = torch.rand(600, 6, 500, generator=torch.Generator().manual_seed(0))
    walked = count_walked(monkeypatch)
    # A scan is worth some 2,000 labels met: a walk begins, and its forecast ends it.
    auto.use_costs(
        auto.Costs(
            (10,),
            (6.4e-9,),
            (10,),
            (6.4e-9,),
            1e-12,
            1e-12,
            1e-12,
            (10,),
            (1.3e-9,),
            (1.8e-8,),
            1e-12,
        )
    )
    auto.top_k(scores, table, 3, "sum")
    assert walked == [8, 2, 2, 2]  # after 64, 128 and 256 others


def test_calibration_is_kept_in_its_file(tmp_path):
    path = tmp_path / "cache" / "costs.json"
    found = auto.calibrate(path, again=True)
    assert min(found.pack, found.single_pack, found.select, found.bucket) > 0
    lists = found.tile_gather + found.single_gather + found.visit + found.meet
    assert all(cost > 0 for cost in lists)
    auto.use_costs(None)
    assert auto.calibrate(path) == found
    assert [entry.name for entry in path.parent.iterdir()] == ["costs.json"]


def test_first_question_fits_the_costs_and_later_processes_read_them(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fits = []
    monkeypatch.setattr(auto, "_fit", lambda: fits.append(1) or TYPICAL)
    for _ in range(2):
        auto.use_costs(None)  # as in another process
        assert auto.costs() == TYPICAL
    assert fits == [1]
    (path,) = (tmp_path / "mach-bench").iterdir()
    assert path == auto.kept_costs_path()
    path.write_text("{")
    auto.use_costs(None)
    with pytest.warns(UserWarning, match="fitted anew"):
        assert auto.costs() == TYPICAL
    assert fits == [1, 1]
    assert auto._read(path) == TYPICAL


def test_costs_that_cannot_be_kept_are_still_used(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(auto, "_fit", lambda: TYPICAL)
    auto.use_costs(None)
    with pytest.warns(UserWarning, match="are not kept"):
        assert auto.costs() == TYPICAL


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"visit": 1}'])
def test_file_that_holds_no_costs_is_refused(tmp_path, text):
    path = tmp_path / "costs.json"
    path.write_text(text)
    auto.use_costs(None)
    with pytest.raises(ValueError, match=r"costs\.json"):
        auto.calibrate(path)


def test_costs_that_are_not_positive_are_refused(tmp_path):
    path = tmp_path / "costs.json"
    plain = {"table_sizes": [1], "tile_gather": [0], "bucket_counts": [1], "single_gather": [1]}
    path.write_text(
        json.dumps(
            plain
            | {"pack": 1, "single_pack": 1, "select": 1, "row_bytes": [1], "visit": [1]}
            | {"meet": [1], "bucket": 1}
        )
    )
    auto.use_costs(None)
    with pytest.raises(ValueError, match="positive costs"):
        auto.calibrate(path)


def test_scored_labels_are_counted_by_the_way_taken():
    scores, table, _ = planted(5000, 100, 4, 3)
    index = build_index(table, 100)
    auto.use_costs(CHEAP_SCAN)
    assert auto.num_scored(scores, index, 2, "sum").tolist() == [5000] * 3
    auto.use_costs(CHEAP_WALK)
    assert int(auto.num_scored(scores, index, 2, "sum").max()) < 5000
