"""Figures of series over an axis, in one panel or several: their form is declared, not coded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from bench.report.format import short_count
from bench.report.style import SeriesStyle, new_figure

# `steps`: powers of two at which something was measured. `quality`: percent, from 0 if that serves.
Scale = Literal["linear", "log", "counts", "steps", "names", "quality"]
# Of the highest value: with all values above, differences show only around them.
_CLOSE = 0.5
_WIDTH_INCHES = 6.4


@dataclass(frozen=True)
class Series:
    """Points by ascending x, with a range of each where there is one.

    Attributes:
        kind: a line with its range as a band, points with their range as bars, a staircase, or a
            thin line without an entry in the legend.
        remark: of this series in this panel, beside the panel.
    """

    text: str
    style: SeriesStyle
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    kind: Literal["line", "points", "steps", "thin"] = "line"
    remark: str = ""


@dataclass(frozen=True)
class Level:
    """A horizontal line: a method without an x of its own, a floor or a ceiling.

    Attributes:
        is_bound: left out where it is so far above all values that it would flatten them.
    """

    y: float
    text: str
    style: SeriesStyle
    width: float = 0.8
    is_bound: bool = False


@dataclass(frozen=True)
class Axis:
    """An axis: its label and scale, and the names of its places if it has names."""

    label: str
    scale: Scale
    names: tuple[str, ...] = ()
    air: float = 0.06


@dataclass(frozen=True)
class Panel:
    """Series that share axes."""

    series: tuple[Series, ...]
    levels: tuple[Level, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class LinePlot:
    """A figure of one panel or several, which share their axes and one legend.

    Attributes:
        subject: what it is about: study, data and machine.
        note: what a reader has to be told.
        remarks: what the remarks of the series are.
    """

    title: str
    subject: str
    x: Axis
    y: Axis
    panels: tuple[Panel, ...]
    note: str = ""
    remarks: str = ""

    def draw(self) -> Figure:
        """The figure."""
        entries = self._entries()
        num_columns = 1 if len(self.panels) == 1 else 2 if len(self.panels) <= 4 else 3
        num_rows = math.ceil(len(self.panels) / num_columns)
        height = max(3.0 if num_rows == 1 else 2.1 * num_rows + 0.7, 0.95 + 0.155 * len(entries))
        width = _WIDTH_INCHES + 1.5 * (num_columns - 1)
        remark = _limits_remark(self)
        caption = "\n".join(filter(None, [self.subject, f"{self.note} {remark}".strip()]))
        figure = new_figure(width, height, self.title, caption)
        grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        for place, axes in enumerate(grid.flat):
            if place >= len(self.panels):
                axes.set_visible(False)
                continue
            _draw_panel(axes, self.panels[place], self)
            axes.tick_params(labelbottom=place + num_columns >= len(self.panels))
            axes.set_xlabel(self.x.label if place + num_columns >= len(self.panels) else "")
            axes.set_ylabel(self.y.label if place % num_columns == 0 else "")
        handles = [grid[0][0].plot([], [], **keywords)[0] for keywords in entries.values()]
        figure.legend(handles, list(entries), loc="outside right upper")
        return figure

    def _entries(self) -> dict[str, dict[str, Any]]:
        """The legend: what each line is called and how it looks."""
        entries: dict[str, dict[str, Any]] = {}
        for panel in self.panels:
            for series in (s for s in panel.series if s.kind != "thin" and s.text):
                entries.setdefault(series.text, series.style.keywords)
            for level in _shown_levels(panel, self.y):
                entries.setdefault(level.text, {**level.style.keywords, "linewidth": level.width})
        return entries


def _draw_panel(axes: Axes, panel: Panel, plot: LinePlot) -> None:
    axes.set_title(panel.title)
    xs = [x for p in plot.panels for series in p.series for x in series.x]
    _scale(axes, "x", plot.x, xs)
    if plot.y.scale == "quality":
        ends = [_quality_limits(each) for each in plot.panels]
        axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    else:
        _scale(axes, "y", plot.y, [y for p in plot.panels for s in p.series for y in s.y])
    for level in _shown_levels(panel, plot.y):
        keywords = {**level.style.keywords, "marker": "", "linewidth": level.width, "zorder": 1.5}
        axes.axhline(level.y, **keywords)
        # The marker at the edge tells lines of one colour apart.
        edge = {**level.style.keywords, "linestyle": "none", "clip_on": False}
        axes.plot([1], [level.y], transform=axes.get_yaxis_transform(), **edge)
    for series in panel.series:
        _draw_series(axes, series)
    remarks = [series for series in panel.series if series.remark]
    if remarks:
        handles = [axes.plot([], [], **series.style.keywords)[0] for series in remarks]
        axes.legend(
            handles,
            [series.remark for series in remarks],
            title=plot.remarks,
            title_fontsize=6.5,
            fontsize=6.5,
            loc="upper left",
            bbox_to_anchor=(1, 1.03),
            borderaxespad=0.2,
            handlelength=1.8,
            handletextpad=0.4,
        )


def _draw_series(axes: Axes, series: Series) -> None:
    keywords = series.style.keywords
    if series.kind == "thin":
        axes.plot(series.x, series.y, color=series.style.color, linewidth=0.6, alpha=0.6)
    elif series.kind == "steps":
        keywords["marker"] = ""
        end = axes.get_xlim()[1]
        x, y = [*series.x, end], [*series.y, series.y[-1]]
        axes.step(x, y, where="post", **{**keywords, "zorder": 2})
    elif series.kind == "points":
        thin = {"marker": "", "linewidth": 0.7, "alpha": 0.7, "zorder": 2.5}
        axes.plot(series.x, series.y, **{**keywords, **thin})
        if series.low:
            axes.vlines(
                series.x, series.low, series.high, color=series.style.color, linewidth=0.8, zorder=3
            )
        axes.plot(series.x, series.y, **{**keywords, "linestyle": "none"})
    else:
        if series.low:
            axes.fill_between(
                series.x, series.low, series.high, color=series.style.color, alpha=0.18, lw=0
            )
        axes.plot(series.x, series.y, **keywords)


def _scale(axes: Axes, which: Literal["x", "y"], form: Axis, values: Sequence[float]) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    set_scale = axes.set_xscale if which == "x" else axes.set_yscale
    set_limits = axes.set_xlim if which == "x" else axes.set_ylim
    if form.scale == "names":
        set_limits(-0.3, len(form.names) - 0.7)
        axis.set_major_locator(FixedLocator(range(len(form.names))))
        axis.set_major_formatter(FuncFormatter(lambda value, _: form.names[round(value)]))
    elif form.scale == "linear":
        set_limits(0, max(values) * 1.03)
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(plain))
    elif form.scale == "steps":
        set_scale("log", base=2)
        set_limits(min(values) / 1.15, max(values) * 1.15)
        axis.set_major_locator(FixedLocator(sorted(set(values))))
        axis.set_major_formatter(FuncFormatter(plain))
    else:
        set_scale("log")
        low, high = log_limits(values, form.air)
        set_limits(low, high)
        log_ticks(axis, low, high, _short if form.scale == "counts" else plain)
    axis.set_minor_locator(NullLocator())


def plain(value: float, _: object = None) -> str:
    """A number at a tick."""
    return f"{value:,.10g}"


def _short(value: float, _: object) -> str:
    return short_count(value)


def log_ticks(axis: Any, low: float, high: float, text: Callable[[float, object], str]) -> None:
    """Ticks of a logarithmic axis at round values, about six at most."""
    ratio = high / low
    if ratio < 5:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        subs = (1, 2, 5) if ratio < 50 else (1, 3) if ratio < 800 else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axis.set_major_formatter(FuncFormatter(text))
    axis.set_minor_locator(NullLocator())


def log_limits(values: Iterable[float], air: float) -> tuple[float, float]:
    """Ends of a logarithmic axis.

    Args:
        values: what it shows.
        air: how far it goes beyond them, as a share of their distance on it.

    >>> [round(end, 6) for end in log_limits([1.0, 100.0], 0.5)]
    [0.1, 1000.0]
    """
    known = list(values)
    low, high = min(known), max(known)
    factor = max((high / low) ** air, 1.15)
    return low / factor, high * factor


def _values(panel: Panel) -> list[float]:
    return [value for s in panel.series for value in (*s.y, *s.low, *s.high)]


def _reachable(panel: Panel) -> list[Level]:
    highest = max(_values(panel))
    return [level for level in panel.levels if not level.is_bound or level.y <= 1.6 * highest]


def _quality_limits(panel: Panel) -> tuple[float, float]:
    """From 0 on, unless values so close together could then not be told apart."""
    values = _values(panel)
    lowest, highest = min(values), max(values)
    levels = _reachable(panel)
    if lowest <= _CLOSE * highest:
        top = max([highest, *(level.y for level in levels)])
        return 0, (1.08 * top if top > 0 else 1)
    span = max(highest - lowest, 0.04 * highest)
    low, high = lowest - 0.3 * span, highest + 1.5 * span
    top = max([highest, *(level.y for level in levels if low <= level.y <= high)])
    return low, top + 0.08 * (top - low)


def _shown_levels(panel: Panel, y: Axis) -> list[Level]:
    if y.scale != "quality":
        return list(panel.levels)
    low, high = _quality_limits(panel)
    return [level for level in _reachable(panel) if low <= level.y <= high]


def _limits_remark(plot: LinePlot) -> str:
    if plot.y.scale != "quality" or _quality_limits(plot.panels[0])[0] == 0:
        return ""
    panel = plot.panels[0]
    shown = _shown_levels(panel, plot.y)
    beyond = [f"{lv.text} {lv.y:.1f}" for lv in _reachable(panel) if lv not in shown]
    remark = "The axis does not start at 0."
    return f"{remark} Beyond it: {', '.join(beyond)}." if beyond else remark
