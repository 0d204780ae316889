"""Figures of studies that train: accuracy over memory, time and worlds; memory and times."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from bench.report.columns import model_bytes
from bench.report.files import file_safe
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series
from bench.report.plots.rows import memory_parts, times
from bench.report.select import Row, Section, best_row
from bench.report.style import CEILING, Palette, Plot, SeriesStyle
from bench.report.values import Record, dig

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


def _by_series(rows: Sequence[Row], palette: Palette) -> dict[str, list[Row]]:
    series: dict[str, list[Row]] = {}
    for row in rows:
        series.setdefault(palette.name(row), []).append(row)
    return series


def _floor_levels(section: Section, palette: Palette) -> list[Level]:
    """Lines of the floors and, for the first hit of multiclass data, of the ceiling."""
    metric = section.metrics[0]
    levels = []
    for row in section.floors:
        quality = row.at("test", metric) if row.done else None
        if quality:
            levels.append(Level(100 * quality.median, palette.name(row), palette.style(row)))
    if section.ceiling is not None and metric in ("P@1", "top-1"):
        levels.append(Level(100 * section.ceiling, "Ceiling", CEILING, is_bound=True))
    return levels


def accuracy_memory(section: Section, palette: Palette) -> LinePlot | str:
    """Quality against model memory, with the front that no configuration beats in both."""
    metric = section.metrics[0]
    shown = []
    for name, rows in _by_series(section.trained, palette).items():
        points = []
        for row in rows:
            size, quality = model_bytes(row), row.at("test", metric)
            if row.done and quality and size and size.median > 0:
                points.append((size.median / 1e6, quality.scaled(100), row))
        points.sort(key=lambda point: (point[0], point[1].median))
        if points:
            x, summaries, members = zip(*points, strict=True)
            text = _with_range(name, members)
            style = palette.style(rows[0])
            shown.append(
                Series(
                    text,
                    style if text != name else replace(style, linestyle="none"),
                    x,
                    tuple(summary.median for summary in summaries),
                    tuple(summary.low for summary in summaries),
                    tuple(summary.high for summary in summaries),
                    kind="points",
                )
            )
    every = [point for series in shown for point in zip(series.x, series.y, strict=True)]
    if len(every) < 2:
        return "fewer than two configurations with quality and memory"
    x, y = zip(*pareto(every), strict=True)
    front = Series("Pareto front", SeriesStyle("#b5b5b5", "", "-"), x, y, kind="steps")
    return LinePlot(
        "Accuracy and model memory",
        section.subject,
        Axis("model (MB, log scale)", "log", air=0.08),
        _quality_axis(metric, "test"),
        (Panel((*shown, front), tuple(_floor_levels(section, palette))),),
    )


def _with_range(name: str, rows: Sequence[Row]) -> str:
    """Name of a series with what moves along its points, `R=4…16`."""
    card = rows[0].card
    values = sorted({v for row in rows if isinstance(v := row.flat.get(card.along), int | float)})
    shown = next((option for option in card.options if option.name == card.along), None)
    if len(values) < 2 or shown is None:
        return name
    return f"{name}, {shown.write(values[0])}…{values[-1]:g}"


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
    """Quality on the validation split against training time: steps × median seconds a step."""
    metric = section.metrics[0]
    ends: list[tuple[float, list[Series]]] = []
    is_choice = is_untimed = False
    for name, rows in _by_series(section.trained, palette).items():
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
        text = ", ".join(filter(None, [name, _along(row)]))
        lines = [_line(text, palette.style(row), middle)]
        lines += [replace(_line(text, palette.style(row), c), kind="thin") for c in curves]
        ends.append((middle[-1][1], lines))
    if not ends:
        return "no seconds a step were measured" if is_untimed else "no record holds a curve"
    shown = [series for _, lines in sorted(ends, key=lambda end: -end[0]) for series in lines]
    xs = [x for series in shown for x in series.x if x > 0]
    is_log = max(xs) / min(xs) > _LOG_FROM_RATIO
    notes = ["Time: steps × median seconds a step."]
    if is_choice:
        notes.append("Of each series, the setting that ends best on the validation split.")
    if any(series.kind == "thin" for series in shown):
        notes.append("Thin: other replicates.")
    return LinePlot(
        "Accuracy during training",
        section.subject,
        Axis(
            "training time (s, log scale)" if is_log else "training time (s)",
            "log" if is_log else "linear",
            air=0.03,
        ),
        _quality_axis(metric, "validation"),
        (Panel(tuple(_from_start(series, is_log) for series in shown)),),
        " ".join(notes),
    )


def _along(row: Row) -> str:
    shown = next((option for option in row.card.options if option.name == row.card.along), None)
    value = row.flat.get(row.card.along)
    return shown.write(value) if shown and value is not None else ""


def _curve(record: Record, metric: str, seconds: float) -> list[tuple[float, float]]:
    """Seconds and quality in percent of one replicate's validations."""
    points = [
        (float(entry["step"]) * seconds, 100 * float(value))
        for entry in dig(record, "training", "curve") or ()
        if (value := dig(entry, "metrics", metric)) is not None and entry.get("step") is not None
    ]
    return sorted(points) if any(second > 0 for second, _ in points) else []


def _line(text: str, style: SeriesStyle, points: Sequence[tuple[float, float]]) -> Series:
    x, y = zip(*points, strict=True)
    return Series(text, style, x, y)


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
    for name, rows in _by_series(section.trained, palette).items():
        known = [row for row in rows if any(_subsets(r, metric) for r in row.done)]
        if not known:
            row = best_row([row for row in rows if row.at("test", metric)], metric)
            quality = row.at("test", metric) if row else None
            if row and quality:
                levels.append(Level(100 * quality.median, name, palette.style(row), width=1.2))
            continue
        is_choice |= len(known) > 1
        most = max(_num_worlds(row, metric) for row in known)
        row = best_row([row for row in known if _num_worlds(row, metric) == most], metric)
        if row is not None:
            lines.append(_worlds_line(name, row, metric, palette.style(row)))
            sizes |= {
                s["num_points"]
                for r in row.done
                for s in _subsets(r, metric)
                if s.get("num_points")
            }
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
    values: dict[int, list[float]] = {}
    for record in row.done:
        for entry in _subsets(record, metric):
            found = 100 * float(dig(entry, "metrics", metric))
            values.setdefault(int(entry["num_worlds"]), []).append(found)
    ordered = sorted(values)
    return Series(
        name,
        style,
        tuple(ordered),
        tuple(statistics.median(values[worlds]) for worlds in ordered),
        tuple(min(values[worlds]) for worlds in ordered),
        tuple(max(values[worlds]) for worlds in ordered),
    )


FIGURES: Mapping[str, Collect] = {
    "accuracy-memory": accuracy_memory,
    "accuracy-worlds": accuracy_worlds,
    "accuracy-time": accuracy_time,
    "memory-parts": memory_parts,
    "times": times,
}
