from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import synthetic_records as made
from synthetic_records import changed, full_grid, record, sections, trial

from bench.report import style
from bench.report.plots import training
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series
from bench.report.plots.rows import PartsPlot
from bench.report.sections import Section
from bench.report.style import (
    CEILING,
    Legend,
    SeriesStyle,
    _drawable,
    draw_files,
    figure_mark,
    styled,
)

DOT = SeriesStyle("#000000", "o", "-")
MACH = {"num_buckets": 64, "num_worlds": 2}


def _section(trials: list, **more: Any) -> Section:
    (section,) = sections([record(of, **more) for of in trials], made.costs_of(trials))
    return section


def _lines(collect: Any, section: Section) -> LinePlot:
    plot = collect(section, Legend([section]))
    assert isinstance(plot, LinePlot), plot
    return plot


@pytest.fixture(scope="module")
def section() -> Section:
    return _section(full_grid(replicates=2))


def test_every_figure_is_drawn_the_same_way_twice(section: Section) -> None:
    plots = dict(training.plots([section]))
    assert set(plots) == set(training.FIGURES)
    for plot in plots.values():
        assert not isinstance(plot, str), plot
        files = draw_files(plot)
        assert set(files) == {".svg", ".png"}
        assert b"<dc:date>" not in files[".svg"]
        assert draw_files(plot) == files


def test_figures_lacking_data_have_a_reason() -> None:
    (bare,) = sections([record(trial("full_softmax"), status="error")])
    assert all(isinstance(plot, str) and plot for _, plot in training.plots([bare]))
    (untimed,) = sections([record(trial("full_softmax"))])
    reason = training.accuracy_time(untimed, Legend([untimed]))
    assert reason == "no seconds a step were measured"


@pytest.mark.parametrize("method", ["full_softmax", "mach"])
def test_one_configuration_alone_can_be_drawn(method: str) -> None:
    one = next(t for t in full_grid(replicates=1) if t.model.method == method)
    plots = [plot for _, plot in training.plots([_section([one])]) if not isinstance(plot, str)]
    assert plots
    assert all(draw_files(plot) for plot in plots)


def test_front_holds_the_points_that_nothing_beats(section: Section) -> None:
    plot = _lines(training.accuracy_memory, section)
    *series, front = plot.panels[0].series
    # A series is called by what moves along it.
    names = {each.text for each in series}
    assert {"MACH, B=256, shared encoder, R=4…16", "Sampled softmax, in-batch"} <= names
    points = [point for s in series for point in zip(s.x, s.y, strict=True)]
    *chosen, end = zip(front.x, front.y, strict=True)
    assert set(chosen) <= set(points)
    assert end == (max(points)[0], chosen[-1][1])  # nothing larger is better
    for size, quality in chosen:
        assert not any(x <= size and y > quality for x, y in points)


def test_trivial_baselines_stand_at_their_sizes_and_on_the_front() -> None:
    trials = [
        trial("centroid", encoder="linear"),
        *(trial("full_softmax", hidden=hidden) for hidden in (64, 128)),
    ]
    pairs = zip(trials, (0.9, 0.8, 0.85), strict=True)
    (section,) = sections([record(of, accuracy=value) for of, value in pairs])
    plot = _lines(training.accuracy_memory, section)
    centroid = next(series for series in plot.panels[0].series if series.is_trivial)
    front = plot.panels[0].series[-1]
    assert centroid.text == "Nearest centroid"
    assert centroid.x == (4.88,)
    # It is the smallest and the best, so that it alone is the front.
    assert front.y == (90.0, 90.0)
    assert not plot.panels[0].levels or all(lv.text == "Ceiling" for lv in plot.panels[0].levels)


def test_trivial_baseline_far_below_is_named_with_its_size() -> None:
    trials = [trial("frequency"), *(trial("full_softmax", hidden=hidden) for hidden in (64, 128))]
    pairs = zip(trials, (0.1, 0.8, 0.85), strict=True)
    (section,) = sections([record(of, accuracy=value) for of, value in pairs])
    plot = _lines(training.accuracy_memory, section)
    with styled():
        figure = plot.draw()
    assert "Class frequency 10.0 (at 0.160 MB)" in figure._supxlabel.get_text()
    assert "Class frequency" not in [text.get_text() for text in figure.legends[0].get_texts()]
    assert min(plot.panels[0].series[-1].x) > 1  # the front begins with what is drawn


