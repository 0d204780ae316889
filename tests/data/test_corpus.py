from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from bench.data import corpus
from bench.data.pysource import PySource
from bench.data.source import DataError
from tests.data.python_packages import install, random_files

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def hard_dependencies() -> set[str]:
    """What an installation without extras brings along on every supported Python."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    pending = [str(entry) for entry in project["dependencies"]]
    while pending:
        requirement = Requirement(pending.pop())
        marker = requirement.marker
        name = normalised(requirement.name)
        if name in found or not all(
            marker is None or marker.evaluate({"python_version": version, "extra": ""})
            for version in PYTHONS
        ):
            continue
        found.add(name)
        pending += importlib.metadata.requires(name) or []
    return found


def test_corpus_versions_are_those_of_the_constraints():
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    versions = {normalised(name): version for name, version in pinned.items()}
    assert {name: versions.get(name) for name in corpus.DISTRIBUTIONS} == corpus.DISTRIBUTIONS, (
        "constraints.txt pins another version: change bench.data.corpus with it, fingerprint too"
    )


def test_installed_corpus_has_the_pinned_fingerprint():
    found = corpus.installed(corpus.DISTRIBUTIONS)
    assert {each.name: each.version for each in found} == corpus.DISTRIBUTIONS, (
        "this environment was not installed by constraints.txt"
    )
    assert corpus.corpus_fingerprint(found) == corpus.FINGERPRINT


def test_corpus_is_hard_dependencies_with_one_wheel_for_all():
    assert set(corpus.DISTRIBUTIONS) <= hard_dependencies()
    for name in corpus.DISTRIBUTIONS:
        wheel = importlib.metadata.distribution(name).read_text("WHEEL") or ""
        assert "Root-Is-Purelib: true" in wheel, name
        assert set(re.findall("^Tag: (.*)$", wheel, re.MULTILINE)) <= {
            "py3-none-any",
            "py2-none-any",
        }, name


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where distributions are found."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def fingerprint(*names: str) -> str:
    return corpus.corpus_fingerprint(corpus.installed(names))


def test_fingerprint_is_that_of_names_versions_and_content(site):
    files = {"x/a.py": b"a = 1", "x/b.py": b"b = 1"}
    install(site, "same-for-all", files, python="311")
    install(site / "other", "same-for-all", files, python="313")
    install(site / "newer", "same-for-all", files, version="1.1")
    install(site / "edited", "same-for-all", files | {"x/b.py": b"b = 2"})
    install(site / "moved", "same-for-all", {"x/a.py": b"a = 1", "x/c.py": b"b = 1"})
    found = {}
    for folder in (site, *(site / name for name in ("other", "newer", "edited", "moved"))):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(folder))
            found[folder.name] = fingerprint("same-for-all")
    assert found["site"] == found["other"]
    assert len(set(found.values())) == 4


def test_files_are_those_of_the_record(site):
    install(site, "one", {"one/z.py": b"z", "one/a.py": b"a", "one/data.txt": b"t"})
    (site / "one" / "stray.py").write_bytes(b"stray")
    record = site / "one-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + "../../bin/run.py,sha256=abc,3\n")
    (one,) = corpus.installed(["one", "not-installed"])
    assert [path for path, _ in one.files] == ["one/a.py", "one/z.py"]
    assert one.read(*one.files[1]) == b"z"


@pytest.mark.parametrize("damage", ["edited", "gone"])
def test_file_that_is_not_the_recorded_one_is_refused(site, damage):
    install(site, "many", random_files())
    path = site / "many" / "part0" / "module0.py"
    if damage == "edited":
        path.write_bytes(path.read_bytes() + b"more = v1\n")
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"module0\.py: .*; expected .* of many 1\.0"):
        PySource(num_labels=5, distributions="many").build(site)


def test_other_versions_than_pinned_make_another_corpus(site, monkeypatch):
    install(site, "many", random_files())
    install(site, "few", {"few/a.py": b"v1 = v2"})
    monkeypatch.setattr(corpus, "DISTRIBUTIONS", {"many": "1.0", "few": "1.0"})
    monkeypatch.setattr(corpus, "FINGERPRINT", fingerprint("many", "few"))
    source = PySource(num_labels=5)
    identity = source.identity(site, site)
    assert source.build(site).facts["corpus_matches_constraints"] is True
    monkeypatch.setattr(corpus, "DISTRIBUTIONS", {"many": "1.0", "few": "1.0", "absent": "1.0"})
    assert source.identity(site, site) == identity  # by what is there, not by what is asked for
    monkeypatch.setattr(corpus, "DISTRIBUTIONS", {"many": "1.0"})
    assert source.build(site).facts["corpus_matches_constraints"] is False
    assert source.identity(site, site) != identity


def test_corpus_of_nothing_is_refused(site):
    with pytest.raises(DataError, match=r"none of \['absent'\] is installed"):
        PySource(num_labels=5, distributions="absent").identity(site, site)
