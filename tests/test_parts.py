"""Worlds of one trial as tasks: what one takes, what it leaves, and the record of them together."""

from __future__ import annotations

import numpy as np
import pytest
from stub_trials import build_trial

from bench.data.cache import Entry, read, replace
from bench.methods.cards import card
from bench.runner import parts
from bench.runner.parts import Done
from bench.settings import ModelSpec
from bench.store import record

GIB = 1 << 30
MACHINE = {"cpu": "Some CPU", "num_cores": 2, "memory_bytes": 8 * GIB, "accelerator": None}


def test_worlds_are_tasks_where_a_trial_trains_them_one_after_another():
    def numbers(**options):
        model = ModelSpec(method="mach", options={"num_buckets": 8, "num_worlds": 5, **options})
        return card("mach").in_turn(model)

    assert numbers() == range(0)
    assert numbers(worlds_in_turn=True, first_world=2) == range(2, 7)
    assert parts.ranges_of(range(2, 7), 2) == [(2, 4), (4, 6), (6, 7)]
    assert parts.ranges_of(range(4), 1) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_a_task_takes_what_is_predicted_and_room():
    memory = {"training_bytes": 4 * GIB, "host_baseline_bytes": GIB}
    assert parts.host_bytes(memory) == 7 * GIB
    assert parts.gpu_share(memory, 24 * GIB) == 0.25
    assert parts.gpu_share(memory, 5 * GIB) == 1.0
    assert parts.gpu_share(memory, None) is None
    assert parts.host_bytes({}) is None


def test_worlds_move_from_cache_to_cache_and_damage_is_found(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    replace(here / "worlds", "k", Entry({"weight": np.arange(6.0)}, {"loss": 0.5}))
    shard = parts.read_shard(here, ["k"])
    parts.write_shard(there, shard)
    parts.write_shard(there, shard)
    found = read(there / "worlds" / "k")
    assert np.array_equal(found.arrays["weight"], np.arange(6.0))
    assert found.meta["loss"] == 0.5
    assert [path.name for path in (there / "worlds").iterdir()] == ["k"]
    damaged = {"k": {name: content.copy() for name, content in shard["k"].items()}}
    damaged["k"]["weight.npy"][-1] ^= 1
    parts.write_shard(tmp_path / "other", damaged)
    assert read(tmp_path / "other" / "worlds" / "k") is None
    parts.forget(there, ["k"])
    assert list((there / "worlds").iterdir()) == []


def made(**payload):
    trial = build_trial()
    return record.build(
        study="stub",
        trial_id=trial.trial_id,
        settings=trial.to_dict(),
        status="done",
        reason=None,
        started_at="2026-01-02T00:00:00Z",
        versions={"method": 1},
        payload=payload,
        provenance={"machine": MACHINE, "flags": {}},
    )


def test_the_record_sums_device_seconds_and_says_where_each_part_ran():
    whole = made(
        test={"P@1": 0.5},
        memory={"host_peak_bytes": 3},
        clock={"train_seconds": 0.0, "wall_seconds": 1.0, "world_seconds": [2.0, 4.0, 3.0]},
    )
    tasks = [
        Done(
            worlds=worlds,
            node_id=node_id,
            record=made(
                memory={"host_peak_bytes": peak},
                clock={"train_seconds": seconds, "wall_seconds": seconds + 1},
            ),
        )
        for worlds, node_id, seconds, peak in (
            ((0, 1), "b", 2.0, 7),
            ((1, 2), "a", 4.0, 5),
            ((2, 3), "b", 3.0, 6),
        )
    ]
    found = parts.joined(whole, tasks, started_at="2026-01-01T00:00:00Z", wall_seconds=9.0)
    assert found.block("clock")["train_seconds"] == pytest.approx(9.0)
    assert (found.wall_seconds, found.raw["started_at"]) == (9.0, "2026-01-01T00:00:00Z")
    assert max(found.block("clock")["world_seconds"]) == 4.0
    assert found.block("memory")["host_peak_bytes"] == 7
    assert found.block("test") == {"P@1": 0.5}
    assert found.provenance["num_nodes"] == 2
    told = [
        (part["worlds"], part["node"], part["wall_seconds"]) for part in found.provenance["parts"]
    ]
    assert told == [([0, 1], 0, 3.0), ([1, 2], 1, 5.0), ([2, 3], 0, 4.0)]
