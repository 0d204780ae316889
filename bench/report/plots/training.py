"""Figures of studies that train: accuracy over memory, time and worlds; memory and times."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, replace

from bench.methods.card import Card, OptionFormat
from bench.report.columns import model_bytes
from bench.report.plots.lines import Axis, Level, LinePlot, Panel, Series, is_drawn
from bench.report.plots.rows import memory_parts, times
from bench.report.sections import Row, Section, best_row
from bench.report.style import CEILING, Legend, Plot, SeriesStyle
from bench.report.summary import Record, Summary, dig, group_by, summarize
from bench.settings import TrainSpec

Collect = Callable[[Section, Legend], Plot | str]
_LOG_FROM_RATIO = 30


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES` for each section: its file's stem, and the plot or why there is none."""
    legend = Legend(sections)
    for section in sections:
        for name, collect in FIGURES.items():
            yield name + section.suffix, collect(section, legend)


def _quality_axis(metric: str, split: str) -> Axis:
    return Axis(f"{metric}, {split} split (%)", "quality")


def _ceiling(section: Section) -> list[Level]:
    """Line of the ceiling, for the first hit of multiclass data."""
    if section.ceiling is None or section.metrics[0] not in ("P@1", "top-1"):
        return []
    return [Level(100 * section.ceiling, "Ceiling", CEILING, is_bound=True)]


def accuracy_memory(section: Section, legend: Legend) -> LinePlot | str:
    """Quality against model memory, with the front that no configuration beats in both.

    Of rows that differ in how they are trained alone, the best on validation stands for its model;
    the others are faint. Floors stand at their sizes.
    """
    metric = section.metrics[0]
    shown, faint = [], []
    for name, rows in group_by(section.trained, legend.name).items():
        known = [row for row in rows if _spot(row, metric)]
        chosen = best_trained(known, metric)
        if not chosen:
            continue
        chosen.sort(key=lambda row: _spot(row, metric))
        text = _with_range(name, chosen)
        style = legend.style(rows[0])
        style = style if text != name else replace(style, linestyle="none")
        spots = [_spot(row, metric) for row in chosen]
        shown.append(Series.of(text, style, spots, kind="points"))
        others = [_spot(row, metric)[:2] for row in known if not _is_among(row, chosen)]
        if others:
            faint.append(Series.of("", style, sorted(others), kind="faint"))
    if sum(len(series.x) for series in (*shown, *faint)) < 2:
        return "fewer than two configurations with quality and memory"
    for row in section.trivial:
        if spot := _spot(row, metric):
            style = replace(legend.style(row), linestyle="none")
            own = Series.of(legend.name(row), style, [spot], kind="points")
            shown.append(replace(own, is_trivial=True))
    baselines = ", trivial baselines included" if section.trivial else ""
    note = f"Front: what nothing smaller comes up to{baselines}."
    if faint:
        note += " Faint: trained otherwise (rate, length, dropout …) and worse on validation."
    plot = LinePlot(
        f"What {metric} does a model of a given size reach?",
        section.subject,
        Axis("model (MB, log scale)", "log", air=0.08, least_ratio=2, unit="MB"),
        _quality_axis(metric, "test"),
        (Panel((*shown, *faint), tuple(_ceiling(section))),),
        note,
    )
    drawn = [series for series in shown if is_drawn(plot, series)]
    front = pareto([point for series in drawn for point in zip(series.x, series.y, strict=True)])
    largest = max(x for series in (*drawn, *faint) for x in series.x)
    if front[-1][0] < largest:
        front.append((largest, front[-1][1]))
    steps = Series.of("Pareto front", SeriesStyle("#b5b5b5", "", "-"), front, kind="steps")
    return replace(plot, panels=(replace(plot.panels[0], series=(*shown, *faint, steps)),))


def _spot(row: Row, metric: str) -> tuple[float, ...]:
    """MB of a row's model, its quality in percent and the ends of its range; () without either."""
    size, quality = model_bytes(row), row.quality(metric)
    if quality is None or size is None or size.median <= 0:
        return ()
    share = quality.scaled(100)
    return size.median / 1e6, share.median, share.low, share.high


def _is_among(row: Row, rows: Sequence[Row]) -> bool:
    return any(row is other for other in rows)


#: Settings that leave a model what it is: how it is trained.
_HOW_TRAINED = {entry.name for entry in fields(TrainSpec)} | {"feature_dropout"}


def best_trained(rows: Sequence[Row], metric: str) -> list[Row]:
    """Of each model the rows that stand for it, in their order.

    That is the one that ends best on validation; all of them where one has no validation, for then
    nothing says which to choose.
    """
    chosen: list[Row] = []
    for same in group_by(rows, _model).values():
        best = best_row(same, metric)
        is_told = best is not None and all(row.validation(metric) for row in same)
        chosen += [best] if best is not None and is_told else same
    return [row for row in rows if _is_among(row, chosen)]


def _model(row: Row) -> str:
    """All that a row is but for how it is trained."""
    kept = {name: value for name, value in row.flat.items() if name not in _HOW_TRAINED}
    return json.dumps([row.card.name, kept, row.settings["data"]], sort_keys=True)


def _with_range(name: str, rows: Sequence[Row]) -> str:
    """Name of a series with what moves along its points, `R=4…16`."""
    shown = _along(rows[0].card)
    found = (row.flat.get(shown.name) for row in rows) if shown else ()
    values = sorted({value for value in found if isinstance(value, int | float)})
    if len(values) < 2 or shown is None:
        return name
    return f"{name}, {shown.write(values[0])}…{values[-1]:g}"


def _along(card: Card) -> OptionFormat | None:
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


