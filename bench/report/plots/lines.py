"""Figures of series over an axis, in one panel or several: their form is declared, not coded."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

from bench.report.render import number
from bench.report.style import SeriesStyle, add_legend, new_figure

# `steps`: powers of two at which something was measured. `quality`: percent, from 0 if that serves.
Scale = Literal["linear", "log", "counts", "steps", "names", "quality"]
Kind = Literal["line", "ended", "points", "faint", "steps", "thin"]
# Of the highest value: with all values above, differences show only around them.
_CLOSE = 0.5
# Of the highest value: a trivial baseline below is named in the note, or else it would stretch
# the other axis.
_NAMED = 0.05
_WIDTH_INCHES = 6.4
_ENGINEERING = EngFormatter(sep="")


@dataclass(frozen=True)
class Series:
    """Points by ascending x, with a range of each where there is one.

    Attributes:
        text: in the legend; "" stays out of it.
        kind: a line with its range as a band; the same with a marker at its end alone; points with
            their range as bars; faint points; a staircase; or a thin line.
        remark: of this series in this panel, beside the panel.
        is_trivial: a trivial baseline, which must not flatten the others: on an axis of qualities
            it is not drawn but named where it is below all that competes.
    """

    text: str
    style: SeriesStyle
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    kind: Kind = "line"
    remark: str = ""
    is_trivial: bool = False

    @classmethod
    def of(
        cls, text: str, style: SeriesStyle, points: Iterable[Sequence[float]], kind: Kind = "line"
    ) -> Series:
        """Series of points: x and y of each, or x, y and the ends of its range."""
        columns = list(zip(*points, strict=True)) or [(), ()]
        x, y, low, high = columns if len(columns) == 4 else (*columns, (), ())
        return cls(text, style, x, y, low, high, kind)


@dataclass(frozen=True)
class Level:
    """A horizontal line: a method without an x of its own, a trivial baseline or a ceiling.

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
    """An axis: its label and scale, and the names of its ticks if it has names.

    Attributes:
        air: how far it goes beyond its values, as a share of their distance on it.
        least_ratio: of its ends on a logarithmic axis: values that are closer together stay so.
        unit: of its values, where a note names one.
    """

    label: str
    scale: Scale
    names: tuple[str, ...] = ()
    air: float = 0.06
    least_ratio: float = 1.0
    unit: str = ""


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
        note: what a reader has to know.
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
        num_panels = len(self.panels)
        num_columns = {1: 1, 2: 2, 4: 2}.get(num_panels, 3)
        num_rows = math.ceil(num_panels / num_columns)
        width = _WIDTH_INCHES + 1.5 * (num_columns - 1)
        height = 3.0 if num_rows == 1 else 2.1 * num_rows + 0.7
        note = " ".join(filter(None, [self.note, _limits_remark(self)]))
        figure = new_figure(width, height, self.title, self.subject, note)
        grid = figure.subplots(num_rows, num_columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[num_panels:]:
            axes.set_visible(False)
        for index, (axes, panel) in enumerate(zip(grid.flat, self.panels, strict=False)):
            _draw_panel(axes, panel, self)
            is_lowest, is_first = index + num_columns >= num_panels, index % num_columns == 0
            axes.tick_params(labelbottom=is_lowest)
            axes.set_xlabel(self.x.label if is_lowest else "")
            axes.set_ylabel(self.y.label if is_first else "")
        every = [series for panel in self.panels for series in panel.series]
        _shape(grid[0][0], "x", self.x, {x for series in every for x in series.x})
        _shape(grid[0][0], "y", self.y, {y for series in every for y in series.y})
        if self.y.scale == "quality":
            grid[0][0].set_ylim(_quality_limits(self))
        add_legend(figure)
        return figure


def _draw_panel(axes: Axes, panel: Panel, plot: LinePlot) -> None:
    axes.set_title(panel.title)
    shown = [series for series in panel.series if is_drawn(plot, series)]
    drawn = [(_draw_series(axes, series), series.remark) for series in shown]
    for level in _levels(plot, panel):
        look = {**level.style.keywords, "linewidth": level.width, "zorder": 1.5}
        # The marker at the edge distinguishes lines of one colour.
        look |= {"markevery": [1], "clip_on": False, "label": level.text}
        axes.plot([0, 1], [level.y] * 2, transform=axes.get_yaxis_transform(), **look)
    remarks = [(artist, text) for artist, text in drawn if text]
    if remarks:
        axes.legend(
            [artist for artist, _ in remarks],
            [text for _, text in remarks],
            title=plot.remarks,
            title_fontsize=6.5,
            fontsize=6.5,
            handlelength=1.8,
            loc="upper left",
            bbox_to_anchor=(1, 1.03),
            borderaxespad=0.2,
        )


def _draw_series(axes: Axes, series: Series) -> Artist:
    look: dict[str, Any] = {**series.style.keywords, "label": series.text or None}
    color = series.style.color
    if series.kind == "thin":
        look = {"color": color, "linewidth": 0.6, "alpha": 0.6}
    elif series.kind == "steps":
        look |= {"marker": "", "drawstyle": "steps-post", "zorder": 2}
    elif series.kind == "faint":
        look |= {"label": None, "linestyle": "none", "alpha": 0.3, "zorder": 2}
    elif series.kind == "points":
        look["linewidth"] = 0.7
        if series.low:
            axes.vlines(series.x, series.low, series.high, color=color, linewidth=0.8, zorder=3)
    elif series.low:
        axes.fill_between(series.x, series.low, series.high, color=color, alpha=0.18, linewidth=0)
    if series.kind == "ended":
        look["markevery"] = [len(series.x) - 1]
    (artist,) = axes.plot(series.x, series.y, **look)
    return artist


def _shape(axes: Axes, which: Literal["x", "y"], form: Axis, values: set[float]) -> None:
    """Scale, limits and ticks of an axis, which is that of all panels."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.margins(x=form.air) if which == "x" else axes.margins(y=form.air)
    if form.scale == "names":
        axis.set_ticks(range(len(form.names)), labels=form.names)
    elif form.scale == "linear":
        axes.set(**{f"{which}lim": (0, None)})
        axis.set_major_formatter(plain)
    elif form.scale == "steps":
        axes.set(**{f"{which}scale": "log"})
        axis.set_ticks(sorted(values), labels=map(plain, sorted(values)))
    elif form.scale in ("log", "counts"):
        axes.set(**{f"{which}scale": "log"})
        _widen(axis, form.least_ratio)
        log_ticks(axis)
        if form.scale == "counts":
            axis.set_major_formatter(short_count)
    axis.minorticks_off()


def _widen(axis: XAxis | YAxis, least_ratio: float) -> None:
    """Move the ends of a logarithmic axis apart, about their middle, to a ratio at least."""
    low, high = axis.get_view_interval()
    missing = least_ratio / (high / low)
    if missing > 1:
        ends = (low / math.sqrt(missing), high * math.sqrt(missing))
        axis.axes.set(**{f"{axis.axis_name}lim": ends})


def plain(value: float, _: object = None) -> str:
    """A number at a tick."""
    return f"{value:,.10g}"


def short_count(value: float, _: object = None) -> str:
    """A count at a tick.

    >>> [short_count(x) for x in (0.01, 500, 20_000, 1_500_000)]
    ['0.01', '500', '20k', '1.5M']
    """
    return _ENGINEERING(value) if value >= 1 else plain(value)


def log_ticks(axis: XAxis | YAxis) -> None:
    """Ticks of a logarithmic axis at round values, about six at most."""
    low, high = axis.get_view_interval()
    ratio = high / low
    if ratio < 5:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    else:
        subs = (1, 2, 5) if ratio < 50 else (1, 3) if ratio < 800 else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axis.set_major_formatter(plain)


def _quality_limits(plot: LinePlot) -> tuple[float, float]:
    """From 0 on, unless values so close together could then not be distinguished."""
    every = [series for panel in plot.panels for series in panel.series]
    values = [v for s in every if not s.is_trivial for v in (*s.y, *s.low, *s.high)]
    lowest, highest = min(values), max(values)
    levels = [level for panel in plot.panels for level in panel.levels]
    reachable = [lv.y for lv in levels if not lv.is_bound or lv.y <= 1.6 * highest]
    trivial = [value for series in every if series.is_trivial for value in series.y]
    if lowest <= _CLOSE * highest:
        return 0, 1.08 * max([highest, *reachable, *trivial]) or 1
    span = max(highest - lowest, 0.04 * highest)
    low, high = lowest - 0.3 * span, highest + 1.5 * span
    within = [y for y in reachable if low <= y <= high]
    # A trivial baseline above all that competes is the finding, however far above it is.
    top = max([highest, *within, *trivial])
    return low, top + 0.08 * (top - low)


def is_drawn(plot: LinePlot, series: Series) -> bool:
    """Whether a series is no trivial baseline below a figure's axis, or next to nothing on it."""
    if not series.is_trivial or plot.y.scale != "quality":
        return True
    low, high = _quality_limits(plot)
    return min(series.y) >= max(low, _NAMED * high)


def _levels(plot: LinePlot, panel: Panel, *, are_shown: bool = True) -> list[Level]:
    """Levels of a panel that are within its axis, or else those beyond it."""
    low, high = _quality_limits(plot) if plot.y.scale == "quality" else (-math.inf, math.inf)
    return [level for level in panel.levels if (low <= level.y <= high) is are_shown]


def _limits_remark(plot: LinePlot) -> str:
    if plot.y.scale != "quality":
        return ""
    hidden = [s for panel in plot.panels for s in panel.series if not is_drawn(plot, s)]
    texts = [f"{s.text} {s.y[0]:.1f} (at {number(s.x[0])} {plot.x.unit})" for s in hidden]
    beyond = [lv for panel in plot.panels for lv in _levels(plot, panel, are_shown=False)]
    texts += [f"{level.text} {level.y:.1f}" for level in beyond]
    remarks = ["The axis does not start at 0."] if _quality_limits(plot)[0] else []
    if texts:
        head = "Beyond it" if remarks else "Not drawn"
        remarks.append(f"{head}: {', '.join(dict.fromkeys(texts))}.")
    return " ".join(remarks)
