"""Accuracy against model memory, with the front that no configuration beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.report.columns import model_bytes
from bench.report.labels import describe, flatten
from bench.report.layout import (
    LevelName,
    fit_width,
    label_points,
    plain_numbers,
    set_note,
    set_title,
    text_inches,
)
from bench.report.plots.base import (
    Level,
    competitors,
    draw_levels,
    floor_levels,
    limit_quality,
    quality_label,
    subject_of,
)
from bench.report.select import Section
from bench.report.style import WIDTH_INCHES, Palette, SeriesStyle, add_axes, new_figure

_ALONG = ("num_worlds", "num_samples")  # what moves along a series


@dataclass(frozen=True)
class Point:
    """One configuration: model bytes, quality in percent, its range, and what to call it."""

    num_bytes: float
    y: float
    low: float
    high: float
    series: str
    style: SeriesStyle
    text: str | None


@dataclass(frozen=True)
class MemoryPlot:
    """Points, the front among them (ascending bytes), and horizontal lines."""

    subject: str
    metric: str
    points: tuple[Point, ...]
    front: tuple[int, ...]
    levels: tuple[Level, ...]

    def draw(self) -> Figure:
        """Points over a logarithmic memory axis, front as a step line, legend on the right."""
        series = {point.series: point.style for point in self.points}
        height = max(3.0, 1.07 + 0.165 * len(series))
        wide = WIDTH_INCHES - 1.2
        right = 0.95 + text_inches([*series, "Pareto front"])
        figure = new_figure(fit_width(wide + right, [self.subject]), height)
        axes = add_axes(figure, (0.52, 0.57, wide, height - 1.07))
        axes.set_xscale("log")
        sizes = [point.num_bytes / 1e6 for point in self.points]
        axes.set_xlim(min(sizes) / 1.6, max(sizes) * 1.6)
        values = [value for point in self.points for value in (point.low, point.high)]
        levels, remark = limit_quality(axes, values, self.levels)
        draw_levels(axes, levels)
        front = [self.points[place] for place in self.front]
        axes.step(
            [*(p.num_bytes / 1e6 for p in front), max(sizes) * 1.6],
            [*(p.y for p in front), front[-1].y],
            where="post",
            color="#b5b5b5",
            linewidth=1.0,
            zorder=2,
        )
        for point in sorted(self.points, key=lambda point: point.style.is_open):
            axes.errorbar(
                point.num_bytes / 1e6,
                point.y,
                yerr=[[point.y - point.low], [point.high - point.y]],
                color=point.style.color,
                marker=point.style.marker,
                markersize=7 if point.style.is_open else 5,
                markerfacecolor="none" if point.style.is_open else point.style.color,
                markeredgewidth=0.8,
                elinewidth=0.8,
                linestyle="none",
                zorder=3,
            )
        axes.set_xlabel("model (MB, log scale)")
        axes.set_ylabel(quality_label(self.metric, "test"))
        plain_numbers(axes, "x")
        on_front = set(self.front)
        places = [(point.num_bytes / 1e6, point.y) for point in self.points]
        order = sorted(range(len(places)), key=lambda place: place not in on_front)
        names = [LevelName(level.y, level.text, level.style.ink) for level in levels]
        texts = [self.points[i].text for i in order]
        label_points(axes, [places[i] for i in order], texts, names)
        handles = [
            axes.plot(
                [],
                [],
                color=style.color,
                marker=style.marker,
                markerfacecolor="none" if style.is_open else style.color,
                linestyle="none",
            )[0]
            for style in series.values()
        ]
        handles.append(axes.plot([], [], color="#b5b5b5", linewidth=1.0)[0])
        figure.legend(
            handles,
            [*series, "Pareto front"],
            loc="upper left",
            bbox_to_anchor=((wide + 0.57) / figure.get_figwidth(), 1 - 0.48 / height),
            borderaxespad=0,
            handlelength=1.2,
            handletextpad=0.5,
            labelspacing=0.35,
        )
        set_note(figure, remark)
        set_title(figure, "Accuracy and model memory", self.subject)
        return figure


def collect(section: Section, palette: Palette) -> MemoryPlot | str:
    """Points of all finished configurations; a reason where there are fewer than two."""
    metric = section.metrics[0]
    told = _differing(section)
    points = []
    for row in competitors(section, metric):
        size, quality = row.summarize(model_bytes), row.at("test", metric)
        if size is None or quality is None or size.median <= 0:
            continue
        flat = flatten(row.settings)
        points.append(
            Point(
                num_bytes=size.median,
                y=100 * quality.median,
                low=100 * quality.low,
                high=100 * quality.high,
                series=palette.name(row, section.task),
                style=palette.style(row),
                # In-batch samples have no number: theirs is 0.
                text=", ".join(describe(key, flat[key]) for key in told if flat.get(key)) or None,
            )
        )
    if len(points) < 2:
        return "fewer than two configurations with quality and memory"
    return MemoryPlot(
        subject_of(section), metric, tuple(points), pareto(points), floor_levels(section, metric)
    )


def _differing(section: Section) -> list[str]:
    values = {
        key: {row.options[key] for row in section.trained if key in row.options} for key in _ALONG
    }
    return [key for key in _ALONG if len(values[key]) > 1]


def pareto(points: Sequence[Point]) -> tuple[int, ...]:
    """Places of the points that no other one beats, by ascending size."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda i: (points[i].num_bytes, -points[i].y)):
        if not front or points[place].y > points[front[-1]].y:
            front.append(place)
    return tuple(front)
