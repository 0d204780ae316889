"""The figure of studies at the papers' largest sizes: recall over the number of worlds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from bench.report.plots.lines import Axis, LinePlot, Panel, Series
from bench.report.sections import Section
from bench.report.style import Plot, SeriesStyle, shade
from bench.report.summary import dig

_MARKERS = ("o", "s", "D", "v")  # of cut-offs


def plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Recall at each cut-off over R, of the sections whose worlds were all trained."""
    for section in sections:
        figure = recall_worlds(section)
        if figure is not None:
            yield f"recall-worlds{section.suffix}", figure


def recall_worlds(section: Section) -> LinePlot | None:
    """The curve of the row with most worlds; None where no row has one.

    How labels are found changes none of them, so that one row's curve is that of all.
    """
    curves = [
        (curve, row.card)
        for row in section.rows
        if row.done and (curve := dig(row.done[0], "worlds") or ())
    ]
    if not curves:
        return None
    curve, card = max(curves, key=lambda pair: len(pair[0]))
    metrics = [metric for metric in section.metrics if metric in curve[0]["metrics"]]
    series = tuple(
        Series(
            metric,
            SeriesStyle(shade(card.color, index, len(metrics)), marker),
            tuple(float(point["num_worlds"]) for point in curve),
            tuple(100 * float(point["metrics"][metric]) for point in curve),
        )
        for index, (metric, marker) in enumerate(zip(metrics, itertools.cycle(_MARKERS)))
    )
    return LinePlot(
        "How does recall grow with the number of worlds?",
        section.subject,
        Axis("worlds R", "linear"),
        Axis("recall, labels with training points (%)", "quality"),
        (Panel(series),),
        "Worlds are independent: the first R are what a training with R gives.",
    )
