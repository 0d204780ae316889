"""Figures of decoding studies; they span the kinds of scores of a part."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from bench.report.columns import Value, recorded, timed
from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.sections import Section, hardware_of
from bench.report.style import GREY, Plot, SeriesStyle, scores_styles, varied
from bench.report.summary import group_by
from bench.report.tables.decoding import (
    BATCHED,
    HEADLINE,
    Entry,
    Problem,
    entries_of,
    peak_of,
    scored_share,
)
from bench.store.files import file_safe

_LABELS = Axis("labels L (log scale)", "counts")
_INDEX = recorded("memory", "decode_bytes")


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
    """What a figure spans: one part of a study on one machine, scores in the tables' order.

    Attributes:
        first: one of its sections.
        phase: whose time is shown.
    """

    first: Section
    phase: str
    scores: tuple[Scores, ...]

    def subject(self, *words: str) -> str:
        """What a figure is about."""
        names = " · ".join(filter(None, (self.first.study.name, self.first.part)))
        return self.first.about(names, *words)

    @property
    def milliseconds(self) -> Value:
        """The time that is shown."""
        return timed(self.phase, 1e3)

    @property
    def time_axis(self) -> Axis:
        """Its axis."""
        return Axis("ms/query in batches of 64 (log)", "log")

    @property
    def note(self) -> str:
        """Where its time starts."""
        return "Time from the hidden vectors on." if self.phase == HEADLINE else ""


def part_of(sections: Sequence[Section]) -> Part:
    """The sections of one part together; times from the hidden vectors on, where there are any."""
    scores = [Scores(s.data_name, peak_of(s), tuple(entries_of(s))) for s in sections]
    has_headline = any(e.row.seconds(HEADLINE) for kind in scores for e in kind.entries)
    phase = HEADLINE if has_headline else BATCHED
    return Part(sections[0], phase, tuple(scores))


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES` for each part: its file's stem, and the plot or why there is none."""
    parts = group_by(sections, lambda s: (s.part, hardware_of(s.records[0])))
    is_only = len({name for name, _ in parts}) == 1
    for (name, _), members in parts.items():
        part = part_of(members)
        for figure, collect in FIGURES.items():
            yield figure if is_only else f"{figure}-{file_safe(name)}", collect(part)


def _measured(entries: Iterable[Entry], *values: Value) -> dict[Problem, list[Entry]]:
    """The entries with all of the quantities, and none of them 0, by problem."""
    known = (entry for entry in entries if all(entry.median(value) for value in values))
    return group_by(known, lambda entry: entry.problem)


def _by_name(problems: Mapping[Problem, list[Entry]], tables: Problem | None) -> list[list[Entry]]:
    """The entries of each series at some R and B."""
    entries = (e for p, found in problems.items() if p.tables == tables for e in found)
    return list(group_by(entries, lambda entry: entry.row.name).values())


def _line(
    members: Sequence[Entry], x: Sequence[float], value: Value, factor: float = 1.0
) -> Series:
    """Line of a series' points, in the order of x."""
    y = [factor * (entry.median(value) or 0.0) for entry in members]
    return Series.of(members[0].row.name, _style(members[0]), sorted(zip(x, y, strict=True)))


def _style(entry: Entry) -> SeriesStyle:
    return varied(SeriesStyle(entry.row.card.color, entry.row.card.marker), entry.index)


def _labels(members: Sequence[Entry]) -> list[float]:
    return [float(entry.problem.num_labels) for entry in members]


def _same_tables(kinds: Iterable[Mapping[Problem, object]]) -> Problem | None:
    """The R and B that were measured at most values of L; the larger tables where two tie."""
    known_problems = dict.fromkeys(problem for known in kinds for problem in known)
    sizes = group_by(known_problems, lambda problem: problem.tables)
    return max(sizes, key=lambda tables: (len(sizes[tables]), tables), default=None)


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


def decode_labels(part: Part) -> LinePlot | str:
    """Time against the number of labels, a panel for each kind of scores with several."""
    known = [_measured(scores.entries, part.milliseconds) for scores in part.scores]
    tables = _same_tables(known)
    panels = []
    for scores, timings in zip(part.scores, known, strict=True):
        lines = []
        for members in _by_name(timings, tables):
            line = _line(members, _labels(members), part.milliseconds)
            steepness = slope(line.x, line.y)
            lines.append(replace(line, remark="" if steepness is None else f"{steepness:.2f}"))
        if len({size for line in lines for size in line.x}) > 1:
            panels.append(Panel(tuple(lines), title=scores.name))
    if tables is None or not panels:
        return "no R and B with times at several numbers of labels"
    has_slopes = any(line.remark for panel in panels for line in panel.series)
    return LinePlot(
        "How does decode time grow with the number of labels?",
        part.subject(tables.tables_text, tables.more),
        _LABELS,
        part.time_axis,
        tuple(panels),
        f"{part.note}{' Slope: of log time over log L.' if has_slopes else ''}".strip(),
        "slope",
    )


