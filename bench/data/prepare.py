"""Builds the cache entries of data specs, in a process of its own: `python -m bench.data.prepare`.

Reads one JSON line a spec from stdin. A trial that finds its data prepared has a set-up time and a
memory peak of its own, not those of parsing.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench.data.prepared import load_dataset
from bench.data.raw import DataError
from bench.settings import DataSpec


def main() -> int:
    """Prepare every spec on stdin; 1 if one of them is bad."""
    parser = argparse.ArgumentParser(prog="bench.data.prepare")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("cache_dir", type=Path)
    options = parser.parse_args()
    status = 0
    for line in sys.stdin:
        try:
            load_dataset(DataSpec(**json.loads(line)), options.data_dir, options.cache_dir)
        except (DataError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
