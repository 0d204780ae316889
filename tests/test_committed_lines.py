"""What is committed under `results/` keeps its identities, whatever becomes of the code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.settings import Trial

_RESULTS = Path(__file__).parents[1] / "results"


def _lines(pattern: str) -> list[dict[str, Any]]:
    paths = sorted(_RESULTS.glob(pattern))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def test_every_committed_record_has_the_trial_id_of_its_settings() -> None:
    lines = _lines("records/*/*.jsonl")
    assert len(lines) >= 400
    assert all(Trial.from_dict(line["settings"]).trial_id == line["trial_id"] for line in lines)


def test_every_committed_cost_row_has_the_cost_id_of_its_settings() -> None:
    rows = [row for line in _lines("costs/*/*.jsonl") for row in line["rows"]]
    assert len(rows) >= 300
    assert all(Trial.from_dict(row["settings"]).cost_id == row["cost_id"] for row in rows)


@pytest.mark.parametrize("kind", ["records", "costs"])
def test_every_committed_line_says_the_settings_that_would_be_written_today(kind: str) -> None:
    lines = _lines(f"{kind}/*/*.jsonl")
    settings = [row["settings"] for line in lines for row in line.get("rows", [line])]
    for each in settings:
        today = Trial.from_dict(each).to_dict()
        assert {name: today[name] for name in each} == each