def test_rows_that_are_only_trained_otherwise_are_faint_beside_the_best_on_validation() -> None:
    rates = {0.1: (0.3, 0.9), 0.01: (0.5, 0.2), 0.001: (0.4, 0.3)}
    records = [
        record(trial("full_softmax", learning_rate=rate), validation=v, accuracy=a)
        for rate, (v, a) in rates.items()
    ]
    other = record(trial("full_softmax", hidden=64), validation=0.1, accuracy=0.1)
    (section,) = sections([*records, other])
    shown, faint, _ = _lines(training.accuracy_memory, section).panels[0].series
    assert shown.y == (10.0, 20.0)  # another width is another model
    assert faint.kind == "faint"
    assert faint.y == (30.0, 90.0)
    assert faint.text == ""


def test_without_validation_no_rate_is_chosen() -> None:
    records = [
        changed(record(trial("full_softmax", learning_rate=rate)), [], "training", "curve")
        for rate in (0.1, 0.01)
    ]
    (section,) = sections(records)
    series = _lines(training.accuracy_memory, section).panels[0].series
    assert [len(each.x) for each in series if each.kind == "points"] == [2]
    assert not [each for each in series if each.kind == "faint"]


def test_models_of_nearly_one_size_are_not_torn_apart() -> None:
    narrow = Series("s", DOT, (42.0, 46.0), (20.0, 25.0))
    axis = Axis("model", "log", least_ratio=2)
    with styled():
        figure = LinePlot("t", "s", axis, Axis("y", "linear"), (Panel((narrow,)),)).draw()
    low, high = figure.axes[0].get_xlim()
    assert high / low == pytest.approx(2)
    assert low < 42 < 46 < high


def test_worlds_figure_pools_subsets_apart_from_what_was_scored_on_other_points(
    section: Section,
) -> None:
    curves, complete = _lines(training.accuracy_worlds, section).panels
    for line in curves.series:
        if line.text:
            assert line.x == (1, 2, 4, 8, 16)
            rows = zip(line.low, line.y, line.high, strict=True)
            assert all(low <= mid <= high for low, mid, high in rows)
    assert (curves.title, curves.levels) == ("subsets: first 2,000 test points", ())
    assert complete.title == "complete models: all 10,000 test points"
    levels = [level.text for level in complete.levels]
    assert levels.count("Full softmax, plain") == 1
    assert "Nearest centroid" in levels
    assert all(series.style.linestyle == "none" for series in complete.series)


def test_subsets_on_all_test_points_share_a_panel_with_rivals() -> None:
    subsets = [{"num_worlds": 2, "num_points": 10_000, "metrics": {"P@1": 0.42}}]
    own = changed(record(trial("mach", **MACH)), subsets, "worlds")
    (section,) = sections([own, record(trial("full_softmax"))])
    (panel,) = _lines(training.accuracy_worlds, section).panels
    assert [level.text for level in panel.levels] == ["Full softmax", "Ceiling"]


def test_training_with_fewer_worlds_is_a_marker_beside_subsets_of_a_larger_one() -> None:
    def own(num_worlds: int, values: dict[int, float]) -> dict[str, Any]:
        subsets = [
            {"num_worlds": n, "num_points": 7, "metrics": {"P@1": value}}
            for n, value in values.items()
        ]
        of = trial("mach", num_buckets=64, num_worlds=num_worlds, share_encoder=True)
        return changed(record(of), subsets, "worlds")

    (section,) = sections([own(4, {2: 0.40, 4: 0.50}), own(8, {4: 0.30, 8: 0.45})])
    plot = _lines(training.accuracy_worlds, section)
    curve, marker = plot.panels[0].series
    assert (curve.x, curve.y, curve.kind) == ((4, 8), (30.0, 45.0), "ended")
    assert (marker.x, marker.y, marker.kind) == ((4,), (50.0,), "points")
    assert marker.style.linestyle == "none"
    assert "a subset of them is no training with fewer" in plot.note


