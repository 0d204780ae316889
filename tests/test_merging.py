from __future__ import annotations

import pytest
from stub_trials import build_trial

from bench.cli.commands import main
from bench.runner.merging import MergeError, merge_records
from bench.store import record

NAME = "records/stub/some-cpu-2c.jsonl"


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
    assert merge_records([b, c], a) == {a / NAME: 2}
    assert sorted(ids(a)) == sorted(each.trial_id for each in (first, second, third))
    assert ids(b) == [first.trial_id, second.trial_id]
    assert merge_records([b, c], a) == {}


def test_the_last_word_on_a_trial_stays_the_last(folders):
    a, b, _ = folders
    write(a, made(at="2026-01-02T00:00:00Z"))
    write(b, made(at="2026-01-01T00:00:00Z", status="error"))
    assert merge_records([b], a) == {}
    write(b, made(at="2026-01-03T00:00:00Z"))
    assert merge_records([b], a) == {a / NAME: 1}


def test_records_that_contradict_each_other_are_refused_by_name(folders):
    a, b, c = folders
    write(a, made())
    write(b, made(1), made(at="2026-01-03T00:00:00Z", score=0.5000001))
    trial_id = made().trial_id
    with pytest.raises(MergeError, match=f"b/{NAME}: trial {trial_id} differs from that in .*a/"):
        merge_records([b], a)
    assert ids(a) == [trial_id]
    write(c, made(at="2026-01-03T00:00:00Z", score=0.5000001, threads=1))
    assert merge_records([c], a) == {a / NAME: 1}


def test_a_folder_without_records_or_with_a_torn_line_is_refused(folders):
    a, b, c = folders
    b.mkdir()
    with pytest.raises(MergeError, match="b: no records"):
        merge_records([b], a)
    path = write(c, made()) / NAME
    path.write_text(path.read_text()[:-40])
    with pytest.raises(MergeError, match="torn last line"):
        merge_records([c], a)


def test_the_command_says_what_it_joined(folders, capsys):
    a, b, _ = folders
    write(b, made())
    assert main(["merge-results", str(b), "--results", str(a)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{a / NAME}: 1 records more\n1 records joined into {a}")
    assert main(["merge-results", str(a / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
