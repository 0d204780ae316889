"""What figures of decoding have in common: the sections they span, lines on log axes, legends."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.decoding import Entry, Problem, entries_of, peak_of
from bench.report.layout import fit_width, text_inches
from bench.report.select import Number, Record, Section
from bench.report.style import (
    WIDTH_INCHES,
    SeriesStyle,
    add_axes,
    decode_style,
    new_figure,
)

Value = Callable[[Record], Number | None]

TIME_LABEL = "ms/query, batches of 64 (log)"
LEAST_RANGE = 1.3
_LEGEND_LINE_INCHES = 0.165


@dataclass(frozen=True)
class Line:
    """A series: what it is called and its points by ascending x."""

    text: str
    style: SeriesStyle
    x: tuple[float, ...]
    y: tuple[float, ...]


@dataclass(frozen=True)
class Scores:
    """One kind of scores with what was measured on it.

    Attributes:
        peak: how peaked planted scores are; None for scores of a model.
    """

    name: str
    peak: float | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Part:
    """What a figure spans: one part of a study on one machine, scores in the tables' order."""

    study: str
    name: str
    machine: str
    scores: tuple[Scores, ...]

    def subject(self, *words: str) -> str:
        """What a figure is about."""
        names = " · ".join(filter(None, (self.study, self.name)))
        return "; ".join([", ".join([names, *filter(None, words)]), self.machine])


def part_of(sections: Sequence[Section]) -> Part:
    """The sections of one part together."""
    first = sections[0]
    scores = [Scores(s.data_name, peak_of(s), tuple(entries_of(s))) for s in sections]
    return Part(first.study, first.part, first.machine, tuple(scores))


def measured(entries: Iterable[Entry], *values: Value) -> dict[Problem, list[Entry]]:
    """The entries with all of the quantities, and none of them 0, by problem."""
    known: dict[Problem, list[Entry]] = {}
    for entry in entries:
        if all(entry.median(value) for value in values):
            known.setdefault(entry.problem, []).append(entry)
    return known


def method_line(members: Sequence[Entry], x: Sequence[float], y: Sequence[float]) -> Line:
    """Line of a series' points, in the order of x."""
    xs, ys = zip(*sorted(zip(x, y, strict=True)), strict=True)
    return Line(members[0].name, decode_style(members[0].method, members[0].place), xs, ys)


def same_tables(kinds: Iterable[Mapping[Problem, object]]) -> Problem | None:
    """The R and B that were measured at most values of L; the larger tables where two tie.

    Args:
        kinds: for each kind of scores, what is known of its problems.
    """
    sizes: dict[Problem, set[int]] = {}
    for known in kinds:
        for problem in known:
            sizes.setdefault(problem.tables, set()).add(problem.num_labels)
    return max(sizes, key=lambda tables: (len(sizes[tables]), tables), default=None)


def draw_line(axes: Axes, line: Line) -> None:
    """A series on axes; an open marker is a larger ring that shows what lies below it."""
    axes.plot(line.x, line.y, **_look(line.style), zorder=3 + line.style.is_open)


def draw_thread(axes: Axes, line: Line) -> None:
    """A hair from the end of a line to the right edge, where its label stands."""
    edge = axes.get_xlim()[1]
    axes.plot((line.x[-1], edge), (line.y[-1],) * 2, color=line.style.ink, linewidth=0.4)


def _look(style: SeriesStyle) -> dict[str, Any]:
    return {
        "color": style.color,
        "marker": style.marker,
        "markersize": 7 if style.is_open else 4,
        "markerfacecolor": "none" if style.is_open else style.color,
        "markeredgewidth": 0.8,
        "linestyle": style.linestyle,
        "linewidth": 1.2,
    }


def log_limits(
    values: Iterable[float], air: float, *, least: float = LEAST_RANGE
) -> tuple[float, float]:
    """Ends of a logarithmic axis.

    Args:
        values: what it shows.
        air: how far it goes beyond them, as a share of their distance on it.
        least: of its upper end to its lower end, so that few values get round ticks.

    >>> [round(end, 6) for end in log_limits([1.0, 100.0], 0.5)]
    [0.1, 1000.0]
    """
    known = list(values)
    low, high = min(known), max(known)
    factor = max((high / low) ** air, (least / (high / low)) ** 0.5, 1.15)
    return low / factor, high * factor


def figure_beside_legend(
    subject: str, styles: Mapping[str, SeriesStyle], lines: Sequence[Line], air: float, least: float
) -> tuple[Figure, Axes]:
    """Lines over two logarithmic axes, the legend on their right.

    Args:
        subject: what the figure is about; it is made wide enough for it.
        styles: the legend's entries.
        lines: what is drawn.
        air: see :func:`log_limits`.
        least: likewise.
    """
    legend_wide, legend_tall = legend_inches(styles)
    left, wide = 0.6, WIDTH_INCHES - 1.2
    height = max(2.9, legend_tall + 0.8)
    figure = new_figure(fit_width(left + wide + 0.15 + legend_wide, [subject]), height)
    axes = add_axes(figure, (left, 0.45, wide, height - 0.95))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*log_limits([x for line in lines for x in line.x], air, least=least))
    axes.set_ylim(*log_limits([y for line in lines for y in line.y], air, least=least))
    for line in lines:
        draw_line(axes, line)
    add_legend(figure, axes, styles, left + wide + 0.1, 0.5)
    return figure, axes


def by_name(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries of each series, series in the order in which they come."""
    series: dict[str, list[Entry]] = {}
    for entry in entries:
        series.setdefault(entry.name, []).append(entry)
    return series


def add_legend(
    figure: Figure, axes: Axes, styles: Mapping[str, SeriesStyle], left: float, top: float
) -> None:
    """Legend whose upper left corner is at inches from the left and from the top."""
    width, height = figure.get_size_inches()
    figure.legend(
        [axes.plot([], [], **_look(style))[0] for style in styles.values()],
        list(styles),
        loc="upper left",
        bbox_to_anchor=(left / width, 1 - top / height),
        borderaxespad=0,
        handlelength=2.4,
        handletextpad=0.6,
        labelspacing=0.4,
    )


def legend_inches(names: Iterable[str]) -> tuple[float, float]:
    """Width and height of a legend."""
    texts = list(names)
    return 0.5 + text_inches(texts), _LEGEND_LINE_INCHES * len(texts)


def slope(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Least-squares slope of log y over log x; None for fewer than three values of x.

    >>> slope([1, 10, 100], [2, 20, 200])
    1.0
    """
    if len(set(x)) < 3:
        return None
    logs_x, logs_y = [math.log10(value) for value in x], [math.log10(value) for value in y]
    steepness, _ = statistics.linear_regression(logs_x, logs_y)
    return round(steepness, 6)  # the last bits are the mathematics library's
