"""Figures of the papers: ours, and the published curves faintly beside them for their shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from bench.methods.card import Dashes
from bench.report.plots import training
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series
from bench.report.sections import Row, Section
from bench.report.style import Palette, Plot, SeriesStyle
from bench.report.summary import Summary
from bench.store.files import file_safe

_FAINT = ("#d9d9d9", "#bfbfbf", "#a6a6a6", "#8c8c8c", "#737373", "#595959")
_FAINT_LINES = ((0, (5, 2)), (0, (2, 1)), (0, (1, 2)))
#: Of trainings shorter than the longest, which keeps its method's own look.
_LENGTHS: tuple[tuple[str, Dashes], ...] = (("v", (0, (1, 1))), ("^", (0, (4, 1.5))))
#: Light to dark: few to many worlds.
_WORLDS = ("#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#084594", "#041f45")


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """The figures that the study names, for each section with rows."""
    palette = Palette(sections)
    for section in (section for section in sections if section.rows):
        place = "" if section.is_only else f"-{file_safe(section.part or section.data_name)}"
        for name in section.study.figures:
            yield name + place, FIGURES[name](section, palette)


def tradeoff(section: Section, palette: Palette) -> LinePlot | str:
    """Quality against buckets, a line for each number of worlds; rivals are horizontal lines."""
    metric = section.metrics[0]
    rows: dict[int, Row] = {}
    for row in section.trained:
        if row.card.along == "num_worlds" and row.done:
            rows[int(row.flat["num_buckets"])] = row
    by_buckets = sorted(rows.items())
    worlds = sorted({r for row in rows.values() for r in training.row_worlds(row, metric)})
    lines, wholes = [], []
    for place, num_worlds in enumerate(worlds):
        style = SeriesStyle(_step(_WORLDS, place, len(worlds)), "o", "-")
        found = [(B, training.subsets(row, metric, num_worlds)) for B, row in by_buckets]
        lines.append(_line(f"MACH R={num_worlds}", style, found))
        whole = [(B, row) for B, row in by_buckets if row.flat["num_worlds"] == num_worlds]
        found = [(B, row.quality(metric)) for B, row in whole]
        wholes.append(_line("", dataclasses.replace(style, linestyle="none"), found))
    if not lines:
        return "no MACH has finished"
    title = section.data_name if section.curves else ""
    published = published_panels(section)
    levels = training.rival_levels(section, palette)
    return LinePlot(
        f"What {metric} do B buckets and R worlds reach?",
        section.subject,
        Axis("buckets B (log scale)", "log", air=0.03),
        Axis(f"{metric}, test split (%)", "quality"),
        (
            *training.worlds_panels(section, [*rows.values()], lines, wholes, levels, title),
            *published,
        ),
        "Fewer worlds: random subsets of the trained ones."
        + (" Grey: published, on other data; for the shape." if published else ""),
    )


def recall_worlds(section: Section, palette: Palette) -> LinePlot | str:
    """Quality against worlds, a line for each B and length of training; forests against trees.

    Methods without either are horizontal lines.
    """
    metric = section.metrics[0]
    machs = [row for row in section.trained if row.card.along == "num_worlds" and row.done]
    forests = [row for row in section.trained if row.flat.get("num_trees") and row.done]
    lengths = sorted({float(row.flat["num_epochs"]) for row in machs if row.flat.get("num_epochs")})
    lines, wholes = [], []
    for row in sorted(machs, key=lambda row: (row.flat["num_buckets"], row.flat["num_epochs"])):
        length = float(row.flat["num_epochs"])
        style = _of_length(palette.style(row), len(lengths) - 1 - lengths.index(length))
        text = f"{palette.name(row)}, {length:g} epoch" + ("s" if length != 1 else "")
        worlds = sorted(training.row_worlds(row, metric))
        found = [(n, training.subsets(row, metric, n)) for n in worlds]
        lines.append(_line(text, style, found))
        alone = dataclasses.replace(style, linestyle="none")
        wholes.append(_line("", alone, [(row.flat["num_worlds"], row.quality(metric))]))
    by_name: dict[str, dict[int, Row]] = {}
    for row in forests:
        told = [o.write(row.flat[o.name]) for o in row.card.options if o.is_always]
        name = ", ".join([palette.name(row), *told])
        by_name.setdefault(name, {})[int(row.flat["num_trees"])] = row
    for name, rows in by_name.items():
        style = palette.style(next(iter(rows.values())))
        found = [(n, row.quality(metric)) for n, row in sorted(rows.items())]
        wholes.append(_line(f"{name}, by trees", style, found))
    if not machs:
        return "no MACH has finished"
    others = [row for row in section.rows if not row.flat.get("num_trees")]
    levels = training.rival_levels(dataclasses.replace(section, rows=tuple(others)), palette)
    title = section.data_name if section.curves else ""
    published = _panels_by_length(section)
    return LinePlot(
        f"How does {metric} grow with the number of worlds, or of trees?",
        section.subject,
        Axis("worlds R, or trees (log scale)", "steps"),
        Axis(f"{metric}, test split (%)", "quality"),
        (*training.worlds_panels(section, machs, lines, wholes, levels, title), *published),
        "Smaller R: random subsets of the trained worlds."
        + (" Grey: published, on other data; for the shape." if published else ""),
    )


def _line(text: str, style: SeriesStyle, found: Sequence[tuple[float, Summary | None]]) -> Series:
    """Qualities in percent with their ranges, where there are any."""
    known = [(float(x), quality.scaled(100)) for x, quality in found if quality]
    return Series.of(text, style, [(x, q.median, q.low, q.high) for x, q in known])


def _of_length(style: SeriesStyle, num_longer: int) -> SeriesStyle:
    """A system's look where so many of its lines are of longer trainings; the longest keeps it."""
    if not num_longer:
        return style
    place = num_longer % len(_LENGTHS)
    marker, line = _LENGTHS[place]
    return SeriesStyle(style.color, marker, line, is_open=True)


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
        for place, (curve, system) in enumerate(zip(moving, systems, strict=True)):
            shade = _step(_FAINT, names.index(system), len(names))
            style = _of_length(SeriesStyle(shade, "o", "-"), systems[place + 1 :].count(system))
            text = f"published: {curve.label}"
            series.append(dataclasses.replace(panel.series[place], text=text, style=style))
        panels.append(dataclasses.replace(panel, series=tuple(series)))
    return panels


