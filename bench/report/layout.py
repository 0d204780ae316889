"""Where text goes in a figure: titles, labels at the ends of lines, labels beside points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Annotation
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import Bbox

from bench.report.format import short_count
from bench.report.style import GREY

_OFFSETS = [
    (dx * reach, dy * reach)
    for reach in (6.0, 10.0, 15.0, 22.0)
    for dx, dy in ((1, 0.6), (1, -0.6), (-1, 0.6), (-1, -0.6), (0, 1), (0, -1), (1, 0), (-1, 0))
]
# On a logarithmic axis; more of them run into each other.
_MOST_TICKS = 6


@dataclass(frozen=True)
class EndLabel:
    """A label at the right end of a line, at the line's height in data units."""

    y: float
    text: str
    color: str


def text_inches(texts: Sequence[str], size: float = 7.5) -> float:
    """Width of the widest text."""
    font = FontProperties(family="DejaVu Sans")
    # From the outline: there is no canvas yet whose size the text is to decide.
    outlines = [TextPath((0, 0), text, size=size, prop=font).vertices for text in texts if text]
    return max((float(outline[:, 0].max()) for outline in outlines), default=0.0) / 72


def fit_width(width: float, texts: Sequence[str], size: float = 7) -> float:
    """The width of a figure in inches, or what its widest line of text needs, if that is more."""
    return max(width, 0.2 + text_inches(texts, size))


def set_note(figure: Figure, note: str) -> None:
    """Small grey remark at the bottom left of the figure."""
    width, height = figure.get_size_inches()
    figure.text(0.08 / width, 0.05 / height, note, va="bottom", fontsize=6.5, color=GREY)


def set_title(figure: Figure, title: str, subject: str) -> None:
    """Title and, below it in grey, what it is about, at the top left of the figure."""
    width, height = figure.get_size_inches()
    figure.text(0.08 / width, 1 - 0.06 / height, title, va="top", fontsize=8.5, weight="bold")
    figure.text(0.08 / width, 1 - 0.225 / height, subject, va="top", fontsize=7, color=GREY)


