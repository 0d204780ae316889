"""Prepares the data of trials in a process of its own, before the first of them starts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from bench.settings import Trial


def prepare_apart(trials: Iterable[Trial], data_dir: Path, cache_dir: Path) -> None:
    """Prepare the data of trials apart; what is bad is left to the trials to report."""
    lines = {json.dumps(trial.to_dict()["data"], sort_keys=True) for trial in trials}
    if not lines:
        return
    command = [sys.executable, "-m", "bench.data.prepare", str(data_dir), str(cache_dir)]
    subprocess.run(
        command,
        input="\n".join(sorted(lines)),
        text=True,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
