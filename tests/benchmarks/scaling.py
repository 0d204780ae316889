"""MACH's worlds on one and two processes and nodes of this host, and simulated on many.

Claim: worlds share nothing, so that workers bring what they are until each has a world; a full
softmax that adds its gradients up is held by its network.

Command: `make scaling`, or `python tests/benchmarks/scaling.py --out results/benchmarks`; needs the
extra `[cluster]`. `--draw` draws anew what was measured. Hardware: 2 cores; the two nodes are two
on this host's loopback, with a core each. Duration: 5 minutes. Expected: a speed-up of nearly 2 by
two workers less what starting processes takes, which dwarfs worlds as small as these.

What a step of a full softmax takes is that of `output_layers.json`, measured on a machine that the
figure names. Numbers of the article are those of its slides, see `ARTICLE`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT)]

from two_nodes import two_nodes  # noqa: E402

from bench.measure.load import LoadMeter  # noqa: E402
from bench.report.plots.scaling import (  # noqa: E402
    Article,
    Network,
    Run,
    Step,
    article_plot,
    scaling_table,
    speedup_plot,
)
from bench.report.render import render_markdown  # noqa: E402
from bench.report.style import draw_files  # noqa: E402
from bench.store import record  # noqa: E402
from bench.store.provenance import git_state, machine, machine_slug, utc_now  # noqa: E402

NUM_WORLDS, NUM_STEPS = 4, 1500
#: Of a cluster's links, and of links between machines of eight GPUs: stated, not measured.
CLUSTER = Network(bytes_per_second=10e9 / 8, latency_seconds=50e-6)
GPUS = Network(bytes_per_second=100e9 / 8, latency_seconds=10e-6)
#: Hours, worlds and GPUs, queries, epochs and products are published (NeurIPS 2019 slides, p. 8:
#: 32 worlds in parallel on one p3.16x with 8 V100, B = 10,000, 10 epochs; 70 M training queries,
#: 49.46 M products). A hidden width of 2,000 is inferred from its parameters, the batch assumed.
_QUERIES, _EPOCHS, _PRODUCTS, _HIDDEN, _BATCH = 70_000_000, 10, 49_460_000, 2_000, 2_000
ARTICLE = Article(
    hours=31.8,
    workers=8,
    num_worlds=32,
    num_steps=_QUERIES * _EPOCHS // _BATCH,
    gradient_bytes=4 * (_HIDDEN + 1) * _PRODUCTS,
    source="Medini et al. 2019, NeurIPS slides, p. 8: 32 worlds on 8 V100 in 31.8 hours; the full "
    f"softmax is of {_PRODUCTS:,} products, H = {_HIDDEN:,} (inferred), batch {_BATCH:,} (assumed)",
)
STUDY = f"""
from bench import DataSpec, Study, TrainSpec, grid, mlp

SIZES = {{"num_train_points": 20000, "num_test_points": 500, "num_features": 5000}}

def trials(profile):
    options = {{**SIZES, "num_labels": 2000}}
    data = DataSpec(source="planted", name="planted", options=options)
    mach = mlp("mach", 64, num_buckets=128, num_worlds={NUM_WORLDS}, worlds_in_turn=True)
    return grid(data, [(mach, TrainSpec(num_steps={NUM_STEPS}, batch_size=128))])

def study():
    return Study(name="scaling", claim="Worlds share nothing.", trials=trials, smoke=list)
"""
_LOOK_SECONDS = 3.0
_COMMAND = ("run", "scaling.py", "--only", "mach", "--threads", "1")


def measure(folder: Path) -> list[dict[str, Any]]:
    """The same trial in one process, in two on one node, and on two nodes."""
    (folder / "scaling.py").write_text(STUDY)
    on_ray = ["--engine", "ray", "--worlds-per-task", "1"]
    ways: Mapping[str, tuple[int, int, Sequence[str]]] = {
        "1 process": (1, 1, ["taskset", "-c", "0"]),
        "2 processes on a node": (2, 1, []),
    }
    found = []
    for name, (workers, nodes, before) in ways.items():
        command = [*before, sys.executable, "-m", "bench", *_COMMAND, *on_ray]
        found.append(_timed(name, workers, nodes, command, folder))
    with two_nodes() as cluster:
        (cluster.folder / "scaling.py").write_text(STUDY)
        before_load = load_by_others()
        run = cluster.run(*_COMMAND[1:-2], "--results", "out")
        said, _ = run.communicate(timeout=600)
        if run.returncode:
            raise RuntimeError(said)
        found.append(_row("2 nodes", 2, 2, cluster.folder / "out", before_load))
    return found


def _timed(
    name: str, workers: int, nodes: int, command: Sequence[str], folder: Path
) -> dict[str, Any]:
    results, cache = folder / name / "out", folder / name / "cache"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    before_load = load_by_others()
    subprocess.run(
        [*command, "--results", str(results), "--cache-dir", str(cache)],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return _row(name, workers, nodes, results, before_load)


def load_by_others() -> float | None:
    """Share of the processors that others take while this waits: Ray's processes are not ours."""
    meter = LoadMeter()
    meter.start()
    time.sleep(_LOOK_SECONDS)
    meter.stop()
    return meter.other_share


