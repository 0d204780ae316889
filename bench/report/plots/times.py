"""Training and decode time of each configuration, side by side."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.columns import latency_milliseconds, queries_per_second
from bench.report.layout import fit_width, plain_numbers, set_title, text_inches
from bench.report.plots.bars import row_texts
from bench.report.plots.base import subject_of
from bench.report.select import Number, Record, Section, Summary, dig
from bench.report.style import Palette, SeriesStyle, add_axes, new_figure


@dataclass(frozen=True)
class Dot:
    """Median and range; None where it was not measured."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class TimesRow:
    """A configuration: seconds an epoch, and milliseconds a query alone and in a batch."""

    text: str
    style: SeriesStyle
    epoch_seconds: Dot | None
    single_milliseconds: Dot | None
    batched_milliseconds: Dot | None


@dataclass(frozen=True)
class TimesPlot:
    """Rows from top to bottom."""

    subject: str
    batch_size: str
    rows: tuple[TimesRow, ...]
    label_inches: float

    def draw(self) -> Figure:
        """Two panels of dots over logarithmic time."""
        tall = 0.17 * len(self.rows)
        left, wide, between = self.label_inches, 1.9, 0.3
        figure = new_figure(fit_width(left + 2 * wide + between + 0.2, [self.subject]), tall + 1.02)
        training = add_axes(figure, (left, 0.4, wide, tall))
        query = add_axes(figure, (left + wide + between, 0.4, wide, tall))
        _dots(training, [(row.epoch_seconds, row.style, True) for row in self.rows])
        for place, row in enumerate(self.rows):
            if row.single_milliseconds and row.batched_milliseconds:
                ends = (row.batched_milliseconds.median, row.single_milliseconds.median)
                query.plot(ends, (place, place), color="#c9c9c9", linewidth=0.8, zorder=1)
        _dots(query, [(row.single_milliseconds, row.style, False) for row in self.rows])
        _dots(query, [(row.batched_milliseconds, row.style, True) for row in self.rows])
        for axes, label in (
            (training, "training (s per epoch, log scale)"),
            (query, "query (ms, log scale)"),
        ):
            axes.set_ylim(len(self.rows) - 0.4, -0.6)
            axes.set_yticks(range(len(self.rows)), labels=["" for _ in self.rows])
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(label)
            plain_numbers(axes, "x")
        training.set_yticklabels([row.text for row in self.rows])
        handles = [
            query.plot([], [], "o", color="black", ms=4)[0],
            query.plot([], [], "o", color="black", mfc="white", ms=4)[0],
        ]
        names = [f"batch of {self.batch_size}", "one at a time"]
        query.legend(
            handles,
            names,
            ncols=2,
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            borderaxespad=0.1,
            handletextpad=0.1,
            columnspacing=0.8,
        )
        set_title(figure, "Training and query time", self.subject)
        return figure


def _dots(axes: Axes, dots: list[tuple[Dot | None, SeriesStyle, bool]]) -> None:
    axes.set_xscale("log")
    for place, (dot, style, is_filled) in enumerate(dots):
        if dot is None:
            continue
        axes.plot((dot.low, dot.high), (place, place), color=style.color, linewidth=1.0)
        axes.plot(
            dot.median,
            place,
            marker=style.marker,
            color=style.color,
            markerfacecolor=style.color if is_filled else "white",
            markersize=4.5,
            markeredgewidth=0.8,
            zorder=3,
        )
    known = [value for dot, _, _ in dots if dot for value in (dot.low, dot.high)]
    if known:
        low, high = axes.get_xlim() if axes.has_data() else (min(known), max(known))
        axes.set_xlim(min(low, min(known) / 1.4), max(high, max(known) * 1.4))


def collect(section: Section, palette: Palette) -> TimesPlot | str:
    """Times of all finished configurations; a reason where there are none."""
    rows = []
    for row, text in zip(section.trained, row_texts(section, palette), strict=True):
        times = [
            _dot(row.summarize(value))
            for value in (_epoch_seconds, latency_milliseconds, _batched_milliseconds)
        ]
        if row.done and any(times):
            rows.append(TimesRow(text, palette.style(row), *times))
    if not rows or all(row.epoch_seconds is None for row in rows):
        return "no record holds training and query times"
    sizes = {
        dig(record, "inference", "throughput_batch_size")
        for row in section.trained
        for record in row.done
    } - {None}
    inches = 0.2 + text_inches([row.text for row in rows])
    batch = " or ".join(str(size) for size in sorted(sizes)) or "–"
    return TimesPlot(subject_of(section), batch, tuple(rows), inches)


def _epoch_seconds(record: Record) -> Number | None:
    seconds = dig(record, "clock", "train_seconds")
    epochs = dig(record, "training", "num_epochs")
    return seconds / epochs if seconds and epochs else None


def _batched_milliseconds(record: Record) -> Number | None:
    rate = queries_per_second(record)
    return 1e3 / rate if rate else None


def _dot(summary: Summary | None) -> Dot | None:
    return Dot(summary.median, summary.low, summary.high) if summary else None
