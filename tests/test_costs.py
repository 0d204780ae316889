from __future__ import annotations

import json

import pytest

from bench.cli.timing_view import summary
from bench.methods.labels import RowNames
from bench.settings import Trial
from bench.store import costs
from bench.store.costs import best_seconds, latest_costs, load_share, seconds_per_unit
from bench.store.lines import RecordError
from bench.store.record import SchemaError


def phase(*seconds, units=1, **load):
    return {"seconds": list(seconds), "units": units, "wall_seconds": sum(seconds)} | load


SETTINGS = {
    "data": {"source": "planted", "name": "p"},
    "model": {"method": "mach", "options": {"num_buckets": 16, "num_worlds": 2}},
    "train": {"learning_rate": 0.0123456789},
}


def row(*visits, status="done", **changes):
    return {
        "cost_id": Trial.from_dict(SETTINGS).cost_id,
        "settings": SETTINGS,
        "status": status,
        "reason": None,
        "versions": {"method": 1},
        "visits": [{"round": i, "place": 0, "phases": phases} for i, phases in enumerate(visits)],
    } | changes


def build(*rows, part="", cpu="c", **changes):
    parts = {
        "study": "stub",
        "group": {"part": part, "data": SETTINGS["data"]},
        "started_at": "2026-01-01T00:00:00Z",
        "num_rounds": 3,
        "rows": list(rows),
        "provenance": {"machine": {"cpu": cpu, "num_cores": 2}},
    }
    return costs.build(**(parts | changes))


def test_a_line_is_read_back_with_seconds_of_six_digits_and_settings_as_they_were(tmp_path):
    costs.append(tmp_path / "c.jsonl", build(row({"train": phase(0.123456789, 2.0)})))
    [line], warnings = costs.read_costs(tmp_path / "c.jsonl")
    assert warnings == []
    [kept] = line.rows
    assert kept["visits"][0]["phases"]["train"]["seconds"] == [0.123457, 2.0]
    assert kept["settings"]["train"]["learning_rate"] == 0.0123456789


@pytest.mark.parametrize(
    ("statuses", "counting"),
    [
        (["done", "error"], 0),
        (["done", "oom"], 1),
        (["done", "timeout"], 1),
        (["error", "done"], 1),
        (["error", "error"], 1),
        (["done", "error", "done", "error"], 2),
    ],
)
def test_what_failed_replaces_no_whole_session(statuses, counting):
    lines = [
        build(row(), row(status=status), started_at=f"2026-01-0{day}T00:00:00Z")
        for day, status in enumerate(statuses, start=1)
    ]
    assert latest_costs(lines) == [lines[counting]]
    assert costs.newest_costs(lines) == lines[-1:]
    is_last = counting == len(lines) - 1
    assert costs.num_failed_since(lines, [lines[counting]]) == (0 if is_last else 1)


def test_a_row_of_weights_must_have_the_settings_of_their_trial(tmp_path):
    own = Trial.from_dict(SETTINGS).trial_id
    for known, count in ((own, 1), ("0123456789abcdef", 0), (None, 1)):
        path = tmp_path / f"{known}.jsonl"
        costs.append(path, build(row(weights_of=known)))
        assert len(costs.read_costs(path)[0]) == count


def test_the_newest_line_of_a_group_on_a_machine_counts():
    first, second = build(num_rounds=3), build(num_rounds=4)
    other_part, elsewhere = build(part="large"), build(cpu="other")
    found = latest_costs([first, other_part, elsewhere, second])
    assert sorted(map(id, found)) == sorted(map(id, [second, other_part, elsewhere]))


def test_a_row_s_seconds_are_the_least_of_its_visits_medians_for_one_unit():
    visits = [{"train": phase(*seconds, units=2)} for seconds in ((2, 4, 99), (6, 6), (1, 1, 2))]
    measured = build(row(*visits)).rows[0]
    assert [seconds_per_unit(visit, "train") for visit in measured["visits"]] == [2.0, 3.0, 0.5]
    assert best_seconds(measured, "train") == 0.5


