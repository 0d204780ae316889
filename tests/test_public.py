"""The public names, and that README's examples need no others."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bench

ROOT = Path(__file__).resolve().parents[1]
PUBLIC = [
    "Card",
    "DataFacts",
    "DataSizes",
    "DataSpec",
    "ExtremeClassifier",
    "ExtremeDataModule",
    "FullSoftmax",
    "Mach",
    "MachHead",
    "ModelSpec",
    "Predictor",
    "SampledSoftmax",
    "SampledSoftmaxHead",
    "SoftmaxHead",
    "Source",
    "Study",
    "TrainSpec",
    "Trial",
    "Tuning",
    "WorldsStrategy",
    "data_facts",
    "export_model",
    "grid",
    "linear",
    "mlp",
    "predict_memory",
    "predict_step",
    "recipe",
    "set_environment",
    "shrink",
    "tuned",
]


def test_these_are_the_public_names_and_each_is_there():
    assert sorted(bench.__all__) == PUBLIC
    assert all(getattr(bench, name).__name__ == name for name in PUBLIC)
    assert set(PUBLIC) <= set(dir(bench))


def test_what_type_checkers_see_is_what_is_imported():
    tree = ast.parse(Path(bench.__file__).read_text())
    told = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module not in ("__future__", "typing")
        for alias in node.names
    }
    assert told == bench._HOMES


def test_another_name_is_refused():
    with pytest.raises(AttributeError, match="'bench' has no attribute 'Nothing'"):
        bench.Nothing  # noqa: B018


def test_what_a_study_is_made_of_imports_no_torch():
    code = "import sys; from bench import DataSpec, Study, TrainSpec, grid, mlp, shrink, Card"
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


def test_readme_uses_public_names_alone():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("bench", "baselines")
        ):
            assert node.module == "bench"
            assert {alias.name for alias in node.names} <= set(PUBLIC)
