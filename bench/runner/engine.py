"""What an engine is, which runs trials in fresh processes and gives records; and who follows it.

An engine on other machines calls `bench.runner.local.run_job` there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.methods.cards import card
from bench.methods.labels import RowNames
from bench.methods.versions import current_versions
from bench.settings import Trial
from bench.store.record import Record
from bench.studies.study import Study


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial, and what its record says about where it comes from.

    Attributes:
        study: name of the study that asks for it.
        trial: what to run.
        entry: the experiment's module, like `bench.experiments.training`.
        versions: the record's `versions` block.
        provenance: the record's `provenance` block; the engine adds the process's flags.
        study_file: Python file to import first, for a study that a file defines.
    """

    study: str
    trial: Trial
    entry: str
    versions: Mapping[str, int]
    provenance: Mapping[str, Any]
    study_file: Path | None = None


Event = Mapping[str, Any]
OnEvent = Callable[[Job, Event], None]


def build_job(
    study: Study, trial: Trial, machine: Mapping[str, Any], source: Mapping[str, Any]
) -> Job:
    """The job of a study's trial, by today's code.

    Args:
        study: whose.
        trial: by steps.
        machine: the record's `machine` block.
        source: what `bench.store.provenance.collect` gives.
    """
    return Job(
        study=study.name,
        trial=trial,
        entry=card(trial.model.method, study.kind.name).entry,
        versions=current_versions(trial, study.kind),
        study_file=study.file,
        provenance={**source, "machine": dict(machine)},
    )


class Engine(Protocol):
    """Runs trials and gives one record for each, whatever becomes of it."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Records as trials end; closing the iterator ends the trials that still run.

        A job is asked for when it can start: whoever hands it out has taken it in hand.
        """
        ...


class View:
    """Follows the trials of one study; shows nothing but what is overridden."""

    def open(
        self,
        name: str,
        expected: Mapping[str, float | None],
        *,
        num_kept: int,
        names: RowNames | None = None,
        trials: Iterable[Trial] = (),
        before: Iterable[tuple[Trial, float]] = (),
    ) -> None:
        """A study begins.

        Args:
            name: of the study.
            expected: trial ids to run → seconds that each took before, None if it did not.
            num_kept: trials that have a record already.
            names: what its rows are called.
            trials: those to run: the seconds of one are a forecast of another's.
            before: finished trials and the seconds that each took.
        """

    def on_event(self, job: Job, event: Event) -> None:
        """A trial has emitted an event."""

    def finish(self, record: Record) -> None:
        """A trial is over."""

    def pass_over(self, record: Record, how: str = "by another runner") -> None:
        """A trial has been done elsewhere."""

    def note(self, text: str) -> None:
        """Something to know that is about no trial's end."""

    def close(self) -> None:
        """The study is over, or was broken off."""
