"""Figures of the papers: ours, and the published curves faintly beside them for their shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.report.plots import training
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series
from bench.report.sections import Row, Section
from bench.report.style import Legend, Plot, SeriesStyle, shade, varied
from bench.report.summary import Summary

_FAINT = "#8c8c8c"


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """The figures that the study names, for each section with rows."""
    legend = Legend(sections)
    for section in (section for section in sections if section.rows):
        for name in section.study.figures:
            yield name + section.suffix, FIGURES[name](section, legend)


def tradeoff(section: Section, legend: Legend) -> LinePlot | str:
    """Quality against buckets, a line for each number of worlds; rivals are horizontal lines."""
    metric = section.metrics[0]
    rows: dict[int, Row] = {}
    for row in section.trained:
        if row.card.along == "num_worlds" and row.done:
            rows[int(row.flat["num_buckets"])] = row
    by_buckets = sorted(rows.items())
    worlds = sorted({r for row in rows.values() for r in training.row_worlds(row, metric)})
    lines, complete = [], []
    for index, num_worlds in enumerate(worlds):
        # Light to dark: few to many worlds.
        card = by_buckets[0][1].card
        style = SeriesStyle(shade(card.color, index, len(worlds)), card.marker)
        found = [(B, training.subsets(row, metric, num_worlds)) for B, row in by_buckets]
        lines.append(_line(f"MACH R={num_worlds}", style, found))
        full = [(B, row) for B, row in by_buckets if row.flat["num_worlds"] == num_worlds]
        found = [(B, row.quality(metric)) for B, row in full]
        complete.append(_line("", dataclasses.replace(style, linestyle="none"), found))
    if not lines:
        return "no MACH has finished"
    title = section.data_name if section.curves else ""
    published = published_panels(section)
    levels = training.rival_levels(section, legend)
    return LinePlot(
        f"What {metric} do B buckets and R worlds reach?",
        section.subject,
        Axis("buckets B (log scale)", "log", air=0.03),
        Axis(f"{metric}, test split (%)", "quality"),
        (
            *training.worlds_panels(section, [*rows.values()], lines, complete, levels, title),
            *published,
        ),
        "Fewer worlds: random subsets of the trained ones."
        + (" Grey: published, on other data; for the shape." if published else ""),
    )


def recall_worlds(section: Section, legend: Legend) -> LinePlot | str:
    """Quality against worlds, a line for each B and length of training; forests against trees.

    Methods without either are horizontal lines.
    """
    metric = section.metrics[0]
    machs = [row for row in section.trained if row.card.along == "num_worlds" and row.done]
    forests = [row for row in section.trained if row.flat.get("num_trees") and row.done]
    lengths = sorted({float(row.flat["num_epochs"]) for row in machs if row.flat.get("num_epochs")})
    lines, complete = [], []
    for row in sorted(machs, key=lambda row: (row.flat["num_buckets"], row.flat["num_epochs"])):
        length = float(row.flat["num_epochs"])
        style = varied(legend.style(row), len(lengths) - 1 - lengths.index(length))
        text = f"{legend.name(row)}, {length:g} epoch" + ("s" if length != 1 else "")
        worlds = sorted(training.row_worlds(row, metric))
        found = [(n, training.subsets(row, metric, n)) for n in worlds]
        lines.append(_line(text, style, found))
        alone = dataclasses.replace(style, linestyle="none")
        complete.append(_line("", alone, [(row.flat["num_worlds"], row.quality(metric))]))
    by_name: dict[str, dict[int, Row]] = {}
    for row in forests:
        by_name.setdefault(legend.name(row), {})[int(row.flat["num_trees"])] = row
    for name, rows in by_name.items():
        style = legend.style(next(iter(rows.values())))
        found = [(n, row.quality(metric)) for n, row in sorted(rows.items())]
        complete.append(_line(f"{name}, by trees", style, found))
    if not machs:
        return "no MACH has finished"
    others = [row for row in section.rows if not row.flat.get("num_trees")]
    levels = training.rival_levels(dataclasses.replace(section, rows=tuple(others)), legend)
    title = section.data_name if section.curves else ""
    published = _panels_by_length(section)
    return LinePlot(
        f"How does {metric} grow with the number of worlds, or of trees?",
        section.subject,
        Axis("worlds R, or trees (log scale)", "steps"),
        Axis(f"{metric}, test split (%)", "quality"),
        (*training.worlds_panels(section, machs, lines, complete, levels, title), *published),
        "Smaller R: random subsets of the trained worlds."
        + (" Grey: published, on other data; for the shape." if published else ""),
    )


def _line(text: str, style: SeriesStyle, found: Sequence[tuple[float, Summary | None]]) -> Series:
    """Qualities in percent with their ranges, where there are any."""
    known = [(float(x), quality.scaled(100)) for x, quality in found if quality]
    return Series.of(text, style, [(x, q.median, q.low, q.high) for x, q in known])


def _panels_by_length(section: Section) -> list[Panel]:
    """Published curves in grey: a shade for each system, a line for each length of training.

    The length is what stands behind a label's last comma, shorter ones before longer ones.
    """
    panels = []
    for panel in published_panels(section):
        curves = [c for c in section.curves if panel.title.startswith(f"published: {c.panel} ")]
        moving = [curve for curve in curves if curve.level is None]
        systems = [curve.label.rpartition(", ")[0] for curve in moving]
        names = list(dict.fromkeys(systems))
        series = []
        for index, (curve, system) in enumerate(zip(moving, systems, strict=True)):
            color = shade(_FAINT, names.index(system), len(names))
            style = varied(SeriesStyle(color, "o"), systems[index + 1 :].count(system))
            text = f"published: {curve.label}"
            series.append(dataclasses.replace(panel.series[index], text=text, style=style))
        panels.append(dataclasses.replace(panel, series=tuple(series)))
    return panels


def published_panels(section: Section) -> list[Panel]:
    """A panel of grey lines for everything that curves were published of.

    Lines of one panel go from light to dark in their order; a system has one dash in all panels.
    """
    systems = sorted({curve.label for curve in section.curves if curve.level is not None})
    panels = []
    for title in dict.fromkeys(curve.panel for curve in section.curves):
        curves = [curve for curve in section.curves if curve.panel == title]
        moving = [curve for curve in curves if curve.level is None]
        series = []
        for index, curve in enumerate(moving):
            color = shade(_FAINT, index, len(moving))
            x, y = zip(*((float(x or 0), 100 * y) for x, y in curve.points), strict=True)
            style = SeriesStyle(color, "o", fill="none")
            series.append(Series("published, few worlds (light) to many", style, x, y))
        levels = []
        for curve in curves:
            if curve.level is not None:
                style = varied(SeriesStyle(_FAINT, ""), systems.index(curve.label) + 1)
                levels.append(Level(100 * curve.level, f"published: {curve.label}", style))
        tags = "".join(sorted({f"[{curve.tag}]" for curve in curves}))
        panels.append(Panel(tuple(series), tuple(levels), f"published: {title} {tags}"))
    return panels


Collect = Callable[[Section, Legend], Plot | str]
#: Name → figure; those of any study that trains are among them.
FIGURES: Mapping[str, Collect] = {
    **training.FIGURES,
    "tradeoff": tradeoff,
    "recall-worlds": recall_worlds,
}
