from collections.abc import Iterator

import pytest
import torch

from bench.mach.decode import auto
from tests.mach.costs import TYPICAL


@pytest.fixture(autouse=True)
def keep_process() -> Iterator[None]:
    """Costs are given, not fitted for seconds; a trial's denormals are flushed for it alone."""
    auto.use_costs(TYPICAL)
    yield
    auto.use_costs(None)
    torch.set_flush_denormal(False)
