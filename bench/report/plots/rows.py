"""Figures with a line of text for each configuration: memory by part, and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.report.columns import timed
from bench.report.format import gibibytes
from bench.report.plots.lines import log_limits, log_ticks, plain
from bench.report.select import Row, Section
from bench.report.style import PART_STYLES, Palette, SeriesStyle, new_figure
from bench.report.values import Number, Record, Summary, dig

_PARTS = ("parameter_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
_ROW_INCHES, _LETTER_INCHES = 0.175, 0.057


def _figure(
    texts: Sequence[str], num_panels: int, title: str, caption: str
) -> tuple[Figure, list[Axes]]:
    """Panels side by side with a row for each text, from top to bottom."""
    width = 4.4 + _LETTER_INCHES * max(map(len, texts))
    figure = new_figure(max(width, 5.5), 1.25 + _ROW_INCHES * len(texts), title, caption)
    panels: list[Axes] = list(figure.subplots(1, num_panels, sharey=True, squeeze=False)[0])
    panels[0].set_ylim(len(texts) - 0.4, -0.6)
    panels[0].set_yticks(range(len(texts)), labels=texts)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    return figure, panels


@dataclass(frozen=True)
class Bar:
    """A configuration: MB of each part, and the peak that was measured (None: not measured).

    `remark` stands in place of the bar of one that did not fit.
    """

    text: str
    parts: tuple[float, ...]
    peak: float | None
    remark: str = ""


@dataclass(frozen=True)
class PartsPlot:
    """Bars from top to bottom."""

    subject: str
    bars: tuple[Bar, ...]
    peak_name: str

    def draw(self) -> Figure:
        """Horizontal stacked bars; a black tick marks the measured peak."""
        texts = [bar.text for bar in self.bars]
        figure, (axes,) = _figure(texts, 1, "Training memory by part", self.subject)
        axes.grid(visible=False, axis="y")
        limit = 1.06 * max(max(sum(bar.parts), bar.peak or 0) for bar in self.bars)
        axes.set_xlim(0, limit)
        for place, bar in enumerate(self.bars):
            axes.text(limit * 0.01, place, bar.remark, va="center", fontsize=7)
            start = 0.0
            for size, style in zip(bar.parts, PART_STYLES.values(), strict=False):
                axes.barh(place, size, left=start, height=0.66, linewidth=0.4, **style)
                start += size
            if bar.peak is not None:
                axes.plot([bar.peak] * 2, [place - 0.36, place + 0.36], color="black", lw=1.6)
        axes.set_xlabel("MB (10⁶ bytes)")
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(plain))
        handles: list[Artist] = [Patch(linewidth=0.4, **style) for style in PART_STYLES.values()]
        labels = list(PART_STYLES)
        if any(bar.peak is not None for bar in self.bars):
            handles.append(Line2D([], [], linestyle="", marker="|", color="black", ms=8, mew=1.6))
            labels.append(self.peak_name)
        figure.legend(handles, labels, loc="outside right upper")
        return figure


def memory_parts(section: Section, palette: Palette) -> PartsPlot | str:
    """Training memory by part, by arithmetic from shapes, beside the measured peak."""
    rows = section.trained
    on_device = any(row.at("memory", "device_allocated_peak_bytes") for row in rows)
    bars = []
    for row in rows:
        if not row.done and row.records[-1].get("status") == "oom":
            need = row.at("memory", "predicted_bytes")
            bars.append(
                Bar(row.name, (), None, f"OOM: needs {gibibytes(need.median)}" if need else "OOM")
            )
            continue
        parts = [row.at("memory", key) for key in _PARTS]
        peak = row.summarize(_device_peak if on_device else _host_peak)
        if all(parts):
            sizes = tuple(part.median / 1e6 for part in parts if part)
            bars.append(Bar(row.name, sizes, peak.median / 1e6 if peak else None))
    if not any(bar.parts for bar in bars):
        return "no record holds every part of the training memory"
    name = "measured peak" if on_device else "measured peak above start"
    return PartsPlot(section.subject, tuple(bars), name)


def _device_peak(record: Record) -> Number | None:
    peak: Number | None = dig(record, "memory", "device_allocated_peak_bytes")
    return peak


def _host_peak(record: Record) -> Number | None:
    """Peak of the training phase (of the process where that is unknown) above its baseline."""
    peak = dig(record, "memory", "host_train_peak_bytes")
    if peak is None:
        peak = dig(record, "memory", "host_peak_bytes")
    start = dig(record, "memory", "host_baseline_bytes")
    return None if peak is None or start is None else peak - start


@dataclass(frozen=True)
class Dots:
    """A configuration's times: of an epoch in seconds, of a query in milliseconds."""

    text: str
    style: SeriesStyle
    epoch: Summary | None
    alone: Summary | None
    batched: Summary | None


