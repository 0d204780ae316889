"""Prepares the data of trials in a process of its own, before the first of them starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from bench.settings import Trial


def prepare_apart(
    trials: Iterable[Trial],
    data_dir: Path,
    cache_dir: Path,
    tell: Callable[[str], None] = lambda note: None,
) -> None:
    """Prepare the data of trials apart; what is bad is left to the trials to report.

    The process and all that it starts end with this one, however it ends.

    Args:
        trials: whose data.
        data_dir: where data sources find their files.
        cache_dir: for the prepared data.
        tell: takes what a person should know, such as that a damaged entry is built again.
    """
    specs = {json.dumps(trial.to_dict()["data"], sort_keys=True) for trial in trials}
    if not specs:
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.runner.prepare", str(data_dir), str(cache_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C reaches the runner alone, which ends it
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # Its stdin stays open: that it ends means that this process is gone.
        with suppress(BrokenPipeError):
            process.stdin.write("\n".join([str(os.getpid()), *sorted(specs), "", ""]).encode())
            process.stdin.flush()
        for note in process.stdout:
            tell(note.decode(errors="replace").strip())
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with suppress(BrokenPipeError):
            process.stdin.close()
