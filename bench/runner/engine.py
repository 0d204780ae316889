"""What an engine is: something that runs trials, each in a fresh process, and gives records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.settings import Trial
from bench.store.record import Record


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


class Engine(Protocol):
    """Runs trials and gives one record for each, whatever becomes of it."""

    def run(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Records as trials end; closing the iterator ends the trials that still run.

        A job is asked for when it can start: whoever hands it out has taken it in hand.
        """
        ...
