import subprocess
import sys
from types import SimpleNamespace

import pytest

from bench.experiments.decoding import problems, sources
from bench.settings import DataSpec, SettingsError

PLANTED = DataSpec(source="planted_scores", name="p", options={"num_labels": 10, "peak": 0.9})
TRAINED = DataSpec(source="model_scores", name="t", options={"dataset": "planted"})


def fingerprint(spec, tmp_path):
    return sources.data_fingerprint(spec, tmp_path, tmp_path)


def test_every_source_of_scores_has_a_version():
    assert set(sources.VERSIONS) == set(problems.SOURCES)
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
    monkeypatch.setattr(sources, "fingerprint_of_data", lambda *given: known["data"])
    monkeypatch.setattr(sources, "card", lambda name: SimpleNamespace(version=known["version"]))
    found = [fingerprint(TRAINED, tmp_path)]
    known["data"] = "b"
    found.append(fingerprint(TRAINED, tmp_path))
    known["version"] = 2
    found.append(fingerprint(TRAINED, tmp_path))
    assert len(set(found)) == 3
    known["data"] = None
    assert fingerprint(TRAINED, tmp_path) is None


def test_torch_is_not_needed():
    code = "import sys, bench.experiments.decoding.sources; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
