"""Training memory by part, computed from shapes, beside the measured peak."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bench.report.format import gibibytes
from bench.report.layout import fit_width, plain_numbers, set_title, text_inches
from bench.report.plots.bars import row_texts
from bench.report.plots.base import subject_of
from bench.report.select import Number, Record, Section, dig
from bench.report.style import PART_STYLES, Palette, add_axes, new_figure

_KEYS = {
    "parameters": "parameter_bytes",
    "gradients": "gradient_bytes",
    "optimiser state": "optimizer_bytes",
    "activations": "activation_bytes",
}


@dataclass(frozen=True)
class Bar:
    """A configuration: MB of each part, and the peak that was measured (None: not measured).

    `out_of_memory` holds the predicted need of one that could not run.
    """

    text: str
    parts: tuple[float, ...]
    peak: float | None
    out_of_memory: str | None


@dataclass(frozen=True)
class PartsPlot:
    """Bars from top to bottom."""

    subject: str
    bars: tuple[Bar, ...]
    peak_name: str
    label_inches: float

    def draw(self) -> Figure:
        """Horizontal stacked bars; a black tick marks the measured peak."""
        tall = 0.17 * len(self.bars)
        left, wide = self.label_inches, 2.9
        figure = new_figure(fit_width(left + wide + 0.3, [self.subject]), tall + 1.15)
        axes = add_axes(figure, (left, 0.4, wide, tall))
        axes.grid(visible=False, axis="y")
        places = range(len(self.bars))
        fitting = [bar for bar in self.bars if bar.out_of_memory is None]
        totals = [max(sum(bar.parts), bar.peak or 0) for bar in fitting or self.bars]
        limit = 1.06 * max(totals)
        for place, bar in zip(places, self.bars, strict=True):
            start = 0.0
            if bar.out_of_memory is not None:
                axes.text(limit * 0.01, place, bar.out_of_memory, va="center", fontsize=7)
                continue
            for size, style in zip(bar.parts, PART_STYLES.values(), strict=True):
                axes.barh(place, size, left=start, height=0.66, linewidth=0.4, **style)
                start += size
            if bar.peak is not None:
                axes.plot([bar.peak] * 2, [place - 0.36, place + 0.36], color="black", lw=1.6)
        axes.set_ylim(len(self.bars) - 0.4, -0.6)
        axes.set_xlim(0, limit)
        axes.set_yticks(list(places), labels=[bar.text for bar in self.bars])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("MB (10⁶ bytes)")
        plain_numbers(axes, "x")
        handles: list[Artist] = [Patch(linewidth=0.4, **style) for style in PART_STYLES.values()]
        labels = list(PART_STYLES)
        if any(bar.peak is not None for bar in self.bars):
            handles.append(axes.plot([], [], "|", color="black", ms=8, mew=1.6)[0])
            labels.append(self.peak_name)
        figure.legend(
            handles,
            labels,
            ncols=3,
            loc="upper left",
            bbox_to_anchor=(0.08 / figure.get_figwidth(), 1 - 0.36 / figure.get_figheight()),
            borderaxespad=0,
            handlelength=1.4,
            handletextpad=0.5,
            columnspacing=1.2,
            labelspacing=0.3,
        )
        set_title(figure, "Training memory by part", self.subject)
        return figure


def collect(section: Section, palette: Palette) -> PartsPlot | str:
    """Bars of all configurations whose parts are known; a reason where there are none."""
    rows = section.trained
    on_device = any(row.at("memory", "device_allocated_peak_bytes") for row in rows)
    bars = []
    for row, text in zip(rows, row_texts(section, palette), strict=True):
        predicted = row.at("memory", "predicted_bytes")
        if not row.done and row.records[-1].get("status") == "oom":
            need = f"OOM: needs {gibibytes(predicted.median)}" if predicted else "OOM"
            bars.append(Bar(text, (), None, need))
            continue
        parts = [row.at("memory", key) for key in _KEYS.values()]
        if any(part is None for part in parts):
            continue
        peak = row.summarize(_device_peak if on_device else _host_peak)
        sizes = tuple(part.median / 1e6 for part in parts if part)
        bars.append(Bar(text, sizes, peak.median / 1e6 if peak else None, None))
    if not any(bar.parts for bar in bars):
        return "no record holds every part of the training memory"
    name = "measured peak" if on_device else "measured peak above start"
    inches = 0.2 + text_inches([bar.text for bar in bars])
    return PartsPlot(subject_of(section), tuple(bars), name, inches)


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
