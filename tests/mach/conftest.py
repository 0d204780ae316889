from collections.abc import Iterator

import pytest

from bench.mach.decode import auto
from tests.mach.costs import TYPICAL


@pytest.fixture(autouse=True)
def typical_costs() -> Iterator[None]:
    """Tests choose by costs of their own, and leave none behind."""
    auto.use_costs(TYPICAL)
    yield
    auto.use_costs(None)
