"""Accuracy on the validation split against training time, measured during the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.report.labels import describe, flatten
from bench.report.layout import (
    EndLabel,
    fit_width,
    label_ends,
    plain_numbers,
    set_note,
    set_title,
    text_inches,
)
from bench.report.plots.base import limit_quality, quality_label, subject_of
from bench.report.select import Record, Row, Section, dig
from bench.report.style import WIDTH_INCHES, Palette, SeriesStyle, add_axes, new_figure

_MAX_LINES_A_SERIES = 1
_LOG_FROM_RATIO = 30


@dataclass(frozen=True)
class Curve:
    """One replicate's training: seconds and quality in percent."""

    seconds: tuple[float, ...]
    quality: tuple[float, ...]

    def shown(self, is_log: bool) -> tuple[list[float], list[float]]:
        """Seconds and quality; a logarithmic axis has no place for the start."""
        start = next(i for i, second in enumerate(self.seconds) if second > 0) if is_log else 0
        return list(self.seconds[start:]), list(self.quality[start:])


@dataclass(frozen=True)
class TimeLine:
    """A configuration: the curve of its median replicate, and the others' thin."""

    text: str
    style: SeriesStyle
    main: Curve
    others: tuple[Curve, ...]


@dataclass(frozen=True)
class TimePlot:
    """Curves of the best configuration of each series."""

    subject: str
    metric: str
    lines: tuple[TimeLine, ...]
    is_choice: bool

    def draw(self) -> Figure:
        """Curves labelled at their ends; time is logarithmic where it spans much."""
        height = max(2.9, 1.0 + 0.135 * len(self.lines))
        wide = WIDTH_INCHES - 1.25
        width = wide + 0.72 + text_inches([line.text for line in self.lines])
        figure = new_figure(fit_width(width, [self.subject]), height)
        axes = add_axes(figure, (0.52, 0.6, wide, height - 1.1))
        every = [curve for line in self.lines for curve in (line.main, *line.others)]
        seconds = [second for curve in every for second in curve.seconds if second > 0]
        is_log = max(seconds) / min(seconds) > _LOG_FROM_RATIO
        _, remark = limit_quality(axes, [value for curve in every for value in curve.quality])
        if is_log:
            axes.set_xscale("log")
            axes.set_xlim(min(seconds) / 1.2, max(seconds) * 1.1)
        else:
            axes.set_xlim(0, max(seconds) * 1.03)
        labels = []
        for line in self.lines:
            for curve in line.others:
                axes.plot(*curve.shown(is_log), color=line.style.color, linewidth=0.6, alpha=0.6)
            axes.plot(
                *line.main.shown(is_log),
                color=line.style.color,
                marker=line.style.marker,
                markerfacecolor=line.style.face,
                markersize=3.6,
                markeredgewidth=0.8,
                linestyle=line.style.linestyle,
                linewidth=1.2,
                zorder=3,
            )
            labels.append(EndLabel(line.main.quality[-1], line.text, line.style.ink))
        axes.set_xlabel("training time (s, log scale)" if is_log else "training time (s)")
        axes.set_ylabel(quality_label(self.metric, "validation"))
        plain_numbers(axes, "x")
        label_ends(axes, labels)
        notes = []
        if self.is_choice:
            notes.append("Of each series, the setting that ends best on the validation split.")
        if any(line.others for line in self.lines):
            notes.append("Thin: other replicates.")
        set_note(figure, " ".join([*notes, remark]).strip())
        set_title(figure, "Accuracy during training", self.subject)
        return figure


def collect(section: Section, palette: Palette) -> TimePlot | str:
    """Curves by series; a reason where no record holds one."""
    metric = section.metrics[0]
    series: dict[str, list[tuple[float, Row, list[Curve]]]] = {}
    for row in section.trained:
        curves = [curve for record in row.done if (curve := _curve(record, metric))]
        if curves:
            final = row.final_validation(metric)
            series.setdefault(palette.name(row, section.task), []).append((final, row, curves))
    if not series:
        return "no record holds quality during training"
    lines = []
    for name, members in series.items():
        # The best on the validation split, never on the test split.
        members.sort(key=lambda member: -member[0])
        for _, row, curves in members[:_MAX_LINES_A_SERIES]:
            flat = flatten(row.settings)
            along = [describe(key, flat[key]) for key in ("num_worlds",) if key in flat]
            text = ", ".join([name, *along]) if row.method == "mach" else name
            lines.append(_line(text, palette.style(row), curves))
    is_choice = any(len(members) > _MAX_LINES_A_SERIES for members in series.values())
    return TimePlot(subject_of(section), metric, tuple(lines), is_choice)


def _curve(record: Record, metric: str) -> Curve | None:
    entries = [
        (float(entry["train_seconds"]), 100 * float(value))
        for entry in dig(record, "training", "curve") or ()
        if (value := dig(entry, "metrics", metric)) is not None
        and entry.get("train_seconds") is not None
    ]
    if not any(seconds > 0 for seconds, _ in entries):
        return None
    seconds, quality = zip(*sorted(entries), strict=True)
    return Curve(seconds, quality)


def _line(text: str, style: SeriesStyle, curves: Sequence[Curve]) -> TimeLine:
    ordered = sorted(curves, key=lambda curve: curve.quality[-1])
    middle = ordered.pop((len(ordered) - 1) // 2)
    return TimeLine(text, style, middle, tuple(ordered))
