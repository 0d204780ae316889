"""A trial that is killed in training goes on from its last checkpoint, to the same record."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.experiments import checkpoints, training
from bench.measure.clock import Stopwatch
from bench.runner.child import Job, build_record
from bench.runner.run import LocalEngine
from bench.settings import ModelSpec, Trial
from bench.store.record import to_plain
from tests.export.models import context_of, planted, trial_of

ROOT = Path(__file__).parents[2]
# Of two passes of 8 steps each, with a validation after each.
STEPS, KILLED_AT = 16, 10
MODELS = {
    "mach": ModelSpec(
        method="mach",
        hidden_dims=(8, 6),
        options={"num_buckets": 16, "num_worlds": 3, "feature_dropout": 0.2},
    ),
    "sampled": ModelSpec(
        method="sampled_softmax",
        hidden_dims=(8,),
        options={"num_samples": 20, "sampler": "unigram"},
    ),
    "lean": ModelSpec(
        method="full_softmax",
        hidden_dims=(8,),
        options={"update": "row_adagrad", "weight_type": "bfloat16"},
    ),
}


def trial(name: str) -> Trial:
    train = {"num_epochs": None, "num_steps": STEPS, "num_validations": 2}
    return trial_of(planted(), MODELS[name], **train, keep_best=name == "mach")


def quality(payload):
    """What must be the same again: not seconds nor bytes of the process."""
    blocks = ("data", "training", "test", "worlds", "estimators", "resolved")
    return to_plain([payload[name] for name in blocks])


_KILLED = f"""
import dataclasses, os, signal, sys
from pathlib import Path
from bench.experiments import checkpoints, recipe, training
from tests.export.models import context_of
from tests.methods.test_checkpoints import trial

checkpoints.EVERY_SECONDS, checkpoints._MOST_SHARE = float(sys.argv[3]), 1e9
recipe.EVENT_SECONDS = 0.0
steps = []

def emit(event):
    if event.get("event") == "step":
        steps.append(event)
        if len(steps) == {KILLED_AT}:
            os.kill(os.getpid(), signal.SIGKILL)

training.run(trial(sys.argv[1]), dataclasses.replace(context_of(Path(sys.argv[2])), emit=emit))
"""


def kill_in_training(name: str, folder: Path, every_seconds: float = 0.0) -> list[Path]:
    """Start a trial that kills itself in its 10th step; the checkpoints that it leaves."""
    command = [sys.executable, "-c", _KILLED, name, str(folder), str(every_seconds)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    return [path for path in (folder / "cache/checkpoints").glob("*") if path.is_dir()]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    assert len(kill_in_training("mach", folder)) == 1
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What nobody has interrupted."""
    return training.run(trial("mach"), context_of(tmp_path_factory.mktemp("whole")))


