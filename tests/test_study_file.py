from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.commands import main
from bench.cli.process import Stopped
from bench.errors import StudyError
from bench.studies.study import load_study

ROOT = Path(__file__).parent.parent
HEAD = """\
from stub_trials import build_study, build_trial
from bench.studies.study import Study

def fail(*anything):
    raise RuntimeError("no\\nmore")

def generate(*anything):
    yield build_trial()
"""
NUM_HEAD = HEAD.count("\n")


def study_of(trials="lambda profile: [build_trial()]", **changes):
    """Source of a study on the first line after the head."""
    parts = {"trials": trials, "smoke": "lambda: [build_trial()]", "name": '"mine"', "claim": '"c"'}
    return f"STUDY = Study({', '.join(f'{k}={v}' for k, v in (parts | changes).items())})\n"


HERE = f"mine.py:{NUM_HEAD + 1}: "
CASES = {
    "syntax": ("def study(:\n", HERE + "SyntaxError: invalid syntax"),
    "indentation": ("if True:\nx = 1\n", f"mine.py:{NUM_HEAD + 2}: IndentationError: expected an"),
    "missing module": ("import my_setings\n", HERE + "ModuleNotFoundError: No module named 'my_s"),
    "exit": ("import sys; sys.exit(3)\n", HERE + "SystemExit: 3"),
    "exit of one's own": (
        "class Quit(BaseException): pass\nraise Quit('done')\n",
        f"mine.py:{NUM_HEAD + 2}: Quit: done",
    ),
    "interrupt of one's own": (
        "class Halt(KeyboardInterrupt): pass\nraise Halt\n",
        f"mine.py:{NUM_HEAD + 2}: Halt",
    ),
    "generator exit": ("raise GeneratorExit\n", HERE + "GeneratorExit"),
    "stop iteration": ("raise StopIteration(3)\n", HERE + "StopIteration: 3"),
    "unprintable": (
        "class Dumb(Exception):\n    def __str__(self): raise SystemExit\n\nraise Dumb\n",
        f"mine.py:{NUM_HEAD + 4}: Dumb",
    ),
    "text of no text": (
        "class Dumb(Exception):\n    def __str__(self): return 3\n\nraise Dumb\n",
        f"mine.py:{NUM_HEAD + 4}: Dumb",
    ),
    "odd file name": (
        "raise SyntaxError('no more', ('a\\0b', 1, 1, 'text'))\n",
        HERE + "SyntaxError: no more",
    ),
    "async study": (
        "async def study():\n    return 3\n",
        HERE + "study() is async; expected a plain function",
    ),
    "error at import": ("fail()\n", "mine.py:5: RuntimeError: no more"),
    "bare error": ("assert False\n", HERE + "AssertionError"),
    "study(x)": ("def study(x):\n    return 3\n", HERE + "TypeError: study() missing 1 required"),
    "study() raises": ("def study():\n    fail()\n", "mine.py:5: RuntimeError: no more"),
    "study() returns none": (
        "def study():\n    pass\n",
        "mine.py gives a NoneType; expected a bench",
    ),
    "two studies": ("STUDIES = {'a': fail, 'b': fail}\n", "mine.py defines no study; expected"),
    "odd studies": ("STUDIES = 3\n", "mine.py defines no study; expected"),
    "name": (study_of(name="'Über mich'"), HERE + "study name 'Über mich' is no file name"),
    "number for a name": (study_of(name="3"), HERE + "study name 3 is no file name"),
    "long name": (study_of(name="'x' * 300"), HERE + "study name 'xxx"),
    "no claim": (study_of(claim="None"), HERE + "study mine has no claim"),
    "list for a function": (study_of("[build_trial()]"), HERE + "trials of study mine is a list"),
    "kind": (study_of(kind="'training'"), HERE + "kind of study mine is 'training'"),
    "setting": (
        "from bench.settings import TrainSpec\nTrainSpec(batch_size=0)\n",
        f"mine.py:{NUM_HEAD + 2}: TrainSpec.batch_size is 0; expected at least 1",
    ),
}
TRIALS = {
    "raise": (study_of("fail"), "mine.py:5: RuntimeError: no more"),
    "none": (study_of("lambda profile: None"), HERE + "trials of study mine are a NoneType"),
    "generator": (study_of("generate"), "mine.py:7: trials of study mine are a generator"),
    "text": (study_of("lambda profile: 'ab'"), HERE + "trials of study mine are a str"),
    "strings": (
        study_of("lambda profile: ['ab']"),
        HERE + "among the trials of study mine is a str",
    ),
    "empty": (study_of("lambda profile: []"), HERE + "study mine has no trials"),
    "no argument": (study_of("lambda: []"), HERE + "TypeError: <lambda>() takes 0 positional"),
    "twice": (study_of("lambda profile: [build_trial()] * 2"), HERE + "study mine asks twice"),
    "async": (
        "async def trials(profile):\n    return []\n\n" + study_of("trials"),
        HERE + "trials() is async; expected a plain function",
    ),
    "async part": (
        "async def part(trial):\n    return ''\n\n" + study_of(part="part"),
        HERE + "part() is async; expected a plain function",
    ),
    "part raises": (study_of(part="fail"), "mine.py:5: RuntimeError: no more"),
    "part of no text": (study_of(part="lambda trial: 3"), HERE + "part of study mine gives a int"),
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def written(text, name="mine.py"):
        Path(name).write_text(HEAD + text, encoding="utf-8")
        return name

    return written


@pytest.mark.parametrize("case", CASES)
def test_whatever_a_study_file_raises_is_told_with_file_and_line(write, case):
    text, message = CASES[case]
    with pytest.raises(StudyError) as caught:
        load_study(write(text))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", TRIALS)
def test_whatever_its_trials_raise_or_are_is_told_too(write, case):
    text, message = TRIALS[case]
    study = load_study(write(text))
    with pytest.raises(StudyError) as caught:
        study.build_trials("cpu")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Stopped(signal.SIGINT)])
