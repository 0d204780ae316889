"""Twins have the sizes of the sets that they stand for, and their rows the papers' lengths."""

import math
import re

import pytest

from bench.data.download.catalogue import SETS
from bench.data.planted import PlantedSource
from bench.experiments.scale.sequential_worlds import Plan
from bench.methods.card import SCALE
from bench.studies.study import load_study
from bench.studies.twins import TWINS, training_length


@pytest.mark.parametrize("name", sorted(TWINS))
def test_a_twin_has_the_sets_sizes_and_sparsity(name):
    twin = TWINS[name]
    published = SETS[twin.set_name]
    options = dict(twin.data.options)
    assert options["num_features"] == published.num_features
    assert options["num_labels"] == published.num_labels
    drawn = PlantedSource(**options | {"num_train_points": 300, "num_test_points": 1})
    features, labels = drawn._points("train", 300, drawn.signatures())
    assert features.ids.size / 300 == pytest.approx(twin.features_per_point, rel=0.05)
    assert labels.ids.size / 300 == pytest.approx(published.labels_per_point, rel=0.12)


@pytest.mark.parametrize("name", sorted(TWINS))
def test_a_twins_rows_are_the_papers_set_up_and_a_full_layer_under_it(name):
    twin = TWINS[name]
    mach, full = twin.mach(), twin.full()
    plan = Plan.of(mach)
    assert plan.num_worlds == twin.set_up.model.options["num_worlds"]
    assert plan.num_trained == 1
    assert mach.data == full.data
    assert mach.train == full.train
    assert mach.model.hidden_dims == full.model.hidden_dims == twin.set_up.model.hidden_dims
    assert mach.train.num_steps * mach.train.batch_size >= mach.data.options["num_train_points"]


def test_the_whole_training_is_the_papers_on_all_points():
    found = {twin.set_name: training_length(twin.mach().to_dict()) for twin in TWINS.values()}
    lengths = {name: (length.steps, length.epochs) for name, length in found.items()}
    assert lengths == lengths | {
        "wiki10-31k": (141, 60),
        "delicious-200k": (196, 20),
        "amazon-670k": (490, 40),
        "odp": (math.ceil(1_084_404 / 64), 5),
        "eurlex-4k": (math.ceil(13_500 / 1280), 120),
    }
    (sample, *_) = (
        trial
        for trial in load_study("amazon").build_trials("cpu")
        if "trained_worlds" in trial.model.options
    )
    assert sample.train.num_steps < 100
    assert training_length(sample.to_dict()).steps == 4000
    assert training_length({"data": {"name": "another", "options": {}}}) is None


@pytest.mark.parametrize("name", ["amazon", "amazon-r32", "table-twins"])
def test_studies_are_of_the_kind_and_shrink(name):
    study = load_study(name)
    assert study.kind == SCALE
    for profile in study.profiles:
        assert study.build_trials(profile)
    for trial in study.build_smoke():
        assert trial.data.options["num_labels"] <= 900
        if trial.model.method == "mach_in_turn":
            Plan.of(trial)


def test_published_times_stand_beside_their_twins():
    study = load_study("table-twins")
    parts = {study.part(trial) for trial in study.build_trials("cpu")}
    assert {entry.part for entry in study.published} <= parts
    assert {entry.metrics["hours"] for entry in study.published} == {7.2, 23.0}


@pytest.mark.parametrize("name", ["amazon", "amazon-r32"])
def test_a_row_from_elsewhere_states_one_length_and_the_machine_of_its_own(name):
    rows = {row.label: row.source for row in load_study(name).published}
    for label, source in rows.items():
        assert len(re.findall(r"\d+ epochs", f"{label}, {source}")) == 1
        assert ("V100" in source) == label.startswith("MACH")
