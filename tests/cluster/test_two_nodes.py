from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="Ray, the extra [cluster], is not installed")

from two_nodes import (
    ROOT,
    kill_one,
    kill_one_of_worlds,
    quality,
    two_nodes,
    wait_until,
    write_study,
)

from bench.runner.ray_engine import ClusterError, Share, refuse_other, share_of
from bench.store import record

GIB = 1 << 30


def whole(num_threads, num_gpus):
    return Share(num_threads=num_threads, num_gpus=num_gpus, memory_bytes=64 * GIB)


@pytest.mark.parametrize(
    ("node", "num_threads", "share"),
    [
        (whole(8, 0.0), None, (8, 0.0, 64)),
        (whole(8, 0.0), 2, (2, 0.0, 16)),
        (whole(16, 4.0), None, (4, 1.0, 16)),
        (whole(16, 4.0), 1, (1, 0.25, 4)),
        (whole(16, 1.0), 16, (16, 1.0, 64)),
    ],
)
def test_a_trial_takes_the_same_share_of_threads_memory_and_gpus(node, num_threads, share):
    found = share_of(node, num_threads)
    assert (found.num_threads, found.num_gpus, found.memory_bytes / GIB) == share


def test_what_a_node_cannot_be_is_refused_by_name():
    with pytest.raises(ClusterError, match="num_threads is 9; expected at most 8"):
        share_of(whole(8, 0.0), 9)
    with pytest.raises(ClusterError, match=r"node 10\.0\.0\.2:7: numpy is 2\.0; expected 2\.4"):
        refuse_other("10.0.0.2:7", {"torch": "2", "numpy": "2.0"}, {"torch": "2", "numpy": "2.4"})


def test_worlds_as_tasks_give_the_record_of_one_process(open_folder):
    folder = open_folder  # of a short name, for Ray's sockets
    study = write_study(folder, "worlds.py", 20, trials="lambda profile: worlds(profile)[:1]")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    for results, engine in (("one", []), ("many", ["--engine", "ray", "--worlds-per-task", "2"])):
        command = [sys.executable, "-m", "bench", "run", study, "--threads", "1"]
        where = ["--results", results, "--cache-dir", f"{results}/cache"]
        subprocess.run([*command, *engine, *where], cwd=folder, env=environment, check=True)
    assert quality(folder / "many", "worlds") == quality(folder / "one", "worlds")
    [path] = folder.glob("many/records/worlds/*.jsonl")
    [found], _ = record.read(path)
    parts = found.provenance["parts"]
    assert [part["worlds"] for part in parts] == [[0, 2], [2, 4]]
    clock = found.block("clock")
    assert clock["train_seconds"] == sum(part["train_seconds"] for part in parts)
    assert len(clock["world_seconds"]) == 4
    assert clock["wall_seconds"] > max(part["wall_seconds"] for part in parts)
    assert found.provenance["num_nodes"] == 1
    assert all(part["machine"] == found.machine for part in parts)


@pytest.fixture(scope="module")
def nodes():
    with two_nodes() as nodes:
        yield nodes


@pytest.mark.slow
def test_an_interrupted_and_a_killed_driver_leave_no_trial(nodes):
    study = write_study(nodes.folder, "long.py", 10_000_000, 1)
    drivers = [nodes.run(study, "--results", name) for name in ("first", "second")]
    wait_until(
        lambda: nodes.trials_of("a", "long") and nodes.trials_of("b", "long"),
        "both nodes have a trial",
    )
    assert nodes.workers()
    drivers[0].send_signal(signal.SIGINT)
    drivers[1].kill()
    said, _ = drivers[0].communicate(timeout=60)
    drivers[1].communicate()
    assert (drivers[0].returncode, said.splitlines()[-1][:19]) == (130, "bench: interrupted;")
    wait_until(lambda: not nodes.workers(), "their trials end", 30)


@pytest.mark.slow
def test_a_dead_node_costs_its_own_trials_and_no_bit(nodes):
    found = kill_one(nodes)
    assert len(found["lost"]) == 1
    assert found["lost"] < found["on a"]
    assert found["on a"] == set(found["cluster"])
    assert f"{min(found['lost'])} runs again: its node died" in found["said"]
    assert found["cluster"] == found["local"]


@pytest.mark.slow
def test_a_dead_node_costs_its_own_worlds_and_no_bit():
    with two_nodes() as nodes:
        found = kill_one_of_worlds(nodes)
    assert found["cluster"] == found["local"]
    assert len(found["cluster"]) == 2
    told = re.findall(r"world (\d) of (\w+) runs again", found["said"])
    again = [(trial_id, int(world)) for world, trial_id in told]
    assert again
    assert len(set(again)) == len(again)
    assert set(again) <= found["lost"]
    whole = {(trial_id, world) for trial_id in found["cluster"] for world in range(4)}
    assert found["on a"] == whole
    for parts in found["parts"].values():
        assert [part["worlds"] for part in parts] == [[world, world + 1] for world in range(4)]
