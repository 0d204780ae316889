"""One look for every figure: a colour, marker and line per method, legible in grey."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.report.labels import flatten, series_name, variant
from bench.report.select import Row, Section

WIDTH_INCHES = 4.2
GREY = "#6b6b6b"

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "hatch.linewidth": 0.5,
    "figure.dpi": 100,
    "savefig.dpi": 250,
    "svg.fonttype": "path",
    "svg.hashsalt": "mach-bench",
    "path.simplify": False,
}


Dashes = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class SeriesStyle:
    """How a series looks: filled markers for what a method is, open ones for its variants."""

    color: str
    marker: str
    linestyle: Dashes
    is_open: bool = False

    @property
    def ink(self) -> str:
        """The colour, darkened where text in it would be too pale."""
        red, green, blue = _rgb(self.color)
        is_pale = 0.3 * red + 0.59 * green + 0.11 * blue > 110
        share = 0.68 if is_pale else 1.0
        return "#" + "".join(f"{round(share * channel):02x}" for channel in (red, green, blue))

    @property
    def face(self) -> str:
        """Fill of the marker."""
        return "white" if self.is_open else self.color


# Okabe and Ito's colours: told apart with any colour vision; luminance and marker do it in grey.
_FULL = SeriesStyle("#000000", "s", "-")
_FULL_CHUNKED = SeriesStyle("#000000", "s", (0, (4, 2)), is_open=True)
_ONE_VS_ALL = SeriesStyle("#000000", "X", "-")
_ONE_VS_ALL_CHUNKED = SeriesStyle("#000000", "X", (0, (4, 2)), is_open=True)
_SAMPLED = {
    "uniform": SeriesStyle("#E69F00", "^", (0, (1, 1))),
    "log_uniform": SeriesStyle("#D55E00", "v", (0, (5, 1, 1, 1))),
    "unigram": SeriesStyle("#CC79A7", "<", (0, (3, 1))),
    "in_batch": SeriesStyle("#8A5A00", ">", (0, (6, 2))),
}
_SAMPLED_BCE = {
    name: replace(style, color="#117733", is_open=True) for name, style in _SAMPLED.items()
}
_FLOORS = {
    "frequency": SeriesStyle(GREY, "x", (0, (1, 2))),
    "centroid": SeriesStyle(GREY, "+", (0, (5, 3))),
}
_UNKNOWN = SeriesStyle("#999933", "*", "-")
_MACH_RAMP = ("#7cc4f0", "#0072B2", "#00263f")  # light to dark with growing B
_MACH_MARKERS = {"independent": "o", "shared": "D", "linear": "P"}
_MACH_LINES: dict[str, Dashes] = {
    "independent": "-",
    "shared": (0, (4, 1.5)),
    "linear": (0, (1.5, 1)),
}
CEILING = SeriesStyle(GREY, "", "-")
# Decoding: MACH's blues are ours. Auto picks one of the other two, so it is a ring around them.
_DECODE = {
    "authors": SeriesStyle("#D55E00", "v", (0, (5, 1, 1, 1))),
    "softmax_matmul": SeriesStyle("#000000", "s", (0, (4, 2))),
    "faiss_pq": SeriesStyle("#CC79A7", "<", (0, (3, 1))),
    "dense": SeriesStyle("#7cc4f0", "D", "-"),
    "pruned": SeriesStyle("#0072B2", "o", "-"),
    "auto": SeriesStyle("#00263f", "o", (0, (1, 1)), is_open=True),
    "buckets": SeriesStyle("#E69F00", "^", (0, (1.5, 1))),
}
_VARIANT_LINES = ((0, (6, 2)), (0, (2, 2)), (0, (4, 1, 1, 1)))
# Kinds of scores are not methods either: browns that darken as planted scores grow peaked.
_PLANTED_RAMP = ("#e8b98a", "#b5651d", "#4a1f00")
_PLANTED_MARKERS = "osD^v<>"
_MODEL_SCORES = (("#009E73", "P"), ("#6b6b6b", "X"), ("#CC79A7", "*"), ("#56B4E9", "h"))

# Parts of memory are not methods, so they have greens of their own and a hatch.
PART_STYLES: Mapping[str, Mapping[str, Any]] = {
    "parameters": {"facecolor": "#00463a", "edgecolor": "#00463a"},
    "gradients": {"facecolor": "#2a9d84", "edgecolor": "#2a9d84"},
    "optimiser state": {"facecolor": "#a9dccf", "edgecolor": "#a9dccf"},
    "activations": {"facecolor": "#ffffff", "edgecolor": "#00463a", "hatch": "//////"},
}


class Palette:
    """Style and name of each series of a study, the same in all of its figures.

    Args:
        sections: every section of the study on this machine; the shades of MACH are spread over
            all the values of B that occur in them.
    """

    def __init__(self, sections: Sequence[Section]):
        rows = [row for section in sections for row in section.trained]
        mach = [row for row in rows if row.method == "mach"]
        self._buckets = sorted({int(row.options.get("num_buckets") or 0) for row in mach})
        self._with_variant = len({variant(row.settings) for row in mach}) > 1
        self._with_loss = len({row.options.get("loss") for row in mach}) > 1
        self._is_multilabel = any(section.task == "multilabel" for section in sections)

    def name(self, row: Row, task: str) -> str:
        """Name of the row's series."""
        return series_name(
            row.settings, task, with_variant=self._with_variant, with_loss=self._with_loss
        )

    def style(self, row: Row) -> SeriesStyle:
        """Style of the row's series."""
        if row.method == "mach":
            kind = variant(row.settings)
            place = self._buckets.index(int(row.options.get("num_buckets") or 0))
            share = place / (len(self._buckets) - 1) if len(self._buckets) > 1 else 0.5
            is_other_loss = self._with_loss and bool(row.options.get("loss"))
            return SeriesStyle(_ramp(share), _MACH_MARKERS[kind], _MACH_LINES[kind], is_other_loss)
        if row.method == "full_softmax":
            is_chunked = bool(flatten(row.settings).get("chunk_size"))
            if self._is_multilabel and row.options.get("loss") != "softmax":
                return _ONE_VS_ALL_CHUNKED if is_chunked else _ONE_VS_ALL
            return _FULL_CHUNKED if is_chunked else _FULL
        if row.method == "sampled_softmax":
            return _SAMPLED.get(str(row.options.get("sampler")), _UNKNOWN)
        if row.method == "sampled_bce":
            return _SAMPLED_BCE.get(str(row.options.get("sampler")), _UNKNOWN)
        return _FLOORS.get(row.method, _UNKNOWN)


