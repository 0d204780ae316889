from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from synthetic_records import changed, full_grid, record, trial

from bench.report.figures import FIGURES, render_figures
from bench.report.layout import label_points, plain_numbers, spread
from bench.report.plots import accuracy_time, accuracy_worlds, memory_parts
from bench.report.plots.accuracy_memory import MemoryPlot, collect
from bench.report.plots.base import Level, limit_quality
from bench.report.select import Section, StudyView, select_sections
from bench.report.style import CEILING, Palette, add_axes, figure_mark, new_figure


def _section(records: list[dict]) -> Section:
    (section,) = select_sections(records, StudyView(name="imaginary"), "imaginary-2c")
    return section


@pytest.fixture(scope="module")
def section() -> Section:
    return _section([record(t) for t in full_grid(replicates=2)])


def test_every_figure_is_drawn_as_svg_and_png(section: Section, tmp_path: Path) -> None:
    paths, skipped = render_figures([section], tmp_path)
    assert skipped == {}
    assert {path.name for path in paths} == {f"{n}.{s}" for n in FIGURES for s in ("svg", "png")}


def test_figures_lacking_data_are_skipped_with_a_reason(tmp_path: Path) -> None:
    bare = _section([record(trial("full_softmax", chunk_size=None), status="error")])
    paths, skipped = render_figures([bare], tmp_path)
    assert paths == []
    assert set(skipped) == set(FIGURES)
    assert all(skipped.values())


@pytest.mark.parametrize("method", ["full_softmax", "mach"])
def test_one_configuration_alone_can_be_drawn(method: str, tmp_path: Path) -> None:
    one = next(t for t in full_grid(replicates=1) if t.model.method == method)
    paths, _ = render_figures([_section([record(one)])], tmp_path)
    assert paths


def test_front_holds_the_points_that_nothing_beats(section: Section) -> None:
    plot = collect(section, Palette([section]))
    assert isinstance(plot, MemoryPlot)
    front = [plot.points[place] for place in plot.front]
    for chosen in front:
        assert not any(
            other.num_bytes <= chosen.num_bytes and other.y > chosen.y for other in plot.points
        )
    assert [p.y for p in front] == sorted(p.y for p in front)


def test_worlds_figure_pools_subsets_and_draws_plain_softmax_once(section: Section) -> None:
    plot = accuracy_worlds.collect(section, Palette([section]))
    assert isinstance(plot, accuracy_worlds.WorldsPlot)
    assert all(line.num_worlds == (1, 2, 4, 8, 16) for line in plot.lines)
    for line in plot.lines:
        rows = zip(line.low, line.median, line.high, strict=True)
        assert all(low <= mid <= high for low, mid, high in rows)
    assert [level.text for level in plot.levels].count("Full softmax") == 1
    assert "Full softmax, chunked" not in [level.text for level in plot.levels]


def test_time_figure_picks_settings_by_validation_not_by_test() -> None:
    def one(worlds: int, validation: float, test: float) -> dict:
        raw = record(trial("mach", num_buckets=64, num_worlds=worlds))
        curve = [{"train_seconds": 9.0, "metrics": {"P@1": validation}}]
        return changed(changed(raw, curve, "training", "curve"), test, "test", "P@1")

    section = _section([one(2, validation=0.2, test=0.9), one(4, validation=0.3, test=0.1)])
    plot = accuracy_time.collect(section, Palette([section]))
    assert isinstance(plot, accuracy_time.TimePlot)
    assert [line.text for line in plot.lines] == ["MACH B=64, R=4"]


def test_losses_of_mach_are_series_of_their_own_and_one_vs_all_has_its_marker() -> None:
    mach = {"num_buckets": 64, "num_worlds": 2}
    trials = [
        trial("mach", **mach),
        trial("mach", loss="softmax", **mach),
        trial("full_softmax", chunk_size=None),
        trial("full_softmax", chunk_size=None, loss="softmax"),
    ]
    section = _section([record(t, task="multilabel") for t in trials])
    palette = Palette([section])
    names = {palette.name(row, section.task) for row in section.rows}
    assert names == {"MACH B=64, BCE", "MACH B=64, softmax", "One-vs-all", "Full softmax"}
    styles = {palette.name(row, section.task): palette.style(row) for row in section.rows}
    assert len(set(styles.values())) == 4
    assert styles["One-vs-all"].marker != styles["Full softmax"].marker


def test_worlds_figure_picks_settings_by_validation_not_by_test() -> None:
    def one(method: str, validation: float, test: float, **options: object) -> dict:
        raw = record(trial(method, **options))
        curve = [{"train_seconds": 9.0, "metrics": {"P@1": validation}}]
        return changed(changed(raw, curve, "training", "curve"), test, "test", "P@1")

    mach = {"num_buckets": 64, "num_worlds": 2}
    subsets = [{"num_worlds": 2, "num_points": 7, "metrics": {"P@1": 0.42}}]
    better = changed(one("mach", 0.3, 0.1, hash_seed=1, **mach), subsets, "worlds")
    records = [
        one("mach", validation=0.2, test=0.9, **mach),
        better,
        one("sampled_softmax", 0.5, 0.25, sampler="uniform", num_samples=8),
        one("sampled_softmax", 0.4, 0.75, sampler="uniform", num_samples=16),
    ]
    section = _section(records)
    plot = accuracy_worlds.collect(section, Palette([section]))
    assert isinstance(plot, accuracy_worlds.WorldsPlot)
    assert [line.median for line in plot.lines] == [(42.0,)]
    assert [level.y for level in plot.levels if "ampled" in level.text] == [25.0]
    assert "best on validation" in plot.note


