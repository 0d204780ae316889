"""A cluster of two nodes on this host's loopback, one of which is killed under its trial.

`make cluster-demo` prints what came of it; `test_two_nodes.py` asserts it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.store import record

ROOT = Path(__file__).resolve().parents[2]
#: Blocks of a record that settings alone decide.
QUALITY = ("status", "data", "training", "test", "estimators", "resolved", "worlds")
STUDY = """
from bench import DataSpec, Study, TrainSpec, grid, mlp

SIZES = {"num_train_points": 2000, "num_test_points": 200, "num_features": 500, "num_labels": 50}

def trials(profile):
    data = DataSpec(source="planted", name="planted", options=SIZES, num_validation_points=100)
    train = TrainSpec(num_steps=%d, batch_size=64)
    mach = mlp("mach", 16, num_buckets=8, num_worlds=4, share_encoder=True)
    return grid(data, [(model, train) for model in (mach, mlp("full_softmax", 16))])[-%d:]


def worlds(profile):
    made = []
    for labels in (1, 3):
        data = DataSpec(source="planted", name=f"{labels} labels a point",
                        options={**SIZES, "labels_per_point": labels}, num_validation_points=100)
        mach = mlp("mach", 16, num_buckets=8, num_worlds=4, worlds_in_turn=True)
        made += grid(data, [(mach, TrainSpec(num_steps=%d, batch_size=64))])
    return [trial for trial in made if trial.model.method == "mach"]

def study():
    return Study(name="%s", claim="Two nodes find what one does.", trials=%s,
                 smoke=lambda: trials("cpu"))
"""


def wait_until(claim: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not claim():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} seconds")
        time.sleep(0.05)


# Started as by `ray.cluster_utils`, which leaves nodes on loopback: `ray start` does not.
KEEPER = """
import signal, sys
from pathlib import Path
from ray.cluster_utils import Cluster

cluster, folder = Cluster(), Path(sys.argv[1])
common = {"num_cpus": 1, "memory": 2 << 30, "object_store_memory": 80 << 20}
for name in ("a", "b"):
    (folder / name).mkdir()
    node = cluster.add_node(
        node_ip_address="127.0.0.1",
        include_dashboard=False,
        env_vars={"NODE_FOLDER": str(folder / name)},
        **common,
    )
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # to its workers a zombie would be alive
print(cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


class TwoNodes:
    """Nodes a and b on loopback, with a CPU, 2 GB and a cache folder each.

    Args:
        folder: for all of it, of a name short enough for Ray's sockets.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Whatever is started here inherits the token, and is known by it.
        self._token = secrets.token_hex(32)
        self._environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(folder),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # elsewhere too it keeps to loopback then
            "RAY_health_check_period_ms": "500",
        }
        (folder / "ray").mkdir()
        self._keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, str(folder)],
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def wait(self) -> None:
        """Until both nodes are there."""
        assert self._keeper.stdout is not None
        self.address, pid = self._keeper.stdout.readline().split()
        self._raylet_b = int(pid)

    def bench(self, *arguments: str) -> subprocess.Popen[str]:
        """A command in this folder; what it prints can be read."""
        return subprocess.Popen(
            [sys.executable, "-m", "bench", *arguments],
            env=self._environment,
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, study: str, *arguments: str) -> subprocess.Popen[str]:
        """`bench run` on the cluster."""
        cluster = ["--engine", "ray", "--address", self.address, "--threads", "1"]
        return self.bench(
            "run", study, *cluster, "--node-cache-dir", "$NODE_FOLDER/cache", *arguments
        )

    def trials_of(self, node: str, study: str = "mine") -> set[str]:
        """Ids of a study's trials that have begun on a node."""
        logs = (self.folder / node / "cache/logs").glob(f"{study}-*.log")
        return {path.stem.removeprefix(f"{study}-") for path in logs}

    def worlds_of(self, node: str) -> set[tuple[str, int]]:
        """Trial and world of each task of one world that has begun on a node."""
        found = set()
        for name in self.trials_of(node, "worlds"):
            trial_id, _, worlds = name.partition("-worlds-")
            first, _, stop = worlds.partition("-")
            if first != stop:
                found.add((trial_id, int(first)))
        return found

    def kill_b(self) -> None:
        """SIGKILL for the process that is node b to Ray."""
        os.kill(self._raylet_b, signal.SIGKILL)

    def ours(self) -> list[int]:
        """Processes that were started here, or by those."""
        mark, found = f"RAY_AUTH_TOKEN={self._token}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return [pid for pid in found if pid != os.getpid()]

    def workers(self) -> list[int]:
        """Processes of trials, their guards included."""
        return [pid for pid in self.ours() if _is(pid, "bench.runner.worker")]

    def stop(self) -> list[int]:
        """End the nodes; what was left after all, and has been killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.communicate(timeout=30)
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.ours(), "all end", 10)
        left = self.ours()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left


def _is(pid: int, word: str) -> bool:
    with contextlib.suppress(OSError):
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


@contextlib.contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """A running cluster, of which nothing is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir="/tmp"))
    nodes = TwoNodes(folder)
    try:
        nodes.wait()
        yield nodes
    finally:
        left = nodes.stop()
        shutil.rmtree(folder)
    if left:
        raise RuntimeError(f"processes {left} outlived the cluster, and were killed")


