"""Equal tuning: the rule's arithmetic, and a tuning whole, broken off, and by two at once."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from stub_trials import TUNABLE, quality_of

from bench.cli.commands import main
from bench.errors import StudyError
from bench.report.tables.tuning import curves_table, tuning_table, write_tuning
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial
from bench.store import record
from bench.studies import tuned as outcomes
from bench.studies.grids import is_tuned, tuned_grid
from bench.studies.study import load_study
from bench.studies.tuned import TunedError, read_tuned, tuned
from bench.studies.tuning import Try, Tuning, points_for, spaces_of, standard_error

HERE = Path(__file__).parent
optuna = pytest.importorskip("optuna")


@pytest.fixture(autouse=True, scope="module")
def _stubs_importable():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{HERE}{os.pathsep}{HERE.parent}")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Outcome of a tuning that nobody broke off."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(command(folder)) == 0
    return outcome_of(folder)


def spaces(study="quickstart", num_labels=20_000, task="multiclass", **rule):
    own = load_study(study)
    trials = own.start() if own.start else own.build_trials("cpu")
    found = spaces_of(trials, Tuning(**rule), num_labels=num_labels, task=task)
    return {space.card.name: space for space in found}


def test_all_trained_methods_try_the_same_rates_epsilons_dropouts_and_widths():
    points = points_for(Tuning())
    found = spaces()
    shared = ("learning_rate", "adam_epsilon", "feature_dropout", "hidden_dims", "optimizer")
    seen = []
    for name in ("full_softmax", "sampled_softmax", "mach"):
        tries = found[name].first_tries(points, 12)
        assert len({trial.trial_id for trial in tries}) == 12
        assert {trial.train.budget_seconds for trial in tries} == {20.0}
        assert all(trial.train.keep_best for trial in tries)
        # From the second shape on; the first is the study's own row.
        values = [found[name].values_of(trial) for trial in tries[2:]]
        seen.append([tuple(each[setting] for setting in shared) for each in values])
    assert seen[0] == seen[1] == seen[2]
    for position in range(len(shared)):
        assert len({values[position] for values in seen[0]}) > 1


def test_two_tries_in_a_row_share_a_shape_so_that_few_are_timed():
    points = points_for(Tuning())
    for space in spaces().values():
        if space.trains_by_steps:
            tries = space.first_tries(points, 12)
            assert len({trial.cost_id for trial in tries}) <= 6
            for even, odd in zip(tries[::2], tries[1::2], strict=True):
                assert even.cost_id == odd.cost_id


def test_the_first_try_is_the_study_s_own_row():
    rows = load_study("quickstart").start()
    for name, space in spaces().items():
        own = [trial for trial in rows if trial.model.method == name]
        first = space.first_tries(points_for(Tuning()), 3)[0]
        if own:
            assert first.model == own[0].model
            assert first.train.learning_rate == own[0].train.learning_rate


def test_buckets_are_shares_of_the_labels_and_a_label_s_loss_is_of_its_task():
    few = spaces("citeulike", num_labels=159, task="multilabel")["mach"]
    many = spaces("citeulike", num_labels=1_000_000, task="multilabel")["mach"]
    by_name = {dimension.name: dimension for dimension in few.dimensions.values()}
    assert few.levels(by_name["num_buckets"]) == [2, 4, 8, 16]
    assert many.levels(by_name["num_buckets"]) == [16384, 32768, 65536, 131072]
    assert "loss" in by_name
    assert "loss" not in {each.name for each in spaces()["mach"].dimensions.values()}
    assert "sampled_bce" in spaces("citeulike", num_labels=159, task="multilabel")
    assert "sampled_bce" not in spaces()


def test_points_repeat_and_depend_on_the_seed():
    assert points_for(Tuning()) == points_for(Tuning())
    assert points_for(Tuning()) != points_for(Tuning(seed=1))


def tries_at(space, values):
    """Tries at rates, with the value of each."""
    return [
        Try(space.trial({**space.values_of(space.base), "learning_rate": rate}), value, 1.0)
        for rate, value in values
    ]


@pytest.mark.parametrize(
    ("values", "edge"),
    [
        ([(0.01, 0.2), (0.02, 0.3), (0.04, 0.4)], {"learning_rate": 1}),
        ([(0.01, 0.4), (0.02, 0.3), (0.04, 0.2)], {"learning_rate": -1}),
        ([(0.01, 0.2), (0.02, 0.4), (0.04, 0.3)], {}),
        # Within the standard error of 0.4 over 2,000 points, which is 0.011.
        ([(0.01, 0.2), (0.02, 0.39), (0.04, 0.4)], {}),
        # Nothing lies beyond the highest rate of all.
        ([(0.16, 0.2), (0.32, 0.4)], {}),
        ([(0.02, 0.4)], {}),
        ([(0.02, None), (0.04, None)], {}),
    ],
)
def test_an_edge_counts_beyond_the_standard_error(values, edge):
    space = spaces()["full_softmax"]
    assert space.edges(tries_at(space, values), num_points=2000) == edge


def test_no_dropout_and_an_epsilon_without_effect_are_no_edges():
    space = spaces()["full_softmax"]
    other = {**space.values_of(space.base), "adam_epsilon": 1e-4, "feature_dropout": 0.4}
    least = {**other, "adam_epsilon": 1e-8, "feature_dropout": 0.0}
    tries = [Try(space.trial(other), 0.1, 1.0), Try(space.trial(least), 0.5, 1.0)]
    assert space.edges(tries, num_points=2000) == {}


def test_tries_near_the_best_change_few_settings_and_pass_its_edge():
    space, points = spaces()["full_softmax"], points_for(Tuning())
    tries = tries_at(space, [(0.02, 0.2), (0.08, 0.4)])
    edges = space.edges(tries, num_points=2000)
    more = space.near_tries(tries, edges, points, 6)
    rates = [trial.train.learning_rate for trial in more]
    assert len({trial.trial_id for trial in more} | {t.trial.trial_id for t in tries}) == 8
    assert set(rates) == {0.08, 0.16, 0.32}
    widths = {trial.model.hidden_dims for trial in more}
    assert widths <= {(32,), (64,), (128,)}


def test_a_standard_error_is_that_of_a_share():
    assert standard_error(0.5, 100) == pytest.approx(0.05)


def test_a_method_that_cannot_be_tuned_and_a_study_without_rows_are_named():
    with pytest.raises(StudyError, match="'frequency' cannot be tuned; expected one of"):
        spaces(methods=("frequency",))
    data = DataSpec(source="planted", name="planted")
    trivial = Trial(data=data, model=ModelSpec(method="frequency"), train=TrainSpec())
    with pytest.raises(StudyError, match="no trained row"):
        spaces_of([trivial], Tuning(), num_labels=10, task="multiclass")


def test_all_tries_have_the_same_seconds_whatever_a_method_s_own_row_has():
    rows = [
        trial
        if trial.model.method != "mach"
        else dataclasses.replace(trial, train=dataclasses.replace(trial.train, budget_seconds=90.0))
        for trial in load_study("quickstart").start()
    ]
    found = spaces_of(rows, Tuning(), num_labels=20_000, task="multiclass")
    assert {each.base.train.budget_seconds for each in found} == {20.0, None}
    by_steps = [
        dataclasses.replace(trial, train=trial.train.with_steps(7))
        for trial in rows
        if trial.train.budget_seconds is not None
    ]
    with pytest.raises(StudyError, match="no budget in seconds"):
        spaces_of(by_steps, Tuning(), num_labels=20_000, task="multiclass")
    found = spaces_of(by_steps, Tuning(seconds=5.0), num_labels=20_000, task="multiclass")
    assert {each.base.train.budget_seconds for each in found} == {5.0, None}


def test_a_study_that_trains_nothing_is_refused_by_its_kind(tmp_path, capsys):
    folders = ["--results", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    assert main(["tune", "figure-theory", *folders]) == 2
    assert "is of theory; expected one that trains" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"tries": 0}, "tries is 0"),
        ({"first_share": 0.0}, "first_share is 0.0"),
        ({"seconds": -1.0}, "seconds is -1.0"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule, message):
    with pytest.raises(SettingsError, match=message):
        Tuning(**rule)


STUDY_FILE = """
from stub_trials import tunable_study
STUDY = tunable_study("mine", seconds={seconds}, **{rule})
"""


def command(tmp_path, folder="results", *, seconds=0.0, **rule):
    """Arguments of `bench tune` for a file with a tunable study."""
    path = tmp_path / "mine.py"
    path.write_text(STUDY_FILE.format(seconds=seconds, rule=rule))
    folders = ["--results", str(tmp_path / folder), "--cache-dir", str(tmp_path / "cache")]
    return ["tune", str(path), "--data-dir", str(tmp_path), *folders]


def outcome_of(tmp_path, folder="results"):
    return read_tuned(tmp_path / folder / "tuned" / "mine.json")


def settled(outcome):
    """An outcome without what time and machine decide."""
    return [
        (m.method, m.text, m.value, m.best_so_far, m.edges, m.num_tries) for m in outcome.methods
    ]


def records_of(tmp_path, folder="results"):
    [path] = (tmp_path / folder / "tuning" / "records" / "mine").glob("*.jsonl")
    return record.read(path)[0]


def test_a_tuning_gives_every_method_its_tries_and_no_test_point_is_scored(tmp_path, capsys):
    assert main(command(tmp_path)) == 0
    found = {method.method: method for method in outcome_of(tmp_path).methods}
    assert set(found) == set(TUNABLE)
    # The steep one is best beyond what is tried at first, so all get the reserve.
    steep = found["steep"]
    assert steep.num_tries == found["flat"].num_tries == 7
    assert steep.seconds == found["flat"].seconds == found["closed"].seconds == 140.0
    assert steep.trial.train.learning_rate > 0.04
    assert steep.value == pytest.approx(quality_of(steep.trial))
    assert steep.best_so_far[-1] == steep.value >= steep.best_so_far[0] == steep.default
    # It has no more levels: what is unspent is stated.
    assert found["closed"].num_tries == 3
    # A try's limit of time is what was left of its method's seconds: none of the method's settings.
    assert found["closed"].trial.train.trial_timeout_seconds == TrainSpec().trial_timeout_seconds
    records = records_of(tmp_path)
    assert len(records) == 7 + 7 + 3
    assert all(each.raw["test"] is None for each in records)
    assert {each.settings["train"]["num_steps"] for each in records if _by_steps(each)} == {80}
    text = capsys.readouterr().out
    assert "all methods get 2 more tries" in text
    assert "steep" in text.split("tuned on planted")[1]


def _by_steps(found):
    return found.settings["model"]["method"] != "closed"


def test_a_tuning_that_was_killed_comes_to_the_same_and_repeats_no_try(tmp_path, whole):
    arguments = command(tmp_path, "broken", seconds=0.2)
    child = subprocess.Popen([sys.executable, "-m", "bench", *arguments], cwd=HERE.parent)
    folder = tmp_path / "broken" / "tuning" / "records"
    deadline = time.monotonic() + 120
    while sum(path.read_text().count("\n") for path in folder.rglob("*.jsonl")) < 4:
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    assert not (tmp_path / "broken" / "tuned").exists()
    before = [each.raw for each in records_of(tmp_path, "broken")]
    assert main(arguments) == 0
    after = [each.raw for each in records_of(tmp_path, "broken")]
    assert after[: len(before)] == before
    assert len({each["trial_id"] for each in after}) == len(after)
    assert settled(outcome_of(tmp_path, "broken")) == settled(whole)


def test_two_tunings_side_by_side_divide_the_tries(tmp_path, whole):
    arguments = command(tmp_path, "both", seconds=0.2)
    other = subprocess.Popen([sys.executable, "-m", "bench", *arguments], cwd=HERE.parent)
    assert main(arguments) == 0
    assert other.wait(120) == 0
    records = records_of(tmp_path, "both")
    assert len({each.trial_id for each in records}) == len(records) == 7 + 7 + 3
    assert settled(outcome_of(tmp_path, "both")) == settled(whole)


def test_the_best_of_a_short_rung_are_trained_in_full_before_the_choice(tmp_path):
    rule = {"first_share": 0.5, "tries": 2, "reserve": 0, "methods": ("steep",)}
    assert main(command(tmp_path, **rule)) == 0
    [steep] = outcome_of(tmp_path).methods
    assert steep.trial.train.budget_seconds == 20.0
    lengths = [
        (each.settings["train"]["num_steps"], each.settings["replicate"])
        for each in records_of(tmp_path)
    ]
    assert sorted(lengths) == [(40, 0), (40, 0), (80, 0), (80, 0), (80, 1), (80, 1)]


def test_tuned_settings_are_rows_of_a_study(tmp_path):
    url = f"sqlite:///{tmp_path / 'tries.db'}"
    asked = ["--tries", "2", "--storage", url]
    assert main([*command(tmp_path, methods=("flat",)), *asked]) == 0
    stored = optuna.load_study(study_name="mine flat", storage=url)
    assert [trial.value for trial in stored.trials] == [0.5, 0.5]
    assert stored.best_params["learning_rate"] == 0.001
    path = tmp_path / "results" / "tuned" / "mine.json"
    model, train = tuned(path)["flat"]
    assert model.method == "flat"
    assert train.budget_seconds == 20.0
    assert train.keep_best
    [written] = write_tuning(tmp_path / "results", tmp_path / "out")
    assert "flat" in written.read_text()
    outcome = read_tuned(path)
    assert len(curves_table(outcome).groups[0][0]) == len(curves_table(outcome).columns)
    assert len(tuning_table(outcome).groups[0][0]) == len(tuning_table(outcome).columns)
    spoilt = json.loads(path.read_text())
    spoilt["methods"][0]["settings"]["train"]["learning_rate"] = "fast"
    path.write_text(json.dumps(spoilt))
    with pytest.raises(TunedError, match="learning_rate is 'fast'"):
        tuned(path)
    path.write_text("{")
    with pytest.raises(TunedError, match="expected the outcome of `bench tune`"):
        tuned(path)
    with pytest.raises(TunedError, match=r"nothing\.json: .*`bench tune` writes it"):
        tuned("nothing")


def test_a_study_s_rows_are_what_tuning_found_and_mach_s_other_shapes(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(outcomes, "_REFERENCE", tmp_path / "tuned")
    data = DataSpec(source="planted", name="planted")
    train = TrainSpec(budget_seconds=9.0, batch_size=64)
    start = [(ModelSpec(method="full_softmax"), train)]
    shapes = [{"num_buckets": 8, "num_worlds": 2}, {"num_buckets": 16, "num_worlds": 2}]

    def rows(profile="cpu"):
        trials = tuned_grid(
            "mine", data, start, profile, gpu_epochs=3.0, replicates=2, shapes=shapes
        )
        return [trial for trial in trials if trial.model.method not in ("frequency", "centroid")]

    assert [trial.model for trial in rows()] == [start[0][0]] * 2

    mach = ModelSpec(method="mach", options={"estimator": "min", **shapes[0]})
    best = Trial(data=data, model=mach, train=dataclasses.replace(train, learning_rate=0.5))
    linear = ModelSpec(method="neighbours", encoder="linear", options={"num_neighbours": 7})
    plain = Trial(data=data, model=linear, train=TrainSpec(batch_size=4096))
    first = whole.methods[0]
    methods = [
        msgspec.structs.replace(first, method=each.model.method, settings=each.to_dict())
        for each in (best, plain)
    ]
    path = tmp_path / "tuned" / "mine.json"
    path.parent.mkdir()
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(whole, methods=methods)))
    made = rows()
    assert [(t.model.method, t.replicate) for t in made] == [
        ("mach", 0),
        ("mach", 0),
        ("mach", 1),
        ("mach", 1),
        ("neighbours", 0),
    ]
    assert [t.model.options["num_buckets"] for t in made[:2]] == [8, 16]
    assert {t.model.options["estimator"] for t in made[:4]} == {"min"}
    assert {t.train.learning_rate for t in made[:4]} == {0.5}
    assert list(map(is_tuned("mine"), made)) == [True, False, True, False, True]
    on_gpu = rows("gpu")[0].train
    assert (on_gpu.budget_seconds, on_gpu.num_epochs, on_gpu.batch_size) == (None, 3.0, 1024)
