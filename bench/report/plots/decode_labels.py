"""Decode time against the number of labels, a panel for each kind of scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.decoding import Entry, batched_ms
from bench.report.layout import (
    EndLabel,
    count_numbers,
    fit_width,
    label_ends,
    plain_numbers,
    set_note,
    set_title,
)
from bench.report.plots.decode_base import (
    TIME_LABEL,
    Line,
    Part,
    add_legend,
    by_name,
    draw_line,
    draw_thread,
    legend_inches,
    log_limits,
    measured,
    method_line,
    same_tables,
    slope,
)
from bench.report.style import add_axes, new_figure

_WIDE, _TALL = 1.9, 1.75
_LEFT, _SLOPES, _BETWEEN_ROWS = 0.52, 0.48, 0.42
_NOTE = "Right of the lines: slope of log time over log L."


@dataclass(frozen=True)
class LabelsPanel:
    """One kind of scores: a line for each method, and its slope where it has three points."""

    title: str
    lines: tuple[Line, ...]
    slopes: tuple[float | None, ...]


@dataclass(frozen=True)
class LabelsPlot:
    """Panels, row by row."""

    subject: str
    panels: tuple[LabelsPanel, ...]

    def draw(self) -> Figure:
        """Panels with common axes and one legend."""
        lines = [line for panel in self.panels for line in panel.lines]
        styles = {line.text: line.style for line in lines}
        num_columns = 1 if len(self.panels) == 1 else 2 if len(self.panels) <= 4 else 3
        num_rows = math.ceil(len(self.panels) / num_columns)
        legend_wide, legend_tall = legend_inches(styles)
        has_slopes = any(any(panel.slopes) for panel in self.panels)
        panel_wide = _WIDE + (_SLOPES if has_slopes else 0.2)
        tall = num_rows * (_TALL + _BETWEEN_ROWS)
        height = max(0.38 + tall + 0.46, legend_tall + 0.9)
        right = _LEFT + num_columns * panel_wide
        width = fit_width(right + 0.1 + legend_wide, [self.subject])
        figure = new_figure(width, height)
        for place, panel in enumerate(self.panels):
            row, column = divmod(place, num_columns)
            bottom = height - 0.38 - (row + 1) * (_TALL + _BETWEEN_ROWS) + 0.16
            axes = add_axes(figure, (_LEFT + column * panel_wide, bottom, _WIDE, _TALL))
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlim(*log_limits([x for line in lines for x in line.x], 0.06))
            axes.set_ylim(*log_limits([y for line in lines for y in line.y], 0.06))
            axes.set_title(panel.title, pad=3)
            is_lowest = place + num_columns >= len(self.panels)
            _draw_panel(axes, panel, is_left=column == 0, is_lowest=is_lowest)
            if place == 0:
                add_legend(figure, axes, styles, right + 0.05, 0.66)
        set_note(figure, _NOTE if has_slopes else "")
        set_title(figure, "Decode time and number of labels", self.subject)
        return figure


def _draw_panel(axes: Axes, panel: LabelsPanel, *, is_left: bool, is_lowest: bool) -> None:
    labels = []
    for line, steepness in zip(panel.lines, panel.slopes, strict=True):
        draw_line(axes, line)
        if steepness is not None:
            draw_thread(axes, line)
            labels.append(EndLabel(line.y[-1], f"{steepness:.2f}", line.style.ink))
    count_numbers(axes, "x")
    plain_numbers(axes, "y")
    if is_lowest:
        axes.set_xlabel("labels L (log scale)")
    if is_left:
        axes.set_ylabel(TIME_LABEL)
    else:
        axes.tick_params(axis="y", labelleft=False)
    label_ends(axes, labels)


def collect(part: Part) -> LabelsPlot | str:
    """Panels of the kinds of scores with several L; a reason where there is none."""
    known = [measured(scores.entries, batched_ms) for scores in part.scores]
    tables = same_tables(known)
    panels = []
    for scores, timed in zip(part.scores, known, strict=True):
        problems = [problem for problem in timed if problem.tables == tables]
        if len({problem.num_labels for problem in problems}) < 2:
            continue
        series = by_name(entry for problem in problems for entry in timed[problem])
        lines = tuple(_line(members) for members in series.values())
        slopes = tuple(slope(line.x, line.y) for line in lines)
        panels.append(LabelsPanel(scores.name, lines, slopes))
    if tables is None or not panels:
        return "no R and B with times at several numbers of labels"
    return LabelsPlot(part.subject(tables.tables_text, tables.more), tuple(panels))


def _line(members: list[Entry]) -> Line:
    times = [entry.median(batched_ms) or 0.0 for entry in members]
    return method_line(members, [entry.problem.num_labels for entry in members], times)