def decode_peakedness(part: Part) -> LinePlot | str:
    """Time against how peaked planted scores are, at the largest problem timed on most kinds."""
    planted = [scores for scores in part.scores if scores.peak is not None]
    timings = {scores.name: _measured(scores.entries, part.milliseconds) for scores in planted}
    counts = Counter(problem for known in timings.values() for problem in known)
    chosen = max(counts, key=lambda problem: (counts[problem], problem), default=None)
    if chosen is None or counts[chosen] < 2:
        return "no problem with times on several kinds of planted scores"
    kinds = tuple(name for name, known in timings.items() if chosen in known)
    points = [(index, e) for index, name in enumerate(kinds) for e in timings[name][chosen]]
    lines = []
    for series in group_by(points, lambda point: point[1].row.name).values():
        positions, members = zip(*series, strict=True)
        lines.append(_line(members, positions, part.milliseconds))
    lines.sort(key=lambda line: -line.y[-1])
    return LinePlot(
        "How does decode time depend on how peaked scores are?",
        part.subject(chosen.text),
        Axis("scores", "names", kinds),
        part.time_axis,
        (Panel(tuple(lines)),),
        f"{part.note} Scores: from none to the most probability on a query's own labels.".strip(),
    )


def decode_visited(part: Part) -> LinePlot | str:
    """Share of the labels looked at against their number, of methods that leave labels out."""
    known = [
        _measured((e for e in scores.entries if _leaves_out(e, scores)), scored_share)
        for scores in part.scores
    ]
    tables = _same_tables(known)
    looks = scores_styles([scores.peak is not None for scores in part.scores])
    lines: list[Series] = []
    # Entries of the legend alone.
    kinds: dict[str, Series] = {}
    methods: dict[str, Series] = {}
    for scores, problems, look in zip(part.scores, known, looks, strict=True):
        for members in _by_name(problems, tables):
            name = members[0].row.name
            dashes = varied(SeriesStyle(GREY, ""), len(methods))
            methods.setdefault(name, Series(name, dashes, (), ()))
            dot = replace(look, linestyle="none")
            kinds.setdefault(scores.name, Series(scores.name, dot, (), ()))
            line = _line(members, _labels(members), scored_share, 100)
            style = varied(look, [*methods].index(name))
            lines.append(replace(line, text="", style=style))
    if tables is None or all(len(line.x) < 2 for line in lines):
        return "no R and B with labels scored at several numbers of labels"
    return LinePlot(
        "Which share of the labels does a decode look at?",
        part.subject(tables.tables_text, tables.more),
        _LABELS,
        Axis("labels scored (% of L, log scale)", "log"),
        (Panel((*lines, *kinds.values(), *methods.values())),),
    )


def _leaves_out(entry: Entry, scores: Scores) -> bool:
    """Whether the method has left labels out of some problem of this kind."""
    shares = [e.median(scored_share) for e in scores.entries if e.row.name == entry.row.name]
    return any(share is not None and share < 1 for share in shares)


def decode_memory(part: Part) -> LinePlot | str:
    """Time against what a method keeps for decoding, at the largest problem of two methods or more.

    Of several kinds of scores a model's stand for all, or else the least peaked: the hardest ones
    for a decode that prunes.
    """
    candidates: list[tuple[Problem, bool, int, list[Entry]]] = []
    for index, scores in enumerate(part.scores):
        for problem, entries in _measured(scores.entries, part.milliseconds, _INDEX).items():
            if len(entries) >= 2:
                candidates.append((problem, scores.peak is None, -index, entries))
    if not candidates:
        return "no problem with times and sizes of several methods"
    problem, _, index, entries = max(candidates, key=lambda candidate: candidate[:3])
    lines = [
        _line([entry], [(entry.median(_INDEX) or 0.0) / 1e6], part.milliseconds)
        for entry in entries
    ]
    points = [replace(line, style=replace(line.style, linestyle="none")) for line in lines]
    return LinePlot(
        "What does a faster decode keep in memory?",
        part.subject(part.scores[-index].name, problem.text),
        Axis("index (MB, log scale)", "log", air=0.15, least_ratio=2),
        replace(part.time_axis, air=0.15, least_ratio=2),
        (Panel(tuple(points)),),
        part.note,
    )


FIGURES: Mapping[str, Callable[[Part], Plot | str]] = {
    "decode-labels": decode_labels,
    "decode-peakedness": decode_peakedness,
    "decode-visited": decode_visited,
    "decode-memory": decode_memory,
}
