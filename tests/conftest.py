from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

# Triton reads it when it is imported: kernels then run as plain Python, without a GPU.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _denormals_are_kept():
    """A trial flushes them for as long as its process lives; a test's process lives on."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; tests that need one skip where there is none."""
    candidates = (_REPOSITORY / "data", _REPOSITORY.parent / "shared" / "data")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    return pytest.skip(f"no data sets: none of {[str(path) for path in candidates]} exists")