def test_an_interrupt_while_a_file_is_read_is_the_commands(write, monkeypatch, interrupt):
    monkeypatch.setattr("stub_trials.INTERRUPT", interrupt, raising=False)
    with pytest.raises(KeyboardInterrupt):
        load_study(write("import stub_trials\nraise stub_trials.INTERRUPT\n"))


def test_smoke_trials_are_checked_like_the_others(write):
    study = load_study(write(study_of(smoke="generate")))
    with pytest.raises(StudyError, match=r"^mine.py:7: trials of study mine are a generator"):
        study.build_smoke()


def test_a_study_without_smoke_trials_has_others_and_says_so(write, capsys):
    name = write(study_of(smoke="list"))
    assert len(load_study(name).build_trials("cpu")) == 1
    assert main(["run", name, "--smoke"]) == 2
    assert capsys.readouterr().err == "bench: study mine has no trials for --smoke\n"


def test_an_error_in_a_module_beside_the_file_names_that_module(write, tmp_path):
    (tmp_path / "my_beside.py").write_text("x = 1\ny = x.z\n", encoding="utf-8")
    with pytest.raises(StudyError, match=r"^my_beside.py:2: AttributeError: 'int' object"):
        load_study(write("import my_beside\n"))


def test_a_study_may_be_a_value_and_a_module_beside_it_is_imported(write, tmp_path, monkeypatch):
    (tmp_path / "my_sizes.py").write_text("NAME = 'beside'\n", encoding="utf-8")
    name = write("from my_sizes import NAME\nstudy = build_study([build_trial()], name=NAME)\n")
    monkeypatch.chdir("/")
    assert load_study(str(tmp_path / name)).name == "beside"


def test_a_study_of_the_suite_keeps_its_traceback(monkeypatch):
    study = load_study("quickstart")

    def fail(profile):
        raise RuntimeError("a fault of ours")

    object.__setattr__(study, "trials", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        study.build_trials("cpu")


def test_the_command_says_one_sentence_and_shows_all_where_asked(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\nx.y\n", encoding="utf-8")
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "mine.py"), "--dry-run"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert answer.returncode == 2
    assert answer.stderr.splitlines() == [
        f"bench: {tmp_path}/mine.py:2: AttributeError: 'int' object has no attribute 'y'"
    ]
    complete = subprocess.run([*command, "--traceback"], capture_output=True, text=True, cwd=ROOT)
    assert complete.returncode == 2
    assert "Traceback" in complete.stderr
    assert "x.y" in complete.stderr
