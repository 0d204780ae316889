from __future__ import annotations

import errno
import json
import multiprocessing
import os
import tempfile

import numpy as np
import pytest
from stub_trials import build_trial

from bench.errors import StorageError
from bench.store import record
from bench.store.lines import RecordError
from bench.store.record import SchemaError


def build(trial_id="0123456789abcdef", **changes):
    parts = {
        "study": "stub",
        "trial_id": trial_id,
        "settings": {
            "data": {"source": "s", "name": "n", "of_old": 1},
            "model": {"method": "mach"},
            "train": {},
            "replicate": 0,
        },
        "status": "done",
        "reason": None,
        "started_at": "2026-01-01T00:00:00Z",
        "versions": {"method": 1, "source": 1, "protocol": 1},
        "payload": {"test": {"P@1": 0.5}},
        "provenance": {"machine": {"cpu": "c"}},
    }
    return record.build(**(parts | changes))


def append_many(path, worker, count):
    for i in range(count):
        record.append(path, build(f"{worker}-{i}", reason="x" * 5000))


def test_appended_records_are_read_back_in_order(tmp_path):
    path = tmp_path / "deep" / "r.jsonl"
    for name in "ab":
        record.append(path, build(name))
    records, warnings = record.read(path)
    assert [r.trial_id for r in records] == ["a", "b"]
    assert warnings == []
    assert records[0].settings["model"]["method"] == "mach"
    assert records[0].block("test") == {"P@1": 0.5}
    assert records[0].block("memory") == {}


def test_missing_file_holds_no_records(tmp_path):
    assert record.read(tmp_path / "none.jsonl") == ([], [])


def test_nan_infinity_and_arrays_become_plain_json():
    built = build(
        payload={
            "test": {"P@1": float("nan"), "P@3": np.float32("inf"), "P@5": np.float64(0.25)},
            "resolved": {"rates": np.array([1.0, np.nan])},
        }
    )
    raw = json.loads(built.to_json())
    assert raw["test"] == {"P@1": None, "P@3": None, "P@5": 0.25}
    assert raw["resolved"]["rates"] == [1.0, None]


def test_text_that_is_no_utf8_is_escaped_and_written(tmp_path):
    payload = {"data": {"b\udcff": "c\udcff"}}
    record.append(tmp_path / "r.jsonl", build(reason="no file b\udcff", payload=payload))
    [kept], _ = record.read(tmp_path / "r.jsonl")
    assert kept.reason == "no file b\\udcff"
    assert kept.block("data") == {"b\\udcff": "c\\udcff"}


def test_blocks_reached_in_part_name_all_of_their_fields():
    memory = build(payload={"memory": {"predicted_bytes": 7}}).raw["memory"]
    assert memory["predicted_bytes"] == 7
    assert memory["host_peak_bytes"] is None


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_torn_last_line_is_warned_of_and_spoils_nothing(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    record.append(path, build("a"))
    record.append(path, build("b"))
    path.write_bytes(path.read_bytes()[: -1 - cut])
    records, warnings = record.read(path)
    assert [r.trial_id for r in records] == ["a"]
    assert warnings[0].startswith(f"{path}:2: torn last line")
    record.append(path, build("c"))
    records, warnings = record.read(path)
    assert [r.trial_id for r in records] == ["a", "c"]
    assert len(warnings) == 1


def test_whole_last_line_without_line_end_counts(tmp_path):
    path = tmp_path / "r.jsonl"
    record.append(path, build("a"))
    path.write_bytes(path.read_bytes()[:-1])
    record.append(path, build("b"))
    records, warnings = record.read(path)
    assert ([r.trial_id for r in records], warnings) == (["a", "b"], [])


@pytest.mark.parametrize(
    "line",
    [
        b"rubbish",
        b"\xff\xfe",
        b"[1]",
        b'{"schema":2}',
        b"{}",
        b"null",
        b'{"schema":2,',
        b"[" * 100_000,
    ],
)
def test_garbled_line_is_warned_of_with_its_number(tmp_path, line):
    path = tmp_path / "r.jsonl"
    record.append(path, build("a"))
    with path.open("ab") as file:
        file.write(line + b"\n")
    record.append(path, build("b"))
    records, warnings = record.read(path)
    assert [r.trial_id for r in records] == ["a", "b"]
    assert [w.startswith(f"{path}:2:") for w in warnings] == [True]


@pytest.mark.parametrize("schema", [1, 3])
def test_other_schema_is_refused_by_file_and_line(tmp_path, schema):
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(dict(build().raw) | {"schema": schema}) + "\n")
    message = rf"r\.jsonl:1: record has schema {schema}; .* reads schema 2"
    with pytest.raises(SchemaError, match=message):
        record.read(path)


