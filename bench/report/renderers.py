"""How studies are shown, by their kind or by what they name: one of one's own is an entry here.

A section's table is made in `bench.report.tables`, of `bench.report.columns`; what trains is shown
by `tables.tables`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.errors import StudyError
from bench.methods.card import DECODING, PAPERS, SCALE, THEORY, TRAINING
from bench.report.columns import (
    HOST_PEAK,
    LATENCY,
    STEPS,
    Column,
    quality_column,
    validation_column,
)
from bench.report.plots import decode, training
from bench.report.plots import papers as papers_plots
from bench.report.plots import scale as scale_plots
from bench.report.plots import theory as theory_plots
from bench.report.render import Table
from bench.report.sections import Row, Section
from bench.report.style import Plot
from bench.report.tables import decoding, papers, scale, theory
from bench.report.tables.tables import build_table
from bench.studies.study import Study


class BuildTable(Protocol):
    """What makes the table of a section."""

    def __call__(self, section: Section, *, is_compact: bool = False) -> Table:
        """The table, or the short form of it that the README shows."""
        ...


@dataclass(frozen=True)
class Rendering:
    """What turns the sections of a study into tables and figures.

    Attributes:
        build_table: section → its table.
        plots: all sections → stem of each figure's file, and the plot or why there is none.
        compared: section → columns in which own results stand beside the reference's.
        rows: section → its rows in order, and the setting that distinguishes each.
        arrange: puts the sections in the order of the tables.
        has_overview: its sections have a best row by validation.
        build_details: section → a second table, on the study's page alone; None: it has none.
    """

    build_table: BuildTable
    plots: Callable[[Sequence[Section]], Iterable[tuple[str, Plot | str]]]
    compared: Callable[[Section], Sequence[Column]]
    rows: Callable[[Section], Sequence[tuple[Row, str]]]
    arrange: Callable[[Sequence[Section]], tuple[Section, ...]] = tuple
    has_overview: bool = True
    build_details: Callable[[Section], Table | None] = lambda section: None


def _compared_training(section: Section) -> list[Column]:
    qualities = [quality_column(metric) for metric in section.metrics]
    return [validation_column(section.metrics[0]), *qualities, STEPS, LATENCY, HOST_PEAK]


def _compared_decoding(section: Section) -> list[Column]:
    known = {column.name: column for column in decoding.decode_columns()}
    return [known[n] for n in ("recall", decoding.HEADLINE, decoding.BATCHED, "index")]


def _rows_training(section: Section) -> list[tuple[Row, str]]:
    return [(row, row.setting) for row in section.rows]


def _rows_decoding(section: Section) -> list[tuple[Row, str]]:
    entries = decoding.entries_of(section)
    return [(e.row, ", ".join(filter(None, [e.row.setting, e.problem.text]))) for e in entries]


RENDERINGS: Mapping[str, Rendering] = {
    TRAINING.name: Rendering(build_table, training.plots, _compared_training, _rows_training),
    DECODING.name: Rendering(
        decoding.build_decode_table,
        decode.plots,
        _compared_decoding,
        _rows_decoding,
        decoding.arrange,
        has_overview=False,
    ),
    PAPERS: Rendering(
        papers.build_papers_table,
        papers_plots.plots,
        _compared_training,
        _rows_training,
        has_overview=False,
        build_details=papers.build_measured_table,
    ),
    THEORY.name: Rendering(
        theory.build_theory_table,
        theory_plots.plots,
        theory.compared,
        _rows_training,
        has_overview=False,
    ),
    SCALE.name: Rendering(
        scale.build_scale_table,
        scale_plots.plots,
        scale.compared,
        scale.rows_of,
        has_overview=False,
    ),
}


def rendering_of(study: Study) -> Rendering:
    """How a study is shown: as it declares, or as those of its kind."""
    name = study.shown_as or study.kind.name
    if name not in RENDERINGS:
        raise StudyError(f"no tables for studies of kind {name!r}; known: {', '.join(RENDERINGS)}")
    return RENDERINGS[name]