def test_time_figure_picks_settings_by_validation_and_is_over_steps_times_seconds_a_step() -> None:
    trials = [trial("mach", num_buckets=64, num_worlds=worlds, num_steps=800) for worlds in (2, 4)]
    values = [(0.2, 0.9), (0.3, 0.1)]
    records = [
        record(of, validation=validation, accuracy=test)
        for of, (validation, test) in zip(trials, values, strict=True)
    ]
    rows = [made.cost_row(of, {"train": (0.5, 10)}, rounds=(1.5, 1.0, 1.1)) for of in trials]
    (section,) = sections(records, [made.cost_line(rows)])
    (line,) = _lines(training.accuracy_time, section).panels[0].series
    assert (line.text, line.x) == ("MACH, R=4", tuple(50.0 * k for k in range(9)))


def test_worlds_figure_picks_settings_by_validation_not_by_test() -> None:
    subsets = [{"num_worlds": 2, "num_points": 7, "metrics": {"P@1": 0.42}}]
    better = record(trial("mach", hash_seed=1, **MACH), validation=0.3, accuracy=0.1)
    records = [
        record(trial("mach", **MACH), validation=0.2, accuracy=0.9),
        changed(better, subsets, "worlds"),
        *(
            record(trial("sampled_softmax", num_samples=n), validation=v, accuracy=a)
            for n, v, a in ((8, 0.5, 0.25), (16, 0.4, 0.75))
        ),
    ]
    (section,) = sections(records)
    plot = _lines(training.accuracy_worlds, section)
    curves, complete = plot.panels
    assert [line.y for line in curves.series] == [(42.0,)]
    assert [line.y for line in complete.series] == [(pytest.approx(10.0),)]
    assert [level.y for level in complete.levels if "ampled" in level.text] == [25.0]
    assert "best on validation" in plot.note


def test_losses_are_series_of_their_own() -> None:
    trials = [
        trial("mach", **MACH),
        trial("mach", loss="softmax", **MACH),
        trial("full_softmax", chunk_size=None),
        trial("full_softmax", chunk_size=None, loss="softmax"),
    ]
    section = _section(trials, task="multilabel")
    legend = Legend([section])
    styles = {legend.name(row): legend.style(row) for row in section.rows}
    assert set(styles) == {"MACH, BCE", "MACH, softmax loss", "One-vs-all", "Full softmax"}
    assert len(set(styles.values())) == 4


def test_series_of_a_section_have_distinct_styles(section: Section) -> None:
    legend = Legend([section])
    styles = {legend.name(row): legend.style(row) for row in section.trained}
    assert len(styles) == 11
    assert len(set(styles.values())) == len(styles)


def test_shades_of_mach_grow_darker_with_the_number_of_buckets(section: Section) -> None:
    legend = Legend([section])
    rows = [row for row in section.trained if row.card.name == "mach"]
    by_buckets = {row.flat["num_buckets"]: legend.style(row).color for row in rows}
    lightness = [
        sum(int(by_buckets[buckets][i : i + 2], 16) for i in (1, 3, 5))
        for buckets in sorted(by_buckets)
    ]
    assert lightness == sorted(lightness, reverse=True)
    assert len(set(lightness)) == 3


def test_memory_figure_shows_out_of_memory_with_its_need() -> None:
    records = [record(trial("full_softmax"), status="oom"), record(trial("mach", **MACH))]
    (section,) = sections(records)
    plot = training.memory_parts(section, Legend([section]))
    assert isinstance(plot, PartsPlot)
    assert plot.bars[0].remark == "OOM: needs 33.0 GiB"
    assert plot.bars[1].peak is not None