@dataclass(frozen=True)
class TimesPlot:
    """Rows from top to bottom."""

    subject: str
    batch_size: str
    rows: tuple[Dots, ...]

    def draw(self) -> Figure:
        """Two panels of dots over logarithmic time."""
        texts = [row.text for row in self.rows]
        note = "Dot and bar: median and range over rounds."
        figure, panels = _figure(texts, 2, "Training and query time", f"{self.subject}\n{note}")
        for axes in panels:
            axes.set_xscale("log")
        training, query = panels
        for place, row in enumerate(self.rows):
            _dot(training, place, row.epoch, row.style, is_filled=True)
            if row.alone and row.batched:
                ends = (row.batched.median, row.alone.median)
                query.plot(ends, (place, place), color="#c9c9c9", linewidth=0.8, zorder=1)
            _dot(query, place, row.alone, row.style, is_filled=False)
            _dot(query, place, row.batched, row.style, is_filled=True)
        training.set_xlabel("training (s per epoch, log)")
        query.set_xlabel("query (ms, log scale)")
        shown = (
            [row.epoch for row in self.rows],
            [dot for row in self.rows for dot in (row.alone, row.batched)],
        )
        for axes, dots in zip(panels, shown, strict=True):
            known = [end for dot in dots if dot for end in (dot.low, dot.high)]
            if known:
                low, high = log_limits(known, 0.08)
                axes.set_xlim(low, high)
                log_ticks(axes.xaxis, low, high, plain)
        handles = [
            Line2D([], [], linestyle="", marker="o", color="black", mfc=face, ms=4)
            for face in ("black", "white")
        ]
        names = [f"in a batch of {self.batch_size}", "alone"]
        query.legend(
            handles,
            names,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            borderaxespad=0.1,
            ncols=2,
            handletextpad=0.1,
            columnspacing=0.8,
        )
        return figure


def _dot(
    axes: Axes, place: int, dot: Summary | None, style: SeriesStyle, *, is_filled: bool
) -> None:
    if dot is None:
        return
    axes.plot((dot.low, dot.high), (place, place), color=style.color, linewidth=1.0)
    axes.plot(
        dot.median,
        place,
        marker=style.marker,
        color=style.color,
        markerfacecolor=style.color if is_filled else "white",
        markersize=4.5,
        zorder=3,
    )


def times(section: Section, palette: Palette) -> TimesPlot | str:
    """Times of all configurations that were timed; a reason where there are none."""
    values: list[Callable[[Row], Summary | None]] = [
        _epoch_seconds,
        timed("latency", 1e3),
        timed("throughput", 1e3),
    ]
    rows = [
        Dots(row.name, palette.style(row), *(value(row) for value in values))
        for row in section.trained
    ]
    known = [row for row in rows if row.epoch or row.alone or row.batched]
    if not known:
        return "no training and query times were measured"
    sizes = {
        phase["units"]
        for row in section.trained
        if row.timing
        for visit in row.timing.visits
        if (phase := visit["phases"].get("throughput"))
    }
    batch = " or ".join(str(size) for size in sorted(sizes)) or "–"
    return TimesPlot(section.subject, batch, tuple(known))


def _epoch_seconds(row: Row) -> Summary | None:
    """Seconds an epoch: steps of an epoch × seconds a step, or one piece of learning."""
    whole = row.seconds("fit")
    if whole:
        return whole
    seconds, steps, epochs = (
        row.seconds("train"),
        row.at("training", "num_steps"),
        row.at("training", "num_epochs"),
    )
    if not seconds or not steps or not epochs or not epochs.median:
        return None
    return seconds.scaled(steps.median / epochs.median)
