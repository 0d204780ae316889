"""Commands as processes: what they are started in, and how they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ODD = {
    "MPLBACKEND": "nonsense",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "COLUMNS": "-7",
    "HOME": "/nonexistent",
}
STUDY = """
from stub_trials import build_study, build_trial

def study():
    return build_study([build_trial(**OPTIONS)], name="mine")
"""


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if k not in ("TERM", "COLUMNS")}
    return kept | {"PYTHONPATH": str(Path(__file__).parent)} | changes


def bench(*arguments, env=None, **options):
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        env=env or environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def write_study(folder, **options):
    path = folder / "mine.py"
    path.write_text(STUDY.replace("OPTIONS", repr(options)), encoding="utf-8")
    return str(path)


def hear_signals():
    """In a child: whoever runs these tests in the background may have signals ignored."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def test_what_a_command_inherits_does_not_decide_whether_it_works(tmp_path):
    folders = ["--results", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    ran = bench("run", write_study(tmp_path), *folders, env=environment(**ODD))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "mine: 1 done" in ran.stdout
    out = ["--results", "results", "--out", str(tmp_path / "out")]
    shown = bench("report", "figure-quadratic", *out, env=environment(**ODD))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert list((tmp_path / "out" / "figures").rglob("*.png"))


def test_a_python_that_leaves_out_the_studies_claims_is_refused():
    answer = bench("list", env=environment(PYTHONOPTIMIZE="2"))
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("bench: python -OO leaves out docstrings")


@pytest.mark.parametrize("columns", ["1", "words"])
def test_odd_widths_of_a_terminal_are_taken(columns):
    answer = bench("run", "--help", env=environment(COLUMNS=columns))
    assert (answer.returncode, answer.stderr) == (0, "")


def test_closed_streams_are_no_reason_to_fail(tmp_path):
    command = f'exec "{sys.executable}" -m bench run "$1" --results r --cache-dir "$2" <&- >&- '
    study = write_study(tmp_path)
    for closed in ("", "2>&-"):
        answer = subprocess.run(
            ["bash", "-c", command.replace("r ", f"'{tmp_path}/r' ", 1) + closed, "-", study,
             str(tmp_path / "c")],
            env=environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert (answer.returncode, answer.stderr, answer.stdout) == (0, "", "")
    assert len(list((tmp_path / "r").rglob("*.jsonl"))) == 1


def test_studies_are_listed_where_the_system_has_no_locks():
    code = "import sys; sys.modules |= {'fcntl': None, 'resource': None}; import runpy; "
    code += "sys.argv = ['bench', 'list']; runpy.run_module('bench', run_name='__main__')"
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd=ROOT, capture_output=True, text=True
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "quickstart" in answer.stdout


def test_a_tree_and_a_home_that_take_nothing_send_compiled_kernels_to_a_private_folder(tmp_path):
    tree, cache, temporary = tmp_path / "tree", tmp_path / "c", tmp_path / "t"
    for package in ("bench", "baselines"):
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    for folder in {file.parent for file in tree.rglob("*.py")}:
        (folder / "__pycache__").touch()  # a file: not even root can write below it
    (tmp_path / "home").touch()
    temporary.mkdir()
    inherited = environment(HOME=str(tmp_path / "home"), TMPDIR=str(temporary))
    inherited.pop("XDG_CACHE_HOME", None)
    answer = subprocess.run(
        [sys.executable, "-m", "bench", "run", "quickstart", "--dry-run", f"--cache-dir={cache}"],
        env=inherited,
        cwd=tree,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "would run" in answer.stdout
    code = "import bench.data.csr as csr, numpy; print(csr.__file__); "
    code += "rows = csr.Csr(numpy.array([0, 1]), numpy.array([0], 'i4'), None, 1); "
    code += "rows.rows(numpy.array([0]))"
    compiled = subprocess.run(
        [sys.executable, "-c", code], env=inherited, cwd=tree, capture_output=True, text=True
    )
    assert (compiled.returncode, compiled.stderr) == (0, "")
    assert str(tree) in compiled.stdout
    [kept] = temporary.glob("mach-bench-*-kernels-*")
    assert kept.stat().st_mode & 0o777 == 0o700
    assert list(kept.rglob("*.nbi"))


@pytest.mark.parametrize(
    ("number", "status", "words"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_signals_end_a_run_with_one_sentence_however_many_come(tmp_path, number, status, words):
    pid_file = tmp_path / "pid"
    study = write_study(tmp_path, behaviour="hang", pid_file=str(pid_file))
    folders = ["--results", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    runner = subprocess.Popen(
        [sys.executable, "-m", "bench", "run", study, *folders],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_signals,
    )
    try:
        deadline = time.monotonic() + 120
        while not (pid_file.exists() and pid_file.read_text(encoding="utf-8")):
            assert runner.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        trial = int(pid_file.read_text(encoding="utf-8"))
        for _ in range(20):
            runner.send_signal(number)
            time.sleep(0.01)
        _, errors = runner.communicate(timeout=120)
    finally:
        runner.kill()
    assert errors == f"bench: {words}; a second run goes on from here\n"
    assert runner.returncode == status
    assert not Path(f"/proc/{trial}").exists()


def test_a_signal_during_the_start_is_a_sentence_too():
    code = "import os, runpy, signal, sys; sys.argv = ['bench', 'list']\n"
    code += "class Slow:\n    def find_spec(self, name, *rest):\n"
    code += "        name == 'bench.runner.run' and os.kill(os.getpid(), signal.SIGINT)\n"
    code += "sys.meta_path.insert(0, Slow())\n"
    code += "runpy.run_module('bench', run_name='__main__', alter_sys=True)\n"
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=hear_signals,
    )
    assert (answer.returncode, answer.stderr) == (130, "bench: interrupted\n")


def test_an_ignored_hang_up_stays_ignored():
    script = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
    script += "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    probe = "import bench.cli.process as p, signal; p.settle(); "
    probe += "print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    answer = subprocess.run(
        [sys.executable, "-c", script, "-c", probe],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert answer.stdout == "True\n"
