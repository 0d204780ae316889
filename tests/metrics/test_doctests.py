from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize("name", ["frequency", "functional", "hits", "torchmetric"])
def test_examples_in_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"bench.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
