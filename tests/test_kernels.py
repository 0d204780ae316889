"""Compiled kernels that are kept on disk: when they are compiled anew, and where they lie."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import kernels
from bench.store.files import private_folder

ROOT = Path(__file__).parent.parent
INNER = "from bench.store.kernels import njit\n@njit(cache=True)\ndef one():\n    return 1\n"
OUTER = """
from bench.inner import one
from bench.store.kernels import njit

@njit(cache=True)
def call():
    return one()

print(call(), sum(call.stats.cache_hits.values()))
"""


@pytest.fixture
def copy(tmp_path):
    """A tree of the parts that keep kernels, and two kernels in two files."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "baselines").mkdir()
    (tmp_path / "bench" / "store").mkdir()
    for name in (
        "__init__.py", "errors.py", "store/__init__.py", "store/files.py", "store/kernels.py",
        "store/locks.py",
    ):  # fmt: skip
        shutil.copy(ROOT / "bench" / name, tmp_path / "bench" / name)
    (tmp_path / "bench" / "inner.py").write_text(INNER)
    (tmp_path / "bench" / "outer.py").write_text(OUTER)
    return tmp_path


def call(tree, **changes):
    """What the outer kernel answers in a process of its own, and how often it was kept."""
    answer = subprocess.run(
        [sys.executable, "-m", "bench.outer"],
        cwd=tree,
        env={k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | changes,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return answer.stdout.split()


def test_a_kernel_is_compiled_anew_when_one_that_it_calls_in_another_file_changes(copy):
    assert call(copy) == ["1", "0"]
    assert call(copy) == ["1", "1"]
    (copy / "bench" / "inner.py").write_text(INNER.replace("return 1", "return 2"))
    assert call(copy) == ["2", "0"]


def test_kernels_lie_where_nobody_else_can_write(copy):
    call(copy)
    [folder] = (copy / "bench" / "__pycache__").glob("*-kernels-*")
    assert folder.stat().st_mode & 0o077 == 0
    assert {file.suffix for file in folder.rglob("*.nb*")} == {".nbi", ".nbc"}
    assert not list((copy / "bench" / "__pycache__").glob("*.nb*"))


def test_kernels_that_another_could_have_put_there_are_not_loaded(copy):
    call(copy)
    [folder] = (copy / "bench" / "__pycache__").glob("*-kernels-*")
    folder.chmod(0o770)
    assert call(copy, XDG_CACHE_HOME=str(copy / "own")) == ["1", "0"]
    [other] = (copy / "own").glob("*-kernels-*")
    assert list(other.rglob("*.nbi"))


def test_a_private_folder_is_this_users_alone_and_no_link(tmp_path):
    made = private_folder(tmp_path / "a" / "b")
    assert made is not None
    assert made.stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(made)
    (tmp_path / "file").touch()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    assert [private_folder(tmp_path / name) for name in ("link", "file", "open")] == [None] * 3
    if os.geteuid() == 0:
        os.chown(made, 65534, 65534)
        assert private_folder(made) is None


def _imported(tree):
    """(module, name) of all that a file takes from our packages, `import a.b` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("bench", "baselines")
        ):
            yield from ((node.module, alias.asname or alias.name) for alias in node.names)


def _is_kernel(node):
    return isinstance(node, ast.FunctionDef) and any(
        "njit" in ast.unparse(decorator) for decorator in node.decorator_list
    )


def test_all_that_kernels_use_of_other_files_is_in_files_that_count():
    """Numba compiles in what a kernel names: functions, and constants by their value."""
    sources = {str(file.relative_to(ROOT)) for file in kernels.kernel_sources()}
    assert {"bench/mach/decode/filtered.py", "bench/mach/decode/kernels.py"} <= sources
    across = set()
    for file in kernels.kernel_sources():
        tree = ast.parse(file.read_text(encoding="utf-8"))
        origin = {name: module for module, name in _imported(tree)}
        used = {
            name.id
            for node in ast.walk(tree)
            if _is_kernel(node)
            for statement in node.body
            for name in ast.walk(statement)
            if isinstance(name, ast.Name)
        }
        across |= {(file.name, origin[name]) for name in used & set(origin)}
    assert ("filtered.py", "bench.mach.decode.kernels") in across
    assert {f"{module.replace('.', '/')}.py" for _, module in across} <= sources


def test_no_kernel_is_kept_but_by_the_sources_digest():
    for package in ("bench", "baselines"):
        for file in (ROOT / package).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            if file.name != "kernels.py":
                assert "numba.njit" not in text
                assert "from numba import njit" not in text
