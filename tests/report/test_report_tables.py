from __future__ import annotations

import pytest
from synthetic_records import changed, record, trial

from bench.report.format import escape_latex, escape_markdown
from bench.report.select import StudyView, select_sections
from bench.report.tables import (
    Cell,
    Table,
    build_table,
    render_latex,
    render_markdown,
    render_study,
)
from bench.study import Published

PLAIN = trial("full_softmax", chunk_size=None)


def _table(
    *records: dict,
    view: StudyView | None = None,
    is_stale: bool = False,
    is_compact: bool = False,
) -> Table:
    view = view or StudyView(name="imaginary")
    (section,) = select_sections(records, view, "imaginary-2c", lambda record: is_stale)
    return build_table(section, is_compact=is_compact)


def _row(table: Table, place: int = 0) -> dict[str, Cell]:
    rows = [row for group in table.groups for row in group]
    return dict(zip(table.columns, rows[place], strict=True))


def test_gap_prints_as_a_dash_and_never_as_zero() -> None:
    row = _row(_table(changed(record(PLAIN), None, "inference")))
    assert row["latency ms"].text == "–"
    assert row["queries/s"].text == "–"
    assert "0" not in {cell.text for cell in row.values()}


def test_gap_in_one_replicate_is_not_averaged_over() -> None:
    second = trial("full_softmax", chunk_size=None, replicate=1)
    row = _row(_table(record(PLAIN), changed(record(second), None, "clock", "decode_seconds")))
    assert row["decode s"].text == "–"
    assert row["train s"].text == "300"


def test_out_of_memory_prints_the_predicted_need() -> None:
    row = _row(_table(record(PLAIN, status="oom")))
    assert row["P@1 %"].text == "OOM (33.0 GiB)"
    assert row["P@3 %"].text == "–"


@pytest.mark.parametrize("status", ["timeout", "error", "skipped"])
def test_other_outcomes_print_their_status(status: str) -> None:
    assert _row(_table(record(PLAIN, status=status)))["P@1 %"].text == status


def test_several_replicates_print_median_range_and_count() -> None:
    records = [
        changed(record(trial("full_softmax", chunk_size=None, replicate=i)), quality, "test", "P@1")
        for i, quality in enumerate((0.30, 0.35, 0.31))
    ]
    row = _row(_table(*records))
    assert row["P@1 %"].text == "31.0 (30.0–35.0)"
    assert row["n"].text == "3"


def test_failed_replicate_is_counted_and_named() -> None:
    second = trial("full_softmax", chunk_size=None, replicate=1)
    row = _row(_table(record(PLAIN), record(second, status="oom")))
    assert row["n"].text == "1 of 2 (OOM)"


def test_best_competitor_is_bold_but_no_floor_or_published_number() -> None:
    published = Published(label="Rival", metrics={"P@1": 0.99}, source="a paper")
    table = _table(
        record(PLAIN, accuracy=0.4),
        record(trial("mach", num_buckets=64, num_worlds=2), accuracy=0.3),
        record(trial("centroid"), accuracy=0.6),
        view=StudyView(name="imaginary", published=(published,)),
    )
    bold = [_row(table, place)["P@1 %"].is_bold for place in range(5)]
    assert bold == [True, False, False, False, False]
    assert _row(table, 3)["P@1 %"].text == "97.2"
    assert _row(table, 4)["method"].text == "elsewhere: Rival"
    assert _row(table, 4)["setting"].text == "a paper"


def test_steps_per_second_come_from_the_median_window() -> None:
    raw = changed(record(PLAIN), [2.0, 100.0, 4.0], "training", "step_seconds")
    assert _row(_table(raw))["steps/s"].text == "5.00"


def test_stale_row_is_marked_and_explained() -> None:
    table = _table(record(PLAIN), is_stale=True)
    assert _row(table)["method"].text == "Full softmax†"
    assert any(note.startswith("†") for note in table.notes)


def test_load_of_other_processes_is_told_when_it_matters() -> None:
    quiet = _table(record(PLAIN))
    busy = _table(changed(record(PLAIN), 0.3, "load", "other_cpu_share"))
    assert not any("Other processes" in note for note in quiet.notes)
    assert any("Other processes took 30.0 %" in note for note in busy.notes)


def test_footer_names_machine_commit_and_test_points() -> None:
    text = " ".join(_table(record(PLAIN)).notes)
    assert "Imaginary CPU 9000, 2 cores, 8.00 GiB" in text
    assert "Commit abcdef0123; 2030-01-02" in text
    assert "10,000 test points of 66,822" in text


def test_device_column_stands_only_where_a_device_was_measured() -> None:
    on_device = changed(record(PLAIN), 5e9, "memory", "device_allocated_peak_bytes")
    assert "device peak MB" not in _table(record(PLAIN)).columns
    assert _row(_table(on_device))["device peak MB"].text == "5,000"


def test_multilabel_methods_have_their_own_names_and_no_ceiling_row() -> None:
    table = _table(record(PLAIN, task="multilabel"))
    assert _row(table)["method"].text == "One-vs-all"
    assert len(table.groups) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("x_y*z", r"x\_y\*z"),
        ("<b>", r"\<b\>"),
        ("R&D", "R&amp;D"),
        ("a\nb", "a b"),
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


def test_names_with_special_characters_survive_in_both_forms() -> None:
    table = Table("a_b | c", ("method", "setting", "P@1 %"), (((Cell("x|y_z"),) * 3,),), ("50 %",))
    assert r"| x\|y\_z |" in render_markdown(table)
    assert r"x\textbar{}y\_z &" in render_latex(table, "t")
    assert r"P@1 \%" in render_latex(table, "t")
    assert r"50 \%" in render_latex(table, "t")


def test_bold_leaves_the_range_light() -> None:
    table = Table("t", ("a", "b", "c"), (((Cell(""), Cell(""), Cell("1 (0–2)", is_bold=True)),),))
    assert "**1** (0–2)" in render_markdown(table)
    assert r"\textbf{1} (0--2)" in render_latex(table, "t")


def test_every_markdown_row_has_as_many_cells_as_the_head() -> None:
    view = StudyView(name="imaginary")
    records = [record(PLAIN), record(trial("frequency"))]
    markdown, latex = render_study(select_sections(records, view, "m"), [])
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert latex.count(r"\begin{table*}") == latex.count(r"\end{table*}") == 1


def test_compact_table_keeps_quality_memory_and_time() -> None:
    columns = _table(record(PLAIN), is_compact=True).columns
    assert "P@1 %" in columns
    assert "train s" in columns
    assert "steps/s" not in columns
