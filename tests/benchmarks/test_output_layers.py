import json

import pytest

from tests.benchmarks import output_layers
from tests.benchmarks.output_layers import (
    ROWS,
    SIZABLE,
    WIDTH,
    attempt,
    excess,
    expected_bytes,
    main,
    measure,
    table,
)


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_measured_and_reckoned(row, monkeypatch):
    monkeypatch.setattr(output_layers, "_SECONDS", 0.01)
    found = measure(row, 3_000)
    assert len(found["seconds"]) >= 3
    assert min(found["seconds"]) > 0
    assert found["load_by_others"] >= 0
    expected = expected_bytes(row, 3_000)
    assert 0 < expected["weights"] < expected["held"]


def test_a_lean_layer_holds_its_weights_and_one_chunk():
    full, lean, half = (
        expected_bytes(row, 1_000_000)
        for row in ("full softmax, Adam", "lean, SGD", "lean, SGD, bfloat16")
    )
    assert full["held"] > 4 * full["weights"]
    assert lean["weights"] == full["weights"]
    assert lean["held"] < 1.05 * lean["weights"]
    saved = lean["weights"] - half["weights"]
    assert saved == 2 * 1_000_000 * WIDTH


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("lean")])
def test_a_lean_layer_takes_what_it_holds(row):
    found = attempt(row, 1_000_000)
    assert found["expected"]["weights"] >= SIZABLE
    assert found["bytes"] > 0.9 * found["expected"]["weights"]
    # The benchmark wants 1.1 of a million labels and more; here the allocator's mood may add to it,
    # and a gradient buffer, or one moment, would be 1.9 at least.
    assert found["bytes"] < 1.3 * found["expected"]["held"]
    assert excess([found | {"bytes": 1.1 * found["expected"]["held"]}]) == []
    assert len(excess([found | {"bytes": 1.2 * found["expected"]["held"]}])) == 1


def test_what_does_not_fit_is_printed_with_its_bytes(monkeypatch):
    row = {"num_labels": 7, "row": "x", "expected": {"weights": 2e6, "held": 3e9}}
    assert table([row]).splitlines()[-1] == "| 7 | x | 2 | OOM (3,000) | – | – | – |"
    row |= {"bytes": 6e9, "seconds": [0.1, 0.2, 0.3], "load_by_others": 0.25}
    assert table([row]).splitlines()[-1] == "| 7 | x | 2 | 6,000 | 2.00 | 100 | 25 % |"
    monkeypatch.setattr(output_layers, "total_memory_bytes", lambda: 10_000_000)
    assert "bytes" not in attempt("full softmax, Adam", 100_000)
    monkeypatch.undo()
    monkeypatch.setattr(output_layers, "available_memory_bytes", lambda: 10_000_000)
    assert attempt("full softmax, Adam", 100_000) is None


def test_rows_that_are_there_are_not_measured_again(tmp_path, monkeypatch):
    tried, full = [], iter([True, False])

    def measured(row, num_labels):
        tried.append((row, num_labels))
        if row == "lean, SGD" and next(full, False):
            return None
        expected = {"weights": 1, "held": 2}
        found = {"num_labels": num_labels, "row": row, "expected": expected, "bytes": 2}
        return found | {"seconds": [1.0], "load_by_others": None}

    monkeypatch.setattr(output_layers, "attempt", measured)
    arguments = ["--out", str(tmp_path), "--sizes", "30"]
    assert main(arguments) == 1  # one had no room
    assert main([*arguments, "20"]) == 0
    assert main(arguments) == 0
    names = list(ROWS)
    assert [row for row, size in tried if size == 30] == [*names, "lean, SGD"]
    assert [row for row, size in tried if size == 20] == names
    kept = json.loads((tmp_path / "output_layers.json").read_text())["results"]
    order = [(size, row) for size in (20, 30) for row in names]
    assert [(found["num_labels"], found["row"]) for found in kept] == order
    assert (tmp_path / "output_layers.md").read_text().count("| 1,000 | – |") == len(order)
