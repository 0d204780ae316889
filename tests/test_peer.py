"""A method that somebody brings along: one file, a process of its own without torch, a card."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.methods.card import TRAINING
from bench.settings import Trial
from bench.store import record
from bench.store.costs import best_seconds, read_costs

ROOT = Path(__file__).parents[1]

PEER = """
import sys
from time import perf_counter

import numpy as np

from bench.methods.card import Card, OptionFormat
from bench.methods.cards import register
from bench.data.prepared import load_raw
from bench.data.sources import data_fingerprint
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.studies.study import Study

register(
    Card(
        name="votes",
        version=1,
        label="Votes of features",
        group="votes",
        entry=__name__,
        options=(OptionFormat(name="smoothing", text="s={}"),),
    )
)


def train(raw, smoothing):
    votes = np.full((raw.train_features.num_columns, raw.train_labels.num_columns), smoothing)
    labels = np.repeat(raw.train_labels.ids, np.diff(raw.train_features.offsets))
    np.add.at(votes, (raw.train_features.ids, labels), raw.train_features.values)
    return np.log(votes / votes.sum(axis=1, keepdims=True))


def answer(votes, raw, point):
    start, end = raw.test_features.offsets[point : point + 2]
    return int(votes[raw.test_features.ids[start:end]].sum(axis=0).argmax())


def run(trial, context):
    raw = load_raw(trial.data, context.data_dir, context.cache_dir)
    context.phase("train")
    votes = train(raw, trial.model.options["smoothing"])
    hits = [answer(votes, raw, i) == label for i, label in enumerate(raw.test_labels.ids)]
    return {
        "data": {"fingerprint": data_fingerprint(trial.data, context.data_dir, context.cache_dir)},
        "training": {"num_steps": 0, "curve": []},
        "test": {"P@1": float(np.mean(hits))},
        "resolved": {"has_torch": "torch" in sys.modules},
    }


def time(trial, context, repetitions):
    raw = load_raw(trial.data, context.data_dir, context.cache_dir)
    for repetition in repetitions:
        with repetition.timed("fit", units=1) as seconds:
            start = perf_counter()
            votes = train(raw, trial.model.options["smoothing"])
            seconds.append(perf_counter() - start)
        with repetition.timed("latency", units=1) as seconds:
            for point in range(20):
                start = perf_counter()
                answer(votes, raw, point)
                seconds.append(perf_counter() - start)
    return {"weights": "trained"}


def study():
    data = DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 1200,
            "num_test_points": 300,
            "num_features": 300,
            "num_labels": 40,
        },
    )
    model = ModelSpec(method="votes", encoder="linear", options={"smoothing": 0.5})
    trials = [Trial(data=data, model=model, train=TrainSpec(budget_seconds=20.0))]
    return Study(
        name="peer", claim="Votes count.", trials=lambda profile: trials, smoke=lambda: trials
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a person has the study file, has taken costs and has run it."""
    folder = tmp_path_factory.mktemp("peer")
    (folder / "peer.py").write_text(PEER)
    for command in ("cost", "run"):
        subprocess.run(
            [sys.executable, "-m", "bench", command, "peer.py"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            check=True,
            timeout=300,
        )
    return folder


def test_a_peer_is_recorded_like_any_method(folder):
    [path] = folder.glob("results/own/records/peer/*.jsonl")
    [kept], warnings = record.read(path)
    assert warnings == []
    assert (kept.status, kept.versions["method"]) == ("done", 1)
    assert kept.settings["model"]["method"] == "votes"
    assert kept.block("test")["P@1"] > 0.25
    assert len(kept.block("data")["fingerprint"]) == 64
    assert kept.block("resolved") == {"has_torch": False}
    assert kept.settings["train"]["num_steps"] == 1  # it trains in one piece


def test_a_peer_is_timed_in_rounds_like_any_method(folder):
    [path] = folder.glob("results/own/costs/peer/*.jsonl")
    [line], warnings = read_costs(path)
    assert warnings == []
    [row] = line.rows
    assert (row["status"], row["weights"]) == ("done", "trained")
    assert len(row["visits"]) == TRAINING.num_rounds
    assert best_seconds(row, "fit") > best_seconds(row, "latency") > 0
    [path] = folder.glob("results/own/records/peer/*.jsonl")
    assert row["cost_id"] == Trial.from_dict(record.read(path)[0][0].settings).cost_id


def test_a_second_run_of_a_peer_runs_nothing(folder):
    answer = subprocess.run(
        [sys.executable, "-m", "bench", "run", "peer.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    assert "peer: nothing to run" in answer.stdout
