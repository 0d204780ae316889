"""Decode time against how peaked planted scores are, at one problem."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.report.decoding import Entry, Problem, batched_ms
from bench.report.layout import (
    EndLabel,
    fit_width,
    label_ends,
    plain_numbers,
    set_note,
    set_title,
    text_inches,
)
from bench.report.plots.decode_base import (
    TIME_LABEL,
    Line,
    Part,
    draw_line,
    draw_thread,
    log_limits,
    measured,
    method_line,
)
from bench.report.style import add_axes, new_figure

_NOTE = "Planted scores, from none to the most probability on a query's own labels."


@dataclass(frozen=True)
class PeakednessPlot:
    """One line for each method over the kinds of scores."""

    subject: str
    kinds: tuple[str, ...]
    lines: tuple[Line, ...]

    def draw(self) -> Figure:
        """Lines over categories, labelled at their ends."""
        wide = max(2.6, len(self.kinds) * (text_inches(self.kinds) + 0.16))
        height = max(2.9, 1.1 + 0.14 * len(self.lines))
        width = 0.6 + wide + 0.2 + text_inches([line.text for line in self.lines])
        figure = new_figure(fit_width(width, [self.subject, _NOTE]), height)
        axes = add_axes(figure, (0.6, 0.62, wide, height - 1.12))
        axes.set_yscale("log")
        axes.set_xlim(-0.3, len(self.kinds) - 0.7)
        axes.set_ylim(*log_limits([y for line in self.lines for y in line.y], 0.06))
        labels = []
        for line in self.lines:
            draw_line(axes, line)
            draw_thread(axes, line)
            labels.append(EndLabel(line.y[-1], line.text, line.style.ink))
        axes.set_xticks(range(len(self.kinds)), labels=self.kinds)
        axes.set_xlabel("scores")
        axes.set_ylabel(TIME_LABEL)
        plain_numbers(axes, "y")
        label_ends(axes, labels)
        set_note(figure, _NOTE)
        set_title(figure, "Decode time and peaked scores", self.subject)
        return figure


def collect(part: Part) -> PeakednessPlot | str:
    """Lines at the largest problem of those timed on most kinds; a reason where there is none."""
    planted = [scores for scores in part.scores if scores.peak is not None]
    timed = {scores.name: measured(scores.entries, batched_ms) for scores in planted}
    counts: dict[Problem, int] = {}
    for problems in timed.values():
        for problem in problems:
            counts[problem] = counts.get(problem, 0) + 1
    chosen = max(counts, key=lambda problem: (counts[problem], problem), default=None)
    if chosen is None or counts[chosen] < 2:
        return "no problem with times on several kinds of planted scores"
    kinds = tuple(name for name, problems in timed.items() if chosen in problems)
    series: dict[str, list[tuple[int, Entry]]] = {}
    for place, name in enumerate(kinds):
        for entry in timed[name][chosen]:
            series.setdefault(entry.name, []).append((place, entry))
    lines = tuple(
        method_line(
            [entry for _, entry in members],
            [place for place, _ in members],
            [entry.median(batched_ms) or 0.0 for _, entry in members],
        )
        for members in series.values()
    )
    return PeakednessPlot(part.subject(chosen.text), kinds, lines)
