"""Which part of the code may import which, one way only; CONTRIBUTING's map shows this table."""

from __future__ import annotations

import ast
import graphlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.store import provenance

ROOT = Path(__file__).parents[1]

#: Room → what it imports beside itself, `settings` and `errors`.
MAY_IMPORT = {
    "cli": {"data", "export", "methods", "report", "runner", "store", "studies"},
    "report": {"data", "methods", "store", "studies"},
    "runner": {"measure", "methods", "store", "studies"},
    "studies": {"data", "methods"},
    "export": {"data", "experiments", "mach", "measure", "methods", "nn", "store"},
    "experiments": {"data", "mach", "measure", "methods", "metrics", "nn", "store"},
    "baselines": {"data", "measure", "methods", "metrics", "nn", "store"},
    "mach": {"data", "methods", "metrics", "nn", "store"},
    "methods": set(),
    "nn": {"data", "metrics", "store"},
    "metrics": {"data"},
    "data": {"measure", "store"},
    "store": {"measure"},
    "measure": set(),
}
#: The files at the root of `bench/`, and what those import.
LOOSE = {
    "__init__": {
        "baselines",
        "data",
        "experiments",
        "export",
        "mach",
        "measure",
        "methods",
        "nn",
        "settings",
        "studies",
    },
    "__main__": {"cli"},
    "settings": {"errors"},
    "errors": set(),
}


def room_of(module: str) -> str:
    top, _, rest = module.partition(".")
    return top if top == "baselines" else rest.partition(".")[0] or "__init__"


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module == "bench":
        return [f"bench.{alias.name}" for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module else []


def arrows() -> dict[tuple[str, str], str]:
    """(room, room that it imports) → one place where it does."""
    found = {}
    for path in [*(ROOT / "bench").rglob("*.py"), *(ROOT / "baselines").rglob("*.py")]:
        own = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported(node):
                other = room_of(name)
                if name.partition(".")[0] in ("bench", "baselines") and other != own:
                    found[own, other] = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
    return found


def test_rooms_import_what_the_table_says_and_nothing_else():
    table = {(room, other) for room, others in (MAY_IMPORT | LOOSE).items() for other in others}
    found = {
        arrow: where
        for arrow, where in arrows().items()
        if arrow[0] in LOOSE or arrow[1] not in ("settings", "errors")
    }
    assert {a: where for a, where in found.items() if a not in table} == {}
    assert table - set(found) == set()


def test_arrows_between_rooms_run_one_way():
    order = list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())  # raises at a circle
    assert set(order) == set(MAY_IMPORT)


def test_few_files_lie_loose_at_the_root():
    assert {path.stem for path in (ROOT / "bench").glob("*.py")} == set(LOOSE)
    folders = {path.parent.name for path in (ROOT / "bench").glob("*/__init__.py")}
    assert folders | {"baselines"} == set(MAY_IMPORT)


def test_the_map_of_contributing_is_this_table():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(?:bench/)?(\w+)/` \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    told = {room: set(re.findall(r"\w+", others)) for room, others in rows}
    assert told == MAY_IMPORT


def test_studies_are_listed_from_another_folder_without_torch_or_numba(tmp_path):
    answer = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bench", "list"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0
    assert answer.stdout.startswith("quickstart")
    imported = {line.rpartition("|")[2].strip() for line in answer.stderr.splitlines()}
    assert "bench.studies.grids" in imported
    assert not {"torch", "numba", "matplotlib"} & imported


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_a_new_record_tells_the_commit_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    block = provenance.collect(accelerator=None)
    assert block["commit"] == head.stdout.strip()
    assert isinstance(block["is_dirty"], bool)
