from __future__ import annotations

import pytest

from bench.methods import cards
from bench.methods.card import TRAINING, Card, OptionFormat
from bench.methods.cards import (
    METRIC_VERSIONS,
    current_versions,
    is_metric_older,
    is_older,
    without_older_metrics,
)
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial


def build_trial(method, **options):
    return Trial(
        data=DataSpec(source="planted", name="p"),
        model=ModelSpec(method=method, options=options),
        train=TrainSpec(),
    )


def test_a_name_that_a_record_lacks_counts_as_one():
    old = {"method": 1, "source": 1, "protocol": 1}
    assert not is_older(old, old | {"novelty": 1})
    assert is_older(old, old | {"novelty": 2})
    assert not is_older({}, old)


def test_a_version_of_metrics_makes_no_record_stale_as_a_whole():
    current = current_versions(build_trial("full_softmax"), TRAINING)
    assert current["psp"] == METRIC_VERSIONS["psp"] == 2
    assert not is_older({"method": 1, "source": 1, "protocol": 1}, current)


@pytest.mark.parametrize("method", ["sampled_softmax", "sampled_bce"])
def test_a_version_of_an_options_value_is_of_trials_with_that_value_alone(method):
    in_batch = current_versions(build_trial(method, sampler="in_batch"), TRAINING)
    assert in_batch["sampler=in_batch"] == 2
    for options in ({"sampler": "uniform"}, {}):
        other = current_versions(build_trial(method, **options), TRAINING)
        assert "sampler=in_batch" not in other
    old = {"method": 1, "source": 1, "protocol": 1}
    assert is_older(old, in_batch)
    assert not is_older(old, other)


def test_an_option_left_unsaid_has_its_default_value():
    said = current_versions(build_trial("two_tower", sampler="in_batch"), TRAINING)
    assert current_versions(build_trial("two_tower"), TRAINING) == said
    assert said["sampler=in_batch"] == 2


def test_a_card_ties_versions_to_numbers_and_flags_too(monkeypatch):
    card = Card(
        name="tied",
        version=3,
        option_versions={"depth": {4: 2}, "is_fast": {True: 5}},
        label="Tied",
        group="",
        options=(OptionFormat(name="is_fast", default=True),),
    )
    monkeypatch.setattr(cards, "_registered", [card])
    assert card.versions_of_options({"depth": 4}) == {"depth=4": 2, "is_fast=True": 5}
    assert card.versions_of_options({"depth": 5, "is_fast": False}) == {}


def record_with(points, **versions):
    return {"versions": versions, "data": {"num_validation_points": points}}


@pytest.mark.parametrize("metric", ["PSP@1", "PSnDCG@5"])
def test_a_psp_is_older_only_where_validation_points_were_carved_out(metric):
    assert is_metric_older(metric, record_with(2000, method=1))
    assert not is_metric_older(metric, record_with(0, method=1))
    assert not is_metric_older(metric, record_with(2000, method=1, psp=2))
    assert not is_metric_older("P@1", record_with(2000, method=1))
    assert not is_metric_older(metric, {"data": None, "versions": {}})


def test_older_metrics_are_left_out_of_all_of_a_part_on_both_sides():
    part = {"P@1": 0.5, "PSP@1": 0.3, "curve": [{"metrics": {"PSnDCG@1": 0.1, "R@1": 0.2}}]}
    old, new = record_with(2000), record_with(2000, psp=2)
    assert without_older_metrics(part, new, old) == {
        "P@1": 0.5,
        "curve": [{"metrics": {"R@1": 0.2}}],
    }
    assert without_older_metrics(part, new, new) == part


def test_a_validation_that_one_record_of_a_closed_form_lacks_is_not_compared():
    point = {"step": 0, "metrics": {"P@1": 0.4}}
    lacking, having = (
        {"test": {"P@1": 0.5}, "training": {"num_steps": 0, "curve": curve}}
        for curve in ([], [point])
    )
    assert without_older_metrics(having, lacking, having) == {
        "test": {"P@1": 0.5},
        "training": {"num_steps": 0},
    }
    assert without_older_metrics(having, having, having) == having
    trained = {"training": {"num_steps": 8, "curve": []}}
    assert without_older_metrics(having, trained, having) == having
