"""Figures of studies that train: accuracy over memory, time and worlds; memory and times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from bench.card import Card, Shown
from bench.files import file_safe
from bench.report.columns import model_bytes
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series
from bench.report.plots.rows import memory_parts, times
from bench.report.select import Row, Section, best_row
from bench.report.style import CEILING, Palette, Plot, SeriesStyle
from bench.report.values import Record, dig, group_by

Collect = Callable[[Section, Palette], Plot | str]
_LOG_FROM_RATIO = 30


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES` for each section: its file's stem, and the plot or why there is none."""
    palette = Palette(sections)
    for section in sections:
        place = "" if section.is_only else f"-{file_safe(section.part or section.data_name)}"
        for name, collect in FIGURES.items():
            yield name + place, collect(section, palette)


def _quality_axis(metric: str, split: str) -> Axis:
    return Axis(f"{metric}, {split} split (%)", "quality")


def _floor_levels(section: Section, palette: Palette) -> list[Level]:
    """Lines of the floors and, for the first hit of multiclass data, of the ceiling."""
    metric = section.metrics[0]
    levels = [
        Level(100 * quality.median, palette.name(row), palette.style(row))
        for row in section.floors
        if (quality := row.quality(metric))
    ]
    if section.ceiling is not None and metric in ("P@1", "top-1"):
        levels.append(Level(100 * section.ceiling, "Ceiling", CEILING, is_bound=True))
    return levels


def accuracy_memory(section: Section, palette: Palette) -> LinePlot | str:
    """Quality against model memory, with the front that no configuration beats in both."""
    metric = section.metrics[0]
    shown = []
    for name, rows in group_by(section.trained, palette.name).items():
        points = []
        for row in rows:
            size, quality = model_bytes(row), row.quality(metric)
            if quality and size and size.median > 0:
                points.append((size.median / 1e6, quality.scaled(100), row))
        points.sort(key=lambda point: (point[0], point[1].median))
        if points:
            text = _with_range(name, [row for _, _, row in points])
            style = palette.style(rows[0])
            style = style if text != name else replace(style, linestyle="none")
            spots = [(x, y.median, y.low, y.high) for x, y, _ in points]
            shown.append(Series.of(text, style, spots, kind="points"))
    every = [point for series in shown for point in zip(series.x, series.y, strict=True)]
    if len(every) < 2:
        return "fewer than two configurations with quality and memory"
    front = pareto(every)
    largest = max(every)[0]
    if front[-1][0] < largest:
        front.append((largest, front[-1][1]))
    steps = Series.of("Pareto front", SeriesStyle("#b5b5b5", "", "-"), front, kind="steps")
    return LinePlot(
        "Accuracy and model memory",
        section.subject,
        Axis("model (MB, log scale)", "log", air=0.08),
        _quality_axis(metric, "test"),
        (Panel((*shown, steps), tuple(_floor_levels(section, palette))),),
    )


def _with_range(name: str, rows: Sequence[Row]) -> str:
    """Name of a series with what moves along its points, `R=4…16`."""
    shown = _along(rows[0].card)
    found = (row.flat.get(shown.name) for row in rows) if shown else ()
    values = sorted({value for value in found if isinstance(value, int | float)})
    if len(values) < 2 or shown is None:
        return name
    return f"{name}, {shown.write(values[0])}…{values[-1]:g}"


