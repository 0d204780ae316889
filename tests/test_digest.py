from __future__ import annotations

import ast
from dataclasses import replace

import pytest

from bench import digest as digest_module
from bench import runner
from bench.digest import closure, code_digest
from bench.studies import STUDIES

FILES = {
    "bench/__init__.py": "",
    "bench/trial.py": '''
"""Runs."""
from typing import TYPE_CHECKING
from bench import shared
from . import near
if TYPE_CHECKING:
    from bench import report
def execute():
    """Do it."""
    import baselines.softmax
    return shared.f(1)
''',
    "bench/shared.py": "def f(x):\n    return x + 1\n",
    "bench/near.py": "from .deep.inner import value\n",
    "bench/deep/__init__.py": "kind = 1\n",
    "bench/deep/inner.py": "value = 2\n",
    "bench/report.py": "from bench import unused\n",
    "bench/unused.py": "",
    "bench/methods.py": 'METHODS = {"a": "bench.one:A"}\n',
    "bench/data/__init__.py": "",
    "bench/data/sources.py": """
SOURCES: dict = {"p": "bench.p:load"}
def load_raw():
    return 1
""",
    "baselines/__init__.py": "",
    "baselines/softmax.py": """
import json
from bench import methods
from bench.data import sources
""",
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(project, entries=("bench.trial:execute",)):
    return code_digest(entries, project)


def test_closure_follows_absolute_relative_and_inner_imports_but_not_type_checking_ones(project):
    found = closure(["bench.trial"], project)
    assert sorted(found) == [
        "baselines",
        "baselines.softmax",
        "bench",
        "bench.data",
        "bench.data.sources",
        "bench.deep",
        "bench.deep.inner",
        "bench.methods",
        "bench.near",
        "bench.shared",
        "bench.trial",
    ]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bench/shared.py", "return x + 1", "# why\n    return (x  +  1)"),
        ("bench/trial.py", "Do it.", "Do it well."),
        ("bench/trial.py", "Runs.", "Walks."),
        ("bench/shared.py", "):\n", '):\n    """New."""\n'),
        ("bench/report.py", "import", "import json\nfrom bench import"),
        ("bench/methods.py", "{", '{"b": "bench.two:B", '),
        ("bench/data/sources.py", "{", '{"q": "bench.q:load", '),
    ],
)
def test_digest_ignores_comments_docstrings_registries_and_strangers(project, name, old, new):
    before = digest(project)
    path = project / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert digest(project) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("bench/shared.py", "x + 1", "x + 2"),
        ("bench/deep/inner.py", "2", "3"),
        ("bench/deep/__init__.py", "1", "3"),
        ("bench/data/sources.py", "return 1", "return 2"),
        ("baselines/softmax.py", "import json", "import math"),
    ],
)
def test_digest_sees_code_anywhere_in_the_closure(project, name, old, new):
    before = digest(project)
    path = project / name
    path.write_text(path.read_text().replace(old, new, 1))
    assert digest(project) != before


def test_digest_depends_on_entries_but_not_on_their_order(project):
    one, two = "bench.trial:execute", "bench.unused:A"
    assert digest(project, [one, two]) == digest(project, [two, one])
    assert digest(project, [one, two]) != digest(project, [one])
    assert digest(project, [one, two]) != digest(project, [one, "bench.unused:B"])


def test_unknown_entry_is_refused(project):
    with pytest.raises(ValueError, match=r"'bench\.absent' is no module"):
        digest(project, ["bench.absent:A"])


def test_entry_of_a_users_file_counts_with_that_file(project, monkeypatch):
    (project / "my_source.py").write_text("a = 1\n")
    monkeypatch.syspath_prepend(project)
    entries = ["bench.trial", "my_source:Source"]
    before = digest(project, entries)
    (project / "my_source.py").write_text("a = 1  # one\n")
    assert digest(project, entries) == before
    (project / "my_source.py").write_text("a = 2\n")
    assert digest(project, entries) != before


def test_reporting_and_running_code_are_outside_of_what_trials_depend_on():
    pytest.importorskip("bench.trial")
    from bench.methods import METHODS

    found = closure(["bench.trial", *METHODS.values()])
    names = "studies study report runner engine record progress provenance digest __main__"
    outside = {f"bench.{name}" for name in names.split()}
    assert [module for module in found if ".".join(module.split(".")[:2]) in outside] == []


def test_empty_fields_and_empty_constants_are_told_apart():
    def text(source: str) -> str:
        return digest_module._text_of(ast.parse(source))

    assert text("x = 0") != text("x = False") != text("x = ''")
    # Fields that only some Python versions have are empty where unused, and must not show.
    assert "type_params" not in text("def f(): pass")
    assert "[]" not in text("f()")


def test_digest_of_a_mach_trial_covers_its_decode_method_alone(monkeypatch):
    trial = next(t for t in STUDIES["quickstart"]().trials("cpu") if t.model.method == "mach")
    digested = []

    def noting(entries):
        digested.append(set(closure(entries)))
        return "digest"

    monkeypatch.setattr(runner, "_digest_of", noting)
    runner.trial_digest(trial)
    options = {**trial.model.options, "decode_method": "pruned"}
    runner.trial_digest(replace(trial, model=replace(trial.model, options=options)))
    by_default, by_option = digested
    assert "bench.mach.dense_kernel" in by_default
    assert "bench.mach.pruned" not in by_default
    assert {"bench.mach.pruned_kernel", "bench.mach.dense_kernel"} <= by_option
