from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import synthetic_records as made
from conftest import Install
from synthetic_decoding import STUDY, decode_cost, decode_record, decode_trial
from synthetic_records import MACHINE, changed, record, trial, write

from bench.report.check import check
from bench.report.load import load_results
from bench.report.tables.comparison import compare, terminal_summary
from bench.report.tables.tables import build_table
from bench.report.write import build

FAST = {**MACHINE, "cpu": "Imaginary CPU XL", "num_cores": 8}


def _replicates(accuracies: list[float], **more: Any) -> list[dict[str, Any]]:
    return [
        record(trial("full_softmax", replicate=i), accuracy=accuracy, **more)
        for i, accuracy in enumerate(accuracies)
    ]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Own results, and the reference."""
    return tmp_path / "results" / "own", tmp_path / "results"


THREE = _replicates([0.30, 0.31, 0.32])
(ONE,) = _replicates([0.31])
CURVE = ONE["training"]["curve"]
BENT = [*CURVE[:-1], {**CURVE[-1], "loss": CURVE[-1]["loss"] * (1 + 1e-15)}]
PSP = changed(ONE, 0.2, "test", "PSP@1")
FLOOR = changed(ONE, 0, "training", "num_steps")


def _drawn(accuracy: float) -> dict[str, Any]:
    without_points = changed(_replicates([accuracy])[0], None, "data", "num_test_points")
    errors = dict.fromkeys(without_points["test"], 0.01)
    return changed(without_points, {"standard_errors": errors}, "estimators")


@pytest.mark.parametrize(
    ("own", "reference", "verdict"),
    [
        (THREE[1:2], THREE, "identical"),
        # The last digit of a curve.
        ([changed(ONE, BENT, "training", "curve")], [ONE], "reproduced"),
        # Of what is not trained by steps older records have no validation.
        ([FLOOR], [changed(FLOOR, [], "training", "curve")], "identical"),
        # A metric that one side computes otherwise.
        ([changed(changed(PSP, 0.3, "test", "PSP@1"), 2, "versions", "psp")], [PSP], "identical"),
        # Range 0.30 to 0.32, half of it 0.01, two standard errors of P@1 over 10,000 points 0.0092.
        (_replicates([0.285], machine=FAST), THREE, "reproduced"),
        (_replicates([0.338], machine=FAST), THREE, "reproduced"),
        (_replicates([0.279], machine=FAST), THREE, "differs"),
        (_replicates([0.341], machine=FAST), THREE, "differs"),
        # What was drawn, by its standard errors.
        ([_drawn(0.315)], [_drawn(0.30)], "reproduced"),
        ([_drawn(0.325)], [_drawn(0.30)], "differs"),
        # One leading metric outside.
        ([changed(ONE, 0.9, "test", "P@5")], THREE, "differs"),
        ([changed(ONE, "beef", "data", "fingerprint")], [ONE], "other data"),
        # No counterpart, no end.
        ([ONE], [record(trial("centroid"))], "–"),
        (_replicates([0.31], status="timeout"), [ONE], "–"),
    ],
)
def test_verdict(folders: tuple[Path, Path], own: list, reference: list, verdict: str) -> None:
    for folder, records in zip(folders, (own, reference), strict=True):
        write(folder, records)
    comparison = compare(*folders, "imaginary")
    assert comparison is not None
    assert [pair.verdict for pair in comparison.pairs] == [verdict]


def test_summary_shows_own_beside_the_reference_and_counts(folders: tuple[Path, Path]) -> None:
    own_dir, reference_dir = folders
    trials = [trial("full_softmax"), trial("mach", num_buckets=64, num_worlds=2)]
    reference = [record(of, accuracy=0.3) for of in trials]
    write(reference_dir, reference, made.costs_of(trials))
    own = [reference[0], changed(reference[1], 0.01, "test", "P@1")]
    own = [changed(one, FAST, "provenance", "machine") for one in own]
    faster = [made.cost_row(of, {"latency": (0.0001, 1)}, rounds=(1.0,)) for of in trials]
    write(own_dir, own, [made.cost_line(faster, machine=FAST)], machine="imaginary-8c")
    build(own_dir, reference_dir=reference_dir)
    assert check(own_dir, reference_dir).problems == ()
    text = terminal_summary(own_dir, reference_dir, "imaginary", 200)
    assert text.startswith("Own results on imaginary-8c: Imaginary CPU XL, 8 cores, 8.00 GiB | ")
    assert "reference on imaginary-2c: Imaginary CPU 9000" in text
    first, second = (line for line in text.splitlines() if line.startswith(("Full", "MACH")))
    assert first.endswith("identical")
    assert second.endswith("differs")
    assert "0.100 | 2.21" in first
    assert "1.0 | 30.0" in second
    assert "1 of 2 rows reproduced (1 identical)." in text
    assert "Best on validation" in text  # as on the page
    page = own_dir / "tables/imaginary/imaginary-8c.md"
    assert str(page) in text
    assert str(own_dir / "figures/imaginary/imaginary-8c") in text
    written = page.read_text()
    assert "## Own | reference" in written
    assert "**1 of 2 rows reproduced (1 identical).**" in written
    assert "identical |" in written


@pytest.mark.parametrize("width", [80, 100, 140])
def test_summary_fits_the_terminal(folders: tuple[Path, Path], width: int) -> None:
    own_dir, reference_dir = folders
    trials = made.full_grid(replicates=1)
    for folder in folders:
        write(folder, [record(of) for of in trials], made.costs_of(trials))
    text = terminal_summary(own_dir, reference_dir, "imaginary", width)
    table = [line for line in text.splitlines() if line.startswith(("method", "─", "MACH"))]
    assert max(map(len, table)) <= width
    assert "verdict" in text
    assert "16 of 16 rows reproduced (16 identical)." in text


def test_study_without_a_reference_has_its_table_and_overview(folders: tuple[Path, Path]) -> None:
    own_dir, reference_dir = folders
    trials = [trial("full_softmax"), trial("mach", num_buckets=64, num_worlds=2)]
    write(own_dir, [record(of, accuracy=0.25) for of in trials])
    build(own_dir, reference_dir=reference_dir)
    text = terminal_summary(own_dir, reference_dir, "imaginary", 160)
    assert "there is no reference" in text
    assert "validation P@1 %" in " ".join(text.split())
    assert "Best on validation" in text
    narrow = terminal_summary(own_dir, reference_dir, "imaginary", 80)
    heads = narrow.replace(",", " ").replace(".", " ").split()
    # Columns of the page that have no room are named.
    assert "No room for: " in " ".join(narrow.split())
    table = build_table(load_results(own_dir, ["imaginary"])[0].sections[0])
    assert {word for head in table.columns for word in head.split()} <= set(heads)
    wide = terminal_summary(own_dir, reference_dir, "imaginary", 400)
    assert "No room for" not in wide
    page = (own_dir / "tables/imaginary/imaginary-2c.md").read_text()
    assert "## Best on validation" in page
    assert "Own | reference" not in page
    assert "Figures not drawn: accuracy-time: no seconds a step were measured; times: " in page


def test_study_that_was_not_run_has_a_sentence(folders: tuple[Path, Path]) -> None:
    own_dir, reference_dir = folders
    assert terminal_summary(own_dir, reference_dir, "imaginary", 80).startswith("imaginary: no own")


def test_decoding_is_compared_by_recall(folders: tuple[Path, Path], install_study: Install) -> None:
    install_study(STUDY)
    own_dir, reference_dir = folders
    trials = [decode_trial(name, num_labels=n) for name in ("dense", "faiss_pq") for n in (9, 99)]
    line = made.cost_line([decode_cost(of) for of in trials], part="k = 5")
    write(reference_dir, [decode_record(of) for of in trials], [line])
    missed = [
        decode_record(of, recall=0.5 if of.model.method == "faiss_pq" else 1.0) for of in trials
    ]
    write(own_dir, missed, [line])
    comparison = compare(own_dir, reference_dir, "imaginary")
    assert comparison is not None
    assert [(pair.own.label, pair.verdict) for pair in comparison.pairs] == [
        ("FAISS IndexPQ", "differs"),
        ("Dense", "identical"),
    ] * 2
    assert "L = 99, R = 32" in terminal_summary(own_dir, reference_dir, "imaginary", 200)
