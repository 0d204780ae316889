"""Whom a run tells how far it is; what a person sees of it is not the runner's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bench.methods.labels import RowNames
from bench.runner.engine import Event, Job
from bench.settings import Trial
from bench.store.record import Record


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
            trials: those to run, so that what one takes tells of another.
            before: finished trials and the seconds that each took.
        """

    def on_event(self, job: Job, event: Event) -> None:
        """A trial has something to say."""

    def finish(self, record: Record) -> None:
        """A trial is over."""

    def pass_over(self, record: Record, how: str = "by another runner") -> None:
        """A trial has been done elsewhere."""

    def note(self, text: str) -> None:
        """Something to know that is about no trial's end."""

    def close(self) -> None:
        """The study is over, or was broken off."""
