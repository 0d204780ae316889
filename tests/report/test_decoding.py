from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from synthetic_decoding import PEAKS, SIZES, VIEW, decode_grid, decode_record, decode_trial
from synthetic_records import changed, record, trial, write

from bench.report import build, check, figures
from bench.report.decode_tables import build_decode_table
from bench.report.decoding import arrange, entries_of, quantile
from bench.report.plots import decode_peakedness
from bench.report.select import Section, StudyView, select_sections
from bench.report.tables import Cell, Table, render_latex, render_markdown

SMALL = SIZES[:2]


def _sections(records: list[dict], *, is_stale: bool = False) -> tuple[Section, ...]:
    return arrange(select_sections(records, VIEW, "imaginary-2c", lambda record: is_stale))


def _table(*records: dict, is_compact: bool = False, is_stale: bool = False) -> Table:
    (section,) = _sections(list(records), is_stale=is_stale)
    return build_decode_table(section, is_compact=is_compact)


def _rows(table: Table) -> list[dict[str, Cell]]:
    rows = [row for group in table.groups for row in group]
    return [dict(zip(table.columns, row, strict=True)) for row in rows]


def _one(method: str, milliseconds: float | None = None, **settings: object) -> dict:
    return decode_record(decode_trial(method, **settings), milliseconds=milliseconds)  # type: ignore[arg-type]


def test_times_are_medians_of_raw_samples_a_query() -> None:
    raw = changed(_one("dense"), [0.064, 0.128, 6.4], "inference", "batches", "64")
    raw = changed(raw, [0.001, 0.002, 0.009], "inference", "latency_seconds")
    (row,) = _rows(_table(raw))
    assert row["batch 64 ms/query"].text == "2.00"
    assert row["batch 1 p50 ms"].text == "2.00"
    assert row["batch 1 p99 ms"].text == "8.86"


def test_quantile_over_a_gap_does_not_exist() -> None:
    assert quantile([1.0, None, 3.0], 0.5) is None
    assert quantile(None, 0.5) is None


@pytest.mark.parametrize(
    ("path", "column"),
    [
        (("inference", "batches", "1024"), "batch 1,024 ms/query"),
        (("inference", "num_scored"), "labels scored %"),
        (("test", "recall"), "recall %"),
        (("memory", "decode_bytes"), "index MB"),
        (("clock",), "build s"),
    ],
)
def test_gap_prints_as_a_dash(path: tuple[str, ...], column: str) -> None:
    (row,) = _rows(_table(changed(_one("dense"), None, *path)))
    assert row[column].text == "–"


def test_authors_are_compared_within_a_problem_only() -> None:
    table = _table(
        _one("authors", 6.0), _one("pruned", 2.0), _one("pruned", 1.0, num_labels=3_000_000)
    )
    assert [row["× authors'"].text for row in _rows(table)] == ["1.00", "3.00", "–"]


def test_settings_that_differ_between_problems_are_told_apart() -> None:
    (section,) = _sections(
        [_one("pruned"), _one("pruned", num_labels=3_000_000, falls_back=True), _one("dense")]
    )
    names = {entry.name for entry in entries_of(section)}
    assert names == {"Dense", "Pruned", "Pruned, falls back to a scan"}


def test_authors_that_did_not_finish_leave_a_gap() -> None:
    lost = decode_record(decode_trial("authors"), status="timeout")
    first, second = _rows(_table(lost, _one("pruned", 2.0)))
    assert first["batch 1 p50 ms"].text == "timeout"
    assert second["× authors'"].text == "–"


def test_problem_of_a_failed_trial_is_that_of_its_settings() -> None:
    lost = decode_record(decode_trial("dense", num_labels=670_091), status="oom")
    (row,) = _rows(_table(lost))
    assert row["problem"].text == "L = 670,091, R = 32, B = 10,000"
    assert row["batch 1 p50 ms"].text == "OOM"


def test_rows_are_sorted_by_size_and_method_and_name_their_problem_once() -> None:
    records = [_one(m, num_labels=n) for n in (670_091, 10_000) for m in ("auto", "authors")]
    table = _table(*records)
    assert [row["problem"].text[:11] for row in _rows(table)] == [
        "L = 10,000,",
        "",
        "L = 670,091",
        "",
    ]
    assert [row["method"].text for row in _rows(table)] == ["Authors' gather", "Auto"] * 2


def test_fastest_exact_method_is_bold() -> None:
    missed = changed(_one("faiss_pq", 2.0), 0.9999, "test", "recall")
    lucky = changed(_one("buckets", 1.0), 1.0, "test", "recall")
    rows = _rows(_table(_one("softmax_matmul", 0.5), lucky, missed, _one("pruned", 3.0)))
    bold = [row["method"].text for row in rows if any(cell.is_bold for cell in row.values())]
    assert bold == ["Pruned"]


