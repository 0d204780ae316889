from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bench.cli.commands import _build_parser

FOLDER = Path(__file__).parents[2] / "examples" / "slurm"


def test_shellcheck_has_nothing_to_say_of_the_scripts():
    shellcheck = shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    scripts = sorted(FOLDER.glob("*.sh"))
    assert scripts
    answer = subprocess.run([shellcheck, *map(str, scripts)], capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (0, "")


@pytest.mark.parametrize("script", sorted(FOLDER.glob("*.sh")), ids=lambda path: path.stem)
def test_a_script_runs_a_command_that_bench_takes(script, tmp_path):
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for name, answer in (
        ("python", 'shift 2; printf "%s\\n" "$@" > command'),
        ("ray", 'case $1 in status) echo " node_a"; echo " node_b";; *) exec sleep 600;; esac'),
        ("srun", 'until [ -x "$1" ] || [ "$1" = hostname ]; do shift; done; exec "$@"'),
        ("scontrol", "echo a; echo b"),
        ("hostname", "echo 127.0.0.1"),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tools / name).chmod(0o755)
    environment = {
        "PATH": f"{tools}:/usr/bin:/bin",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "a,b",
        "SLURM_NNODES": "2",
        "SLURM_CPUS_PER_TASK": "2",
        "SLURM_MEM_PER_NODE": "1000",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_ARRAY_TASK_COUNT": "4",
    }
    command = ["bash", str(script), "quickstart", "--rerun"]
    subprocess.run(command, env=environment, check=True, timeout=60)
    options = _build_parser().parse_args((tmp_path / "command").read_text().splitlines())
    assert (options.study, options.rerun) == (["quickstart"], True)
    assert {"array": options.shard == (2, 4), "ray": options.engine == "ray"}[script.stem]
