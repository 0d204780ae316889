"""Share of the labels that exact pruning looks at against the number of labels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.report.decoding import Entry, scored_share
from bench.report.layout import count_numbers, plain_numbers, set_title
from bench.report.plots.decode_base import (
    LEAST_RANGE,
    Line,
    Part,
    by_name,
    figure_beside_legend,
    measured,
    same_tables,
)
from bench.report.style import (
    GREY,
    Dashes,
    SeriesStyle,
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
        figure, axes = figure_beside_legend(self.subject, styles, self.lines, 0.05, LEAST_RANGE)
        count_numbers(axes, "x")
        plain_numbers(axes, "y")
        axes.set_xlabel("labels L (log scale)")
        axes.set_ylabel("labels scored (% of L, log scale)")
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
        chosen = (e for p, entries in problems.items() if p.tables == tables for e in entries)
        for name, members in by_name(chosen).items():
            dashes = _dashes(members[0])
            methods[name] = SeriesStyle(GREY, "", dashes)
            lines.append(_line(scores.name, replace(look, linestyle=dashes), members))
    if tables is None or all(len(line.x) < 2 for line in lines):
        return "no R and B with labels scored at several numbers of labels"
    return VisitedPlot(
        part.subject(tables.tables_text, tables.more), tuple(lines), tuple(methods.items())
    )


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
