"""What `examples/` shows works as it stands there."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import cli

from bench.mach.module import Mach
from tests.test_readme import _write_set

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.filterwarnings("ignore:.*num_workers.*")
@pytest.mark.parametrize("name", ["transformer", "dense"])
def test_a_network_of_ones_own_learns_with_a_head(name, capsys):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) <= 40
    torch.manual_seed(0)
    runpy.run_path(str(path), run_name="__main__")
    told = capsys.readouterr().out.split()[-1]
    assert float(told.removeprefix("tensor(").removesuffix(")")) > 0.7


@pytest.mark.skipif(
    not cli._JSONARGPARSE_SIGNATURES_AVAILABLE, reason="no jsonargparse: the extra [cli]"
)
def test_data_and_model_come_from_a_file_of_settings(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "my_folder").mkdir()
    _write_set(tmp_path / "my_folder" / "train.txt", 2500, rng)
    _write_set(tmp_path / "my_folder" / "test.txt", 200, rng)
    answer = subprocess.run(
        [sys.executable, EXAMPLES / "cli.py", "fit", "-c", EXAMPLES / "cli.yaml"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    (checkpoint,) = tmp_path.rglob("*.ckpt")
    quality = float(checkpoint.stem.partition("val_P_at_1=")[2])
    assert quality > 0.9
    assert Mach.load_from_checkpoint(checkpoint).head.num_worlds == 8
