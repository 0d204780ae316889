from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from stub_trials import build_study, build_trial

from bench.runner import plan
from bench.store import costs
from bench.store.budgets import (
    Budget,
    BudgetError,
    budgets_path,
    read_budgets,
    resolve,
    set_budgets,
    write_budgets,
)


def budget(trial, num_steps=50, **changes):
    return Budget(
        cost_id=trial.cost_id,
        budget_seconds=trial.train.budget_seconds,
        num_steps=num_steps,
        seconds_per_step=0.4,
        measured={"started_at": "2026-01-01T00:00:00Z", "commit": None, "machine": {}},
        **changes,
    )


def with_budget(seconds=20.0, **changes):
    return build_trial(train={"budget_seconds": seconds}, **changes)


def written(path, *budgets):
    write_budgets(path, "stub", budgets)
    return read_budgets(path)


def line(*rows, started_at="2026-01-01T00:00:00Z"):
    return costs.build(
        study="stub",
        group={"part": "", "data": rows[0]["settings"]["data"]},
        started_at=started_at,
        num_rounds=len(rows[0]["visits"]),
        rows=rows,
        provenance={"commit": "abc", "machine": {"cpu": "c"}},
    )


def row(trial, *seconds, phase="train", status="done", reason=None):
    return {
        "cost_id": trial.cost_id,
        "settings": trial.to_dict(),
        "status": status,
        "reason": reason,
        "versions": {},
        "visits": [
            {"round": i, "phases": {phase: {"seconds": [each], "units": 1}}}
            for i, each in enumerate(seconds)
        ],
    }


def test_budgets_survive_their_file(tmp_path):
    first, second = with_budget(), with_budget(40.0)
    kept = [budget(first, label="a"), budget(second, 70)]
    assert written(tmp_path / "deep" / "b.json", *kept) == {each.key: each for each in kept}


def test_a_file_that_is_not_there_holds_none(tmp_path):
    assert read_budgets(tmp_path / "none.json") == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[1]",
        b"null",
        b'{"schema": 2, "budgets": []}',
        b'{"schema": 1}',
        b'{"schema": 1, "budgets": [{"cost_id": "c"}]}',
        b'{"schema": 1, "budgets": [{"unknown": 1}]}',
        b"[" * 100_000,
    ],
)
def test_a_file_of_something_else_is_refused_by_its_name(tmp_path, content):
    (tmp_path / "b.json").write_bytes(content)
    with pytest.raises(BudgetError, match=r"b\.json: "):
        read_budgets(tmp_path / "b.json")


@pytest.mark.parametrize("num_steps", [0, 1.5, None])
def test_a_budget_without_steps_is_refused(tmp_path, num_steps):
    with pytest.raises(BudgetError, match=r"num_steps' is .*; expected `int`"):
        written(
            tmp_path / "b.json", msgspec.structs.replace(budget(with_budget()), num_steps=num_steps)
        )


def test_budgets_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "b.json"
    kept = written(path, budget(with_budget()))

    def torn(self, content):
        with self.open("wb") as stream:
            stream.write(content[:30])
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(OSError, match="No space left"):
        write_budgets(path, "stub", [budget(with_budget(), 99)])
    assert read_budgets(path) == kept
    assert [each.name for each in tmp_path.iterdir()] == ["b.json"]


def test_trials_with_a_budget_get_its_steps_and_the_others_stay():
    plain, budgeted = build_trial(), with_budget(replicate=2)
    kept = budget(budgeted)
    resolved, missing = resolve([plain, budgeted], {kept.key: kept})
    assert missing == []
    assert resolved[0] == plain
    assert resolved[1] == build_trial(replicate=2, train={"num_steps": 50})


def test_a_budget_is_of_one_configuration_and_one_number_of_seconds():
    known = with_budget()
    others = [with_budget(21.0), with_budget(method="other")]
    kept = budget(known)
    assert resolve(others, {kept.key: kept}) == ([], others)


def test_budgets_are_set_from_the_calmest_visit_of_the_last_line():
    trial, other = with_budget(replicate=1), with_budget(method="other")
    lines = [
        line(row(trial, 9.0, 9.0, 9.0), row(other, 0.5)),
        line(row(trial, 0.3, 0.4, 0.5), started_at="2026-01-02T00:00:00Z"),
    ]
    (first, second), _ = set_budgets([trial, with_budget(), other], lines, {trial.cost_id: "words"})
    assert (first.num_steps, first.seconds_per_step, first.label) == (67, 0.3, "words")
    assert first.measured["started_at"] == "2026-01-02T00:00:00Z"
    assert first.measured["commit"] == "abc"
    assert second.num_steps == 40


def test_a_budget_shorter_than_a_step_is_one_step():
    [found], _ = set_budgets([with_budget(1.0)], [line(row(with_budget(), 30.0))], {})
    assert found.num_steps == 1


def test_what_trains_in_one_piece_is_one_step_whatever_it_takes():
    [found], _ = set_budgets([with_budget()], [line(row(with_budget(), 0.5, phase="fit"))], {})
    assert (found.num_steps, found.seconds_per_step) == (1, 0.5)


def test_a_budget_of_what_could_not_be_timed_is_refused_with_the_reason():
    trial, other = with_budget(), with_budget(method="other")
    found, problems = set_budgets([trial], [], {trial.cost_id: "words"})
    assert (found, problems) == ([], ["seconds a step of words have not been measured"])
    lines = [line(row(trial, 0.5, status="oom", reason="too large"), row(other, 0.5))]
    [found], [problem] = set_budgets([trial, other], lines, {})
    assert problem.endswith("not been measured: oom, too large")
    assert found.num_steps == 40


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "REFERENCE", tmp_path / "reference")
    trial = with_budget()
    for folder, num_steps in (("reference", 10), ("own", 20)):
        written(budgets_path(tmp_path / folder, "stub"), budget(trial, num_steps))
    return tmp_path


def steps(study, results):
    return [each.num_steps for each in plan.study_budgets(study, results).values()]


def test_own_budgets_go_before_those_of_the_reference(folders):
    study = build_study([with_budget()])
    assert steps(study, folders / "own") == [20]
    assert steps(study, folders / "empty") == [10]


def test_a_study_of_ones_own_never_reads_the_reference(folders):
    study = build_study([with_budget()], file=folders / "mine.py")
    assert steps(study, folders / "empty") == []
    assert steps(study, folders / "own") == [20]


def test_the_file_names_its_study_and_schema(tmp_path):
    path = budgets_path(tmp_path, "stub")
    write_budgets(path, "stub", [budget(with_budget(), label="in words")])
    value = json.loads(path.read_text())
    assert (value["schema"], value["study"]) == (1, "stub")
    assert value["budgets"][0]["label"] == "in words"