def _row(
    name: str, workers: int, nodes: int, results: Path, before_load: float | None
) -> dict[str, Any]:
    [path] = results.glob("records/scaling/*.jsonl")
    [made], _ = record.read(path)
    parts = made.provenance["parts"]
    return {
        "name": name,
        "workers": workers,
        "nodes": nodes,
        "wall_seconds": made.wall_seconds,
        "world_seconds": made.block("clock")["world_seconds"],
        "task_seconds": [part["wall_seconds"] for part in parts],
        "nodes_of_parts": [part["node"] for part in parts],
        "load_by_others": [before_load, load_by_others()],
    }


def runs_of(content: Mapping[str, Any]) -> list[Run]:
    """Measured runs of a file."""
    return [
        Run(
            name=row["name"],
            workers=row["workers"],
            nodes=row["nodes"],
            wall_seconds=row["wall_seconds"],
            world_seconds=tuple(row["world_seconds"]),
            task_seconds=tuple(row["task_seconds"]),
            load=max((each for each in row["load_by_others"] if each is not None), default=None),
        )
        for row in content["results"]
    ]


def steps_of(path: Path) -> list[Step]:
    """Measured steps of a full softmax; its weights' gradients are as many bytes as they are."""
    content = json.loads(path.read_text())
    return [
        Step(
            machine=machine_slug(content["machine"]),
            num_labels=row["num_labels"],
            seconds=min(row["seconds"]),
            gradient_bytes=row["expected"]["weights"],
        )
        for row in content["results"]
        if row["row"] == "full softmax, Adam" and row.get("seconds")
    ]


def draw(folder: Path, content: Mapping[str, Any]) -> None:
    """Table and figures of what was measured."""
    runs, steps = runs_of(content), steps_of(folder / "output_layers.json")
    data_bytes, slug = content["data_bytes"], machine_slug(content["machine"])
    table = scaling_table(runs, CLUSTER, data_bytes)
    text = render_markdown(table).replace("## ", "# ", 1)
    text += "\n![Speed-up over workers](scaling.png)\n"
    text += "\n![Hours of the article's training](scaling-article.png)\n"
    (folder / "scaling.md").write_text(text)
    plots = {
        "scaling": speedup_plot(runs, steps, CLUSTER, data_bytes, slug),
        "scaling-article": article_plot(ARTICLE, GPUS),
    }
    for stem, plot in plots.items():
        for kind, drawn in draw_files(plot).items():
            (folder / f"{stem}{kind}").write_bytes(drawn)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write seconds, table and figures."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/scaling.py")
    parser.add_argument("--out", type=Path, required=True, help="with output_layers.json in it")
    parser.add_argument("--draw", action="store_true", help="what was measured before, anew")
    options = parser.parse_args(arguments)
    path = options.out / "scaling.json"
    if not options.draw:
        commit, is_dirty = git_state()
        with tempfile.TemporaryDirectory() as folder:
            results = measure(Path(folder))
            prepared = (Path(folder) / results[0]["name"] / "cache").glob("*/*.npy")
            data_bytes = sum(each.stat().st_size for each in prepared)
        content = {
            "measured_at": utc_now(),
            "commit": commit,
            "is_dirty": is_dirty,
            "machine": machine(accelerator=None),
            "data_bytes": data_bytes,
            "results": results,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")
    draw(options.out, json.loads(path.read_text()))


if __name__ == "__main__":
    main()
