from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from stub_trials import build_study, build_trial, stub_card

from bench.cli import commands
from bench.cli.commands import main
from bench.errors import StudyError
from bench.methods import cards
from bench.report import check, write
from bench.report.tables import comparison
from bench.runner import run
from bench.store import record
from bench.store.budgets import Budget, read_budgets, write_budgets
from bench.store.costs import read_costs
from bench.store.locks import this_user
from bench.studies.study import Study

STUDY_FILE = """
from stub_trials import build_study, build_trial

def study():
    return build_study([build_trial(BEHAVIOUR), build_trial(method="other")], name="mine")
"""
BUDGETED = {"budget_seconds": 20.0}


@pytest.fixture(autouse=True)
def _stub_world(monkeypatch, tmp_path):
    module = ModuleType("studies_of_stubs")
    module.STUDIES = {
        "keen": lambda: build_study([build_trial()], name="keen"),
        "pair": lambda: build_study([build_trial(), build_trial(method="other")], name="pair"),
        "brief": lambda: build_study([build_trial(train=BUDGETED)], name="brief"),
    }
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("bench.studies.study.MODULES", [module.__name__])
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{here}{os.pathsep}{here.parent}")
    monkeypatch.chdir(tmp_path)


def write_study(tmp_path, behaviour="done", name="mine"):
    path = tmp_path / "mine.py"
    path.write_text(STUDY_FILE.replace("BEHAVIOUR", repr(behaviour)).replace("mine", name))
    return str(path)


def write_trials(trials, before=""):
    text = "import dataclasses\nfrom stub_trials import build_study, build_trial\n"
    Path("two.py").write_text(f"{text}{before}\nSTUDY = build_study({trials}, name='two')\n")
    return "two.py"


def only_file(kind, study):
    [path] = Path("results/own").glob(f"{kind}/{study}/*.jsonl")
    return path


def cost_line(study):
    [line], warnings = read_costs(only_file("costs", study))
    assert warnings == []
    return line


