import subprocess
import sys

import pytest

from bench.decoding import scores, sources
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial

PLANTED = DataSpec(source="planted_scores", name="p", options={"num_labels": 10, "peak": 0.9})
TRAINED = DataSpec(source="model_scores", name="t", options={"dataset": "planted"})


def fingerprint(spec, tmp_path):
    return sources.data_fingerprint(spec, tmp_path, tmp_path)


def test_every_source_of_scores_has_a_version():
    assert set(sources.VERSIONS) == set(scores.SOURCES)
    with pytest.raises(SettingsError, match="source of scores is 'none'; expected one of planted"):
        sources.source_version(DataSpec(source="none", name="n"))


def test_fingerprint_follows_options_and_version_but_not_the_name(tmp_path, monkeypatch):
    first = fingerprint(PLANTED, tmp_path)
    assert first == fingerprint(DataSpec(**{**vars(PLANTED), "name": "other"}), tmp_path)
    others = DataSpec(source="planted_scores", name="p", options={"num_labels": 10, "peak": 0.5})
    assert first != fingerprint(others, tmp_path)
    monkeypatch.setitem(sources.VERSIONS, "planted_scores", 2)
    assert sources.source_version(PLANTED) == 2
    assert first != fingerprint(PLANTED, tmp_path)


def test_fingerprint_of_trained_scores_follows_the_data_and_the_method(tmp_path, monkeypatch):
    known = {"data": "a", "version": 1}
    monkeypatch.setattr(
        "bench.data.sources.data_fingerprint", lambda *given: known["data"], raising=False
    )
    monkeypatch.setattr(sources, "card", lambda name: FakeCard(known["version"]))
    found = [fingerprint(TRAINED, tmp_path)]
    known["data"] = "b"
    found.append(fingerprint(TRAINED, tmp_path))
    known["version"] = 2
    found.append(fingerprint(TRAINED, tmp_path))
    assert len(set(found)) == 3
    known["data"] = None
    assert fingerprint(TRAINED, tmp_path) is None


class FakeCard:
    def __init__(self, version):
        self.version = version


def test_torch_is_not_needed():
    code = "import sys, bench.decoding.sources; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def build_trial(num_labels, k, name="peak 0.9", **options):
    return Trial(
        data=DataSpec(source="planted_scores", name=name, options={"num_labels": num_labels}),
        model=ModelSpec(method="dense", encoder="linear", options={"k": k} | options),
        train=TrainSpec(),
    )


def test_trials_are_chosen_by_settings_of_problem_and_contender():
    trials = [build_trial(10, 5), build_trial(20, 5), build_trial(20, 7, recompute=True)]
    assert sources.select(trials, {}) == trials
    assert sources.select(trials, {"num_labels": "20"}) == trials[1:]
    assert sources.select(trials, {"num_labels": "20", "k": "7"}) == trials[2:]
    assert sources.select(trials, {"recompute": "True"}) == trials[2:]
    assert sources.select(trials, {"scores": "peak 0.9"}) == trials


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"labels": "20"}, "no trial has a setting 'labels'; expected k, num_labels, scores"),
        ({"num_labels": "30"}, "no trial has num_labels = '30'; there are 10, 20"),
        ({"num_labels": "10", "k": "7"}, "no trial has k = '7'; there are 5"),
    ],
)
def test_what_no_trial_has_is_named(where, message):
    with pytest.raises(SettingsError, match=message):
        sources.select([build_trial(10, 5), build_trial(20, 7)], where)
