"""What checking the cache costs: an entry's first opening in a process, with and without digests.

Claim: recomputing the digests of the quickstart's prepared arrays takes less than 2 % of what its
trials take.

Command: `python tests/benchmarks/digests.py`. Hardware: 2 cores. Duration: seconds, once the
quickstart's data is prepared. Expected: under 2 %; exit status 1 if not.

Both ways of opening take turns in every round, with the files in the system's cache: a trial reads
them in any case.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from bench.data import cache
from bench.data.prepared import load_dataset
from bench.settings import DataSpec
from bench.store import record
from bench.studies.study import load_study

MOST_SHARE = 0.02


def open_seconds(
    spec: DataSpec, data_dir: Path, cache_dir: Path, num_rounds: int
) -> tuple[float, float]:
    """Median seconds to open a spec's prepared data.

    Args:
        spec: of the data; prepared first where it is not.
        data_dir: where data sources find their files.
        cache_dir: of the prepared data.
        num_rounds: openings of either way.

    Returns:
        As at the first time in a process, when all digests are recomputed, and as at later ones.
    """
    first: list[float] = []
    later: list[float] = []
    load_dataset(spec, data_dir, cache_dir)
    for _ in range(num_rounds):
        cache.forget()
        for samples in (first, later):
            began = time.perf_counter()
            load_dataset(spec, data_dir, cache_dir)
            samples.append(time.perf_counter() - began)
    return statistics.median(first), statistics.median(later)


def trial_seconds(results_dir: Path, study: str) -> float | None:
    """Median wall time of a study's finished trials; None where none is recorded."""
    found = [
        each.block("clock").get("wall_seconds")
        for path in (results_dir / "records" / study).glob("*.jsonl")
        for each in record.read(path)[0]
        if each.status == "done"
    ]
    known = [float(seconds) for seconds in found if seconds is not None]
    return statistics.median(known) if known else None


def main() -> int:
    """Print the cost of the check; 1 if it exceeds its share of a trial."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/digests.py", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    spec = load_study("quickstart").build_trials("cpu")[0].data
    first, later = open_seconds(spec, options.data_dir, options.cache_dir, options.rounds)
    added = first - later
    trial = trial_seconds(options.results, "quickstart")
    lines = [
        f"first opening {1e3 * first:.1f} ms, later ones {1e3 * later:.1f} ms "
        f"(medians of {options.rounds})"
    ]
    if trial is None:
        lines.append(f"no finished quickstart trial is recorded in {options.results}")
    else:
        lines.append(f"the check is {added / trial:.2%} of a trial's {trial:.1f} s")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return int(trial is not None and added > MOST_SHARE * trial)


if __name__ == "__main__":
    sys.exit(main())
