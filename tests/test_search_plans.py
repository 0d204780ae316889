"""What the studies of search and of worlds run."""

from __future__ import annotations

import pytest

from bench.data.searchlog import SearchLogSource
from bench.data.sources import build_source
from bench.studies.presets import PRESETS
from bench.studies.study import Profile, load_study

PROFILES: tuple[Profile, ...] = ("cpu", "gpu", "paper")


@pytest.mark.parametrize("profile", PROFILES)
def test_search_runs_the_papers_systems_at_two_numbers_of_buckets(profile: Profile) -> None:
    trials = load_study("table-search").build_trials(profile)
    methods = [trial.model.method for trial in trials]
    assert {"two_tower", "omikuji", "mach"} <= set(methods)
    machs = [trial for trial in trials if trial.model.method == "mach"]
    buckets = [int(str(trial.model.options["num_buckets"])) for trial in machs]
    assert buckets == [buckets[0], 2 * buckets[0]]
    assert {trial.model.options["num_worlds"] for trial in machs} == {32}
    assert {trial.train.num_epochs for trial in machs} == {10}
    (dssm,) = (trial for trial in trials if trial.model.method == "two_tower")
    assert (dssm.model.hidden_dims, dssm.train.num_epochs) == ((256,), 5)
    (log,) = {trial.data.name: trial.data for trial in trials}.values()
    assert isinstance(build_source(log), SearchLogSource)
    assert 100 in log.ks


def test_the_papers_scale_is_that_of_its_log() -> None:
    log = load_study("table-search").build_trials("paper")[0].data
    source = build_source(log)
    assert isinstance(source, SearchLogSource)
    sizes = PRESETS["amazon-search-b10000"].sizes
    for name in ("num_train_points", "num_test_points", "num_labels", "num_features"):
        assert getattr(source, name) == getattr(sizes, name)


@pytest.mark.parametrize("profile", PROFILES)
def test_recall_is_shown_for_three_lengths_and_for_every_number_of_trees(profile: Profile) -> None:
    trials = load_study("figure-recall-worlds").build_trials(profile)
    machs = [trial for trial in trials if trial.model.method == "mach"]
    lengths = [(trial.model.options["num_buckets"], trial.train.num_epochs) for trial in machs]
    assert len(lengths) == len(set(lengths)) == 6
    assert sorted({length for _, length in lengths if length}) == [1, 5, 10]
    trees = [t.model.options["num_trees"] for t in trials if t.model.method == "omikuji"]
    assert trees == [2, 4, 8, 16]


def test_smoke_searches_a_log_that_needs_no_file() -> None:
    for name in ("table-search", "figure-recall-worlds"):
        study = load_study(name)
        smoke, full = study.build_smoke(), study.build_trials("cpu")
        assert {t.model.method for t in smoke} == {t.model.method for t in full}
        assert {t.data.source for t in smoke} == {"searchlog"}
        # Weighted recall@100 is measured there, too.
        assert all(t.data.options["num_labels"] > 100 in t.data.ks for t in smoke)


@pytest.mark.parametrize("profile", PROFILES)
def test_every_number_of_worlds_is_a_training_and_filters_have_all_worlds(profile: Profile) -> None:
    trials = load_study("table-wiki10-worlds").build_trials(profile)
    by_data: dict[str, list[tuple[object, object]]] = {}
    for trial in trials:
        if trial.replicate:
            continue
        options = trial.model.options
        rows = by_data.setdefault(trial.data.name, [])
        rows.append((options["num_worlds"], options.get("filter_buckets")))
    expected = [(R, None) for R in (6, 8, 10, 12, 14, 16)] + [(16, 11), (16, 100)]
    assert all(rows == expected for rows in by_data.values())
    names = {"cpu": ["citeulike-t"], "gpu": ["citeulike-t", "wiki10-31k"], "paper": ["wiki10-31k"]}
    assert list(by_data) == names[profile]