def _resumed(caplog) -> bool:
    return any("goes on after step 9" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("name", ["sampled", "lean"])
def test_a_killed_trial_goes_on_to_the_same_record(name, tmp_path, caplog):
    [left] = kill_in_training(name, tmp_path / "killed")
    assert left.name.startswith(f"{trial(name).trial_id}-")
    caplog.set_level(logging.WARNING)
    resumed = training.run(trial(name), context_of(tmp_path / "killed"))
    assert _resumed(caplog)
    assert quality(resumed) == quality(training.run(trial(name), context_of(tmp_path / "whole")))


def test_a_best_validation_before_the_kill_is_kept(killed, whole, caplog):
    caplog.set_level(logging.WARNING)
    resumed = training.run(trial("mach"), context_of(killed))
    assert _resumed(caplog)
    assert quality(resumed) == quality(whole)
    assert resumed["training"]["kept_step"] in (8, 16)


def test_a_changed_byte_begins_anew(killed, whole, tmp_path, caplog):
    [left] = (path for path in (killed / "cache/checkpoints").glob("*") if path.is_dir())
    array = left / "0.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    caplog.set_level(logging.WARNING)
    again = training.run(trial("mach"), context_of(killed))
    assert not _resumed(caplog)
    assert "is not as it was written" in caplog.text
    assert quality(again) == quality(whole)


def test_another_trial_code_or_number_of_threads_begins_anew(tmp_path, monkeypatch):
    def key(of: Trial, fingerprint: str = "f") -> str:
        return checkpoints.Store(of, context_of(tmp_path), fingerprint).path.name

    own = key(trial("mach"))
    assert key(trial("mach")) == own
    assert key(dataclasses.replace(trial("mach"), replicate=1)) != own
    assert key(trial("mach"), "other data") != own
    for name, value in (
        ("provenance.code_digest", lambda: "other"),
        ("current_versions", lambda trial, kind: {"method": 2}),
        ("torch.get_num_threads", lambda: 99),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(f"bench.experiments.checkpoints.{name}", value)
            assert key(trial("mach")) != own


def test_a_short_training_writes_none_and_a_large_one_seldom(tmp_path):
    assert kill_in_training("mach", tmp_path, every_seconds=300.0) == []
    store = checkpoints.Store(trial("mach"), context_of(tmp_path), "f")
    large = checkpoints.Checkpoints(store, 10**10, Stopwatch())
    assert large.interval == pytest.approx(10**10 / 2e8 / 0.02)


def test_checkpoints_are_taken_away_when_the_record_is_written(tmp_path, monkeypatch):
    context = context_of(tmp_path)
    jobs = []
    for name in ("mach", "lean"):
        of = trial(name)
        jobs.append(Job(study="s", trial=of, entry="e", versions={}, provenance={"machine": {}}))
        (context.checkpoints_dir / f"{of.trial_id}-{'0' * 32}").mkdir(parents=True)
        (context.checkpoints_dir / f".{of.trial_id}-{'0' * 32}.partial").mkdir()

    def run_job(job, context):
        status = "done" if job is jobs[0] else "error"
        reason = None if status == "done" else "killed"
        return build_record(
            job, started_at="2026-01-01T00:00:00Z", status=status, reason=reason, payload={}
        )

    monkeypatch.setattr("bench.runner.run.run_job", run_job)
    records = LocalEngine(context).run(jobs)
    next(records)
    assert len(list(context.checkpoints_dir.iterdir())) == 4  # its record is not written yet
    assert len(list(records)) == 1
    left = sorted(path.name for path in context.checkpoints_dir.iterdir())
    assert [trial("lean").trial_id in name for name in left] == [True, True]


STUDY = """
import os, signal, sys
from pathlib import Path
from bench import Study
from bench.experiments import checkpoints
from tests.methods.test_checkpoints import trial

killed = Path(__file__).with_name("killed")
write = checkpoints.Store.save_checkpoint

def save(self, checkpoint, path, storage_options=None):
    write(self, checkpoint, path)
    if checkpoint["global_step"] == 9 and not killed.exists():
        killed.touch()
        os.kill(os.getpid(), signal.SIGKILL)

if "bench.runner.worker" in str(sys.modules["__main__"].__spec__):
    checkpoints.EVERY_SECONDS, checkpoints._MOST_SHARE = 0.0, 1e9
    checkpoints.Store.save_checkpoint = save

STUDY = Study(name="mine", claim="Goes on.", trials=lambda profile: [trial("mach")], smoke=list)
"""


def test_a_run_after_a_kill_records_what_an_uninterrupted_one_does(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "mine.py").write_text(STUDY)
    found, reasons = [], []
    for name, statuses in (("first", ["error", "done"]), ("other", ["done"])):
        folder = tmp_path / name
        places = [f"--{kind}={folder / kind}" for kind in ("data-dir", "results", "cache-dir")]
        for status in statuses:
            ended = main(["run", str(tmp_path / "mine.py"), *places])
            assert ended == (1 if status == "error" else 0)
            left = list((folder / "cache-dir" / "checkpoints").glob("*-*"))
            assert bool(left) == (status == "error")
        [path] = (folder / "results" / "records" / "mine").glob("*.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert [line["status"] for line in lines] == statuses
        found.append(lines[-1])
        reasons += [line["reason"] for line in lines]
    assert "killed by SIGKILL" in reasons[0]
    assert quality(found[0]) == quality(found[1])
