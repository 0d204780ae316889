from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from stub_trials import build_study, build_trial

from bench import __main__, runner, study
from bench.__main__ import main
from bench.study import Study, StudyError

STUDY_FILE = """
from stub_trials import build_study, build_trial

def study():
    return build_study([build_trial(BEHAVIOUR), build_trial(method="other")], name="mine")
"""


@pytest.fixture(autouse=True)
def _stub_world(monkeypatch, tmp_path):
    def keen():
        return build_study([build_trial()], name="keen")

    module = ModuleType("bench.studies")
    module.STUDIES = {"keen": keen}
    monkeypatch.setitem(sys.modules, "bench.studies", module)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.chdir(tmp_path)
    whole = runner.plan_run
    monkeypatch.setattr(runner, "plan_run", lambda s, o: whole(s, o, digest=lambda trial: "d"))
    whole_options = __main__.RunOptions
    monkeypatch.setattr(
        __main__, "RunOptions", lambda **kw: whole_options(entry="stub_trials:execute", **kw)
    )


def write_study(tmp_path, behaviour="done"):
    path = tmp_path / "mine.py"
    path.write_text(STUDY_FILE.replace("BEHAVIOUR", repr(behaviour)))
    return str(path)


def test_list_names_studies_and_their_claims(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "keen" in out
    assert "Stubs end." in out
    assert "1 trials (cpu)" in out


def test_run_records_and_a_second_run_has_nothing_to_do(capsys, tmp_path):
    assert main(["run", "keen"]) == 0
    assert len(list(tmp_path.glob("results/records/keen/*.jsonl"))) == 1
    assert (tmp_path / ".cache/bench/logs").is_dir()
    assert "keen: 1 done; records in results/records/keen/" in capsys.readouterr().out
    assert main(["run", "keen"]) == 0
    assert "keen: nothing to run" in capsys.readouterr().out


def test_failed_trial_gives_exit_status_1_and_says_where_its_log_is(capsys, tmp_path):
    assert main(["run", write_study(tmp_path, "fail")]) == 1
    err = capsys.readouterr().err
    assert "1 trials failed" in err
    assert "ValueError: no file" in err
    assert ".cache/bench/logs/mine-" in err


def test_out_of_memory_is_no_failure(tmp_path):
    assert main(["run", write_study(tmp_path, "predict")]) == 0


def test_dry_run_says_what_would_run_and_runs_nothing(capsys, tmp_path):
    assert main(["run", write_study(tmp_path), "--dry-run", "--only", "other"]) == 0
    out = capsys.readouterr().out
    assert "mine: 1 of 1 trials would run" in out
    assert build_trial(method="other").trial_id in out
    assert not (tmp_path / "results").exists()


def test_smoke_records_go_elsewhere(tmp_path):
    assert main(["run", "all", "--smoke", "--results", "tiny"]) == 0
    assert (tmp_path / "tiny/records/keen").is_dir()
    assert not (tmp_path / "results").exists()
    assert main(["run", "keen", "--smoke", "--results", "results"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent"], "unknown study 'absent'; known: keen"),
        (["run", "absent.py"], "no study file 'absent.py'"),
        (["run", "keen", "--only", "absent"], "no trial of method 'absent'; it has stub"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("shard", ["3/2", "0/2", "1", "a/b"])
def test_wrong_shard_is_a_usage_error(capsys, shard):
    with pytest.raises(SystemExit) as ending:
        main(["run", "keen", "--shard", shard])
    assert ending.value.code == 2
    assert "expected i/n" in capsys.readouterr().err


def test_interrupt_is_told_from_failure(monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_plan", interrupt)
    assert main(["run", "keen"]) == 130


def test_reader_that_has_seen_enough_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "bench", "list"]
        answer = subprocess.run(
            command,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
    assert (answer.returncode, answer.stderr) == (1, "")


def test_data_folder_is_the_first_that_exists(tmp_path):
    assert __main__._default_data_dir() == Path("data")
    (tmp_path / "data").mkdir()
    assert __main__._default_data_dir() == Path("data")


def test_study_file_is_imported_by_the_trials_process_too(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("""
from stub_trials import BEHAVIOURS, build_study, build_trial
BEHAVIOURS["of my own"] = lambda options, emit: None
STUDY = build_study([build_trial("of my own")], name="own")
""")
    assert main(["run", str(path)]) == 0


def test_report_and_check_use_the_report_package(monkeypatch, capsys, tmp_path):
    module = ModuleType("bench.report")
    module.build = lambda results, out_dir=None, studies=None: [results / f"{studies}.md"]
    module.check = lambda results: ["table is old"]
    monkeypatch.setitem(sys.modules, "bench.report", module)
    assert main(["report", "keen"]) == 0
    assert "results/['keen'].md" in capsys.readouterr().out
    assert main(["check"]) == 1
    assert "table is old" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("x = 1", "defines no study"), ("STUDY = 3", "gives a int; expected a bench.study.Study")],
)
def test_study_file_without_a_study_is_refused(tmp_path, text, message):
    path = tmp_path / "odd.py"
    path.write_text(text)
    with pytest.raises(StudyError, match=message):
        study.load_study(str(path))


@pytest.mark.parametrize(
    ("name", "claim"), [("A b", "c"), ("../x", "c"), ("all", "c"), ("ok", " ")]
)
def test_study_needs_a_file_name_and_a_claim(name, claim):
    with pytest.raises(StudyError, match=r"no file name|no claim"):
        Study(name=name, claim=claim, trials=lambda profile: [], smoke=list)
