"""Decode time against what a method keeps for decoding, at the largest problem."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.report.decoding import Problem, batched_ms, index_bytes
from bench.report.layout import fit_width, plain_numbers, set_title
from bench.report.plots.decode_base import (
    TIME_LABEL,
    Line,
    Part,
    Scores,
    add_legend,
    draw_line,
    legend_inches,
    log_limits,
    measured,
    method_line,
)
from bench.report.style import WIDTH_INCHES, add_axes, new_figure


@dataclass(frozen=True)
class DecodeMemoryPlot:
    """One point for each method: MB and ms/query."""

    subject: str
    points: tuple[Line, ...]

    def draw(self) -> Figure:
        """Points over two logarithmic axes, legend on the right."""
        styles = {p.text: replace(p.style, linestyle="") for p in self.points}
        legend_wide, legend_tall = legend_inches(styles)
        wide = WIDTH_INCHES - 1.2
        height = max(2.9, legend_tall + 0.8)
        width = 0.6 + wide + 0.15 + legend_wide
        figure = new_figure(fit_width(width, [self.subject]), height)
        axes = add_axes(figure, (0.6, 0.45, wide, height - 0.95))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*log_limits([x for point in self.points for x in point.x], 0.1, least=10))
        axes.set_ylim(*log_limits([y for point in self.points for y in point.y], 0.1, least=10))
        for point in self.points:
            draw_line(axes, point)
        plain_numbers(axes, "x")
        plain_numbers(axes, "y")
        axes.set_xlabel("index (MB, log scale)")
        axes.set_ylabel(TIME_LABEL)
        add_legend(figure, axes, styles, 0.6 + wide + 0.1, 0.5)
        set_title(figure, "Decode time and memory", self.subject)
        return figure


def collect(part: Part) -> DecodeMemoryPlot | str:
    """Points at the largest problem with two methods or more; a reason where there is none.

    Of several kinds of scores a model's stand for all, or else the least peaked: the hardest ones
    for a decode that prunes.
    """
    candidates: list[tuple[Problem, bool, int, Scores]] = []
    for place, scores in enumerate(part.scores):
        for problem, entries in measured(scores.entries, batched_ms, index_bytes).items():
            if len(entries) >= 2:
                candidates.append((problem, scores.peak is None, -place, scores))
    if not candidates:
        return "no problem with times and sizes of several methods"
    problem, *_, scores = max(candidates, key=lambda candidate: candidate[:3])
    points = tuple(
        method_line(
            [entry],
            [(entry.median(index_bytes) or 0.0) / 1e6],
            [entry.median(batched_ms) or 0.0],
        )
        for entry in measured(scores.entries, batched_ms, index_bytes)[problem]
    )
    return DecodeMemoryPlot(part.subject(scores.name, problem.text), points)
