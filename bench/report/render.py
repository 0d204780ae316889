"""Writes the tables and figures of every study and machine, and the README's tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import record
from bench.report.figures import render_figures
from bench.report.kinds import rendering_of
from bench.report.select import Record, Section, StudyView, select_sections
from bench.report.studies import find_view, staleness, view_study
from bench.report.tables import render_study
from bench.study import StudyError, load_study


@dataclass(frozen=True)
class MachineResults:
    """One file of records, selected for reporting.

    Attributes:
        num_records: latest records of distinct trials in the file.
        warnings: lines of the file that could not be read.
    """

    view: StudyView
    machine: str
    sections: tuple[Section, ...]
    num_records: int
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the tables must say about records that are not in them."""
        notes = []
        seen = {str(record["trial_id"]) for part in self.sections for record in part.records}
        begun = [expected for expected in self.view.expected.values() if expected & seen]
        missing = min((len(expected - seen) for expected in begun), default=0)
        if missing:
            notes.append(f"{missing} of the study's trials have no record on this machine.")
        orphans = self.num_records - len(seen)
        if orphans:
            notes.append(f"Left out: {orphans} trials that the study no longer asks for.")
        return tuple(notes)


def load_results(results_dir: Path, studies: Sequence[str] | None = None) -> list[MachineResults]:
    """Records of the studies, one entry for each machine, in order of study and machine.

    Raises:
        StudyError: a study that was asked for is unknown or has no records.
        SchemaError: records of another schema.
    """
    folder = results_dir / "records"
    is_stale = staleness()
    if studies is None:
        names = sorted(path.name for path in folder.glob("*") if path.is_dir())
        views = [find_view(name) for name in names]
    else:
        views = [_requested_view(name, folder) for name in studies]
    return [
        load_machine(path, view, is_stale)
        for view in views
        for path in sorted((folder / view.name).glob("*.jsonl"))
    ]


def load_machine(path: Path, view: StudyView, is_stale: Callable[[Record], bool]) -> MachineResults:
    """One machine's records of a study.

    Raises:
        SchemaError: records of another schema.
    """
    records, warnings = record.read(path)
    latest = [entry.raw for entry in record.latest(records)]
    sections = rendering_of(view.kind).arrange(select_sections(latest, view, path.stem, is_stale))
    return MachineResults(view, path.stem, sections, len(latest), tuple(warnings))


def write_results(results: MachineResults, out_dir: Path) -> list[Path]:
    """Write the tables and figures of one study on one machine; returns the files."""
    if not results.sections:
        return []
    rendering = rendering_of(results.view.kind)
    folder = out_dir / "tables" / results.view.name
    folder.mkdir(parents=True, exist_ok=True)
    texts = render_study(results.sections, results.notes, rendering.build_table)
    paths = [folder / f"{results.machine}{suffix}" for suffix in (".md", ".tex")]
    for path, text in zip(paths, texts, strict=True):
        path.write_text(text, encoding="utf-8")
    figures = out_dir / "figures" / results.view.name / results.machine
    drawn, _ = render_figures(results.sections, figures, rendering.plots)
    return paths + drawn


def _requested_view(name: str, folder: Path) -> StudyView:
    view = view_study(load_study(name)) if name.endswith(".py") else find_view(name)
    if not any((folder / view.name).glob("*.jsonl")):
        raise StudyError(f"study {view.name!r} has no records under {folder}")
    return view