def test_memory_figure_shows_out_of_memory_with_its_need() -> None:
    records = [
        record(trial("full_softmax", chunk_size=None), status="oom"),
        record(trial("mach", num_buckets=64, num_worlds=2)),
    ]
    section = _section(records)
    plot = memory_parts.collect(section, Palette([section]))
    assert isinstance(plot, memory_parts.PartsPlot)
    assert plot.bars[0].out_of_memory == "OOM: needs 33.0 GiB"
    assert plot.bars[1].peak is not None


def test_series_of_a_section_have_distinct_styles(section: Section) -> None:
    palette = Palette([section])
    styles = {palette.name(row, section.task): palette.style(row) for row in section.trained}
    assert len(set(styles.values())) == len(styles)


def test_shades_of_mach_grow_darker_with_the_number_of_buckets(section: Section) -> None:
    palette = Palette([section])
    rows = [row for row in section.trained if row.method == "mach"]
    by_buckets = {row.options["num_buckets"]: palette.style(row).color for row in rows}
    lightness = [
        sum(int(by_buckets[buckets][i : i + 2], 16) for i in (1, 3, 5))
        for buckets in sorted(by_buckets)
    ]
    assert lightness == sorted(lightness, reverse=True)
    assert len(set(lightness)) == 3


def _limited(values: list[float], *heights: float) -> tuple[tuple[float, float], int, str]:
    axes = add_axes(new_figure(4, 3), (0.5, 0.5, 3, 2))
    levels = tuple(Level(height, f"at {height:g}", CEILING) for height in heights)
    shown, remark = limit_quality(axes, values, levels)
    return axes.get_ylim(), len(shown), remark


def test_quality_axis_starts_at_0_unless_values_are_close_together() -> None:
    limits, num_shown, remark = _limited([20.0, 60.0], 1.0, 62.0)
    assert limits[0] == 0
    assert limits[1] > 62
    assert (num_shown, remark) == (2, "")


def test_quality_axis_around_close_values_names_what_is_beyond_it() -> None:
    limits, num_shown, remark = _limited([64.0, 68.0], 40.7, 67.0, 99.0)
    assert 60 < limits[0] < 64
    assert 68 < limits[1] < 70
    assert num_shown == 1
    assert remark == "The axis does not start at 0. Beyond it: at 40.7 40.7, at 99 99.0."


def test_equal_values_have_an_axis() -> None:
    limits, _, _ = _limited([50.0, 50.0])
    assert limits[0] < 50 < limits[1]
    assert _limited([0.0])[0] == (0, 1)


def test_points_on_one_another_share_a_text() -> None:
    axes = add_axes(new_figure(4, 3), (0.5, 0.5, 3, 2))
    axes.set_xlim(0, 10)
    axes.set_ylim(0, 10)
    label_points(axes, [(5, 5), (5.05, 5), (5, 5.05), (9, 5)], ["R=4", "R=4", "R=8", "R=4"])
    assert sorted(text.get_text() for text in axes.texts) == ["R=4", "R=4", "R=8"]


def test_labels_are_spread_within_the_axes() -> None:
    placed = spread([99.0, 99.0, 100.0], 10.0, 100.0)
    assert placed == [80.0, 90.0, 100.0]


@pytest.mark.parametrize(
    "limits", [(0.03, 8.0), (11.0, 900.0), (2.0, 7.0), (170.0, 220.0), (1, 1e6)]
)
def test_logarithmic_axis_has_few_ticks_wherever_it_ends(limits: tuple[float, float]) -> None:
    axes = add_axes(new_figure(3, 3), (0.5, 0.5, 2, 2))
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    plain_numbers(axes, "y")
    assert 3 <= len(axes.get_yticks()) <= 8


def test_numbers_of_many_decades_do_not_run_into_each_other() -> None:
    axes = add_axes(new_figure(5, 3), (0.5, 0.5, 3.75, 2))
    axes.set_xscale("log")
    axes.set_xlim(1e-4, 5e4)
    plain_numbers(axes, "x")
    ticks = axes.get_xticks()
    assert len(ticks) >= 3
    assert len({round(math.log10(b / a)) for a, b in itertools.pairwise(ticks)}) == 1
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


def test_mark_depends_on_the_facts() -> None:
    assert figure_mark({"a": 1}) != figure_mark({"a": 2})


def test_same_section_gives_the_same_bytes(section: Section, tmp_path: Path) -> None:
    first, _ = render_figures([section], tmp_path / "a")
    second, _ = render_figures([section], tmp_path / "b")
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert all(b"<dc:date>" not in path.read_bytes() for path in first if path.suffix == ".svg")
