"""Every figure of a study on one machine."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bench.report.plots import accuracy_memory, accuracy_time, accuracy_worlds, memory_parts, times
from bench.report.plots.base import Plot
from bench.report.select import Section
from bench.report.style import Palette, styled, write_figure

Collect = Callable[[Section, Palette], Plot | str]

FIGURES: Mapping[str, Collect] = {
    "accuracy-memory": accuracy_memory.collect,
    "accuracy-worlds": accuracy_worlds.collect,
    "accuracy-time": accuracy_time.collect,
    "memory-parts": memory_parts.collect,
    "times": times.collect,
}


def render_figures(sections: Sequence[Section], folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Draw every figure of every section into a folder, as SVG and PNG.

    Returns:
        The files, and for each figure that lacks data its file's stem and the reason.
    """
    palette = Palette(sections)
    paths: list[Path] = []
    skipped: dict[str, str] = {}
    stems: Counter[str] = Counter()
    for section in sections:
        for name, collect in FIGURES.items():
            stem = figure_stem(name, section)
            stems[stem] += 1
            # The same part again, of other data or another machine.
            stem += f"-{stems[stem]}" if stems[stem] > 1 else ""
            plot = collect(section, palette)
            if isinstance(plot, str):
                skipped[stem] = plot
                continue
            with styled():
                paths += write_figure(plot.draw(), folder / stem, facts_of(plot))
    return paths, skipped


def facts_of(plot: Plot) -> object:
    """What a plot shows, as JSON values."""
    return dataclasses.asdict(cast(Any, plot))


def figure_stem(name: str, section: Section) -> str:
    """File name of a figure without suffix; it names the part where a study has several."""
    if section.is_only:
        return name
    part = re.sub(r"[^a-z0-9]+", "-", (section.part or section.data_name).lower()).strip("-")
    return f"{name}-{part}"
