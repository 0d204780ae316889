import pytest

from tests.benchmarks import output_layers
from tests.benchmarks.output_layers import ROWS, WIDTH, expected_bytes, measure, table


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_measured_and_reckoned(row, monkeypatch):
    monkeypatch.setattr(output_layers, "_SECONDS", 0.01)
    found = measure(row, 3_000)
    assert len(found["seconds"]) >= 3
    assert min(found["seconds"]) > 0
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


def test_what_does_not_fit_is_printed_with_its_bytes():
    row = {"num_labels": 7, "row": "x", "expected": {"weights": 2e6, "held": 3e9}}
    assert table([row]).splitlines()[-1] == "| 7 | x | 2 | OOM (3,000) | – | – |"
    row |= {"bytes": 6e9, "seconds": [0.1, 0.2, 0.3]}
    assert table([row]).splitlines()[-1] == "| 7 | x | 2 | 6,000 | 2.00 | 200 |"