def _along(card: Card) -> Shown | None:
    return next((option for option in card.options if option.name == card.along), None)


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other one beats, by ascending size.

    >>> pareto([(2, 5), (1, 3), (3, 4), (1, 2)])
    [(1, 3), (2, 5)]
    """
    front: list[tuple[float, float]] = []
    for size, quality in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or quality > front[-1][1]:
            front.append((size, quality))
    return front


def accuracy_time(section: Section, palette: Palette) -> LinePlot | str:
    """Quality on the validation split against training time: steps × seconds a step."""
    metric = section.metrics[0]
    ends: list[tuple[float, list[Series]]] = []
    is_choice = is_untimed = False
    for name, rows in group_by(section.trained, palette.name).items():
        known = [row for row in rows if any(_curve(r, metric, 1.0) for r in row.done)]
        is_choice |= len(known) > 1
        # The best on the validation split, never on the test split.
        row = best_row(known, metric)
        seconds = row.seconds("train") if row else None
        is_untimed |= row is not None and seconds is None
        if row is None or seconds is None:
            continue
        curves = [c for record in row.done if (c := _curve(record, metric, seconds.median))]
        curves.sort(key=lambda curve: curve[-1][1])
        middle = curves.pop((len(curves) - 1) // 2)
        shown = _along(row.card)
        value = shown.write(row.flat.get(shown.name)) if shown else ""
        text, style = ", ".join(filter(None, [name, value])), palette.style(row)
        lines = [Series.of(text, style, middle)]
        lines += [Series.of(text, style, c, kind="thin") for c in curves]
        ends.append((middle[-1][1], lines))
    if not ends:
        return "no seconds a step were measured" if is_untimed else "no record holds a curve"
    every = [series for _, lines in sorted(ends, key=lambda end: -end[0]) for series in lines]
    xs = [x for series in every for x in series.x if x > 0]
    is_log = max(xs) / min(xs) > _LOG_FROM_RATIO
    notes = ["Time: steps × seconds a step."]
    if is_choice:
        notes.append("Of each series, the setting that ends best on the validation split.")
    if any(series.kind == "thin" for series in every):
        notes.append("Thin: other replicates.")
    return LinePlot(
        "Accuracy during training",
        section.subject,
        Axis("training time (s, log scale)", "log", air=0.03)
        if is_log
        else Axis("training time (s)", "linear", air=0.03),
        _quality_axis(metric, "validation"),
        (Panel(tuple(_from_start(series, is_log) for series in every)),),
        " ".join(notes),
    )


def _curve(record: Record, metric: str, seconds: float) -> list[tuple[float, float]]:
    """Seconds and quality in percent of one replicate's validations."""
    points = [
        (float(entry["step"]) * seconds, 100 * float(value))
        for entry in dig(record, "training", "curve") or ()
        if (value := dig(entry, "metrics", metric)) is not None and entry.get("step") is not None
    ]
    return sorted(points) if any(second > 0 for second, _ in points) else []


def _from_start(series: Series, is_log: bool) -> Series:
    """A logarithmic axis has no place for the start."""
    start = next(i for i, x in enumerate(series.x) if x > 0) if is_log else 0
    return replace(series, x=series.x[start:], y=series.y[start:])


def accuracy_worlds(section: Section, palette: Palette) -> LinePlot | str:
    """Quality against the number of worlds, beside methods that have none."""
    metric = section.metrics[0]
    lines, levels = [], []
    sizes: set[int] = set()
    is_choice = False
    for name, rows in group_by(section.trained, palette.name).items():
        known = [row for row in rows if any(_subsets(r, metric) for r in row.done)]
        if not known:
            row = best_row([row for row in rows if row.quality(metric)], metric)
            quality = row.quality(metric) if row else None
            if row and quality:
                levels.append(Level(100 * quality.median, name, palette.style(row), width=1.2))
            continue
        is_choice |= len(known) > 1
        most = max(_num_worlds(row, metric) for row in known)
        row = best_row([row for row in known if _num_worlds(row, metric) == most], metric)
        if row is not None:
            lines.append(_worlds_line(name, row, metric, palette.style(row)))
            entries = [entry for record in row.done for entry in _subsets(record, metric)]
            sizes |= {entry["num_points"] for entry in entries if entry.get("num_points")}
    if not lines:
        return "no record holds subsets of worlds"
    note = "Line and band: median and range over random subsets of the trained worlds"
    points = " or ".join(f"{size:,}" for size in sorted(sizes))
    note += f", on {points} test points." if points else "."
    note += " Of each series: most worlds, then best on validation." if is_choice else ""
    levels.sort(key=lambda level: -level.y)
    # Few worlds are far below many, so that this axis starts at 0 in most studies.
    return LinePlot(
        "Accuracy and number of worlds",
        section.subject,
        Axis("worlds R (log scale)", "steps"),
        _quality_axis(metric, "test"),
        (Panel(tuple(lines), (*levels, *_floor_levels(section, palette))),),
        note,
    )


def _subsets(record: Record, metric: str) -> list[Record]:
    entries = record.get("worlds") or ()
    return [entry for entry in entries if dig(entry, "metrics", metric) is not None]


def _num_worlds(row: Row, metric: str) -> int:
    return max(int(s["num_worlds"]) for r in row.done for s in _subsets(r, metric))


def _worlds_line(name: str, row: Row, metric: str, style: SeriesStyle) -> Series:
    entries = [entry for record in row.done for entry in _subsets(record, metric)]
    points = []
    by_worlds = group_by(entries, lambda entry: int(entry["num_worlds"]))
    for worlds, subsets in sorted(by_worlds.items()):
        found = [100 * float(dig(entry, "metrics", metric)) for entry in subsets]
        points.append((worlds, statistics.median(found), min(found), max(found)))
    return Series.of(name, style, points)


FIGURES: Mapping[str, Collect] = {
    "accuracy-memory": accuracy_memory,
    "accuracy-worlds": accuracy_worlds,
    "accuracy-time": accuracy_time,
    "memory-parts": memory_parts,
    "times": times,
}