def accuracy_time(section: Section, legend: Legend) -> LinePlot | str:
    """Quality on the validation split against training time: steps × seconds a step."""
    metric = section.metrics[0]
    ends: list[tuple[float, list[Series]]] = []
    is_choice = is_untimed = False
    for name, rows in group_by(section.trained, legend.name).items():
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
        text, style = ", ".join(filter(None, [name, value])), legend.style(row)
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
        f"How does validation {metric} grow with training time?",
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
    """A logarithmic axis has no start."""
    start = next(i for i, x in enumerate(series.x) if x > 0) if is_log else 0
    return replace(series, x=series.x[start:], y=series.y[start:])


def accuracy_worlds(section: Section, legend: Legend) -> LinePlot | str:
    """Quality against the number of worlds: subsets of a model's, and models of their own.

    Subsets are scored on the first test points alone. What has no worlds stands in the same panel
    only where these are all test points, else in one of its own, with the complete models.
    """
    metric = section.metrics[0]
    lines: list[Series] = []
    complete: list[Series] = []
    shown: list[Row] = []
    is_choice = False
    for name, rows in group_by(section.trained, legend.name).items():
        known = group_by((row for row in rows if row_worlds(row, metric)), _num_worlds)
        if not known:
            continue
        is_choice |= any(len(same) > 1 for same in known.values())
        best = {n: row for n, same in sorted(known.items()) if (row := best_row(same, metric))}
        shown += best.values()
        style = legend.style(next(iter(best.values())))
        *_, most = best.values()
        curve = [(n, *_percent(subsets(most, metric, n))) for n in sorted(row_worlds(most, metric))]
        lines.append(Series.of(name, style, curve, kind="ended"))
        alone = replace(style, linestyle="none")
        own = [
            (n, *_percent(subsets(row, metric, n))) for n, row in best.items() if row is not most
        ]
        if own:
            lines.append(Series.of("", alone, own, kind="points"))
        full = [(n, *_percent(row.quality(metric))) for n, row in best.items()]
        complete.append(Series.of("", alone, full, kind="points"))
    if not lines:
        return "no record holds subsets of worlds"
    notes = [
        "Line and band: median and range over random subsets of one model's worlds; marker: a "
        "model that was trained with so many.",
        "Where worlds share an encoder, a subset of them is no training with fewer."
        if any(row.flat.get("share_encoder") for row in shown)
        else "",
        "Of each series and number of worlds, the best on validation." if is_choice else "",
    ]
    levels = (*rival_levels(section, legend), *_ceiling(section))
    return LinePlot(
        f"How does {metric} grow with the number of worlds?",
        section.subject,
        Axis("worlds R (log scale)", "steps"),
        _quality_axis(metric, "test"),
        worlds_panels(section, shown, lines, complete, levels),
        " ".join(filter(None, notes)),
    )


def worlds_panels(
    section: Section,
    rows: Sequence[Row],
    lines: Sequence[Series],
    complete: Sequence[Series],
    levels: Sequence[Level],
    title: str = "",
) -> tuple[Panel, ...]:
    """One panel where subsets of worlds are scored on all test points; else two of equal axes."""
    sizes = {
        int(entry["num_points"])
        for row in rows
        for record in row.done
        for entry in record.get("worlds") or ()
        if entry.get("num_points")
    }
    total = section.facts.get("num_test_points")
    if sizes <= {total}:
        return (Panel(tuple(lines), tuple(levels), title),)
    first = " or ".join(f"{size:,}" for size in sorted(sizes))
    heads = [f"subsets: first {first} test points"]
    heads.append(
        f"complete models: all {total:,} test points" if total else "complete models: all points"
    )
    heads = ["\n".join(filter(None, [title, head])) for head in heads]
    return Panel(tuple(lines), (), heads[0]), Panel(tuple(complete), tuple(levels), heads[1])


def row_worlds(row: Row, metric: str) -> set[int]:
    """Numbers of worlds whose quality is in a row's records."""
    return {
        int(entry["num_worlds"])
        for record in row.done
        for entry in record.get("worlds") or ()
        if dig(entry, "metrics", metric) is not None
    }


def _num_worlds(row: Row) -> int:
    return max(int(entry["num_worlds"]) for r in row.done for entry in r.get("worlds") or ())


def subsets(row: Row, metric: str, num_worlds: int) -> Summary | None:
    """Quality of a row's subsets of so many worlds, over subsets and replicates."""
    return summarize(
        float(value)
        for record in row.done
        for entry in record.get("worlds") or ()
        if entry["num_worlds"] == num_worlds
        and (value := dig(entry, "metrics", metric)) is not None
    )


def _percent(quality: Summary | None) -> tuple[float, float, float]:
    assert quality is not None, "only what has a quality is drawn"
    share = quality.scaled(100)
    return share.median, share.low, share.high


def rival_levels(section: Section, legend: Legend) -> list[Level]:
    """A line for each series without worlds, of its row that is best on validation."""
    metric = section.metrics[0]
    series: dict[str, list[Row]] = {}
    for row in section.rows:
        if row.card.along != "num_worlds" and row.quality(metric):
            series.setdefault(legend.name(row), []).append(row)
    levels = []
    for name, rows in series.items():
        row = best_row(rows, metric) or rows[0]
        quality = row.quality(metric)
        if quality:
            width = 0.8 if row.is_trivial else 1.2
            levels.append(Level(100 * quality.median, name, legend.style(row), width))
    return sorted(levels, key=lambda level: -level.y)


FIGURES: Mapping[str, Collect] = {
    "accuracy-memory": accuracy_memory,
    "accuracy-worlds": accuracy_worlds,
    "accuracy-time": accuracy_time,
    "memory-parts": memory_parts,
    "times": times,
}
