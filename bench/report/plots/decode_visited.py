"""Share of the labels that exact pruning looks at against the number of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.report.decoding import Entry, scored_share
from bench.report.layout import count_numbers, fit_width, plain_numbers, set_title
from bench.report.plots.decode_base import (
    Line,
    Part,
    add_legend,
    draw_line,
    legend_inches,
    log_limits,
    measured,
    same_tables,
)
from bench.report.style import (
    GREY,
    WIDTH_INCHES,
    Dashes,
    SeriesStyle,
    add_axes,
    new_figure,
    scores_styles,
)

# Method → how its lines are drawn; the colour tells the kind of scores.
_LINES: dict[str, Dashes] = {"pruned": "-", "buckets": (0, (4, 1.5))}
_FURTHER_LINES: tuple[Dashes, ...] = ((0, (1, 1)), (0, (6, 1, 1, 1)))  # of further settings


@dataclass(frozen=True)
class VisitedPlot:
    """One line for each method and kind of scores; `text` is the kind."""

    subject: str
    lines: tuple[Line, ...]
    methods: tuple[tuple[str, SeriesStyle], ...]

    def draw(self) -> Figure:
        """Lines over two logarithmic axes; one legend names colours and line styles."""
        styles = {line.text: replace(line.style, linestyle="") for line in self.lines}
        styles |= dict(self.methods)
        legend_wide, legend_tall = legend_inches(styles)
        wide = WIDTH_INCHES - 1.2
        height = max(2.9, legend_tall + 0.8)
        width = 0.6 + wide + 0.15 + legend_wide
        figure = new_figure(fit_width(width, [self.subject]), height)
        axes = add_axes(figure, (0.6, 0.45, wide, height - 0.95))
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(*log_limits([x for line in self.lines for x in line.x], 0.05))
        axes.set_ylim(*log_limits([y for line in self.lines for y in line.y], 0.05))
        for line in self.lines:
            draw_line(axes, line)
        count_numbers(axes, "x")
        plain_numbers(axes, "y")
        axes.set_xlabel("labels L (log scale)")
        axes.set_ylabel("labels scored (% of L, log scale)")
        add_legend(figure, axes, styles, 0.6 + wide + 0.1, 0.5)
        set_title(figure, "Labels looked at", self.subject)
        return figure


def collect(part: Part) -> VisitedPlot | str:
    """Lines of the methods that leave labels out; a reason where none spans several L."""
    known = [
        measured([entry for entry in scores.entries if entry.method in _LINES], scored_share)
        for scores in part.scores
    ]
    tables = same_tables(known)
    looks = scores_styles([scores.peak is not None for scores in part.scores])
    lines = []
    methods: dict[str, SeriesStyle] = {}
    for scores, problems, look in zip(part.scores, known, looks, strict=True):
        series: dict[str, list[Entry]] = {}
        for problem, entries in problems.items():
            for entry in entries if problem.tables == tables else ():
                series.setdefault(entry.name, []).append(entry)
        for name, members in series.items():
            dashes = _dashes(members[0])
            methods[name] = SeriesStyle(GREY, "", dashes)
            lines.append(_line(scores.name, replace(look, linestyle=dashes), members))
    if tables is None or all(len(line.x) < 2 for line in lines):
        return "no R and B with labels scored at several numbers of labels"
    words = f"R = {tables.num_worlds:,}, B = {tables.num_buckets:,}"
    return VisitedPlot(part.subject(words, tables.more), tuple(lines), tuple(methods.items()))


def _dashes(entry: Entry) -> Dashes:
    if entry.place:
        return _FURTHER_LINES[(entry.place - 1) % len(_FURTHER_LINES)]
    return _LINES[entry.method]


def _line(name: str, style: SeriesStyle, members: list[Entry]) -> Line:
    points = sorted(
        (entry.problem.num_labels, 100 * (entry.median(scored_share) or 0.0)) for entry in members
    )
    sizes, shares = zip(*points, strict=True)
    return Line(name, style, sizes, shares)