@pytest.mark.parametrize("num_written", [0, 9])
def test_an_append_that_fails_is_taken_back(tmp_path, monkeypatch, num_written):
    path = tmp_path / "r.jsonl"
    record.append(path, build("a"))
    before = path.read_bytes()
    whole, room = os.write, [num_written]

    def write(descriptor, data):
        if not room or not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data[: room.pop()])

    monkeypatch.setattr(os, "write", write)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StorageError, match=r"r\.jsonl: no space left on device; nor could the line"
    ):
        record.append(path, build("b"))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_that_its_file_does_not_take_is_kept_where_the_error_says(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "spare"))
    (tmp_path / "stub").write_text("a file where the folder should be")
    path = tmp_path / "stub" / "r.jsonl"
    with pytest.raises(StorageError, match="the line is kept in ") as caught:
        record.append(path, build("b"))
    [other] = (tmp_path / "spare").glob("bench-kept-stub-r-*.jsonl")
    assert str(other) in str(caught.value)
    assert [kept.trial_id for kept in record.read(other)[0]] == ["b"]


def test_a_folder_in_a_files_place_is_named(tmp_path):
    with pytest.raises(RecordError, match="is a directory; expected a file of lines"):
        record.read(tmp_path)


def test_settings_that_were_changed_are_told_by_the_trial_s_id(tmp_path):
    trial = build_trial()
    own = build(trial.trial_id, settings=trial.to_dict())
    settings = json.loads(own.to_json())["settings"]
    settings["train"]["learning_rate"] *= 2
    changed = build(trial.trial_id, settings=settings)
    path = tmp_path / "r.jsonl"
    for each in (own, changed):
        record.append(path, each)
    records, [warning] = record.read(path)
    assert [kept.raw for kept in records] == [own.raw]
    assert warning.startswith(f"{path}:2: line ignored: 'trial_id' is '{trial.trial_id}', but its")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": "fine"}, "'status' is 'fine'; expected `str` matching regex .*done|oom"),
        ({"study": 3}, "'study' is 3; expected `str`"),
        ({"provenance": {}}, "'provenance' is {}; object missing required field `machine`"),
        ({"versions": {"method": "1"}}, "'versions.method' is '1'; expected `int`"),
        ({"settings": {"model": {"method": "mach"}, "replicate": 0}}, "required field `data`"),
        ({"payload": {"tset": {}}}, "unknown block 'tset'"),
        ({"payload": {"test": 3}}, "'test' is 3; expected `object | null`, got `int`"),
        ({"payload": {"test": {"P@1": object()}}}, "cannot hold"),
    ],
)
def test_impossible_record_is_refused_with_name_and_value(changes, message):
    with pytest.raises(RecordError, match=message):
        build(**changes)


def test_appends_of_two_processes_do_not_mix(tmp_path):
    path = tmp_path / "r.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append_many, args=(path, w, 40)) for w in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    records, warnings = record.read(path)
    assert warnings == []
    expected = sorted(f"{w}-{i}" for w in range(2) for i in range(40))
    assert sorted(r.trial_id for r in records) == expected


def test_latest_keeps_the_last_record_of_each_trial_and_machine():
    other = {"machine": {"cpu": "other"}}
    first, second = build("a", status="error"), build("a")
    elsewhere, another = build("a", provenance=other), build("b")
    assert record.latest([first, another, second, elsewhere]) == [second, another, elsewhere]


def test_latest_takes_a_machine_with_other_pages_of_memory_for_the_same():
    gib = 2**30
    first, second = (
        build("a", provenance={"machine": {"memory_bytes": size}})
        for size in (24 * gib, 24 * gib - 8192)
    )
    assert record.latest([first, second]) == [second]


CORRECTION = {"of": "2026-01-01", "at": "2026-01-02", "fields": ["memory.a"], "reason": "r"}


def test_a_line_that_corrects_an_older_one_is_the_one_that_counts(tmp_path):
    path = tmp_path / "r.jsonl"
    old = build()
    record.append(path, old)
    record.append(path, record.parse({**old.raw, "test": {"P@1": 0.6}, "correction": CORRECTION}))
    records, warnings = record.read(path)
    assert warnings == []
    [latest] = record.latest(records)
    assert latest.block("test") == {"P@1": 0.6}


@pytest.mark.parametrize("block", [3, {"of": "2026-01-01"}, {"fields": "memory"}])
def test_a_correction_that_names_no_fields_is_no_record(block):
    with pytest.raises(RecordError, match="correction"):
        record.parse({**build().raw, "correction": block})
