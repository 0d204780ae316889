import dataclasses

import pytest

from baselines.peers import peer
from bench.cli.commands import main
from bench.methods.card import TRAINING
from bench.methods.cards import card, check_options, current_versions
from bench.settings import DataSpec
from bench.studies.grids import grid, rivals_of
from bench.studies.study import load_study, study_names

TRAINED = [name for name in study_names() if load_study(name).kind is TRAINING]
RIVALS = [name for name in TRAINED if not load_study(name).shown_as]


@pytest.mark.parametrize("name", study_names())
def test_every_study_states_its_claim_and_fits_its_kind(name):
    study = load_study(name)
    for word in ("Claim:", "Command:", "Hardware:", "Duration:", "Expected:"):
        assert word in study.claim, word
    for trial in (*study.build_smoke(), *study.build_trials("cpu")):
        # Its method and its source are registered.
        assert all(version >= 1 for version in current_versions(trial, study.kind).values())


@pytest.mark.parametrize("name", [n for n in study_names() if load_study(n).build_smoke()])
def test_a_dry_run_takes_every_study(name, tmp_path, capsys):
    folders = ["--results", str(tmp_path), "--cache-dir", str(tmp_path / "cache")]
    assert main(["run", name, "--smoke", "--dry-run", *folders]) == 0
    assert f"{name}: " in capsys.readouterr().out


@pytest.mark.parametrize("name", RIVALS)
def test_trials_of_every_study_name_known_options(name):
    study = load_study(name)
    for profile in study.profiles:
        trials = study.build_trials(profile)
        assert trials
        for trial in trials:
            check_options(trial.model)
        methods = {trial.model.method for trial in trials}
        assert {"frequency", "centroid", "full_softmax", "sampled_softmax", "mach"} <= methods


@pytest.mark.parametrize("name", TRAINED)
def test_smoke_runs_each_method_of_the_study_on_data_that_needs_no_file(name):
    study = load_study(name)
    smoke = study.build_smoke()
    full = study.build_trials(study.profiles[0])
    assert {trial.model.method for trial in smoke} == {trial.model.method for trial in full}
    assert {trial.data.source for trial in smoke} <= {"planted", "searchlog"}
    assert all(trial.train.budget_seconds is None for trial in smoke)


@pytest.mark.parametrize("name", TRAINED)
def test_cpu_budgets_are_equal_within_a_part(name):
    study = load_study(name)
    budgets: dict[str, set] = {}
    for trial in study.build_trials("cpu"):
        searched = card(trial.model.method).search or ()
        if not any(each.name == "learning_rate" for each in searched):
            continue  # is not trained by steps
        part = f"{study.part(trial)} {trial.data.name}"
        budgets.setdefault(part, set()).add(trial.train.budget_seconds)
    assert all(len(seconds) == 1 for seconds in budgets.values()), budgets


def test_published_rows_name_their_source():
    for name in study_names():
        for row in load_study(name).published:
            assert row.source
            if name not in RIVALS:  # those of papers are sizes and times, too
                continue
            assert all(0 <= value <= 1 for value in row.metrics.values()), dataclasses.asdict(row)


@pytest.mark.parametrize("num_labels", [peer.MAX_OVR_LABELS, peer.MAX_OVR_LABELS + 1])
def test_rivals_without_gradients_take_their_options_and_stand_beside_the_floors(num_labels):
    data = DataSpec(source="planted", name="planted")
    trials = grid(data, rivals_of(num_labels))
    for trial in trials:
        check_options(trial.model)
        assert trial.has_validation
    assert len({trial.trial_id for trial in trials}) == len(trials)
    methods = {trial.model.method for trial in trials}
    always = {"frequency", "centroid", "neighbours", "omikuji", "napkinxc"}
    is_few = num_labels == peer.MAX_OVR_LABELS
    assert methods == (always | {"one_vs_rest"} if is_few else always)
    assert all(card(method).search is not None for method in methods - {"frequency"})
