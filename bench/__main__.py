"""`python -m bench`: the process is settled before imports that take time, then a command runs."""

from __future__ import annotations

import sys

from bench.cli import process

if __name__ == "__main__":
    process.settle()
    from bench.cli.commands import main

    process.begin()
    ending = main()
    process.end()
    sys.exit(ending)