def test_recall_is_never_rounded_up_to_all() -> None:
    (row,) = _rows(_table(changed(_one("faiss_pq"), 0.99996, "test", "recall")))
    assert row["recall %"].text == "99.9"


def test_options_name_rows_of_one_method_only_where_they_differ() -> None:
    table = _table(
        _one("pruned", min_count=2),
        _one("buckets", num_best_buckets=100),
        _one("buckets", num_best_buckets=50),
    )
    assert [row["method"].text for row in _rows(table)] == [
        "Pruned",
        "Top buckets (approximate), best buckets=50",
        "Top buckets (approximate), best buckets=100",
    ]


def test_replicates_share_a_row_with_their_range() -> None:
    (row,) = _rows(_table(*(_one("dense", 1.0 + i, replicate=i) for i in range(3))))
    assert row["n"].text == "3"
    assert row["batch 64 ms/query"].text == "2.00 (1.00–3.00)"


def test_sections_run_from_uniform_to_peaked_to_models_and_by_k() -> None:
    records = [*decode_grid(k=100, sizes=SMALL, kinds=["peak 0.9"]), *decode_grid(sizes=SMALL)]
    sections = _sections(records)
    assert [(s.part, s.data_name) for s in sections] == [
        *(("k = 5", name) for name in (*PEAKS, "simplewiki")),
        ("k = 100", "peak 0.9"),
    ]


def test_footer_names_machine_commit_queries_and_staleness() -> None:
    text = " ".join(_table(_one("dense"), is_stale=True).notes)
    assert "Imaginary CPU 9000, 2 cores, 8.00 GiB" in text
    assert "Commit abcdef0123; 2030-01-02; 2 threads" in text
    assert "1,024 queries; the best bucket's median probability is 0.250" in text
    assert "† measured with code that has changed since." in text
    assert "Dense†" in render_markdown(_table(_one("dense"), is_stale=True))


def test_load_of_other_processes_is_told() -> None:
    busy = _table(changed(_one("dense"), 0.3, "load", "other_cpu_share"))
    assert any("Other processes took 30.0 %" in note for note in busy.notes)


def test_compact_table_keeps_what_a_reader_asks_first() -> None:
    assert _table(_one("dense"), is_compact=True).columns == (
        "problem",
        "method",
        "batch 1 p50 ms",
        "batch 64 ms/query",
        "× authors'",
        "labels scored %",
        "recall %",
        "index MB",
    )


def test_both_forms_have_as_many_cells_as_heads() -> None:
    table = _table(*decode_grid(kinds=["uniform"], sizes=SMALL))
    lines = [line for line in render_markdown(table).splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert r"$\times$ authors'" in render_latex(table, "t")


def test_records_without_anything_still_make_a_table() -> None:
    bare = changed(_one("dense"), {}, "settings", "data", "options")
    for block in ("data", "memory", "clock", "test", "inference", "load"):
        bare = changed(bare, None, block)
    (row,) = _rows(_table(bare))
    assert row["problem"].text == "L –, R –, B –"
    assert row["batch 64 ms/query"].text == "–"


def test_unregistered_method_keeps_its_name() -> None:
    (section,) = _sections([_one("mine"), _one("dense")])
    assert [entry.name for entry in entries_of(section)] == ["Dense", "mine"]


def test_report_of_a_decoding_study_is_fresh_after_a_build(
    tmp_path: Path, install_view: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_view(VIEW)
    collect = decode_peakedness.collect
    monkeypatch.setattr(figures, "DECODE_FIGURES", {"decode-peakedness": collect})
    results = tmp_path / "results"
    write(results, decode_grid(kinds=["uniform", "peak 0.5"], sizes=SMALL))
    readme = tmp_path / "README.md"
    readme.write_text("<!-- table: imaginary | k = 5 · uniform -->\n<!-- end -->\n")
    first = {path: path.read_bytes() for path in build(results)}
    assert results / "figures/imaginary/imaginary-2c/decode-peakedness.svg" in first
    assert check(results) == []
    assert {path: path.read_bytes() for path in build(results)} == first
    text = readme.read_text()
    assert "**imaginary · k = 5 · uniform**" in text
    assert "peak 0.5" not in text


def test_kind_of_study_chooses_the_tables(tmp_path: Path, install_view: Callable) -> None:
    for view, one, head in (
        (VIEW, _one("dense"), "labels scored %"),
        (StudyView(name="imaginary"), record(trial("frequency")), "train s"),
    ):
        install_view(view)
        results = tmp_path / view.kind.name
        write(results, [one])
        build(results)
        assert head in (results / "tables/imaginary/imaginary-2c.md").read_text()
