"""What checking the cache costs: an entry's first opening in a process, with and without digests.

Claim: recomputing the digests of the quickstart's prepared arrays takes less than 2 % of what its
trials take.

Command: `python -m bench.benchmarks.digests`. Hardware: 2 cores. Duration: seconds, once the
quickstart's data is prepared. Expected: under 2 %; exit status 1 if not.

Both ways of opening take turns in every round. The first opening of all, whose files may have to
come from the disk, is told apart: a trial reads these files in any case.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from bench import record
from bench.data import cache
from bench.data.prepared import load_dataset
from bench.settings import DataSpec
from bench.study import load_study

MOST_SHARE = 0.02


def open_seconds(spec: DataSpec, data_dir: Path, cache_dir: Path, *, is_first: bool) -> float:
    """Seconds to open a spec's prepared data; all digests are recomputed if it is the first time.

    The data must have been opened in this process before.
    """
    if is_first:
        cache.forget()
    began = time.perf_counter()
    load_dataset(spec, data_dir, cache_dir)
    return time.perf_counter() - began


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
    parser = argparse.ArgumentParser(prog="bench.benchmarks.digests", description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("data"))
    parser.add_argument("--cache-dir", type=Path, default=Path(".cache/bench"))
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    spec = load_study("quickstart").build_trials("cpu")[0].data
    folders = (options.data_dir, options.cache_dir)
    load_dataset(spec, *folders)
    with_digests, without = [], []
    for _ in range(options.rounds):
        with_digests.append(open_seconds(spec, *folders, is_first=True))
        without.append(open_seconds(spec, *folders, is_first=False))
    added = statistics.median(with_digests) - statistics.median(without)
    trial = trial_seconds(options.results, "quickstart")
    lines = [
        f"first opening {1e3 * statistics.median(with_digests):.1f} ms, "
        f"later ones {1e3 * statistics.median(without):.1f} ms (medians of {options.rounds})"
    ]
    if trial is None:
        lines.append(f"no finished quickstart trial is recorded in {options.results}")
    else:
        lines.append(f"the check is {added / trial:.2%} of a trial's {trial:.1f} s")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return int(trial is not None and added > MOST_SHARE * trial)


if __name__ == "__main__":
    sys.exit(main())
