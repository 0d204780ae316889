from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.experiments.corrections import correct, first_layer_bytes, main
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.store import record
from bench.store.record import Record, RecordError

# 32 worlds of 10,000 hashed features, 128 wide; 250 buckets: what table-search trains.
OPTIONS = {"num_buckets": 250, "num_worlds": 32, "num_hashed_features": 10_000}
OTHERS = 4 * 32 * (128 + 129 * 250)
BATCH, ENTRIES = 512, 14.626727272727273


def build(method="mach", optimizer="row_adam", gradient_bytes=None, **options):
    trial = Trial(
        data=DataSpec(source="planted", name="p"),
        model=ModelSpec(method=method, hidden_dims=(128,), options=OPTIONS | options),
        train=TrainSpec(batch_size=BATCH, optimizer=optimizer),
    )
    rows = 32 * 10_000
    wrong = OTHERS + int(BATCH * ENTRIES) * 128 * 4
    return record.build(
        study="s",
        trial_id=trial.trial_id,
        settings=trial.to_dict(),
        status="done",
        reason=None,
        started_at="2026-01-01T00:00:00Z",
        versions={"method": 1},
        payload={
            "data": {"features_per_point": ENTRIES},
            "memory": {
                "parameter_bytes": OTHERS + rows * 128 * 4,
                "gradient_bytes": wrong if gradient_bytes is None else gradient_bytes,
                "predicted_bytes": 10**9,
            },
            "test": {"P@1": 0.5},
        },
        provenance={"machine": {"cpu": "c"}},
    )


RIGHT = OTHERS + int(32 * BATCH * ENTRIES) * 128 * 4


def test_gradients_of_hashed_features_are_those_of_all_worlds():
    old = build()
    new = first_layer_bytes(old)
    missing = RIGHT - old.block("memory")["gradient_bytes"]
    assert round(missing / 1e6) == 119
    assert new.block("memory") == {
        **old.block("memory"),
        "gradient_bytes": RIGHT,
        "predicted_bytes": 10**9 + missing,
    }


def test_no_more_rows_are_touched_than_there_are():
    new = first_layer_bytes(build(num_hashed_features=100))
    assert new.block("memory")["gradient_bytes"] == new.block("memory")["parameter_bytes"]


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_bytes": RIGHT},
        {"num_hashed_features": None},
        {"optimizer": "adam"},
        {"optimizer": "tf_adam"},
        {"method": "mach_in_turn"},  # one world at a time
    ],
)
def test_what_is_right_stays_as_it_is(changes):
    assert first_layer_bytes(build(**changes)) is None


def test_a_correction_is_one_more_line_that_says_so_and_the_old_one_stays(tmp_path):
    path = tmp_path / "records/s/m.jsonl"
    old = build()
    record.append(path, old)
    before = path.read_bytes()
    assert main([str(tmp_path)]) == 0
    assert path.read_bytes().startswith(before)
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    assert first == old.raw
    assert second["correction"]["of"] == first["started_at"]
    assert second["correction"]["fields"] == ["memory.gradient_bytes", "memory.predicted_bytes"]
    assert "each world has rows of its own" in second["correction"]["reason"]
    same = {name: value for name, value in second.items() if name not in ("memory", "correction")}
    assert same == {name: value for name, value in first.items() if name != "memory"}
    records, warnings = record.read(path)
    assert warnings == []
    [counting] = record.latest(records)
    assert counting.block("memory")["gradient_bytes"] == RIGHT


def test_a_second_correction_finds_nothing_to_do(tmp_path):
    record.append(tmp_path / "records/s/m.jsonl", build())
    assert len(list(correct(tmp_path))) == 1
    assert list(correct(tmp_path)) == []


def test_committed_records_need_no_correction():
    results = Path(__file__).parents[1] / "results"
    for path in sorted(results.glob("records/*/*.jsonl")):
        for each in record.latest(record.read(path)[0]):
            assert first_layer_bytes(each) is None, each.trial_id


@pytest.mark.parametrize("block", [3, {"of": "2026-01-01"}, {"fields": "memory"}])
def test_a_correction_that_says_nothing_is_no_record(block):
    with pytest.raises(RecordError, match="correction"):
        Record({**build().raw, "correction": block})
