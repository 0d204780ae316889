"""The log and the plan call a row what its table calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.progress import describe, describe_record
from bench.record import Record
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial

RESULTS = Path(__file__).parent.parent / "results"


def trial(method: str, encoder: str = "mlp", **options: str | int) -> Trial:
    return Trial(
        data=DataSpec(source="planted", name="tags"),
        model=ModelSpec(method=method, encoder=encoder, hidden_dims=(256,), options=options),  # type: ignore[arg-type]
        train=TrainSpec(learning_rate=0.01),
    )


@pytest.mark.parametrize(
    ("asked", "task", "words"),
    [
        (trial("full_softmax"), "multilabel", "One-vs-all H=256 lr=0.01 on tags"),
        (trial("full_softmax", loss="softmax"), "multilabel", "Full softmax H=256 lr=0.01 on tags"),
        (trial("full_softmax"), "multiclass", "Full softmax H=256 lr=0.01 on tags"),
        (trial("full_softmax"), None, "Full softmax H=256 lr=0.01 on tags"),
        (trial("full_softmax", "linear"), None, "Full softmax linear lr=0.01 on tags"),
    ],
)
def test_a_row_has_the_name_of_its_table_its_encoder_and_its_width(
    asked: Trial, task: str | None, words: str
) -> None:
    assert describe(asked, task) == words


def test_a_record_is_told_by_the_task_of_its_data() -> None:
    [path] = (RESULTS / "records" / "delicious").glob("*.jsonl")
    lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    told = [
        describe_record(Record(line))
        for line in lines
        if line["settings"]["model"]["method"] == "full_softmax"
        and "loss" not in line["settings"]["model"]["options"]
    ]
    assert told
    assert all(text.startswith("One-vs-all ") for text in told)
