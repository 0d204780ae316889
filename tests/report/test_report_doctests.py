from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from bench import report

MODULES = [module.name for module in pkgutil.walk_packages(report.__path__, "bench.report.")]
MODULES += [
    "bench.methods.card",
    "bench.methods.labels",
    "bench.cli.progress",
    "bench.cli.timing_view",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name: str) -> None:
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [each for name in MODULES for each in finder.find(importlib.import_module(name))]
    assert sum(len(each.examples) for each in found) > 15