def label_ends(axes: Axes, labels: Sequence[EndLabel], *, gap_points: float = 9.5) -> None:
    """Write labels right of the axes, moved apart vertically, joined to their lines if moved."""
    if not labels:
        return
    height = axes.get_position().height * _figure_of(axes).get_figheight() * 72
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: (label.y, label.text))
    if axes.get_yscale() == "log":
        wanted = [math.log(label.y / low) / math.log(high / low) * height for label in ordered]
    else:
        wanted = [(label.y - low) / (high - low) * height for label in ordered]
    placed = spread(wanted, gap_points, height)
    for label, at, to in zip(ordered, wanted, placed, strict=True):
        axes.annotate(
            label.text,
            xy=(1, at / height),
            xycoords="axes fraction",
            xytext=(9, to - at),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=label.color,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": label.color,
                "linewidth": 0.5,
                "shrinkA": 0.5,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def _figure_of(axes: Axes) -> Figure:
    return cast(Figure, axes.get_figure(root=True))


def spread(wanted: Sequence[float], gap: float, limit: float) -> list[float]:
    """Ascending positions a gap apart or more, near the wanted ones, in [0, limit] if they fit.

    >>> spread([1.0, 1.0, 9.0], 2.0, 10.0)
    [0.0, 2.0, 9.0]
    """
    groups: list[tuple[float, int]] = []  # centre, members
    for at in wanted:
        groups.append((at, 1))
        while len(groups) > 1:
            (below, n), (above, m) = groups[-2:]
            if above - below >= gap * (n + m) / 2:
                break
            groups[-2:] = [((below * n + above * m) / (n + m), n + m)]
    placed: list[float] = []
    for centre, n in groups:
        placed += [centre + gap * (i - (n - 1) / 2) for i in range(n)]
    for i in range(len(placed)):
        placed[i] = max(placed[i], 0.0 if i == 0 else placed[i - 1] + gap)
    for i in reversed(range(len(placed))):
        ceiling = limit if i == len(placed) - 1 else placed[i + 1] - gap
        placed[i] = min(placed[i], ceiling)
    return placed


@dataclass(frozen=True)
class LevelName:
    """The name of a horizontal line, at the line's height in data units."""

    y: float
    text: str
    color: str


def label_points(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    texts: Sequence[str | None],
    names: Sequence[LevelName] = (),
) -> None:
    """Write a text beside each point where it hits no other text and no point.

    A text that fits nowhere is left out: the legend still names its series. Points that lie on one
    another and say the same share a text. The names of lines come first and find a place on their
    lines.
    """
    figure = _figure_of(axes)
    renderer = cast(Any, figure.canvas).get_renderer()
    frame = axes.get_window_extent(renderer)
    pixels = [axes.transData.transform(point) for point in points]
    radius = 3.2 * figure.dpi / 72
    taken = [Bbox.from_extents(x - radius, y - radius, x + radius, y + radius) for x, y in pixels]
    lines = {name: axes.transData.transform((points[0][0], name.y))[1] for name in names}
    for name in names:
        # A name keeps clear of the other lines too, or it could be read as theirs.
        others = [
            Bbox.from_extents(frame.x0, y - 1, frame.x1, y + 1)
            for other, y in lines.items()
            if other != name
        ]
        taken.append(_name_level(axes, name, [*taken, *others]))
    said: list[tuple[float, float, str]] = []
    for point, pixel, text in zip(points, pixels, texts, strict=True):
        if text is None or any(
            text == other and math.hypot(pixel[0] - x, pixel[1] - y) < 2 * radius
            for x, y, other in said
        ):
            continue
        said.append((pixel[0], pixel[1], text))
        for dx, dy in _OFFSETS:
            note = _annotate(axes, text, point, dx, dy)
            box = note.get_window_extent(renderer).padded(0.8)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 + 4
            inside = inside and frame.y0 <= box.y0 and box.y1 <= frame.y1 + 4
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()


def _name_level(axes: Axes, name: LevelName, taken: Sequence[Bbox]) -> Bbox:
    renderer = cast(Any, _figure_of(axes).canvas).get_renderer()
    places = [(x, dy) for dy in (1.5, -1.5) for x in (1.0, 0.0, 0.5)]
    for x, dy in places:
        note = axes.annotate(
            name.text,
            xy=(x, name.y),
            xycoords=("axes fraction", "data"),
            xytext=({1.0: -2, 0.0: 3, 0.5: 0}[x], dy),
            textcoords="offset points",
            ha={1.0: "right", 0.0: "left", 0.5: "center"}[x],
            va="bottom" if dy > 0 else "top",
            fontsize=6.5,
            color=name.color,
        )
        box = note.get_window_extent(renderer)
        if not any(box.overlaps(other) for other in taken):
            return box
        note.remove()
    return taken[0]  # no room: the line stays without a name


def _annotate(
    axes: Axes, text: str, point: tuple[float, float], dx: float, dy: float
) -> Annotation:
    return axes.annotate(
        text,
        xy=point,
        xytext=(dx, dy),
        textcoords="offset points",
        ha="left" if dx > 0 else "right" if dx < 0 else "center",
        va="center" if abs(dy) < abs(dx) or dy == 0 else "bottom" if dy > 0 else "top",
        fontsize=6.5,
        arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 3}
        if max(abs(dx), abs(dy)) > 8
        else None,
    )


def count_numbers(axes: Axes, which: str) -> None:
    """Print the ticks of an axis of counts in short: 20k, 3M."""
    plain_numbers(axes, which)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def plain_numbers(axes: Axes, which: str) -> None:
    """Print the ticks of an axis as plain numbers, on a logarithmic one at round values."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if axis.get_scale() == "log":
        low, high = axis.get_view_interval()
        ratio = high / low
        grids: list[tuple[int, ...]] = [(1,), (1, 3)]
        if ratio < 150:
            grids = [(1, 2, 5)] if ratio < 40 else [(1, 3)]
        # Two decades in sight are too few to read a scale from: then the steps between them too.
        choices = [_round_values(low, high, steps) for steps in grids]
        ticks = next((choice for choice in choices if len(choice) >= 3), choices[-1])
        if len(ticks) < 3:  # within less than a factor of five: round values closer together
            magnitude = 10.0 ** math.floor(math.log10(low))
            widths = [magnitude * width for width in (0.1, 0.2, 0.5, 1, 2)]
            width = next((w for w in widths if (high - low) / w <= 6), widths[-1])
            first = math.ceil(low / width)
            ticks = [width * i for i in range(first, math.floor(high / width) + 1)]
        axis.set_ticks(ticks[:: math.ceil(len(ticks) / _MOST_TICKS)])
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    else:
        axis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _round_values(low: float, high: float, steps: Sequence[int]) -> list[float]:
    """Multiples of powers of ten within two ends.

    >>> _round_values(0.5, 40, (1, 3))
    [1.0, 3.0, 10.0, 30.0]
    """
    values = [step * 10.0**power for power in range(-9, 13) for step in steps]
    return [value for value in values if low <= value <= high]