def _limited(values: list[float], *heights: float) -> tuple[tuple[float, float], list[str], str]:
    levels = tuple(Level(height, f"at {height:g}", CEILING) for height in heights)
    series = Series("s", DOT, tuple(float(i + 1) for i in range(len(values))), tuple(values))
    quality = Axis("quality", "quality")
    plot = LinePlot("t", "s", Axis("x", "linear"), quality, (Panel((series,), levels),))
    with styled():
        figure = plot.draw()
    (axes,) = figure.axes
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    return axes.get_ylim(), legend, figure._supxlabel.get_text().removeprefix("s\n")


def test_quality_axis_starts_at_0_unless_values_are_close_together() -> None:
    (low, high), legend, _ = _limited([20.0, 60.0], 1.0, 62.0)
    assert low == 0 < 62 < high
    assert legend == ["s", "at 1", "at 62"]
    (low, high), legend, remark = _limited([64.0, 68.0], 40.7, 67.0, 99.0)
    assert 60 < low < 64 < 68 < high < 70
    assert legend == ["s", "at 67"]
    assert remark == "The axis does not start at 0. Beyond it: at 40.7 40.7, at 99 99.0."
    (low, high), _, _ = _limited([50.0, 50.0])
    assert low < 50 < high
    assert _limited([0.0])[0] == (0, 1)


@pytest.mark.parametrize(
    "limits", [(0.03, 8.0), (11.0, 900.0), (2.0, 7.0), (170.0, 220.0), (1, 1e6), (1e-4, 5e4)]
)
def test_logarithmic_axis_has_few_ticks_that_do_not_run_into_each_other(
    limits: tuple[float, float],
) -> None:
    series = Series("s", DOT, limits, limits)
    log = Axis("x", "log")
    with styled():
        figure = LinePlot("t", "s", log, log, (Panel((series,)),)).draw()
        figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert 2 <= len(ticks) <= 8
    labels = [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
    boxes = [text.get_window_extent() for text in labels if text.get_text()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_long_names_leave_room_for_the_axes() -> None:
    name = "a method whose name is much longer than one would wish it to be"
    series = tuple(Series(f"{name} {i}", DOT, (1.0, 2.0), (1.0, 2.0)) for i in range(30))
    plot = LinePlot("t", "s", Axis("x", "linear"), Axis("y", "log"), (Panel(series),))
    with styled():
        figure = plot.draw()
        figure.draw_without_rendering()
    (axes,) = figure.axes
    frame, (legend,) = axes.get_window_extent(), figure.legends
    assert frame.width > 100
    assert legend.get_window_extent().y0 >= 0
    assert frame.x1 < legend.get_window_extent().x0


def test_nothing_is_cut_off_at_the_edges(section: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(style.RC, "figure.dpi", 250)
    for name, plot in training.plots([section]):
        assert not isinstance(plot, str), plot
        with styled():
            figure = plot.draw()
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
        assert min(box.x0, box.y0) > 0, name
        assert box.x1 < figure.get_figwidth(), name
        assert box.y1 < figure.get_figheight(), name


def test_mark_depends_on_what_is_shown() -> None:
    assert figure_mark({"a": 1}) != figure_mark({"a": 2})


def _named(name: str) -> LinePlot:
    series = Series(name, SeriesStyle("#000000", "o", "-"), (1.0, 2.0), (3.0, 4.0))
    x = Axis(name, "names", (name, f"{name} 2", f"{name} 3"))
    return LinePlot("Title", name, x, Axis("y", "linear"), (Panel((series,), title=name),))


def test_names_in_any_script_are_drawn_without_boxes_and_stay_apart() -> None:
    # Matplotlib warns of a glyph that it lacks, and a warning is an error here.
    first, second = (
        draw_files(_named(f"{name} \u0939\u093f \U0001f600")) for name in ("東京", "京都")
    )
    assert first[".svg"] != second[".svg"]
    assert _drawable("東 Größe Σ p̂") == "\\u6771 Größe Σ p̂"


def test_what_the_font_has_is_drawn_as_it_is() -> None:
    known = _named("Größe, Σp_k² − p̂ ≤ 1 …")
    assert _drawable(known) is known
    assert dataclasses.asdict(known) == dataclasses.asdict(_named("Größe, Σp_k² − p̂ ≤ 1 …"))