def write_study(
    folder: Path, name: str, num_steps: int, num_trials: int = 2, trials: str = "trials"
) -> str:
    """A study of whole trials (`trials`), or of trials whose worlds are tasks (`worlds`)."""
    told = num_steps, num_trials, num_steps, name.removesuffix(".py"), trials
    (folder / name).write_text(STUDY % told)
    return name


def quality(results: Path, study: str = "mine") -> dict[str, dict[str, object]]:
    """Trial id → what settings alone decide; the file may have no trial twice."""
    [path] = results.glob(f"records/{study}/*.jsonl")
    records, warnings = record.read(path)
    found = {each.trial_id: {name: each.raw[name] for name in QUALITY} for each in records}
    assert not warnings
    assert len(found) == len(records)
    return found


def parts_of(results: Path, study: str) -> dict[str, list[dict[str, object]] | None]:
    """Trial id → worlds and where they were trained, if they were trained apart."""
    [path] = results.glob(f"records/{study}/*.jsonl")
    return {each.trial_id: each.raw["provenance"].get("parts") for each in record.read(path)[0]}


def kill_one(nodes: TwoNodes) -> dict[str, object]:
    """Run a study on both nodes, and kill the second one under its first trial."""
    return _killed(nodes, write_study(nodes.folder, "mine.py", 300), nodes.trials_of)


def kill_one_of_worlds(nodes: TwoNodes, num_steps: int = 100) -> dict[str, object]:
    """Train the worlds of two trials on both nodes, and kill the second one under its first one."""
    study = write_study(nodes.folder, "worlds.py", num_steps, trials="worlds")
    return _killed(nodes, study, nodes.worlds_of)


def _killed(nodes: TwoNodes, study: str, begun: Callable[[str], set[Any]]) -> dict[str, object]:
    """What became of a study, with what had begun on each node, and of the same without Ray."""
    name = study.removesuffix(".py")
    began = time.monotonic()
    run = nodes.run(study, "--results", f"{name}-both")
    wait_until(lambda: begun("b") or run.poll() is not None, "b begins")
    lost = begun("b")
    nodes.kill_b()
    said, _ = run.communicate(timeout=900)
    if run.returncode:
        raise RuntimeError(said)
    seconds = time.monotonic() - began
    local = ["--threads", "1", "--results", f"{name}-one", "--cache-dir", f"{name}-one/cache"]
    nodes.bench("run", study, *local).communicate(timeout=900)
    return {
        "said": said,
        "lost": lost,
        "on a": begun("a"),
        "parts": parts_of(nodes.folder / f"{name}-both", name),
        "cluster": quality(nodes.folder / f"{name}-both", name),
        "local": quality(nodes.folder / f"{name}-one", name),
        "seconds": seconds,
    }


def main() -> None:
    """Print what came of it."""
    began = time.monotonic()
    with two_nodes() as nodes:
        print(f"two nodes at {nodes.address}, one CPU each: {time.monotonic() - began:.1f} s")
        found = kill_one(nodes)
        print(found["said"])
        print(f"node b was killed with -9 under {', '.join(found['lost'])}")
        print(f"the study took {found['seconds']:.1f} s")
        for trial_id, blocks in found["cluster"].items():
            nodes_of = [name for name in ("a", "b") if trial_id in nodes.trials_of(name)]
            same = "equal" if blocks == found["local"][trial_id] else "NOT EQUAL"
            print(
                f"  {trial_id}: ran on {', '.join(nodes_of)}; quality {same} to local, bit for bit"
            )
    with two_nodes() as nodes:
        found = kill_one_of_worlds(nodes)
        print(found["said"])
        print(f"node b was killed with -9; worlds that had begun there: {found['lost']}")
        for trial_id, parts in found["parts"].items():
            is_same = found["cluster"][trial_id] == found["local"][trial_id]
            same = "equal" if is_same else "NOT EQUAL"
            print(f"  {trial_id}: {len(parts)} tasks; quality {same} to local, bit for bit")


if __name__ == "__main__":
    main()
