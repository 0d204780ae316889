from collections.abc import Iterator

import pytest
import torch

from tests.mach.costs import TYPICAL, use_costs


@pytest.fixture(autouse=True)
def keep_process() -> Iterator[None]:
    """Costs are given, not fitted for seconds; a trial's denormals are flushed for it alone."""
    use_costs(TYPICAL)
    yield
    use_costs(None)
    torch.set_flush_denormal(False)
