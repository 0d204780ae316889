"""Every figure of a study on one machine."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from bench.report.plots import (
    accuracy_memory,
    accuracy_time,
    accuracy_worlds,
    decode_labels,
    decode_memory,
    decode_peakedness,
    decode_visited,
    memory_parts,
    times,
)
from bench.report.plots.base import Plot
from bench.report.plots.decode_base import Part, part_of
from bench.report.select import Section, hardware_of
from bench.report.style import Palette, styled, write_figure

Collect = Callable[[Section, Palette], Plot | str]
#: Every figure of a study on one machine: the stem of its file, and the plot or why there is none.
CollectAll = Callable[[Sequence[Section]], Iterable[tuple[str, Plot | str]]]

FIGURES: Mapping[str, Collect] = {
    "accuracy-memory": accuracy_memory.collect,
    "accuracy-worlds": accuracy_worlds.collect,
    "accuracy-time": accuracy_time.collect,
    "memory-parts": memory_parts.collect,
    "times": times.collect,
}
#: Of studies of the decode; they span the sections of a part.
DECODE_FIGURES: Mapping[str, Callable[[Part], Plot | str]] = {
    "decode-labels": decode_labels.collect,
    "decode-peakedness": decode_peakedness.collect,
    "decode-visited": decode_visited.collect,
    "decode-memory": decode_memory.collect,
}


def training_plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `FIGURES` for each section: its file's stem, and the plot or why there is none."""
    palette = Palette(sections)
    for section in sections:
        for name, collect in FIGURES.items():
            yield figure_stem(name, section), collect(section, palette)


def decode_plots(sections: Sequence[Section]) -> Iterator[tuple[str, Plot | str]]:
    """Each of `DECODE_FIGURES` for each part: its file's stem, and the plot or why not."""
    parts: dict[tuple[str, str], list[Section]] = {}
    for section in sections:
        hardware = hardware_of(section.records[0])
        parts.setdefault((section.part, hardware), []).append(section)
    is_only = len({name for name, _ in parts}) == 1
    for (name, _), members in parts.items():
        part = part_of(members)
        for figure, collect in DECODE_FIGURES.items():
            yield figure if is_only else f"{figure}-{file_safe(name)}", collect(part)


def render_figures(
    sections: Sequence[Section], folder: Path, plots: CollectAll = training_plots
) -> tuple[list[Path], dict[str, str]]:
    """Draw every figure of every section into a folder, as SVG and PNG.

    Returns:
        The files, and for each figure that lacks data its file's stem and the reason.
    """
    paths: list[Path] = []
    skipped: dict[str, str] = {}
    stems: Counter[str] = Counter()
    for stem, plot in plots(sections):
        stems[stem] += 1
        # The same part again, of other data or another machine.
        place = f"-{stems[stem]}" if stems[stem] > 1 else ""
        if isinstance(plot, str):
            skipped[stem + place] = plot
            continue
        with styled():
            paths += write_figure(plot.draw(), folder / (stem + place), facts_of(plot))
    return paths, skipped


def facts_of(plot: Plot) -> object:
    """What a plot shows, as JSON values."""
    return dataclasses.asdict(cast(Any, plot))


def figure_stem(name: str, section: Section) -> str:
    """File name of a figure without suffix; it names the part where a study has several."""
    return name if section.is_only else f"{name}-{file_safe(section.part or section.data_name)}"


def file_safe(text: str) -> str:
    """Text as part of a file's name.

    >>> file_safe("k = 5")
    'k-5'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
