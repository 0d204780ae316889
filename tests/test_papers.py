"""The papers' studies: complete plans, and published numbers beside the rows that they are of."""

from __future__ import annotations

import collections

import pytest

from baselines.peers.peer import Peer, read_options
from bench.data.download.catalogue import SETS
from bench.methods.card import PAPERS
from bench.methods.cards import card, check_options, method_class
from bench.methods.labels import flatten
from bench.settings import Trial
from bench.studies.papers.multiclass_published import TRADEOFF
from bench.studies.papers.rows import published_rows, shares
from bench.studies.presets import PRESETS
from bench.studies.published import TAGS, Curve, PaperRow, has_options
from bench.studies.study import load_study, study_names

NAMES = [name for name in study_names() if load_study(name).shown_as == PAPERS]


def _options(trial: Trial, task: str) -> dict[str, object]:
    settings = trial.to_dict()
    flat = flatten(settings, card(trial.model.method), task)
    return {**settings["data"], **settings["data"]["options"], **flat, "method": trial.model.method}


@pytest.mark.parametrize("name", NAMES)
def test_every_trial_of_a_papers_study_has_known_options(name: str) -> None:
    study = load_study(name)
    for profile in study.profiles:
        trials = study.build_trials(profile)
        assert any(trial.model.method == "mach" for trial in trials)
        for trial in trials:
            kind = method_class(trial.model.method)
            if issubclass(kind, Peer):
                read_options(kind, trial.model)
            else:
                check_options(trial.model)


@pytest.mark.parametrize("name", NAMES)
def test_published_numbers_find_the_rows_that_they_are_of(name: str) -> None:
    study = load_study(name)
    trials = [trial for profile in study.profiles for trial in study.build_trials(profile)]
    parts = {study.part(trial) for trial in trials}
    for entry in study.published:
        assert isinstance(entry, PaperRow)
        assert entry.tag in TAGS
        assert entry.part in parts | {""}, entry
        if not entry.beside:
            continue
        found = [
            trial
            for trial in trials
            if study.part(trial) == entry.part
            and has_options(_options(trial, _task(trial)), entry.beside)
        ]
        assert found, f"{entry.part}: nothing is {entry.beside}"


def _task(trial: Trial) -> str:
    return "multilabel" if trial.data.source == "xmlrepo" else "multiclass"


@pytest.mark.parametrize("name", NAMES)
def test_data_that_somebody_must_import_is_optional(name: str) -> None:
    study = load_study(name)
    imported = {
        trial.data.name
        for profile in study.profiles
        for trial in study.build_trials(profile)
        if trial.data.name in SETS
    }
    assert imported <= set(study.optional_data)


def test_the_multilabel_table_has_every_row_of_the_sources() -> None:
    study = load_study("table-multilabel")
    counts = collections.Counter((row.part, row.source) for row in study.published)
    page = {part: count for (part, source), count in counts.items() if "page" in source}
    assert page == {
        "Bibtex": 14,
        "Delicious": 12,
        "EURLex-4K": 16,
        "Wiki10-31K": 15,
        "Delicious-200K": 12,
        "Amazon-670K": 21,
        "Amazon-3M": 11,
    }
    poster = [count for (_, source), count in counts.items() if "poster" in source]
    assert poster == [5, 5, 5]
    # Spot checks, one a source.
    numbers = {(r.label, r.part, r.source): r.metrics for r in study.published}
    assert numbers["1-vs-All", "Bibtex", "repository's page"]["PSP@5"] == 0.5929
    assert numbers["MACH", "Amazon-670K", "NeurIPS 2019, poster"]["authors P@5"] == 0.3632
    third = numbers["MACH of a third party", "Delicious", "Odaimoko/MACH-Pytorch, results sheet"]
    assert third["P@1"] == 0.712


def test_small_sets_run_the_published_set_ups_and_all_but_the_longest_three_times() -> None:
    trials = load_study("table-multilabel").build_trials("cpu")
    ids = {trial.trial_id for trial in trials}
    for name, times in (("bibtex-159-third-party", 3), ("delicious-983-third-party", 1)):
        assert [PRESETS[name].trial(i).trial_id in ids for i in range(3)].count(True) == times
    rows = collections.Counter(t.replicate for t in trials if t.model.hidden_dims != (512, 512))
    assert rows[0] == rows[1] == rows[2]
    # What a published row was trained on: every training point.
    peers = [trial for trial in trials if trial.model.method == "omikuji"]
    assert peers
    assert all(trial.data.num_validation_points == 0 for trial in peers)


def test_the_other_split_has_the_rows_of_the_official_one_that_it_explains() -> None:
    of_set, other = (load_study(f"table-{name}") for name in ("multilabel", "delicious-split"))
    trials = other.build_trials("cpu")
    assert {trial.data.options["new_split"] for trial in trials} == {0}
    rows = [(t.model, t.train, t.replicate) for t in of_set.build_trials("cpu")]
    assert all((t.model, t.train, t.replicate) in rows for t in trials)
    numbers = {row.label: row.metrics["P@1"] for row in other.published}
    assert numbers == {"MACH of a third party": 0.712, "Parabel": 0.6744}


@pytest.mark.parametrize("name", ["table-multilabel", "table-delicious-split"])
def test_a_third_partys_number_stands_beside_its_own_set_up_and_no_other_mach(name: str) -> None:
    study = load_study(name)
    theirs = [preset.model for key, preset in PRESETS.items() if "third-party" in key]
    entries = [row for row in study.published if row.label == "MACH of a third party"]
    assert entries
    for trial in study.build_trials("cpu"):
        options = _options(trial, "multilabel")
        own = [row for row in entries if row.part == study.part(trial)]
        is_beside = any(has_options(options, row.beside) for row in own)
        assert is_beside == (trial.model in theirs), trial.model


def test_the_tradeoff_has_every_point_of_both_figures() -> None:
    study = load_study("figure-tradeoff")
    assert sum(len(by_buckets) for by_buckets in TRADEOFF["odp"].values()) == 18
    assert sum(len(by_buckets) for by_buckets in TRADEOFF["imagenet"].values()) == 16
    points = [curve for curve in study.curves if curve.level is None]
    assert sum(len(curve.points) for curve in points) == 18 + 16
    assert {curve.level for curve in study.curves} >= {0.094, 0.178}
    for trial in study.build_trials("cpu"):
        if trial.model.method == "mach":
            B, R = (int(str(trial.model.options[n])) for n in ("num_buckets", "num_worlds"))
            assert B * R <= 8192


def test_a_curve_of_one_point_without_x_is_a_level() -> None:
    common = {"label": "", "panel": "", "tag": "F", "source": ""}
    assert Curve(points=((None, 0.5),), **common).level == 0.5  # type: ignore[arg-type]
    assert Curve(points=((2.0, 0.5),), **common).level is None  # type: ignore[arg-type]


def test_a_system_may_have_words_and_a_number_may_be_missing() -> None:
    (first, second) = published_rows(
        "A b 1/–/3 4; C 5",
        ("P@1", "P@3", "P@5", "PSP@1"),
        part="",
        source="s",
        tag="X",
        beside={"C": {"method": "mach"}},
    )
    assert (first.label, dict(first.metrics)) == ("A b", {"P@1": 0.01, "P@5": 0.03, "PSP@1": 0.04})
    assert (second.label, second.beside) == ("C", {"method": "mach"})
    with pytest.raises(ValueError, match="2 numbers for 1 names"):
        shares("1/2", ("P@1",))
