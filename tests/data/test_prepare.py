import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from bench.data.prepared import load_dataset
from bench.runner.preparation import prepare_apart
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial


def _trial(seed: int) -> Trial:
    options = {
        "num_train_points": 50,
        "num_test_points": 10,
        "num_features": 80,
        "num_labels": 5,
        "seed": seed,
    }
    data = DataSpec(source="planted", name="planted", options=options, num_validation_points=5)
    model = ModelSpec(method="frequency", encoder="linear")
    return Trial(data=data, model=model, train=TrainSpec())


def test_prepared_data_is_found_in_the_cache_and_not_built_again(tmp_path, monkeypatch):
    trials = [_trial(0), dataclasses.replace(_trial(0), replicate=1), _trial(1)]
    prepare_apart(trials, tmp_path, tmp_path / "cache")

    def refuse(*args):
        raise AssertionError("built again")

    monkeypatch.setattr("bench.data.prepared.load_raw", refuse)
    for trial in trials:
        assert load_dataset(trial.data, tmp_path, tmp_path / "cache").num_labels == 5


def test_bad_data_is_left_to_the_trials_to_report(tmp_path):
    options = {"train": "missing.txt", "test": "missing.txt"}
    data = DataSpec(source="xmlrepo", name="bad", options=options)
    prepare_apart([dataclasses.replace(_trial(0), data=data)], tmp_path, tmp_path / "cache")


def test_a_damaged_entry_is_built_again_and_the_person_is_told(tmp_path):
    trials, cache = [_trial(0)], tmp_path / "cache"
    prepare_apart(trials, tmp_path, cache)
    [path] = cache.glob("*/validation_features.values.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    notes: list[str] = []
    prepare_apart(trials, tmp_path, cache, notes.append)
    [note] = notes
    assert note.endswith("is built again: validation_features.values.npy is not as it was written")
    assert path.read_bytes() == content


# A source that is slow and has a process of its own.
SLOW = """
import subprocess, sys, time
from pathlib import Path
import bench.runner.prepare as prepare

def load_dataset(spec, data_dir, cache_dir):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    import os
    (data_dir / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)

prepare.load_dataset = load_dataset
prepare.main()
"""
RUNNER = """
import sys
from pathlib import Path
from bench.runner import preparation
from test_prepare import _trial

class Sys:
    executable = sys.argv[2]

preparation.sys = Sys
preparation.prepare_apart([_trial(0)], Path(sys.argv[1]), Path(sys.argv[1]))
"""


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _wait_until(claim):
    deadline = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_preparation_and_its_processes_die_when_the_runner_is_killed(tmp_path):
    slow = tmp_path / "slow.py"
    slow.write_text(SLOW)
    python = tmp_path / "python"  # in place of `python -m bench.runner.prepare`
    python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {slow} "$@"\n')
    python.chmod(0o755)
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parents[1])))
    command = [sys.executable, "-c", RUNNER, str(tmp_path), str(python)]
    pids = tmp_path / "pids"
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as runner:
        try:
            _wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
            preparing = [int(pid) for pid in pids.read_text().split()]
            assert all(map(_is_alive, preparing))
        finally:
            runner.send_signal(signal.SIGKILL)
    _wait_until(lambda: not any(map(_is_alive, preparing)))
