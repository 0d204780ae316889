"""Reading data into the cache: bytes a second beside scikit-learn, and peaks of memory.

Claim: texts are read, counted and weighted by inverse document frequency at least as fast as
scikit-learn's `TfidfVectorizer` does it, with the same words, and sparse rows at least as fast as
its `load_svmlight_file` reads them; memory does not grow with a file but for some bytes a point.

Command: `nice python tests/benchmarks/readers.py --out results/benchmarks`. Hardware: 2 cores.
Duration: 4 minutes; `--points 10000000` takes some 3 GB of disk for its file and 5 for the cache.
Expected: a ratio of 1 or more for every file; a peak below 2 GB.

Both sides take their turns in every round, each in a process of its own whose seconds are those of
its processor: both read with one thread, and load by others moves these less than the clock's.
Ours write what they read to the cache and read it back for its checksums; scikit-learn's do not.
The peak is of anonymous memory (`RssAnon`): pages of mapped files are the system's to take back.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.planted import PlantedSource
from bench.data.prepared import load_dataset, load_raw
from bench.data.sampling import inverse_cdf, zipf
from bench.settings import DataSpec
from bench.store.provenance import collect, utc_now

_ROOT = Path(__file__).resolve().parents[2]
_BLOCK_POINTS = 100_000
_NUM_WORDS = 100_000
#: File of texts → texts, words of each on average.
TEXTS = {"long texts": (60_000, 120), "short texts": (400_000, 9)}


def write_rows(path: Path, num_points: int, seed: int = 0) -> None:
    """A file in the repository's format, 1 % as many test points in another beside it."""
    sizes = {"num_features": 100_000, "num_labels": 100_000, "labels_per_point": 3}
    for name, num in (("train", num_points), ("test", max(100, num_points // 100))):
        with (path / f"{name}.txt").open("w", encoding="ascii") as stream:
            stream.write(f"{num} 100000 100000\n")
            for start in range(0, num, _BLOCK_POINTS):
                seed += 1
                count = min(_BLOCK_POINTS, num - start)
                drawn = PlantedSource(
                    num_train_points=count, num_test_points=1, seed=seed, **sizes
                ).build(path)
                x, y = drawn.train_features, drawn.train_labels
                assert x.values is not None
                values = x.values.astype(np.int64)
                cells = [f"{i}:{v}" for i, v in zip(x.ids.tolist(), values.tolist(), strict=True)]
                names = list(map(str, y.ids.tolist()))
                ends = zip(x.offsets.tolist(), y.offsets.tolist(), strict=True)
                (at_cell, at_name), *rest = ends
                for cell_end, name_end in rest:
                    stream.write(",".join(names[at_name:name_end]) + " ")
                    stream.write(" ".join(cells[at_cell:cell_end]) + "\n")
                    at_cell, at_name = cell_end, name_end


def write_texts(path: Path, num_texts: int, mean_words: int) -> None:
    """CSV of words drawn by a Zipfian law, each text with one of 997 labels."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    lengths = draw.integers(2, 11, _NUM_WORDS)
    words = ["".join(draw.choice(letters, size=length)) for length in lengths]
    frequency = np.cumsum(zipf(_NUM_WORDS, 1.0))
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["text", "label"])
        for number in range(num_texts):
            drawn = inverse_cdf(frequency, draw.random(1 + draw.poisson(mean_words)))
            text = " ".join(words[i] for i in drawn)
            rows.writerow([f"{text.capitalize()}.", f"label {number % 997}"])


def spec_of(kind: str) -> DataSpec:
    """Data of a file of `write_rows` or `write_texts`."""
    source, options = "texts", {"train": "texts.csv"}
    if kind == "rows":
        source, options = "xmlrepo", {"train": "train.txt", "test": "test.txt"}
    return DataSpec(
        source=source,
        name="read",
        options=options,
        feature_weighting="tfidf",
        num_validation_points=100,
    )


def read_ours(kind: str, folder: Path) -> dict[str, Any]:
    """Read into an empty cache, twice: the first time a file of some lines, to compile."""
    small = folder / "small"
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        load_dataset(spec_of(kind), small, Path(cache))
        began, began_cpu = time.perf_counter(), time.process_time()
        raw = load_raw(spec_of(kind), folder, Path(cache))
        read_cpu = time.process_time()
        dataset = load_dataset(spec_of(kind), folder, Path(cache))
        ended_cpu = time.process_time()
        return {
            "seconds": ended_cpu - began_cpu,
            "read_seconds": read_cpu - began_cpu,
            "wall_seconds": time.perf_counter() - began,
            "num_words": raw.train_features.num_columns,
            "num_points": dataset.num_file_points,
        }


def read_theirs(kind: str, folder: Path) -> dict[str, Any]:
    """The same file by scikit-learn: texts with the same tokens, rows without their weighting."""
    from sklearn.datasets import load_svmlight_file
    from sklearn.feature_extraction.text import TfidfVectorizer

    began, began_cpu = time.perf_counter(), time.process_time()
    num_words = None
    if kind == "rows":
        for name in ("train.txt", "test.txt"):
            with (folder / name).open("rb") as rows:
                rows.readline()
                load_svmlight_file(rows, multilabel=True, zero_based=True)
    else:
        with (folder / "texts.csv").open(encoding="utf-8", newline="") as stream:
            texts = [row[0] for row in csv.reader(stream)][1:]
        found = TfidfVectorizer(token_pattern=r"\w+", sublinear_tf=True).fit_transform(texts)
        num_words = found.shape[1]
    ended_cpu = time.process_time()
    seconds = ended_cpu - began_cpu
    wall = time.perf_counter() - began
    return {"seconds": seconds, "wall_seconds": wall, "num_words": num_words}


def in_child(side: str, kind: str, folder: Path) -> dict[str, Any]:
    """What a reader finds in a process of its own, and the peak of its anonymous memory."""
    command = [sys.executable, __file__, "--side", side, "--kind", kind, "--folder", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(_ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, _anonymous_bytes(child.pid))
            time.sleep(0.01)
        assert child.stdout is not None
        answer = child.stdout.read()
    if child.returncode:
        raise RuntimeError(f"{side} of {kind} ended with {child.returncode}")
    return {**json.loads(answer.splitlines()[-1]), "peak_bytes": peak}


def _anonymous_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("RssAnon:")), 0)


def measure(kind: str, folder: Path, num_rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Rounds of both sides, in an order that changes with each."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "scikit-learn": []}
    for number in range(num_rounds):
        sides = list(found)[:: 1 if number % 2 else -1]
        for side in sides:
            found[side].append(in_child(side, kind, folder))
    return found


def row(name: str, num_bytes: int, found: dict[str, list[dict[str, Any]]]) -> str:
    """A row of the table: MB a second of both sides, the ratio within rounds, peaks."""
    rates = {
        side: num_bytes / 1e6 / statistics.median(each["seconds"] for each in rounds)
        for side, rounds in found.items()
    }
    pairs = zip(found["ours"], found["scikit-learn"], strict=True)
    ratio = statistics.median(theirs["seconds"] / ours["seconds"] for ours, theirs in pairs)
    peaks = [max(each["peak_bytes"] for each in rounds) / 1e6 for rounds in found.values()]
    return (
        f"| {name} | {num_bytes / 1e6:.0f} | {rates['ours']:.1f} | {rates['scikit-learn']:.1f} "
        f"| {ratio:.2f} | {peaks[0]:.0f} | {peaks[1]:.0f} |"
    )


_HEAD = (
    "| file | MB | MB/s | MB/s scikit-learn | ratio | peak MB | peak MB scikit-learn |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it and the raw seconds where `--out` says."""
    parser = argparse.ArgumentParser(prog="python tests/benchmarks/readers.py")
    parser.add_argument("--out", type=Path, help="folder for the table and the raw seconds")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--points", type=int, default=1_000_000, help="of the sparse file")
    parser.add_argument("--text-share", type=float, default=1.0, help="of the texts")
    parser.add_argument("--side", choices=("ours", "scikit-learn"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=("rows", "texts"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.side is not None:
        read = read_ours if options.side == "ours" else read_theirs
        sys.stdout.write(json.dumps(read(options.kind, options.folder)) + "\n")
        return
    source = collect(accelerator=None)
    results, lines = [], [_HEAD]
    files: dict[str, tuple[str, Callable[[Path], None]]] = {
        f"{options.points:,} sparse rows": ("rows", lambda to: write_rows(to, options.points))
    }
    for name, (num_texts, mean_words) in TEXTS.items():
        num = int(num_texts * options.text_share)
        files[f"{num:,} {name}"] = ("texts", _writer_of_texts(num, mean_words))
    for name, (kind, write) in files.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            small = Path(folder) / "small"
            small.mkdir()
            if kind == "rows":
                write_rows(small, 1000)
            else:
                write_texts(small / "texts.csv", 2000, 9)
            num_bytes = sum(path.stat().st_size for path in Path(folder).glob("*.*"))
            found = measure(kind, Path(folder), options.rounds)
        results.append({"file": name, "num_bytes": num_bytes, "rounds": found})
        lines.append(row(name, num_bytes, found))
        sys.stdout.write(f"{lines[-1]}\n")
        sys.stdout.flush()
    if options.out is None:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"measured_at": utc_now(), **source, "results": results}
    (options.out / "readers.json").write_text(json.dumps(content, indent=1) + "\n")
    (options.out / "readers.md").write_text("\n".join(lines) + "\n")


def _writer_of_texts(num_texts: int, mean_words: int) -> Callable[[Path], None]:
    return lambda folder: write_texts(folder / "texts.csv", num_texts, mean_words)


if __name__ == "__main__":
    main()