def test_what_was_not_measured_has_no_seconds():
    measured = row({"train": phase()}, {})
    assert best_seconds(measured, "train") is None
    assert best_seconds(measured, "latency") is None
    assert best_seconds({"status": "oom"}, "train") is None


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row({"train": phase(0.0)}), "seconds.0.' is 0.0; expected `float` > 0.0"),
        (row({"train": phase(float("nan"))}), "is nan; expected `float` > 0.0"),
        (row({"train": {"seconds": ["1"], "units": 1}}), "is '1'; expected `float`"),
        (row({"train": phase(1.0, units=0)}), "units' is 0; expected `int` >= 1"),
        (row({"train": phase(1.0, units=1.5)}), "units' is 1.5; expected `int`"),
        (row({"train": [1.0]}), "phases.train' is .1.0.; expected `object`"),
        (row(status="fine"), "'rows.0..status' is 'fine'"),
        (row(cost_id=None), "'rows.0..cost_id' is None; expected `str`"),
        (row(settings=[]), r"settings' is \[\]; expected `object`"),
        (row(versions=None), "versions' is None; expected `object`"),
        (row(visits=[3]), r"visits\[0\]' is 3"),
        (row(visits=[{"phases": {}}]), "object missing required field `round`"),
        (3, r"'rows\[0\]' is 3"),
    ],
)
def test_a_bad_row_is_warned_of_and_the_rest_is_read(tmp_path, bad, message):
    path = tmp_path / "c.jsonl"
    good = build(row({"train": phase(1.0)}))
    text = json.dumps(dict(good.raw) | {"rows": [bad]})
    path.write_text(f"{text}\n{good.to_json()}\n")
    lines, [warning] = costs.read_costs(path)
    assert [line.raw for line in lines] == [good.raw]
    assert warning.startswith(f"{path}:1: line ")
    with pytest.raises(RecordError, match=message):
        costs.parse(json.loads(text))


def test_a_line_of_another_schema_is_refused(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps(dict(build().raw) | {"schema": 1}))
    with pytest.raises(SchemaError, match=r"c\.jsonl:1: record has schema 1"):
        costs.read_costs(path)


def test_load_by_others_is_that_of_a_row_s_most_disturbed_phase():
    calm = {"train": phase(2.0, other_cpu_seconds=0.4), "decode": phase(0.01, other_cpu_seconds=9)}
    loud = {"latency": phase(1.0, other_cpu_seconds=1.0)}
    assert load_share(row(calm, calm), num_cores=2) == pytest.approx(0.1)
    assert load_share(row(calm, loud), num_cores=2) == pytest.approx(0.5)


def test_load_is_unknown_where_the_kernel_was_silent_in_one_of_the_visits():
    known, silent = ({"train": phase(2.0, other_cpu_seconds=seconds)} for seconds in (0.4, None))
    assert load_share(row(known, silent), num_cores=2) is None


def test_rows_are_set_against_the_first_that_is_trained_and_no_trivial_baseline():
    centroid = row({"fit": phase(1.0), "latency": phase(1.0)})
    failed = row(status="error", reason="no")
    first, second = (row({"train": phase(s), "latency": phase(s)}) for s in (2.0, 6.0))
    text = "\n".join(summary(build(centroid, failed, first, second), RowNames()))
    assert text.count("0.5 × the first") == 1
    assert text.count("3 × the first") == 2
    assert text.count(" × the first") == 3


def test_a_summary_tells_times_ratios_load_and_failures():
    first = row(*[{"train": phase(0.01, units=2)}] * 3)
    second = row(*[{"train": phase(t, units=2, other_cpu_seconds=t)} for t in (0.4, 0.2, 0.3)])
    line = build(first, second, row(status="oom", reason="too large"))
    text = "\n".join(summary(line, RowNames()))
    assert "stub, p: 3 rounds" in text
    assert "5 ms a step" in text
    assert "100 ms a step, 20 × the first" in text
    assert "others took up to 50 % of the processor time" in text
    assert "OOM too large" in text


def test_a_table_shows_the_costs_of_one_host_and_no_table_of_two():
    data = SETTINGS["data"] | {"name": "q"}
    old = [build(part="1"), build(part="2"), build(group={"part": "2", "data": data})]
    new = [build(part=part, started_at="2026-01-02T00:00:00Z") for part in "123"]
    lines = costs.of_one_host([old, new])
    assert [(line.group["part"], line in new) for line in lines] == [
        ("1", True),
        ("2", False),  # where the other has timed more of the table
        ("2", False),
        ("3", True),
    ]
    failed = build(row(status="error"), part="1", started_at="2026-01-03T00:00:00Z")
    assert costs.of_one_host([old, [failed]])[0] is old[0]
