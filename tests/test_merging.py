from __future__ import annotations

import pytest
from stub_trials import build_trial
from test_costs import build as cost_line

from bench.cli.commands import main
from bench.runner.merging import MergeError, merge_results
from bench.store import costs, record
from bench.store.budgets import Budget, read_budgets, write_budgets

NAME = "records/stub/some-cpu-2c-0abcde.jsonl"


def made(replicate=0, *, at="2026-01-01T00:00:00Z", score=0.5, status="done", threads=2):
    trial = build_trial(replicate=replicate)
    return record.build(
        study="stub",
        trial_id=trial.trial_id,
        settings=trial.to_dict(),
        status=status,
        reason=None if status == "done" else "it failed",
        started_at=at,
        versions={"method": 1},
        payload={"test": {"P@1": score}} if status == "done" else {},
        provenance={
            "machine": {"cpu": "Some CPU", "num_cores": 2},
            "flags": {"num_threads": threads},
        },
    )


def budget(cost_id, num_steps):
    return Budget(
        cost_id=cost_id, budget_seconds=1.0, num_steps=num_steps, seconds_per_step=0.1, measured={}
    )


def write(folder, *records):
    for each in records:
        record.append(folder / NAME, each)
    return folder


def ids(folder):
    return [each.trial_id for each in record.read(folder / NAME)[0]]


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "a", tmp_path / "b", tmp_path / "c"


def test_folders_are_joined_line_by_line_and_once(folders):
    a, b, c = folders
    first, second, third = (made(i) for i in range(3))
    write(a, first)
    write(b, first, second)
    write(c, third, second)
    assert merge_results([b, c], a) == ({a / NAME: 2}, [])
    assert sorted(ids(a)) == sorted(each.trial_id for each in (first, second, third))
    assert ids(b) == [first.trial_id, second.trial_id]
    assert merge_results([b, c], a) == ({}, [])


def test_the_last_word_on_a_trial_stays_the_last(folders):
    a, b, _ = folders
    write(a, made(at="2026-01-02T00:00:00Z"))
    write(b, made(at="2026-01-01T00:00:00Z", status="error"))
    assert merge_results([b], a) == ({}, [])
    write(b, made(at="2026-01-03T00:00:00Z"))
    assert merge_results([b], a) == ({a / NAME: 1}, [])


def test_records_that_contradict_each_other_are_refused_by_name(folders):
    a, b, c = folders
    write(a, made())
    write(b, made(1), made(at="2026-01-03T00:00:00Z", score=0.5000001))
    trial_id = made().trial_id
    with pytest.raises(MergeError, match=f"b/{NAME}: trial {trial_id} differs from that in .*a/"):
        merge_results([b], a)
    assert ids(a) == [trial_id]
    write(c, made(at="2026-01-03T00:00:00Z", score=0.5000001, threads=1))
    assert merge_results([c], a) == ({a / NAME: 1}, [])


def test_a_folder_without_records_or_with_a_torn_line_is_refused(folders):
    a, b, c = folders
    b.mkdir()
    with pytest.raises(MergeError, match="b: no records"):
        merge_results([b], a)
    path = write(c, made()) / NAME
    path.write_text(path.read_text()[:-40])
    with pytest.raises(MergeError, match="torn last line"):
        merge_results([c], a)


def test_hosts_keep_their_costs_and_a_file_without_a_host_stays_where_it_is(folders):
    a, b, _ = folders
    write(b, made())
    old, own = b / "costs/stub/some-cpu-2c.jsonl", b / "costs/stub/some-cpu-2c-0abcde.jsonl"
    for path, part in ((old, "1"), (own, "2")):
        costs.append(path, cost_line(part=part))
    audit = b / "audits/some-cpu-2c-0abcde.jsonl"
    record.append_line(audit, '{"at": "2026"}')
    given, notes = merge_results([b], a)
    copied = a / "costs/stub" / own.name
    assert given == {a / NAME: 1, copied: 1, a / "audits" / audit.name: 1}
    assert notes == [f"{old}: left out, as it may be of any host of its kind"]
    assert copied.read_bytes() == own.read_bytes()
    costs.append(own, cost_line(part="3"))
    assert merge_results([b], a)[0] == {copied: 1}
    assert copied.read_bytes() == own.read_bytes()
    own.write_text("{")
    with pytest.raises(MergeError, match=r"0abcde\.jsonl:1: torn last line"):
        merge_results([b], a)


def test_records_of_tries_and_parts_are_joined_and_a_budget_that_is_there_stays(folders):
    a, b, _ = folders
    write(b, made())
    write(b / "tuning", made(1))
    write(b / "worlds", made(2))
    write_budgets(a / "budgets/stub.json", "stub", [budget("0" * 16, 10), budget("1" * 16, 20)])
    write_budgets(b / "budgets/stub.json", "stub", [budget("1" * 16, 21), budget("2" * 16, 30)])
    given, [note] = merge_results([b], a)
    records = {a / NAME: 1, a / "tuning" / NAME: 1, a / "worlds" / NAME: 1}
    assert given == records | {a / "budgets/stub.json": 1}
    assert "1 budgets came to other steps" in note
    steps = [each.num_steps for each in read_budgets(a / "budgets/stub.json").values()]
    assert sorted(steps) == [10, 20, 30]


def test_the_command_says_what_it_joined(folders, capsys):
    a, b, _ = folders
    write(b, made())
    assert main(["merge-results", str(b), "--results", str(a)]) == 0
    said = capsys.readouterr().out
    assert said == f"{a / NAME}: 1 more\n1 lines and budgets joined into {a}\n"
    assert main(["merge-results", str(a / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
