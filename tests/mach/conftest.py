from collections.abc import Iterator

import pytest

from tests.mach.costs import TYPICAL, use_costs


@pytest.fixture(autouse=True)
def typical_costs() -> Iterator[None]:
    """Tests choose by costs of their own, and leave none behind."""
    use_costs(TYPICAL)
    yield
    use_costs(None)
