"""What figures have in common: lines for floors and ceilings, and where quality is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.layout import EndLabel
from bench.report.select import Row, Section
from bench.report.style import CEILING, Palette, SeriesStyle

# Of the highest value: with all values above, differences show only around them.
_CLOSE = 0.5


class Plot(Protocol):
    """What a figure shows, as plain values; drawing needs nothing else."""

    def draw(self) -> Figure:
        """The figure; to be called inside `styled()`."""


@dataclass(frozen=True)
class Level:
    """A horizontal line: a method without an x of its own, a floor or a ceiling."""

    y: float
    text: str
    style: SeriesStyle
    width: float = 0.8


def subject_of(section: Section) -> str:
    """What a figure is about: study, part, data and machine."""
    return f"{section.title}; {section.machine}"


def floor_levels(section: Section, metric: str) -> tuple[Level, ...]:
    """Lines of the floors and, for the first hit of multiclass data, of the ceiling."""
    palette = Palette([section])
    levels = []
    for row in section.floors:
        summary = row.at("test", metric) if row.done else None
        if summary:
            name = row.name(section.task)
            levels.append(Level(100 * summary.median, name, palette.style(row)))
    ceiling = section.facts.get("ceiling")
    if ceiling is not None and section.task == "multiclass" and metric in ("P@1", "top-1"):
        levels.append(Level(100 * ceiling, "Ceiling", CEILING))
    return tuple(levels)


def draw_levels(axes: Axes, levels: tuple[Level, ...]) -> list[EndLabel]:
    """Draw the lines; the labels that are returned are for the right edge."""
    for level in levels:
        axes.axhline(
            level.y,
            color=level.style.color,
            linestyle=level.style.linestyle,
            linewidth=level.width,
            zorder=1.5,
        )
    return [EndLabel(level.y, level.text, level.style.ink) for level in levels]


def drop_far_ceiling(levels: tuple[Level, ...], highest: float) -> tuple[Level, ...]:
    """Leave out a ceiling so far above the data that drawing it would flatten them."""
    return tuple(lv for lv in levels if lv.text != "Ceiling" or lv.y <= 1.6 * highest)


def limit_quality(
    axes: Axes, values: Sequence[float], levels: tuple[Level, ...] = ()
) -> tuple[tuple[Level, ...], str]:
    """Start the quality axis at 0, unless values so close together could then not be told apart.

    Returns:
        The levels in view, and what a reader has to be told of the others.
    """
    lowest, highest = min(values), max(values)
    levels = drop_far_ceiling(levels, highest)
    if lowest <= _CLOSE * highest:
        top = max([highest, *(level.y for level in levels)])
        axes.set_ylim(0, 1.08 * top if top > 0 else 1)
        return levels, ""
    span = max(highest - lowest, 0.04 * highest)
    low, high = lowest - 0.3 * span, highest + 1.5 * span
    shown = tuple(level for level in levels if low <= level.y <= high)
    top = max([highest, *(level.y for level in shown)])
    axes.set_ylim(low, top + 0.08 * (top - low))
    beyond = [f"{lv.text} {lv.y:.1f}" for lv in levels if lv not in shown]
    remark = "The axis does not start at 0."
    return shown, f"{remark} Beyond it: {', '.join(beyond)}." if beyond else remark


def quality_label(metric: str, split: str) -> str:
    """Label of a quality axis."""
    return f"{metric}, {split} split (%)"


def competitors(section: Section, metric: str) -> list[Row]:
    """Trained rows that have the metric on the test split."""
    return [row for row in section.trained if row.done and row.at("test", metric)]