def written(tmp_path):
    return sorted(p.parent.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.jsonl"))


def test_list_names_studies_and_their_claims(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "keen" in out
    assert "Stubs end." in out
    assert "1 trials (cpu)" in out


def test_run_records_among_own_results_and_a_second_run_has_nothing_to_do(capsys, tmp_path):
    assert main(["run", "keen"]) == 0
    assert written(tmp_path) == ["results/own/records/keen"]
    assert (tmp_path / ".cache/bench/logs").is_dir()
    out = capsys.readouterr().out
    assert "keen: 1 done; records in results/own/records/keen/" in out
    assert " MB of data and weights; see `bench cache`" in out
    assert main(["run", "keen"]) == 0
    assert "keen: nothing to run" in capsys.readouterr().out


def test_costs_are_refused_beside_a_runner_of_this_machine(capsys, tmp_path):
    code = "import time; from bench.store.locks import measuring\n"
    code += "with measuring('run', 'wide'):\n"
    code += "    print('here', flush=True)\n    time.sleep(600)"
    command = [sys.executable, "-c", code]
    here = Path(__file__).parents[1]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=here) as other:
        try:
            assert other.stdout.readline() == b"here\n"
            assert main(["cost", "keen"]) == 2
            said = capsys.readouterr().err
            assert f"process {other.pid} of {this_user()} (run wide) would disturb it" in said
            assert written(tmp_path) == []
            assert main(["cost", "keen", "--smoke"]) == 0  # which measures nothing
        finally:
            other.kill()
    assert main(["cost", "keen"]) == 0


def test_own_results_do_not_depend_on_the_reference(capsys, tmp_path):
    assert main(["run", "keen", "--publish"]) == 0
    assert written(tmp_path) == ["results/records/keen"]
    assert main(["run", "keen"]) == 0
    assert written(tmp_path) == ["results/own/records/keen", "results/records/keen"]


def test_the_reference_is_for_the_suites_own_studies(capsys, tmp_path):
    assert main(["run", write_study(tmp_path), "--publish"]) == 2
    assert "--publish is for the suite's" in capsys.readouterr().err
    assert main(["run", "keen", "--publish", "--results", "r"]) == 2
    assert "both name a folder" in capsys.readouterr().err
    assert written(tmp_path) == []


def test_a_study_of_ones_own_cannot_take_a_built_in_ones_name(capsys, tmp_path):
    assert main(["run", write_study(tmp_path, name="keen")]) == 2
    assert "defines a study named 'keen', as the suite does" in capsys.readouterr().err


def test_missing_budgets_are_measured_and_written_on_the_first_run(capsys, tmp_path):
    assert main(["run", "brief", "--dry-run"]) == 0
    assert "20 s, in steps once a step has been timed" in capsys.readouterr().out
    assert main(["run", "brief"]) == 0
    assert "1 trials have a budget in seconds, which is turned into" in capsys.readouterr().out
    [budget] = read_budgets(tmp_path / "results/own/budgets/brief.json").values()
    assert (budget.seconds_per_step, budget.num_steps) == (0.25, 80)
    [kept] = record.read(only_file("records", "brief"))[0]
    assert kept.settings["train"]["num_steps"] == 80
    capsys.readouterr()
    assert main(["run", "brief"]) == 0
    out = capsys.readouterr().out
    assert "nothing to run" in out
    assert "turned into" not in out


def test_a_first_run_trains_what_the_reference_trained(tmp_path):
    trial = build_trial(train=BUDGETED)
    steps = {"budget_seconds": 20.0, "num_steps": 7, "seconds_per_step": 3.0}
    known = Budget(cost_id=trial.cost_id, measured={}, **steps)
    write_budgets(tmp_path / "results/budgets/brief.json", "brief", [known])
    assert main(["run", "brief"]) == 0
    assert record.read(only_file("records", "brief"))[0][0].settings["train"]["num_steps"] == 7
    assert not (tmp_path / "results/own/budgets").exists()


def test_budgets_come_from_costs_on_record_until_the_code_behaves_differently(
    capsys, tmp_path, monkeypatch
):
    assert main(["cost", "brief"]) == 0
    capsys.readouterr()
    assert main(["budget", "brief"]) == 0
    out = capsys.readouterr().out
    assert "20 s are 80 steps" in out
    assert "round 1" not in out
    monkeypatch.setattr("bench.methods.cards.PROTOCOL", 2)
    assert main(["budget", "brief"]) == 0
    assert "round 1" in capsys.readouterr().out


def test_costs_of_a_whole_study_are_recorded(capsys, tmp_path):
    assert main(["cost", "pair"]) == 0
    methods = [row["settings"]["model"]["method"] for row in cost_line("pair").rows]
    assert methods == ["stub", "other"]
    out = capsys.readouterr().out
    assert "[round 1 of 7, row 1 of 2]" in out
    assert "250 ms a step, 1 × the first" in out
    assert main(["cost", "pair", "--unless-recorded"]) == 0
    assert "costs were timed before" in capsys.readouterr().out


def test_costs_are_recorded_without_the_rows_of_a_peer_that_is_not_installed(
    capsys, tmp_path, monkeypatch
):
    lacking = stub_card("other", library="no_such_library")
    own = [each for each in cards._registered if each.name != "other"]
    monkeypatch.setattr(cards, "_registered", [*own, lacking])
    assert main(["cost", "pair"]) == 0
    out = capsys.readouterr().out
    assert "no_such_library is not installed, its rows are left out" in out
    assert "not recorded" not in out
    assert [row["settings"]["model"]["method"] for row in cost_line("pair").rows] == ["stub"]


@pytest.mark.parametrize("choice", [["--only", "other"], ["--where", "behaviour=done"]])
def test_costs_of_a_part_of_a_study_are_shown_and_not_recorded(capsys, tmp_path, choice):
    trials = "[build_trial(), build_trial('fail_in_second_round'), build_trial(method='other')]"
    assert main(["cost", write_trials(trials), *choice]) == 0
    assert "shown and not recorded" in capsys.readouterr().out
    assert written(tmp_path) == []


def test_costs_of_a_whole_table_of_a_study_are_recorded(capsys, tmp_path):
    before = "one = build_trial()\nfew = dataclasses.replace(one.data, num_top_labels=7)"
    trials = "[one, dataclasses.replace(one, data=few), build_trial(method='other')]"
    path = write_trials(trials, before)
    assert main(["cost", path, "--where", "num_top_labels=7"]) == 0
    assert "not recorded" not in capsys.readouterr().out
    rows = cost_line("two").rows
    assert [row["settings"]["data"]["num_top_labels"] for row in rows] == [7]


def test_a_row_that_failed_in_the_newest_session_is_not_timed_before(capsys, tmp_path):
    assert main(["cost", "pair"]) == 0
    path = only_file("costs", "pair")
    line = json.loads(path.read_text())
    line["rows"][1] |= {"status": "error", "reason": "killed", "visits": []}
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    capsys.readouterr()
    assert main(["cost", "pair", "--unless-recorded"]) == 0
    assert "costs were timed before" not in capsys.readouterr().out
    assert main(["cost", "pair", "--unless-recorded"]) == 0
    assert "costs were timed before" in capsys.readouterr().out


def test_rates_that_share_a_cost_are_timed_each_on_its_own_weights(capsys, tmp_path):
    path = write_trials(
        "[build_trial(train={'learning_rate': r}, replicate=i) for r in (0.1, 0.2) for i in (0, 1)]"
    )
    assert main(["cost", path]) == 0
    rows = cost_line("two").rows
    assert [row["settings"]["train"]["learning_rate"] for row in rows] == [0.1, 0.2]
    assert len({row["weights_of"] for row in rows}) == 2
    capsys.readouterr()
    assert main(["cost", path, "--unless-recorded"]) == 0
    assert "costs were timed before" in capsys.readouterr().out
    line = json.loads(only_file("costs", "two").read_text())
    for row in line["rows"]:
        row |= {"weights": "trained", "weights_of": None}
    only_file("costs", "two").write_text(json.dumps(line) + "\n")
    assert main(["cost", path, "--unless-recorded"]) == 0
    assert "costs were timed before" not in capsys.readouterr().out


def test_a_row_is_timed_on_the_weights_of_the_steps_that_its_budget_came_to(tmp_path):
    assert main(["run", "brief"]) == 0
    assert main(["cost", "brief"]) == 0
    [kept] = record.read(only_file("records", "brief"))[0]
    assert cost_line("brief").rows[0]["weights_of"] == kept.trial_id


def test_a_run_takes_the_trials_with_a_setting(capsys, tmp_path):
    rates = "[build_trial(note=0, train={'learning_rate': r}) for r in (0.02, 0.1)]"
    notes = "[build_trial(note=n) for n in (1, 2)]"
    path = write_trials(f"{rates} + {notes} + [build_trial(method='other', note=1)]")
    assert main(["run", path, "--where", "note=1", "--where", "method=stub"]) == 0
    assert "two: 1 trials to run" in capsys.readouterr().out
    for text in ("learning_rate=0.02", "learning_rate=2e-2"):
        assert main(["run", path, "--dry-run", "--where", text]) == 0
        assert "two: 1 of 1 trials would run" in capsys.readouterr().out
    for text, known in (("note", "0, 1, 2"), ("learning_rate", "0.001, 0.02, 0.1")):
        assert main(["run", path, "--where", f"{text}=5"]) == 2
        assert f"no trial has {text} = '5'; there are {known}" in capsys.readouterr().err


def test_a_row_that_fails_gives_exit_status_1_and_no_row_is_a_usage_error(capsys, tmp_path):
    path = write_study(tmp_path, "fail_in_second_round")
    assert main(["cost", path]) == 1
    assert "ERROR ValueError: no more" in capsys.readouterr().out
    assert main(["cost", path, "--where", "behaviour=absent"]) == 2
    assert "no trial has behaviour = 'absent'; there are done, fail_in" in capsys.readouterr().err


def test_an_audit_finds_what_was_recorded(capsys, tmp_path):
    assert main(["run", "keen", "pair", "--publish"]) == 0
    assert main(["audit", "--count", "2", "--seed", "5"]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 records are made again (--seed 5)" in out
    assert "audit: 2 found; written to results/own/audits/" in out
    [path] = tmp_path.glob("results/own/audits/*.jsonl")
    assert len(path.read_text().splitlines()) == 2
    assert not (tmp_path / "results/audits").exists()


@pytest.mark.parametrize(
    ("choice", "folder"), [(["--publish"], "results"), (["--results", "mine"], "mine")]
)
def test_an_audit_writes_beside_the_records_where_that_is_asked_for(tmp_path, choice, folder):
    assert main(["run", "keen", *choice]) == 0
    assert main(["audit", "keen", *choice]) == 0
    assert len(list(tmp_path.glob(f"{folder}/audits/*.jsonl"))) == 1
    assert not (tmp_path / "results/own").exists()


def test_an_audit_of_nothing_is_a_usage_error(capsys):
    assert main(["audit", "keen"]) == 2
    assert "no finished record of this machine" in capsys.readouterr().err


def test_failed_trial_gives_exit_status_1_and_says_where_its_log_and_data_are(capsys, tmp_path):
    assert main(["run", write_study(tmp_path, "predict")]) == 0  # out of memory is an outcome
    assert main(["run", write_study(tmp_path, "fail"), "--data-dir", "elsewhere"]) == 1
    err = capsys.readouterr().err
    assert f"data was looked for in {tmp_path}/elsewhere" in err
    assert "1 trials failed" in err
    assert "ValueError: no file" in err
    assert ".cache/bench/logs/mine-" in err


def test_a_report_on_no_records_says_so(capsys, tmp_path):
    assert main(["report"]) == 0
    assert capsys.readouterr().out == "results/own holds no records; `bench run STUDY` makes some\n"
    assert main(["report", "--publish"]) == 0
    assert "results holds no records" in capsys.readouterr().out


def test_a_report_tells_of_lines_that_it_cannot_read(capsys, tmp_path):
    assert main(["run", "keen"]) == 0
    path = only_file("records", "keen")
    with path.open("a") as file:
        file.write("no JSON\n")
    capsys.readouterr()
    assert main(["report", "keen"]) == 0
    assert capsys.readouterr().err.startswith(f"warning: results/own/records/keen/{path.name}:2: ")


@pytest.mark.parametrize(
    ("source", "options", "wrong", "message"),
    [
        ("planted", {}, 'method="mach", options={"num_bucket": 2, "num_worlds": 2}',
         "unknown ['num_bucket'], missing ['num_buckets']"),
        ("planted", {}, 'method="sampled_softmax", options={"sampler": "unigramm"}', "'unigramm'"),
        ("planted", {}, 'method="omikuji"', "'mlp'"),
        ("vw", {"train": "a", "test": "b", "num_labels": "9"}, 'method="centroid"',
         "two.py: VwSource.num_labels is '9'; expected a whole"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_taken_is_refused_before_any_trial(
    capsys, tmp_path, source, options, wrong, message
):
    Path("two.py").write_text(f"""
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.studies.study import Study
DATA = DataSpec(source={source!r}, name="p", options={{"num_labels": 2}} | {options})
def trials(profile):
    models = [ModelSpec(method="frequency", encoder="linear"), ModelSpec({wrong})]
    return [Trial(data=DATA, model=model, train=TrainSpec()) for model in models]
STUDY = Study(name="two", claim="One is misspelt.", trials=trials, smoke=list)
""")
    for command in (["run", "--dry-run"], ["run"], *([["cost"]] if options else [])):
        assert main([command[0], "two.py", *command[1:]]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_dry_run_says_what_would_run_and_runs_nothing(capsys, tmp_path):
    assert main(["run", write_study(tmp_path), "--dry-run", "--only", "other"]) == 0
    out = capsys.readouterr().out
    assert "mine: 1 of 1 trials would run" in out
    assert build_trial(method="other").trial_id in out
    assert not (tmp_path / "results").exists()


def test_a_smoke_trial_of_two_studies_runs_once(tmp_path, capsys):
    assert main(["run", "keen", "pair", "--smoke", "--results", "tiny"]) == 0
    records = [line for path in tmp_path.rglob("tiny/**/*.jsonl") for line in record.read(path)[0]]
    assert sorted((one.study, one.settings["model"]["method"]) for one in records) == [
        ("keen", "stub"),
        ("pair", "other"),
        ("pair", "stub"),
    ]
    assert "pair: 1 done" in capsys.readouterr().out


def test_smoke_records_go_elsewhere(tmp_path):
    assert main(["run", "all", "--smoke", "--results", "tiny"]) == 0
    assert (tmp_path / "tiny/records/keen").is_dir()
    assert not (tmp_path / "results").exists()
    for kept in ("results", "results/own"):
        assert main(["run", "keen", "--smoke", "--results", kept]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "absent"], "unknown study 'absent'; known: keen, pair, brief"),
        (["run", "absent.py"], "no study file 'absent.py'"),
        (["run", "keen", "--only", "absent"], "no trial of method 'absent'; it has stub"),
        (["cost", "keen", "--only", "absent"], "no trial of method 'absent'; it has stub"),
        (["run", "keen", "--where", "absent=1"], "no trial has a setting 'absent'; expected"),
        (["cost", "keen", "--where", "absent=1"], "no trial has a setting 'absent'; expected"),
    ],
)
def test_wrong_names_are_answered_with_the_right_ones(capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        *((f"--{name}=~nobody-of-this-name/x", "~nobody-of-this-name/x: ")
          for name in ("results", "data-dir", "cache-dir")),
        *((f"--shard={shard}", "expected i/n") for shard in ("3/2", "0/2", "1", "a/b")),
    ],
)  # fmt: skip
def test_a_folder_of_nobody_and_a_wrong_shard_are_usage_errors(capsys, option, message):
    with pytest.raises(SystemExit) as ending:
        main(["run", "keen", option])
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


def test_a_tilde_that_no_shell_has_replaced_is_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["run", "keen", "--results=~/mine"]) == 0
    assert written(tmp_path) == ["mine/records/keen"]


def test_interrupt_is_told_from_failure(monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "run_plan", interrupt)
    assert main(["run", "keen"]) == 130


def test_reader_that_has_seen_enough_gets_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        command = [sys.executable, "-m", "bench", "list"]
        streams = {"stdout": pipe, "stderr": subprocess.PIPE}
        answer = subprocess.run(command, text=True, cwd=Path(__file__).parent.parent, **streams)
    assert (answer.returncode, answer.stderr) == (1, "")


def test_data_folder_is_the_first_that_exists(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert commands._default_data_dir() == Path("data")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert commands._default_data_dir() == Path("../shared/data")
    Path("data").mkdir()
    assert commands._default_data_dir() == Path("data")


def test_study_file_is_imported_by_the_trials_process_too(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("""
from stub_trials import BEHAVIOURS, build_study, build_trial
BEHAVIOURS["of my own"] = lambda options, emit: None
STUDY = build_study([build_trial("of my own")], name="own")
""")
    assert main(["run", str(path)]) == 0


def test_report_and_check_use_the_report_package(monkeypatch, capsys):
    def build(results, out_dir=None, studies=None, reference_dir=None, warn=None):
        return [results / f"{studies} beside {reference_dir}.md"]

    def terminal_summary(own, reference, name, width):
        return f"{own} | {reference}: {name}"

    found = SimpleNamespace(problems=["table is old"], notes=["a row is stale"])
    monkeypatch.setattr(write, "build", build)
    monkeypatch.setattr(check, "check", lambda results, reference_dir=None: found)
    monkeypatch.setattr(comparison, "terminal_summary", terminal_summary)
    assert main(["report", "keen"]) == 0
    assert capsys.readouterr().out == "results/own | results: keen\nwritten: results/own\n"
    assert main(["report", "keen", "--publish"]) == 0
    assert capsys.readouterr().out == "results/['keen'] beside None.md\n"
    assert main(["check"]) == 1
    captured = capsys.readouterr()
    assert "table is old" in captured.err
    assert "note: a row is stale" in captured.out
    found.problems.clear()
    assert main(["check"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "keen", "--results", "file"], "file is a file; expected a folder for results"),
        (
            ["run", "keen", "--results", "odd"],
            "odd/records is or lies in a file; expected a folder",
        ),
        (["run", "keen", "--cache-dir", "file"], "file is or lies in a file; expected a folder"),
        (["cost", "keen", "--results", "file/below"], "file/below is or lies in a file; expected"),
        (["audit", "keen", "--results", "file"], "file is a file; expected a folder for results"),
        (["report", "keen", "--out", "file"], "file is or lies in a file; expected a folder"),
        (["report", "--results", "absent"], "absent: no such folder; expected one with records"),
        (["check", "--results", "absent"], "absent: no such folder; expected one with records"),
        (["check", "--results", "file"], "file: no such folder; expected one with records"),
    ],
)
def test_folders_that_are_none_are_refused_before_any_work(capsys, tmp_path, arguments, message):
    (tmp_path / "file").touch()
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "records").touch()
    assert main(arguments) == 2
    assert f"bench: {message}" in capsys.readouterr().err
    assert written(tmp_path) == []
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_folders_that_take_nothing_are_refused_before_any_work(
    capsys, tmp_path, monkeypatch, number
):
    def refuse(**options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert main(["run", "keen"]) == 2
    said = capsys.readouterr().err
    reason = os.strerror(number)
    assert said.startswith(f"bench: results/own: {reason[0].lower()}{reason[1:]}; expected a fold")
    assert written(tmp_path) == []


def test_a_disk_that_fills_up_during_a_trial_costs_no_record(capsys, tmp_path, monkeypatch):
    append, spare = record._append_line, tmp_path / "spare"

    def append_elsewhere(path, line):
        if not path.is_relative_to(spare):
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, line)

    monkeypatch.setattr(record, "_append_line", append_elsewhere)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(spare))
    assert main(["run", "keen"]) == 2
    said = capsys.readouterr().err
    assert "no space left on device; the line is kept in " in said
    assert "Traceback" not in said
    [kept] = spare.glob("bench-kept-keen-*.jsonl")
    assert [entry.status for entry in record.read(kept)[0]] == ["done"]


def test_errors_of_the_disk_are_sentences_and_others_keep_their_traceback(capsys, monkeypatch):
    def fail(error):
        def build(*arguments, **options):
            raise error

        monkeypatch.setattr(write, "build", build)

    fail(OSError(errno.ENOSPC, "No space left on device", "tables/keen.md"))
    assert main(["report", "keen"]) == 2
    assert capsys.readouterr().err == "bench: tables/keen.md: no space left on device\n"
    fail(FileNotFoundError(errno.ENOENT, "No such file or directory", "template"))
    with pytest.raises(FileNotFoundError):
        main(["report", "keen"])


@pytest.mark.parametrize(
    ("name", "claim"), [("A b", "c"), ("../x", "c"), ("all", "c"), ("ok", " ")]
)
def test_study_needs_a_file_name_and_a_claim(name, claim):
    with pytest.raises(StudyError, match=r"no file name|no claim"):
        Study(name=name, claim=claim, trials=lambda profile: [], smoke=list)
