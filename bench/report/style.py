"""One look for every figure: a colour and a marker for each method, as its card declares."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, cast

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.methods.labels import Named, describe_rows, sort_key
from bench.report.sections import Row, Section
from bench.report.summary import clean, group_by

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


#: A line style of Matplotlib: its short form, or offset and lengths of dashes and gaps in points.
Dashes = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks.

    Attributes:
        color: `#rrggbb`.
        marker: Matplotlib's; "" has none.
        linestyle: likewise.
        fill: which part of the marker is filled, Matplotlib's fill style.
    """

    color: str
    marker: str
    linestyle: Dashes = "-"
    fill: Literal["full", "none", "left", "bottom"] = "full"

    @property
    def keywords(self) -> dict[str, Any]:
        """What `Axes.plot` takes; a ring is larger and shows what lies below it."""
        return {
            "color": self.color,
            "marker": self.marker,
            "markersize": 4 if self.fill == "full" else 6,
            "fillstyle": self.fill,
            "linestyle": self.linestyle,
            "zorder": 3 + (self.fill == "none"),
        }


CEILING = SeriesStyle(GREY, "")
_DOTS: Dashes = (0, (1, 1.5))
#: Of rows of one method, or other series of one colour and marker.
_VARIANTS: tuple[tuple[Dashes, Literal["full", "none", "left", "bottom"]], ...] = (
    ("-", "full"),
    ((0, (5, 2)), "none"),
    ((0, (1, 1)), "left"),
    ((0, (5, 1, 1, 1)), "bottom"),
)
#: Of what is no method: Okabe and Ito's colours, each with its marker.
HUES = (("#009E73", "P"), ("#0072B2", "X"), ("#CC79A7", "*"), ("#000000", "h"), ("#D55E00", "p"))
# Of planted scores, which darken as they grow peaked.
_PLANTED, _PLANTED_MARKERS = "#b5651d", "osD^v<>"


def varied(style: SeriesStyle, index: int) -> SeriesStyle:
    """One of several series of one colour and marker: lines and filled parts of markers cycle."""
    line, fill = _VARIANTS[index % len(_VARIANTS)]
    return replace(style, linestyle=line, fill=fill)


def shade(color: str, index: int, count: int) -> str:
    """One of so many colours from a light one through this one to a dark one.

    >>> [shade("#0072b2", index, 3) for index in range(3)]
    ['#8cc0dc', '#0072b2', '#002e47']
    """
    if count < 2:
        return color
    share = 2 * index / (count - 1) - 1
    end, part = (255, -0.55 * share) if share < 0 else (0, 0.6 * share)
    channels = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(own + (end - own) * part):02x}" for own in channels)


class Legend:
    """Names and styles of the series that the rows of some sections belong to.

    A series is all rows of a method that have the same options on its card, but for the one that
    moves along it. Its colour goes from light to dark with the first number in which the method's
    series differ, of options that tables always show; those of one colour differ in lines and
    filled parts of markers.
    """

    def __init__(self, sections: Sequence[Section]) -> None:
        found = {(s := _series(row)).key: s for section in sections for row in section.rows}
        series = list(found.values())
        texts = describe_rows(series, shows_common=False)
        self._names = {
            each.key: str(clean(", ".join(filter(None, [each.label, text]))))
            for each, text in zip(series, texts, strict=True)
        }
        self._styles: dict[str, SeriesStyle] = {}
        for same in group_by(series, lambda each: each.card.name).values():
            self._styles |= _styles(sorted(same, key=lambda s: sort_key(s.card, s.flat)))

    def name(self, row: Row) -> str:
        """What legends call the row's series."""
        return self._names[_series(row).key]

    def style(self, row: Row) -> SeriesStyle:
        """How the row's series looks."""
        return self._styles[_series(row).key]


def _series(row: Row) -> Named:
    names = {"loss", "encoder", *(shown.name for shown in row.card.options)} - {row.card.along}
    return Named(row.card, {n: v for n, v in row.flat.items() if n in names}, {})


def _styles(series: Sequence[Named]) -> dict[str, SeriesStyle]:
    """Styles of the series of one method, by their keys."""
    card = series[0].card
    plain = SeriesStyle(card.color, card.marker, _DOTS if card.is_trivial else "-")
    always = (shown.name for shown in card.options if shown.is_always)
    numbers = ((name, _numbers(name, series)) for name in always)
    name, values = next((pair for pair in numbers if len(pair[1]) > 1), ("", []))
    styles: dict[str, SeriesStyle] = {}
    counts: Counter[str] = Counter()
    for each in series:
        value = each.flat.get(name)
        shaded = shade(card.color, values.index(value), len(values)) if value in values else None
        style = replace(plain, color=shaded or card.color)
        styles[each.key] = varied(style, counts[style.color]) if counts[style.color] else style
        counts[style.color] += 1
    return styles


def _numbers(name: str, series: Sequence[Named]) -> list[float]:
    """Values of an option that is a number."""
    found = {each.flat.get(name) for each in series}
    return sorted(v for v in found if isinstance(v, int | float) and not isinstance(v, bool))


def scores_styles(are_planted: Sequence[bool]) -> list[SeriesStyle]:
    """Styles of kinds of scores: planted ones from uniform to most peaked, then models'."""
    num_planted = sum(are_planted)
    planted = [
        SeriesStyle(shade(_PLANTED, index, num_planted), marker)
        for index, marker in zip(range(num_planted), itertools.cycle(_PLANTED_MARKERS))
    ]
    others = itertools.islice(itertools.cycle(HUES), len(are_planted) - num_planted)
    return [*planted, *(SeriesStyle(*hue) for hue in others)]


# Parts of memory are not methods, so they have greens of their own and a hatch.
PART_STYLES: Mapping[str, Mapping[str, Any]] = {
    "parameters": {"facecolor": "#00463a", "edgecolor": "#00463a"},
    "gradients": {"facecolor": "#2a9d84", "edgecolor": "#2a9d84"},
    "optimiser state": {"facecolor": "#a9dccf", "edgecolor": "#a9dccf"},
    "activations": {"facecolor": "#ffffff", "edgecolor": "#00463a", "hatch": "//////"},
}


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults plus this style, whatever the user's configuration holds."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def new_figure(width: float, height: float, title: str, *caption: str) -> Figure:
    """Figure of a size in inches, drawn by Agg with no global state; Matplotlib lays it out."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.008, ha="left")
    text = "\n".join(filter(None, caption))
    figure.supxlabel(text, x=0.008, ha="left", fontsize=6.5, color=GREY, wrap=True)
    return figure


def add_legend(figure: Figure) -> None:
    """One legend for all that has a label, beside the axes; too small a figure grows for it."""
    entries: dict[str, Artist] = {}
    for axes in figure.axes:
        for artist, text in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(text, artist)
    figure.set_figheight(max(figure.get_figheight(), 0.95 + 0.155 * len(entries)))
    longest = max(map(len, entries), default=0)
    figure.set_figwidth(figure.get_figwidth() + max(0.0, 0.06 * longest - 2.1))
    figure.legend(entries.values(), entries, loc="outside right upper")


class Plot(Protocol):
    """What a figure shows, as plain values; drawing needs nothing else."""

    def draw(self) -> Figure:
        """The figure; to be called inside `styled()`."""
        ...


def draw_files(plot: Plot) -> dict[str, bytes]:
    """Suffix → content of the SVG and PNG of a plot, whose bytes depend on what it shows alone.

    The digest of what it shows is kept in the files, so that another version of Matplotlib can
    still distinguish a fresh figure from an old one.
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
    """A plot whose texts have only characters of the font; others are shown as code points.

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
