"""What the README shows must work as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.store import record
from bench.studies.study import load_study, study_names

ROOT = Path(__file__).resolve().parents[1]


def _example(mark: str = "def study()") -> str:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if mark in block)


def _write_set(path: Path, num_points: int, rng: np.random.Generator) -> None:
    lines = [f"{num_points} 40 12"]
    for _ in range(num_points):
        label = int(rng.integers(12))
        features = sorted({label * 3, label * 3 + 1, int(rng.integers(40))})
        lines.append(f"{label} " + " ".join(f"{feature}:1" for feature in features))
    path.write_text("\n".join(lines) + "\n")


def test_the_example_study_is_about_twenty_lines_and_loads(tmp_path):
    (tmp_path / "mine.py").write_text(_example())
    assert len([line for line in _example().splitlines() if line.strip()]) < 28
    study = load_study(str(tmp_path / "mine.py"))
    methods = [trial.model.method for trial in study.build_trials("cpu")]
    assert {"mach", "full_softmax", "sampled_softmax", "centroid"} <= set(methods)


@pytest.mark.slow
def test_the_example_study_runs_on_a_users_own_files(tmp_path):
    rng = np.random.default_rng(0)
    _write_set(tmp_path / "train.txt", 1500, rng)
    _write_set(tmp_path / "test.txt", 200, rng)
    example = re.sub(r"budget_seconds=[\d.]+", "budget_seconds=2.0", _example())
    (tmp_path / "mine.py").write_text(example)
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "mine.py")]
    options = ["--data-dir", tmp_path, "--results", tmp_path / "out", "--cache-dir", tmp_path / "c"]
    subprocess.run([*command, *map(str, options)], check=True, cwd=ROOT, timeout=300)
    (path,) = (tmp_path / "out" / "records" / "mine").glob("*.jsonl")
    records, warnings = record.read(path)
    assert not warnings
    assert len(records) == 5
    assert all(found.status == "done" for found in records)
    assert max(found.raw["test"]["P@1"] for found in records) > 0.9


def test_the_example_with_a_trainer_of_ones_own_trains(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "my_folder").mkdir()
    _write_set(tmp_path / "my_folder" / "train.txt", 1500, rng)
    _write_set(tmp_path / "my_folder" / "test.txt", 200, rng)
    code = _example("lightning.Trainer") + "\nprint(trainer.current_epoch, trainer.global_step)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    answer = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.split()[-2:] == ["5", "10"]


def test_the_durations_of_the_readme_are_those_of_the_studies():
    lines = (ROOT / "README.md").read_text().splitlines()
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        named = re.match(r"\[?`make ([a-z0-9-]+)`", cells[0]) if line.startswith("|") else None
        if named:
            found[named[1]] = cells[1:]
    assert set(found) == set(study_names()) - {"amazon-r32"}
    for name, cells in found.items():
        assert load_study(name).duration.replace(" on 2 cores", "") in cells, name


def test_the_readme_installs_extras_from_a_clone():
    # No index has the package.
    assert "mach-bench[" not in (ROOT / "README.md").read_text()


def test_every_make_target_that_the_readme_names_exists():
    targets = set(re.findall(r"`make ([a-z0-9-]+)`", (ROOT / "README.md").read_text()))
    makefile = (ROOT / "Makefile").read_text()
    known = set(re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE))
    known = {word for group in known for word in group.split()}
    known |= set(" ".join(re.findall(r"^STUDIES [:+]= (.*)$", makefile, re.MULTILINE)).split())
    assert targets <= known
