"""How the studies of each kind are shown: a kind of one's own is one entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.report.decode_tables import build_decode_table
from bench.report.decoding import arrange
from bench.report.figures import CollectAll, decode_plots, training_plots
from bench.report.select import Section
from bench.report.tables import BuildTable, build_table
from bench.study import DECODING, TRAINING, Kind, StudyError


@dataclass(frozen=True)
class Rendering:
    """What turns the sections of a study into tables and figures.

    Attributes:
        build_table: section → its table, or the README's short one.
        plots: all sections → stem of each figure's file, and the plot or why there is none.
        arrange: puts the sections in the order of the tables.
    """

    build_table: BuildTable
    plots: CollectAll
    arrange: Callable[[Sequence[Section]], tuple[Section, ...]] = tuple


RENDERINGS: Mapping[str, Rendering] = {
    TRAINING.name: Rendering(build_table, training_plots),
    DECODING.name: Rendering(build_decode_table, decode_plots, arrange),
}


def rendering_of(kind: Kind) -> Rendering:
    """How studies of a kind are shown.

    Raises:
        StudyError: there is nothing to show this kind with.
    """
    if kind.name not in RENDERINGS:
        raise StudyError(
            f"no tables for studies of kind {kind.name!r}; known: {', '.join(RENDERINGS)}"
        )
    return RENDERINGS[kind.name]
