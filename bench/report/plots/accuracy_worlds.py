"""Accuracy against the number of worlds for each B, beside the softmax methods."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace

from matplotlib.figure import Figure

from bench.report.layout import EndLabel, fit_width, label_ends, set_note, set_title, text_inches
from bench.report.plots.base import (
    Level,
    competitors,
    draw_levels,
    floor_levels,
    limit_quality,
    quality_label,
    subject_of,
)
from bench.report.select import Record, Row, Section, dig
from bench.report.style import WIDTH_INCHES, Palette, SeriesStyle, add_axes, new_figure


@dataclass(frozen=True)
class WorldsLine:
    """Median and range over the drawn subsets (and replicates) for each number of worlds."""

    text: str
    style: SeriesStyle
    num_worlds: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class WorldsPlot:
    """One line for each MACH series, horizontal lines for the others."""

    subject: str
    metric: str
    num_points: tuple[int, ...]
    lines: tuple[WorldsLine, ...]
    levels: tuple[Level, ...]
    is_choice: bool = False

    @property
    def note(self) -> str:
        """What lines and bands are."""
        text = "Line and band: median and range over random subsets of the trained worlds"
        sizes = " or ".join(f"{num:,}" for num in self.num_points)
        text += f", on {sizes} test points." if sizes else "."
        if self.is_choice:
            text += "\nOf each series: most worlds, then best on validation."
        return text

    def draw(self) -> Figure:
        """Lines with bands over a logarithmic axis of R, everything labelled at its end."""
        count = len(self.lines) + len(self.levels)
        notes = self.note.splitlines()
        foot = 0.6 + 0.12 * (len(notes) - 1)
        height = max(2.9, 1.0 + 0.135 * count) + foot - 0.6
        wide = WIDTH_INCHES - 1.25
        texts = [line.text for line in self.lines] + [level.text for level in self.levels]
        width = fit_width(wide + 0.72 + text_inches(texts), [self.subject])
        figure = new_figure(fit_width(width, notes, 6.5), height)
        axes = add_axes(figure, (0.52, foot, wide, height - foot - 0.5))
        # From 0 always: few worlds are far below many.
        values = [0.0, *(value for line in self.lines for value in line.high)]
        values += [level.y for level in self.levels if level.text != "Ceiling"]
        levels, _ = limit_quality(axes, values, self.levels)
        labels = draw_levels(axes, levels)
        ticks = sorted({worlds for line in self.lines for worlds in line.num_worlds})
        axes.set_xscale("log", base=2)
        axes.set_xlim(ticks[0] / 1.15, ticks[-1] * 1.15)
        for line in self.lines:
            axes.fill_between(
                line.num_worlds, line.low, line.high, color=line.style.color, alpha=0.18, lw=0
            )
            axes.plot(
                line.num_worlds,
                line.median,
                color=line.style.color,
                marker=line.style.marker,
                markersize=3.8,
                markerfacecolor=line.style.face,
                linestyle=line.style.linestyle,
                zorder=3,
            )
            labels.append(EndLabel(line.median[-1], line.text, line.style.ink))
            if line.num_worlds[-1] < ticks[-1]:  # a thread from where it stops to its label
                thread = (line.num_worlds[-1], ticks[-1] * 1.15)
                axes.plot(thread, [line.median[-1]] * 2, color=line.style.ink, linewidth=0.4)
        axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("worlds R (log scale)")
        axes.set_ylabel(quality_label(self.metric, "test"))
        label_ends(axes, labels)
        set_note(figure, self.note)
        set_title(figure, "Accuracy and number of worlds", self.subject)
        return figure


def collect(section: Section, palette: Palette) -> WorldsPlot | str:
    """Lines from the subsets of worlds that records hold; a reason where there are none."""
    metric = section.metrics[0]
    longest: dict[str, Row] = {}
    is_choice = False
    for row in section.trained:
        if row.done and any(entry for record in row.done for entry in _subsets(record, metric)):
            known = longest.setdefault(palette.name(row, section.task), row)
            is_choice |= known is not row
            if _preference(row, metric) > _preference(known, metric):
                longest[palette.name(row, section.task)] = row
    if not longest:
        return "no record holds subsets of worlds"
    lines = tuple(_line(name, row, metric, palette) for name, row in longest.items())
    num_points = {
        entry.get("num_points")
        for row in longest.values()
        for record in row.done
        for entry in _subsets(record, metric)
    }
    return WorldsPlot(
        subject_of(section),
        metric,
        tuple(sorted(num for num in num_points if num)),
        lines,
        _merge_equal((*_softmax_levels(section, metric, palette), *floor_levels(section, metric))),
        is_choice,
    )


def _preference(row: Row, metric: str) -> tuple[int, float]:
    """The most worlds first, then the quality on the validation split."""
    return _num_worlds(row), row.final_validation(metric)


def _softmax_levels(section: Section, metric: str, palette: Palette) -> list[Level]:
    """One of each other series; chunked stands in for plain only where plain is not there."""
    rows = [row for row in competitors(section, metric) if row.method != "mach"]
    has_plain = any(_is_plain(row) for row in rows)
    chosen: dict[str, tuple[float, Level]] = {}
    for row in rows:
        quality = row.at("test", metric)
        # Chunking changes memory and time, not what is learnt: one line says it all.
        if quality is None or (row.method == "full_softmax" and has_plain and not _is_plain(row)):
            continue
        name = palette.name(row, section.task)
        level = Level(100 * quality.median, name, palette.style(row), width=1.2)
        validation = row.final_validation(metric)
        if name not in chosen or validation > chosen[name][0]:
            chosen[name] = (validation, level)
    return [level for _, level in chosen.values()]


def _is_plain(row: Row) -> bool:
    return row.method == "full_softmax" and not row.options.get("chunk_size")


def _subsets(record: Record, metric: str) -> list[Record]:
    entries = record.get("worlds") or ()
    return [entry for entry in entries if dig(entry, "metrics", metric) is not None]


def _num_worlds(row: Row) -> int:
    return int(row.options.get("num_worlds") or 0)


def _line(name: str, row: Row, metric: str, palette: Palette) -> WorldsLine:
    values: dict[int, list[float]] = {}
    for record in row.done:
        for entry in _subsets(record, metric):
            worlds = int(dig(entry, "num_worlds"))
            values.setdefault(worlds, []).append(100 * dig(entry, "metrics", metric))
    ordered = sorted(values)
    return WorldsLine(
        text=name,
        style=palette.style(row),
        num_worlds=tuple(ordered),
        median=tuple(statistics.median(values[worlds]) for worlds in ordered),
        low=tuple(min(values[worlds]) for worlds in ordered),
        high=tuple(max(values[worlds]) for worlds in ordered),
    )


def _merge_equal(levels: tuple[Level, ...]) -> tuple[Level, ...]:
    """Levels at one height share a line and a label."""
    merged: dict[float, Level] = {}
    for level in levels:
        known = merged.get(level.y)
        merged[level.y] = replace(known, text=f"{known.text}; {level.text}") if known else level
    return tuple(merged.values())
