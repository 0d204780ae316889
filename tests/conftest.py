from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from bench.store import locks

# Triton reads it when it is imported: kernels then run as plain Python, without a GPU.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

_REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _denormals_are_kept():
    """A trial flushes them for as long as its process lives; a test's process lives on."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture(autouse=True, scope="session")
def _alone_on_this_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whoever measures on this machine meanwhile is not the tests' concern, nor they theirs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        patch.setattr(locks, "MACHINE_FOLDER", Path(os.environ["TMPDIR"]) / "mach-bench-runners")
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real data sets; tests that need one skip where there is none."""
    candidates = (_REPOSITORY / "data", _REPOSITORY.parent / "shared" / "data")
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    return pytest.skip(f"no data sets: none of {[str(path) for path in candidates]} exists")


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the worlds that are trained one after another in this process."""
    from bench.experiments.scale import sequential_worlds

    numbers: list[int] = []
    train = sequential_worlds.WorldTrainer._train

    def count(self: sequential_worlds.WorldTrainer, number: int) -> object:
        numbers.append(number)
        return train(self, number)

    monkeypatch.setattr(sequential_worlds.WorldTrainer, "_train", count)
    return numbers


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which `tmp_path` is not."""
    folder = Path(tempfile.mkdtemp(prefix="bench-test-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def as_nobody() -> Callable[..., str]:
    """Runs Python code as a user without any rights; what it prints, errors included."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    # The interpreter may lie where nobody may read: what is imported is imported before.
    drop = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)"

    def run(imports: str, code: str, *arguments: object) -> str:
        command = [sys.executable, "-c", f"{imports}\n{drop}\n{code}", *map(str, arguments)]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return str(subprocess.run(command, cwd=_REPOSITORY, text=True, **streams).stdout)

    return run
