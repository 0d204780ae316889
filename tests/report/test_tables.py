from __future__ import annotations

from typing import Any

import pytest
import synthetic_records as made
from synthetic_records import changed, cost_line, cost_row, record, sections, trial

from bench.report.render import (
    Cell,
    Table,
    escape_latex,
    escape_markdown,
    render_latex,
    render_markdown,
    render_text,
)
from bench.report.tables.tables import build_table
from bench.studies.published import Published

PLAIN = trial("full_softmax", chunk_size=None)


def _table(*records: dict, costs: Any = (), is_compact: bool = False, **more: Any) -> Table:
    (section,) = sections(records, costs, **more)
    return build_table(section, is_compact=is_compact)


def _costs(of: Any, phases: dict[str, Any], *rounds: float, **more: Any) -> list[dict[str, Any]]:
    return [cost_line([cost_row(of, phases, rounds or (1.0,), **more)])]


SECOND = trial("full_softmax", chunk_size=None, replicate=1)
LONG = trial("full_softmax", chunk_size=None, num_steps=1000)
CENTROID = trial("centroid", encoder="linear")
DASHES = dict.fromkeys(("train s", "steps/s", "latency ms", "load %", "queries/s"), "–")


@pytest.mark.parametrize(
    ("records", "costs", "expected"),
    [
        ([record(PLAIN)], (), DASHES),
        # A gap in one replicate is not averaged over.
        (
            [
                record(PLAIN, accuracy=0.3),
                changed(record(SECOND, accuracy=0.3), None, "test", "P@3"),
            ],
            (),
            {"P@1 %": "30.0", "P@3 %": "–"},
        ),
        ([record(PLAIN, status="oom")], (), {"P@1 %": "OOM (33.0 GiB)", "P@3 %": "–"}),
        ([record(PLAIN, status="timeout")], (), {"P@1 %": "timeout"}),
        ([record(PLAIN, status="error")], (), {"P@1 %": "error"}),
        (
            [
                record(trial("full_softmax", chunk_size=None, replicate=i), accuracy=quality)
                for i, quality in enumerate((0.30, 0.35, 0.31))
            ],
            (),
            {"P@1 %": "31.0 (30.0–35.0)", "n": "3"},
        ),
        ([record(PLAIN), record(SECOND, status="oom")], (), {"n": "1 of 2 (OOM)"}),
        # Steps times seconds a step.
        (
            [record(LONG)],
            _costs(LONG, {"train": (0.02, 10)}, 1.1, 1.5, 1.0),
            {"train s": "20 (20–30)", "steps/s": "50 (33–50)"},
        ),
        # Three digits where rounds are close, two where not.
        (
            [record(PLAIN)],
            _costs(PLAIN, {"latency": (0.001234, 1)}, 1.0, 1.01, 1.02),
            {"latency ms": "1.23 (1.23–1.26)"},
        ),
        (
            [record(PLAIN)],
            _costs(PLAIN, {"latency": (0.001234, 1)}, 1.0, 1.3, 0.9),
            {"latency ms": "1.1 (1.1–1.6)"},
        ),
        # What learns in one piece.
        (
            [record(CENTROID)],
            _costs(CENTROID, {"fit": (1.5, 1)}),
            {"train s": "1.50", "steps/s": "–"},
        ),
        (
            [record(PLAIN)],
            _costs(PLAIN, {"decode": (2e-5, 256), "throughput": (1e-4, 256)}),
            {"decode ms": "0.0200", "queries/s": "10,000"},
        ),
        # A kernel that tells no load.
        ([record(PLAIN)], _costs(PLAIN, made.phases_of(PLAIN), load=None), {"load %": "–"}),
        (
            [changed(record(PLAIN), 5e9, "memory", "device_allocated_peak_bytes")],
            (),
            {"device peak MB": "5,000"},
        ),
        ([record(PLAIN, task="multilabel")], (), {"method": "One-vs-all"}),
    ],
)
def test_a_row_shows_what_was_measured(
    records: list[Any], costs: list[Any], expected: dict[str, str]
) -> None:
    row = made.texts(_table(*records, costs=costs))[0]
    assert {name: row[name] for name in expected} == expected


def test_reasons_of_errors_stand_in_the_footer() -> None:
    other, failing = (trial("full_softmax", chunk_size=size) for size in (8, 16))
    failed = [
        changed(record(of, status="error"), "PeerMissing: the extra\r 'peers'", "reason")
        for of in (failing, trial("mach", num_buckets=64, num_worlds=2))
    ]
    notes = " ".join(_table(record(other), *failed).notes)
    assert "Errors: Full softmax, MACH: PeerMissing: the extra  'peers'." in notes
    assert "Errors:" not in " ".join(_table(record(other), record(PLAIN, status="oom")).notes)


def test_bold_follows_validation_and_no_trivial_baseline_or_published_number() -> None:
    rival = Published(label="Rival", metrics={"P@1": 0.99}, source="a paper")
    table = _table(
        record(PLAIN, accuracy=0.4, validation=0.2),
        record(trial("mach", num_buckets=64, num_worlds=2), accuracy=0.3, validation=0.25),
        record(trial("centroid"), accuracy=0.6),
        of=made.study(published=(rival,)),
    )
    rows = made.cells(table)
    _, mach, _, ceiling, elsewhere = rows
    assert [row["P@1 %"].is_bold for row in rows] == [False, True, False, False, False]
    assert mach["validation P@1 %"] == Cell("25.0", is_bold=True)
    assert mach["P@5 %"].is_bold
    assert ceiling["P@1 %"].text == "97.2"
    assert (elsewhere["method"].text, elsewhere["setting"].text) == ("elsewhere: Rival", "a paper")


