from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_decoding import PEAKS, SIZES, VIEW, decode_grid, decode_record, decode_trial
from synthetic_records import MACHINE, changed

from bench.report.decoding import arrange
from bench.report.figures import DECODE_FIGURES, decode_plots, render_figures
from bench.report.labels import DECODE_NAMES
from bench.report.plots import decode_labels, decode_memory, decode_peakedness, decode_visited
from bench.report.plots.decode_base import Part, part_of
from bench.report.select import Section, select_sections
from bench.report.style import decode_style, scores_styles


def _sections(records: list[dict]) -> tuple[Section, ...]:
    return arrange(select_sections(records, VIEW, "imaginary-2c"))


def _part(records: list[dict]) -> Part:
    return part_of(_sections(records))


def _timed(method: str, milliseconds: float, **settings: object) -> dict:
    return decode_record(decode_trial(method, **settings), milliseconds=milliseconds)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def part() -> Part:
    return _part(decode_grid())


def test_every_figure_is_drawn_the_same_way_twice(tmp_path: Path) -> None:
    sections = _sections(decode_grid(kinds=("uniform", "peak 0.5"), sizes=SIZES[1:]))
    first, skipped = render_figures(sections, tmp_path / "a", decode_plots)
    second, _ = render_figures(sections, tmp_path / "b", decode_plots)
    assert skipped == {}
    assert {p.name for p in first} == {f"{n}.{s}" for n in DECODE_FIGURES for s in ("svg", "png")}
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_figures_lacking_data_are_skipped_with_a_reason(tmp_path: Path) -> None:
    sections = _sections([decode_record(decode_trial("dense"), status="error")])
    paths, skipped = render_figures(sections, tmp_path, decode_plots)
    assert paths == []
    assert set(skipped) == set(DECODE_FIGURES)
    assert all(skipped.values())


def test_parts_have_figures_of_their_own() -> None:
    records = [*decode_grid(kinds=["uniform"]), *decode_grid(kinds=["uniform"], k=100)]
    stems = [stem for stem, _ in decode_plots(_sections(records))]
    assert stems == [f"{name}-{part}" for part in ("k-5", "k-100") for name in DECODE_FIGURES]


def test_machines_never_share_a_figure() -> None:
    other = changed(_timed("dense", 1.0), {**MACHINE, "num_cores": 64}, "provenance", "machine")
    sections = _sections([_timed("pruned", 1.0), other])
    (memory,) = {plot for stem, plot in decode_plots(sections) if stem == "decode-memory"}
    assert memory == "no problem with times and sizes of several methods"


def test_labels_figure_has_a_panel_for_each_kind_with_several_sizes(part: Part) -> None:
    plot = decode_labels.collect(part)
    assert isinstance(plot, decode_labels.LabelsPlot)
    assert [panel.title for panel in plot.panels] == list(PEAKS)
    lines = {line.text: line for line in plot.panels[0].lines}
    assert lines["Dense"].x == SIZES
    assert lines["Authors' gather"].x == SIZES[:3]


def test_slope_is_that_of_the_logarithms_and_needs_three_sizes() -> None:
    records = [_timed("auto", n**0.5 / 100, num_labels=n) for n in SIZES]
    records += [_timed("dense", n / 1000, num_labels=n) for n in SIZES[:2]]
    plot = decode_labels.collect(_part(records))
    assert isinstance(plot, decode_labels.LabelsPlot)
    (panel,) = plot.panels
    slopes = dict(zip([line.text for line in panel.lines], panel.slopes, strict=True))
    assert slopes == {"Auto": pytest.approx(0.5), "Dense": None}


def test_labels_figure_keeps_to_the_tables_with_most_sizes() -> None:
    records = [_timed("dense", 1.0, num_labels=n) for n in SIZES[:3]]
    records += [_timed("dense", 9.0, num_labels=n, num_worlds=64) for n in SIZES[:2]]
    plot = decode_labels.collect(_part(records))
    assert isinstance(plot, decode_labels.LabelsPlot)
    assert "R = 32, B = 10,000" in plot.subject
    assert [line.y for panel in plot.panels for line in panel.lines] == [(1.0, 1.0, 1.0)]


def test_peakedness_figure_runs_from_uniform_to_most_peaked(part: Part) -> None:
    plot = decode_peakedness.collect(part)
    assert isinstance(plot, decode_peakedness.PeakednessPlot)
    assert plot.kinds == ("uniform", "peak 0.1", "peak 0.5", "peak 0.9")
    assert "L = 3,000,000" in plot.subject


def test_peakedness_figure_prefers_more_kinds_to_more_labels() -> None:
    records = [_timed("dense", 1.0, scores=kind) for kind in PEAKS]
    records += [_timed("dense", 9.0, scores=kind, num_labels=3_000_000) for kind in list(PEAKS)[:2]]
    plot = decode_peakedness.collect(_part(records))
    assert isinstance(plot, decode_peakedness.PeakednessPlot)
    assert [line.y for line in plot.lines] == [(1.0,) * 4]


def test_method_missing_on_one_kind_keeps_its_places_on_the_others() -> None:
    records = [_timed("dense", 1.0, scores=kind) for kind in PEAKS]
    records += [_timed("pruned", 2.0, scores=kind) for kind in ("uniform", "peak 0.5")]
    plot = decode_peakedness.collect(_part(records))
    assert isinstance(plot, decode_peakedness.PeakednessPlot)
    assert {line.text: line.x for line in plot.lines} == {"Dense": (0, 1, 2, 3), "Pruned": (0, 2)}


def test_visited_figure_shows_shares_of_methods_that_leave_labels_out(part: Part) -> None:
    plot = decode_visited.collect(part)
    assert isinstance(plot, decode_visited.VisitedPlot)
    assert [name for name, _ in plot.methods] == ["Pruned", "Top buckets (approximate)"]
    for line in plot.lines:
        assert all(0 < share <= 100 for share in line.y)


def test_memory_figure_shows_the_largest_problem_at_its_hardest(part: Part) -> None:
    plot = decode_memory.collect(part)
    assert isinstance(plot, decode_memory.DecodeMemoryPlot)
    assert "uniform, L = 3,000,000" in plot.subject
    assert {point.text for point in plot.points}.isdisjoint({"Authors' gather", "FAISS IndexPQ"})


def test_methods_and_their_settings_have_distinct_styles() -> None:
    styles = [decode_style(method, place) for method in DECODE_NAMES for place in (0, 1, 2)]
    assert len(set(styles)) == len(styles)
    assert len({style.marker for style in styles if not style.is_open}) >= 6


def test_planted_scores_grow_darker_with_their_peak() -> None:
    styles = scores_styles([True] * 4 + [False] * 2)
    light = [sum(int(s.color[i : i + 2], 16) for i in (1, 3, 5)) for s in styles[:4]]
    assert light == sorted(light, reverse=True)
    assert len({style.marker for style in styles}) == 6
