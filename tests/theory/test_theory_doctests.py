import doctest

import pytest

from bench.theory import bounds, moments, outcome, published


@pytest.mark.parametrize("module", [bounds, moments, outcome, published])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