def decode_style(method: str, place: int) -> SeriesStyle:
    """Style of a decode method; further settings of it share the colour and marker."""
    style = _DECODE.get(method, _UNKNOWN)
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
            color = _ramp(place / max(num_planted - 1, 1), _PLANTED_RAMP)
            marker = _PLANTED_MARKERS[place % len(_PLANTED_MARKERS)]
        else:
            color, marker = _MODEL_SCORES[(place - num_planted) % len(_MODEL_SCORES)]
        styles.append(SeriesStyle(color, marker, "-"))
    return styles


def _ramp(share: float, colors: tuple[str, str, str] = _MACH_RAMP) -> str:
    low, mid, high = (_rgb(color) for color in colors)
    start, end, place = (low, mid, 2 * share) if share < 0.5 else (mid, high, 2 * share - 1)
    mixed = [round(a + (b - a) * place) for a, b in zip(start, end, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's own defaults plus this style, whatever the user's configuration says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Figure of a size in inches, drawn by Agg; no global state."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, box: tuple[float, float, float, float]) -> Axes:
    """Axes at (left, bottom, width, height) in inches."""
    width, height = figure.get_size_inches()
    left, bottom, wide, high = box
    axes = figure.add_axes((left / width, bottom / height, wide / width, high / height))
    axes.grid(visible=True)
    return axes


def write_figure(figure: Figure, stem: Path, facts: object) -> list[Path]:
    """Write SVG and PNG whose bytes depend on the figure alone.

    Args:
        figure: the figure.
        stem: path without suffix.
        facts: what the figure shows, as JSON values; its digest is kept in the files, so that
            another version of Matplotlib can still tell a fresh figure from an old one.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    mark = figure_mark(facts)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".svg", ".png")]
    figure.savefig(paths[0], format="svg", metadata={"Date": None, "Creator": mark})
    figure.savefig(paths[1], format="png", metadata={"Software": mark})
    return paths


def figure_mark(facts: object) -> str:
    """Version of Matplotlib and digest of a figure's facts, as stored in its files."""
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"mach-bench report; matplotlib {mpl.__version__}; facts {digest}"
