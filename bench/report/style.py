"""One look for every figure: a colour, marker and line per series, as methods' cards say."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.methods.card import Aspect, Card, Dashes, Look
from bench.report.sections import Row, Section
from bench.report.summary import clean

GREY = "#6b6b6b"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,  # names are data: a dollar sign in one is a dollar sign
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.unicode_minus": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0.8,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.labelspacing": 0.4,
    "figure.titlesize": 8.5,
    "figure.titleweight": "bold",
    "figure.dpi": 250,  # laid out as finely as it is saved: hinting makes small text narrower
    "savefig.dpi": "figure",
    "hatch.linewidth": 0.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "mach-bench",
    "path.simplify": False,
}


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks: filled markers for what a method is, rings for its variants."""

    color: str
    marker: str
    linestyle: Dashes
    is_open: bool = False

    @property
    def keywords(self) -> dict[str, Any]:
        """What `Axes.plot` takes; a ring is larger and shows what lies below it."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markersize": 6.5 if self.is_open else 4,
            "markerfacecolor": "none" if self.is_open else self.color,
            "linestyle": self.linestyle,
            "zorder": 3 + self.is_open,
        }


CEILING = SeriesStyle(GREY, "", "-")
_VARIANT_LINES: tuple[Dashes, ...] = ((0, (6, 2)), (0, (2, 2)), (0, (4, 1, 1, 1)))
# Kinds of scores are not methods: browns that darken as planted scores grow peaked.
_PLANTED_RAMP = ("#e8b98a", "#b5651d", "#4a1f00")
_PLANTED_MARKERS = "osD^v<>"
_MODEL_SCORES = (("#009E73", "P"), ("#6b6b6b", "X"), ("#CC79A7", "*"), ("#56B4E9", "h"))


class Palette:
    """Names and styles of the series that the rows of some sections belong to.

    A series is a method's value on its ramp and of its aspects; all else moves along it.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        self._rows: dict[str, list[Row]] = {}
        for row in (row for section in sections for row in section.rows):
            self._rows.setdefault(row.card.name, []).append(row)

    def name(self, row: Row) -> str:
        """What legends call the row's series."""
        ramp = row.card.ramp
        parts = [row.label]
        if ramp and row.flat.get(ramp.name) is not None:
            parts[0] += f" {ramp.text.format(row.flat[ramp.name])}"
        parts += [
            _look(aspect, row).text
            for aspect in row.card.aspects
            if aspect.name in row.flat and self._differs(row.card, aspect.name)
        ]
        return str(clean(", ".join(filter(None, parts))))

    def style(self, row: Row) -> SeriesStyle:
        """How the row's series looks."""
        card = row.card
        style = variant_style(card)
        if card.ramp:
            known = {r.flat.get(card.ramp.name) for r in self._rows[card.name]}
            values = sorted(value for value in known if isinstance(value, int | float))
            place = values.index(row.flat[card.ramp.name]) if values else 0
            style = replace(style, color=shade(place, len(values), card.ramp.colors))
        for aspect in card.aspects:
            is_told = aspect.is_always or self._differs(card, aspect.name)
            if aspect.name in row.flat and is_told:
                look = _look(aspect, row)
                style = SeriesStyle(
                    look.color or style.color,
                    look.marker or style.marker,
                    look.line or style.linestyle,
                    style.is_open if look.is_open is None else look.is_open,
                )
        return style

    def _differs(self, card: Card, name: str) -> bool:
        return len({str(row.flat[name]) for row in self._rows[card.name] if name in row.flat}) > 1


def _look(aspect: Aspect, row: Row) -> Look:
    return aspect.looks.get(row.flat[aspect.name], aspect.other)


def variant_style(card: Card, place: int = 0) -> SeriesStyle:
    """Style of a method's first setting (place 0) or of a further one, which shares its colour."""
    style = SeriesStyle(card.color, card.marker, card.line, card.is_open)
    if not place:
        return style
    line = _VARIANT_LINES[(place - 1) % len(_VARIANT_LINES)]
    return replace(style, linestyle=line, is_open=not style.is_open)


