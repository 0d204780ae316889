"""The process that builds cache entries of data specs: `python -m bench.runner.prepare`.

Reads its parent's number and then one JSON line a spec from stdin, up to an empty line; what a
person should know goes to stdout, a line each. A trial that finds its data prepared has a set-up
time and a memory peak of its own, not those of parsing.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path

from bench.data.prepared import load_dataset
from bench.data.source import DataError
from bench.runner.parent_death import die_with_parent, end_group_with_this, take_over_stdin
from bench.settings import DataSpec


def main() -> int:
    """Prepare every spec on stdin; 1 if one of them is bad."""
    parser = argparse.ArgumentParser(prog="bench.runner.prepare")
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("cache_dir", type=Path)
    options = parser.parse_args()
    end_group_with_this()
    lines = take_over_stdin()
    die_with_parent(int(lines.get()))
    notes = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no note
    logging.getLogger("bench").addHandler(logging.StreamHandler(notes))
    status = 0
    while line := lines.get().strip():
        try:
            load_dataset(DataSpec(**json.loads(line)), options.data_dir, options.cache_dir)
        except (DataError, OSError) as error:
            sys.stderr.write(f"{error}\n")
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