def _step(colors: Sequence[str], place: int, count: int) -> str:
    """One of so many places on a ramp of few colours, from its first to its last."""
    return colors[round(place * (len(colors) - 1) / max(count - 1, 1))]


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
        for place, curve in enumerate(moving):
            color = _step(_FAINT, place, len(moving))
            x, y = zip(*((float(x or 0), 100 * y) for x, y in curve.points), strict=True)
            style = SeriesStyle(color, "o", "-", is_open=True)
            series.append(Series("published, few worlds (light) to many", style, x, y))
        levels = []
        for curve in curves:
            if curve.level is not None:
                line = _FAINT_LINES[systems.index(curve.label) % len(_FAINT_LINES)]
                text = f"published: {curve.label}"
                levels.append(Level(100 * curve.level, text, SeriesStyle("#8c8c8c", "", line)))
        tags = "".join(sorted({f"[{curve.tag}]" for curve in curves}))
        panels.append(Panel(tuple(series), tuple(levels), f"published: {title} {tags}"))
    return panels


Collect = Callable[[Section, Palette], Plot | str]
#: Name → figure; those of any study that trains are among them.
FIGURES: Mapping[str, Collect] = {
    **training.FIGURES,
    "tradeoff": tradeoff,
    "recall-worlds": recall_worlds,
}
