"""Figures with a line of text for each configuration: memory by part, and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.columns import timed
from bench.report.plots.lines import log_ticks, plain
from bench.report.render import gibibytes
from bench.report.sections import Row, Section
from bench.report.style import PART_STYLES, Legend, SeriesStyle, add_legend, new_figure
from bench.report.summary import Number, Record, Summary, dig

_PARTS = ("parameter_bytes", "gradient_bytes", "optimizer_bytes", "activation_bytes")
_DEVICE_PEAK = ("memory", "device_allocated_peak_bytes")
_ROW_INCHES, _LETTER_INCHES = 0.175, 0.057


def _figure(
    texts: Sequence[str], num_panels: int, title: str, *caption: str
) -> tuple[Figure, list[Axes]]:
    """Panels side by side with a row for each text, from top to bottom."""
    width = max(5.5, 4.4 + _LETTER_INCHES * max(map(len, texts)))
    figure = new_figure(width, 1.25 + _ROW_INCHES * len(texts), title, *caption)
    panels = list(figure.subplots(1, num_panels, sharey=True, squeeze=False)[0])
    panels[0].set_ylim(len(texts) - 0.4, -0.6)
    panels[0].set_yticks(range(len(texts)), labels=texts)
    for axes in panels:
        axes.tick_params(axis="y", length=0)
    return figure, panels


@dataclass(frozen=True)
class Bar:
    """A configuration: MB of each part, and the peak that was measured (None: not measured).

    `remark` stands instead of the bar of one that did not fit.
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
        figure, (axes,) = _figure(
            texts, 1, "What does the memory of training consist of?", self.subject
        )
        axes.grid(visible=False, axis="y")
        for index, bar in enumerate(self.bars):
            axes.annotate(
                bar.remark, (0, index), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
            start = 0.0
            for size, (part, style) in zip(bar.parts, PART_STYLES.items(), strict=False):
                axes.barh(index, size, left=start, height=0.66, lw=0.4, label=part, **style)
                start += size
        peaks = [(bar.peak, index) for index, bar in enumerate(self.bars) if bar.peak is not None]
        if peaks:
            axes.plot(*zip(*peaks, strict=True), "k|", ms=9, mew=1.6, label=self.peak_name)
        axes.set_xlabel("MB (10⁶ bytes)")
        axes.set_xlim(0, None)
        axes.xaxis.set_major_formatter(plain)
        add_legend(figure)
        return figure


def memory_parts(section: Section, legend: Legend) -> PartsPlot | str:
    """Training memory by part, by arithmetic from shapes, beside the measured peak."""
    rows = section.trained
    on_device = any(row.at(*_DEVICE_PEAK) for row in rows)
    bars = []
    for row in rows:
        if not row.done and row.records[-1].get("status") == "oom":
            need = row.at("memory", "predicted_bytes")
            remark = f"OOM: needs {gibibytes(need.median)}" if need else "OOM"
            bars.append(Bar(row.name, (), None, remark))
            continue
        parts = [row.at("memory", key) for key in _PARTS]
        peak = row.at(*_DEVICE_PEAK) if on_device else row.summarize(_host_peak)
        if all(parts):
            sizes = tuple(part.median / 1e6 for part in parts if part)
            bars.append(Bar(row.name, sizes, peak.median / 1e6 if peak else None))
    if not any(bar.parts for bar in bars):
        return "no record holds every part of the training memory"
    name = "measured peak" if on_device else "measured peak above start"
    return PartsPlot(section.subject, tuple(bars), name)


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
        note = "Dot and bar: best of rounds, and range over all of them."
        texts = [row.text for row in self.rows]
        figure, panels = _figure(
            texts, 2, "How long do an epoch and a query take?", self.subject, note
        )
        training, query = panels
        for index, row in enumerate(self.rows):
            _dot(training, index, row.epoch, row.style, is_filled=True)
            if row.alone and row.batched:
                ends = (row.batched.median, row.alone.median)
                query.plot(ends, (index, index), color="#c9c9c9", linewidth=0.8, zorder=1)
            _dot(query, index, row.alone, row.style, is_filled=False)
            _dot(query, index, row.batched, row.style, is_filled=True)
        training.set_xlabel("training (s per epoch, log)")
        query.set_xlabel("query (ms, log scale)")
        for axes in panels:
            axes.set_xscale("log")
            if axes.lines:
                log_ticks(axes.xaxis)
            axes.minorticks_off()
        for text, face in ((f"in a batch of {self.batch_size}", "black"), ("alone", "white")):
            query.plot([], [], "ko", ms=4, mfc=face, label=text)
        narrow = {"borderaxespad": 0.1, "handletextpad": 0.1, "columnspacing": 0.8}
        query.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, **narrow)
        return figure


def _dot(
    axes: Axes, index: int, dot: Summary | None, style: SeriesStyle, *, is_filled: bool
) -> None:
    if dot is not None:
        axes.plot((dot.low, dot.high), (index, index), color=style.color, linewidth=1.0)
        face = style.color if is_filled else "white"
        axes.plot(dot.median, index, style.marker, color=style.color, mfc=face, ms=4.5, zorder=3)


def times(section: Section, legend: Legend) -> TimesPlot | str:
    """Times of all configurations that were timed; a reason where there are none."""
    values = (_epoch_seconds, timed("latency", 1e3), timed("throughput", 1e3))
    rows = [
        Dots(row.name, legend.style(row), *(value(row) for value in values))
        for row in section.trained
    ]
    known = [row for row in rows if row.epoch or row.alone or row.batched]
    if not known:
        return "no training and query times were measured"
    sizes = {
        phase["units"]
        for row in section.trained
        if row.timing
        for repetition in row.timing.repetitions
        if (phase := repetition["phases"].get("throughput"))
    }
    batch = " or ".join(str(size) for size in sorted(sizes)) or "–"
    return TimesPlot(section.subject, batch, tuple(known))


def _epoch_seconds(row: Row) -> Summary | None:
    """Seconds an epoch: steps of an epoch × seconds a step, or one piece of learning."""
    in_one_piece, seconds = row.seconds("fit"), row.seconds("train")
    steps, epochs = row.at("training", "num_steps"), row.at("training", "num_epochs")
    if in_one_piece or not seconds or not steps or not epochs or not epochs.median:
        return in_one_piece
    return seconds.scaled(steps.median / epochs.median)
