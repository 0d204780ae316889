from __future__ import annotations

from typing import Any

import pytest
import synthetic_records as made
from synthetic_decoding import (
    PEAKS,
    SIZES,
    STUDY,
    decode_cost,
    decode_grid,
    decode_record,
    decode_trial,
)
from synthetic_records import changed, cost_line

from bench.report.plots import decode
from bench.report.plots.decode import part_of
from bench.report.plots.lines import LinePlot
from bench.report.render import Cell
from bench.report.sections import Section
from bench.report.style import SeriesStyle, draw_files, scores_styles, varied
from bench.report.tables.decoding import arrange, build_decode_table, entries_of
from bench.settings import Trial

HEADLINE = "from hidden vector, batch 64, ms/query"


def _sections(
    records: list[dict[str, Any]], lines: list[dict[str, Any]], **more: Any
) -> tuple[Section, ...]:
    return arrange(made.sections(records, lines, STUDY, **more))


def _timed(*pairs: tuple[Trial, float], **more: Any) -> tuple[list, list]:
    """Records and lines of trials with their ms a query, one session for each problem."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for of, milliseconds in pairs:
        groups.setdefault(str(of.data), []).append(decode_cost(of, milliseconds, **more))
    lines = [cost_line(rows, part="k = 5") for rows in groups.values()]
    return [decode_record(of) for of, _ in pairs], lines


def _table(records: list, lines: list, **more: Any) -> list[dict[str, Cell]]:
    (section,) = _sections(records, lines)
    return made.cells(build_decode_table(section, **more))


def test_first_number_is_the_time_from_the_hidden_vector() -> None:
    records, lines = _timed((decode_trial("dense"), 2.0), rounds=(1.0,))
    (section,) = _sections(records, lines)
    table = build_decode_table(section)
    assert table.columns[:4] == ("problem", "method", "n", HEADLINE)
    (row,) = made.texts(table)
    alone, batch = ("from hidden vector, alone, ms", "alone, ms"), ("batch 64, ms/query",)
    shown = [row[name] for name in (HEADLINE, *alone, *batch, "batch 1,024, ms/query")]
    assert shown == ["2.00", "4.00", "3.20", "1.60", "1.40"]


def test_ratios_are_formed_in_rounds_within_a_problem() -> None:
    authors, pruned = decode_trial("authors"), decode_trial("pruned")
    far = decode_trial("pruned", num_labels=3_000_000)
    # The machine slowed down by half in the last round: times double, ratios stand.
    rounds = (1.0, 1.0, 2.0)
    line = cost_line(
        [decode_cost(authors, 6.0, rounds=rounds), decode_cost(pruned, 2.0, rounds=rounds)],
        part="k = 5",
    )
    other = cost_line([decode_cost(far, 1.0)], part="k = 5")
    records = [decode_record(of) for of in (authors, pruned, far)]
    rows = _table(records, [line, other])
    assert [row["× authors', from hidden"].text for row in rows] == ["1.00", "3.00", "–"]
    assert [row["× authors', batch 64"].text for row in rows] == ["1.00", "3.00", "–"]
    assert rows[1][HEADLINE].text == "2.0 (2.0–4.0)"


def test_ratio_of_two_sessions_does_not_exist() -> None:
    authors, pruned = decode_trial("authors"), decode_trial("pruned")
    lines = [
        cost_line([decode_cost(authors)], part="k = 5", started_at="2030-01-05"),
        cost_line([decode_cost(pruned)], part="k = 5", started_at="2030-01-06"),
    ]
    rows = _table([decode_record(authors), decode_record(pruned)], lines)
    assert [row["× authors', from hidden"].text for row in rows] == ["1.00", "–"]


DENSE = decode_record(decode_trial("dense"))
BARE = changed(DENSE, {}, "settings", "data", "options")
for _block in ("data", "memory", "test", "inference"):
    BARE = changed(BARE, None, _block)


@pytest.mark.parametrize(
    ("made_up", "expected"),
    [
        (changed(DENSE, None, "inference", "num_scored"), {"labels scored %": "–", HEADLINE: "–"}),
        (changed(DENSE, None, "test", "recall"), {"recall %": "–"}),
        (changed(DENSE, None, "memory", "decode_bytes"), {"index MB": "–"}),
        # A trial that failed, its problem by its settings.
        (
            decode_record(decode_trial("authors", num_labels=670_091), status="oom"),
            {"problem": "L = 670,091, R = 32, B = 10,000", HEADLINE: "OOM"},
        ),
        # Never rounded up to all.
        (decode_record(decode_trial("faiss_pq"), recall=0.99996), {"recall %": "99.9"}),
        (BARE, {"problem": "L –, R –, B –"}),
    ],
)
def test_a_row_shows_what_was_measured(made_up: dict[str, Any], expected: dict[str, str]) -> None:
    (row,) = _table([made_up], [])
    assert {name: row[name].text for name in expected} == expected


def test_rows_are_sorted_by_size_and_method_and_name_their_problem_once() -> None:
    trials = [decode_trial(m, num_labels=n) for n in (670_091, 10_000) for m in ("auto", "authors")]
    rows = _table([decode_record(of) for of in trials], [])
    heads = [row["problem"].text[:11] for row in rows]
    assert heads == ["L = 10,000,", "", "L = 670,091", ""]
    assert [row["method"].text for row in rows] == ["Authors' gather", "Auto"] * 2


def test_fastest_exact_method_is_bold() -> None:
    times = {"softmax_matmul": 0.5, "buckets": 1.0, "faiss_pq": 2.0, "pruned": 3.0, "dense": 4.0}
    trials = {name: decode_trial(name) for name in times}
    records, lines = _timed(*((trials[name], ms) for name, ms in times.items()))
    recall = {"softmax_matmul": None, "faiss_pq": 0.9999}
    records = [decode_record(of, recall=recall.get(name, 1.0)) for name, of in trials.items()]
    bold = [
        (row["method"].text, name)
        for row in _table(records, lines)
        for name, cell in row.items()
        if cell.is_bold
    ]
    assert bold == [("Pruned", HEADLINE)]


def test_options_name_rows_of_one_method_only_where_they_differ() -> None:
    trials = [
        decode_trial("pruned"),
        decode_trial("buckets", num_best_buckets=100),
        decode_trial("buckets", num_best_buckets=50),
        decode_trial("dense"),
        decode_trial("dense", recompute=True),
    ]
    assert [row["method"].text for row in _table([decode_record(of) for of in trials], [])] == [
        "Dense",
        "Dense, hash recomputed",
        "Pruned",
        "Top buckets (approximate), best buckets=50",
        "Top buckets (approximate), best buckets=100",
    ]


def test_sections_run_from_uniform_to_peaked_to_models_and_by_k() -> None:
    first, _ = decode_grid(k=100, sizes=SIZES[:2], kinds=["peak 0.9"])
    second, _ = decode_grid(sizes=SIZES[:2])
    assert [(s.part, s.data_name) for s in _sections([*first, *second], [])] == [
        *(("k = 5", name) for name in (*PEAKS, "simplewiki")),
        ("k = 100", "peak 0.9"),
    ]


def test_compact_table_has_fewer_columns_and_notes_tell_of_queries() -> None:
    (section,) = _sections(*decode_grid(kinds=["uniform"], sizes=SIZES[:2]))
    compact, full = (build_decode_table(section, is_compact=short) for short in (True, False))
    assert set(compact.columns) < set(full.columns)
    assert "1,024 queries; the best bucket's median probability is 0.001" in " ".join(full.notes)


def test_unregistered_method_keeps_its_name() -> None:
    records = [decode_record(decode_trial(name)) for name in ("mine", "dense")]
    (section,) = _sections(records, [])
    assert [entry.row.name for entry in entries_of(section)] == ["Dense", "mine"]


def _plot(collect: Any, records: list, lines: list) -> LinePlot:
    plot = collect(part_of(_sections(records, lines)))
    assert isinstance(plot, LinePlot), plot
    return plot


def test_every_figure_is_drawn() -> None:
    sections = _sections(*decode_grid(kinds=("uniform", "peak 0.5"), sizes=SIZES[1:]))
    plots = dict(decode.plots(sections))
    assert set(plots) == set(decode.FIGURES)
    for plot in plots.values():
        assert not isinstance(plot, str), plot
        assert draw_files(plot)[".svg"].startswith(b"<?xml")


def test_parts_have_figures_of_their_own_and_those_lacking_data_a_reason() -> None:
    records = [r for k in (5, 100) for r in decode_grid(kinds=["uniform"], k=k)[0]]
    plots = list(decode.plots(_sections(records, [])))
    assert [stem for stem, _ in plots] == [
        f"{name}-{part}" for part in ("k-5", "k-100") for name in decode.FIGURES
    ]
    lost = _sections([decode_record(decode_trial("dense"), status="error")], [])
    assert all(isinstance(plot, str) and plot for _, plot in decode.plots(lost))


def test_labels_figure_has_a_panel_for_each_kind_with_several_sizes() -> None:
    plot = _plot(decode.decode_labels, *decode_grid())
    assert [panel.title for panel in plot.panels] == list(PEAKS)
    lines = {line.text: line for line in plot.panels[0].series}
    assert lines["Dense"].x == SIZES
    assert lines["Authors' gather"].x == SIZES[:3]


def test_slope_is_that_of_the_logarithms_and_needs_three_sizes() -> None:
    pairs = [(decode_trial("auto", num_labels=n), n**0.5 / 100) for n in SIZES]
    pairs += [(decode_trial("dense", num_labels=n), n / 1000) for n in SIZES[:2]]
    plot = _plot(decode.decode_labels, *_timed(*pairs))
    (panel,) = plot.panels
    assert {line.text: line.remark for line in panel.series} == {"Auto": "0.50", "Dense": ""}


def test_labels_figure_keeps_to_the_tables_with_most_sizes() -> None:
    pairs = [(decode_trial("dense", num_labels=n), 1.0) for n in SIZES[:3]]
    pairs += [(decode_trial("dense", num_labels=n, num_worlds=64), 9.0) for n in SIZES[:2]]
    plot = _plot(decode.decode_labels, *_timed(*pairs, rounds=(1.0,)))
    assert "R = 32, B = 10,000" in plot.subject
    ys = [y for panel in plot.panels for line in panel.series for y in line.y]
    assert ys == pytest.approx([1.0] * 3)


def test_peakedness_figure_runs_to_the_most_peaked_and_prefers_more_kinds_to_more_labels() -> None:
    pairs = [(decode_trial("dense", scores=kind), 1.0) for kind in PEAKS]
    pairs += [(decode_trial("pruned", scores=kind), 2.0) for kind in ("uniform", "peak 0.5")]
    pairs += [
        (decode_trial("dense", scores=kind, num_labels=3_000_000), 9.0) for kind in list(PEAKS)[:2]
    ]
    plot = _plot(decode.decode_peakedness, *_timed(*pairs))
    assert plot.x.names == ("uniform", "peak 0.1", "peak 0.5", "peak 0.9")
    lines = {line.text: line.x for line in plot.panels[0].series}
    assert lines == {"Dense": (0, 1, 2, 3), "Pruned": (0, 2)}


def test_visited_figure_shows_methods_that_leave_labels_out() -> None:
    plot = _plot(decode.decode_visited, *decode_grid())
    names = [line.text for line in plot.panels[0].series if line.text and not line.style.marker]
    assert names == ["Pruned", "Auto", "Top buckets (approximate)"]
    assert all(0 < share <= 100 for line in plot.panels[0].series for share in line.y)


def test_memory_figure_shows_the_largest_problem_at_its_hardest() -> None:
    plot = _plot(decode.decode_memory, *decode_grid())
    assert "uniform, L = 3,000,000" in plot.subject
    names = {point.text for point in plot.panels[0].series}
    assert names.isdisjoint({"Authors' gather", "FAISS IndexPQ"})


def test_methods_and_their_settings_have_distinct_styles() -> None:
    (section, *_) = _sections(*decode_grid(kinds=["uniform"]))
    cards = {entry.row.card.name: entry.row.card for entry in entries_of(section)}
    plain = [SeriesStyle(card.color, card.marker) for card in cards.values()]
    styles = [varied(style, place) for style in plain for place in (0, 1, 2)]
    assert len(set(styles)) == len(styles)


def test_planted_scores_grow_darker_with_their_peak() -> None:
    styles = scores_styles([True] * 4 + [False] * 2)
    light = [sum(int(s.color[i : i + 2], 16) for i in (1, 3, 5)) for s in styles[:4]]
    assert light == sorted(light, reverse=True)
    assert len({style.marker for style in styles}) == 6
