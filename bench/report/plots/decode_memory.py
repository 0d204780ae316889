"""Decode time against what a method keeps for decoding, at the largest problem."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.report.decoding import Problem, batched_ms, index_bytes
from bench.report.layout import plain_numbers, set_title
from bench.report.plots.decode_base import (
    TIME_LABEL,
    Line,
    Part,
    Scores,
    figure_beside_legend,
    measured,
    method_line,
)


@dataclass(frozen=True)
class DecodeMemoryPlot:
    """One point for each method: MB and ms/query."""

    subject: str
    points: tuple[Line, ...]

    def draw(self) -> Figure:
        """Points over two logarithmic axes, legend on the right."""
        styles = {p.text: replace(p.style, linestyle="") for p in self.points}
        figure, axes = figure_beside_legend(self.subject, styles, self.points, 0.1, 10)
        plain_numbers(axes, "x")
        plain_numbers(axes, "y")
        axes.set_xlabel("index (MB, log scale)")
        axes.set_ylabel(TIME_LABEL)
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