def scores_styles(are_planted: Sequence[bool]) -> list[SeriesStyle]:
    """Styles of kinds of scores: planted ones from uniform to most peaked, then models'."""
    num_planted = sum(are_planted)
    styles = []
    for place, is_planted in enumerate(are_planted):
        if is_planted:
            color = shade(place, num_planted, _PLANTED_RAMP)
            marker = _PLANTED_MARKERS[place % len(_PLANTED_MARKERS)]
        else:
            color, marker = _MODEL_SCORES[(place - num_planted) % len(_MODEL_SCORES)]
        styles.append(SeriesStyle(color, marker, "-"))
    return styles


def shade(place: int, count: int, colors: tuple[str, str, str]) -> str:
    """Colour of one of so many places on a ramp from its first colour to its last.

    >>> shade(1, 3, ("#000000", "#123456", "#ffffff"))
    '#123456'
    """
    share = place / (count - 1) if count > 1 else 0.5
    low, mid, high = (tuple(int(color[i : i + 2], 16) for i in (1, 3, 5)) for color in colors)
    start, end, part = (low, mid, 2 * share) if share < 0.5 else (mid, high, 2 * share - 1)
    mixed = [round(a + (b - a) * part) for a, b in zip(start, end, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


# Parts of memory are not methods, so they have greens of their own and a hatch.
PART_STYLES: Mapping[str, Mapping[str, Any]] = {
    "parameters": {"facecolor": "#00463a", "edgecolor": "#00463a"},
    "gradients": {"facecolor": "#2a9d84", "edgecolor": "#2a9d84"},
    "optimiser state": {"facecolor": "#a9dccf", "edgecolor": "#a9dccf"},
    "activations": {"facecolor": "#ffffff", "edgecolor": "#00463a", "hatch": "//////"},
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults plus this style, whatever the user's configuration says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def new_figure(width: float, height: float, title: str, *caption: str) -> Figure:
    """Figure of a size in inches, drawn by Agg with no global state; Matplotlib lays it out.

    Args:
        width: in inches.
        height: in inches.
        title: one line.
        caption: paragraphs below the axes; empty ones are left out.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.008, ha="left")
    text = "\n".join(filter(None, caption))
    figure.supxlabel(text, x=0.008, ha="left", fontsize=6.5, color=GREY, wrap=True)
    return figure


def add_legend(figure: Figure) -> None:
    """One legend for all that has a label, beside the axes; too low a figure grows for it."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for artist, text in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, artist)
    figure.set_figheight(max(figure.get_figheight(), 0.95 + 0.155 * len(entries)))
    figure.legend(entries.values(), entries, loc="outside right upper")


class Plot(Protocol):
    """What a figure shows, as plain values; drawing needs nothing else."""

    def draw(self) -> Figure:
        """The figure; to be called inside `styled()`."""
        ...


def draw_files(plot: Plot) -> dict[str, bytes]:
    """Suffix → content of the SVG and PNG of a plot, whose bytes depend on what it shows alone.

    The digest of what it shows is kept in the files, so that another version of Matplotlib can
    still tell a fresh figure from an old one.
    """
    mark = figure_mark(dataclasses.asdict(cast(Any, plot)))
    svg, png = io.BytesIO(), io.BytesIO()
    with styled():
        figure = _drawable(plot).draw()
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once, for both
        figure.savefig(png, format="png", metadata={"Software": mark})
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": mark})
    return {".svg": svg.getvalue(), ".png": png.getvalue()}


def _drawable(value: Any) -> Any:
    """A plot whose texts have only characters of the font; others are told by their code points.

    Names of data may be in any script, and boxes would make them all alike.
    """
    if isinstance(value, str):
        return "".join(c if ord(c) in _glyphs() else ascii(c)[1:-1] for c in value)
    if isinstance(value, tuple):
        return tuple(map(_drawable, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        fresh = {name: _drawable(field) for name, field in fields.items()}
        return value if fresh == fields else replace(value, **fresh)
    return value


@functools.cache
def _glyphs() -> frozenset[int]:
    font = font_manager.get_font(font_manager.findfont(RC["font.family"]))
    return frozenset({*font.get_charmap(), ord("\n")})


def figure_mark(facts: object) -> str:
    """Version of Matplotlib and digest of a figure's facts, as stored in its files."""
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"mach-bench report; matplotlib {mpl.__version__}; facts {digest}"