def test_busy_row_is_marked_where_quiet_ones_are_not() -> None:
    mach = trial("mach", num_buckets=64, num_worlds=2)
    rows = [
        cost_row(PLAIN, made.phases_of(PLAIN), load=0.02),
        cost_row(mach, made.phases_of(mach), load=0.26),
    ]
    table = _table(record(PLAIN), record(mach), costs=[cost_line(rows)])
    full, busy = made.cells(table)[:2]
    assert (full["method"].text, full["load %"].text) == ("Full softmax", "2.0")
    assert (busy["method"].text, busy["load %"].text) == ("MACH‡", "26.0")
    assert any(note.startswith("‡") for note in table.notes)


def test_stale_row_is_marked_and_explained() -> None:
    table = _table(record(PLAIN), is_stale=lambda raw: True)
    assert made.cells(table)[0]["method"].text == "Full softmax†"
    assert any(note.startswith("†") for note in table.notes)


TAGS = made.study(primary_metrics=("P@1", "PSP@1"))


@pytest.mark.parametrize(
    ("versions", "num_validation_points", "text"),
    [({}, 2000, "30.0†"), ({"psp": 2}, 2000, "30.0"), ({}, 0, "30.0")],
)
def test_psp_of_an_older_version_is_marked_where_validation_points_were_carved_out(
    versions: dict, num_validation_points: int, text: str
) -> None:
    raw = record(PLAIN)
    raw["test"]["PSP@1"] = 0.3
    raw["versions"] |= versions
    raw["data"]["num_validation_points"] = num_validation_points
    table = _table(raw, of=TAGS)
    row = made.cells(table)[0]
    assert (row["PSP@1 %"].text, row["method"].text) == (text, "Full softmax")
    assert "†" not in row["P@1 %"].text
    assert any(note.startswith("† at a PSP") for note in table.notes) == ("†" in text)


def test_range_stands_behind_the_mark_of_an_older_metric() -> None:
    raws = [record(trial("full_softmax", chunk_size=None, replicate=i)) for i in range(2)]
    for raw, value in zip(raws, (0.2, 0.4), strict=True):
        raw["test"]["PSP@1"] = value
    assert made.cells(_table(*raws, of=TAGS))[0]["PSP@1 %"].text == "30.0† (20.0–40.0)"


def test_notes_name_machine_commits_rounds_test_points_and_weights() -> None:
    rows = [cost_row(PLAIN, made.phases_of(PLAIN), weights="started")]
    table = _table(record(PLAIN), costs=[cost_line(rows)])
    text = " ".join(table.notes)
    assert "Imaginary CPU 9000, 2 cores, 8.00 GiB" in text
    assert "Commit abcdef0123; 2030-01-02; 2 threads; data f00df00df0." in text
    assert "Times: 3 rounds over all rows; commit abcdef0123; 2030-01-05." in text
    assert "10,000 test points of 66,822" in text
    assert "Inference of all rows was timed on weights that had only begun to learn." in text
    assert "‡" not in text
    assert "device peak MB" not in table.columns


def test_compact_table_keeps_quality_memory_and_time() -> None:
    columns = _table(record(PLAIN), is_compact=True).columns
    assert {"validation P@1 %", "P@1 %", "train s", "model MB"} <= set(columns)
    assert "steps/s" not in columns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("x_y*z", r"x\_y\*z"),
        ("<b>", r"\<b\>"),
        ("R&D", "R&amp;D"),
        ("a\nb", "a b"),
        ("$5 or $6", r"\$5 or \$6"),
    ],
)
def test_markdown_is_escaped(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % & #1_a", r"50 \% \& \#1\_a"),
        ("{x}^2~$", r"\{x\}\textasciicircum{}2\textasciitilde{}\$"),
        ("a\\b|c", r"a\textbackslash{}b\textbar{}c"),
        ("1–2 × 3", r"1--2 $\times$ 3"),
    ],
)
def test_latex_is_escaped(text: str, expected: str) -> None:
    assert escape_latex(text) == expected


def test_every_markdown_row_has_as_many_cells_as_the_head() -> None:
    table = _table(record(PLAIN), record(trial("frequency")))
    rows = [line for line in render_markdown(table).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    latex = render_latex(table, "t")
    assert latex.count(r"\begin{table*}") == latex.count(r"\end{table*}") == 1


def test_bold_leaves_the_range_light() -> None:
    table = Table("t", ("a", "b", "c"), (((Cell(""), Cell(""), Cell("1 (0–2)", is_bold=True)),),))
    assert "**1** (0–2)" in render_markdown(table)
    assert r"\textbf{1} (0--2)" in render_latex(table, "t")
    assert "1* (0–2)" in render_text(table, 80)


@pytest.mark.parametrize("width", [44, 60, 80, 200])
def test_text_fits_the_terminal_and_keeps_what_it_must(width: int) -> None:
    setting = "H=512, B=1024, R=4, independent encoders, log-mean, lr=0.01"
    row = ("MACH", setting, "12.3 (11.9–12.8)", "45.6 (45.0–46.0)", "reproduced (twice)")
    table = Table(
        "A title",
        ("method", "setting", "P@1 %", "host peak MB", "verdict"),
        ((tuple(map(Cell, row)),),),
        notes=("A note that is long enough to be wrapped " * 5,),
        spare=("host peak MB",),
    )
    text = render_text(table, width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.split())
    assert "12.3" in words
    assert "reproduced" in words
    assert ("11.9" in words) == (width >= 80)
    assert ("45.6" in words) == (width >= 60)
    assert setting.split(", ")[-1] in words
    assert ("No room for: host peak MB." in words) == (width < 60)
