"""A lease for each trial that is run, so that runners of one results folder divide the work.

A lease is a locked file beside the records. It ends with its runner, however that ends; whoever
waits for the trial then finds its record, or runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from bench.settings import Trial
from bench.store import lockfiles, record
from bench.store.record import Record

_LOOK_SECONDS = 0.25


class Asked(Protocol):
    """A trial to run, and its latest record when that was decided."""

    @property
    def trial(self) -> Trial:
        """What to run."""
        ...

    @property
    def previous(self) -> Record | None:
        """Its record then."""
        ...


A = TypeVar("A", bound=Asked)


class Leases:
    """Leases on the trials of one file of records.

    Args:
        records_path: the file; leases lie beside it while they are held.
        on_elsewhere: told of each record that another runner has made meanwhile.
        tell: takes a line about what is waited for.
    """

    def __init__(
        self,
        records_path: Path,
        *,
        on_elsewhere: Callable[[Record], None],
        tell: Callable[[str], None],
    ) -> None:
        self._records_path = records_path
        self._on_elsewhere = on_elsewhere
        self._tell = tell
        self._held: dict[str, lockfiles.Lock] = {}
        lockfiles.sweep(records_path.parent, self._path("*").name)

    def hand_out(self, asked: Sequence[A]) -> Iterator[A]:
        """Trials to run now, one by one: leased, and without a record that came since.

        What other runners have in hand comes last, once they have recorded it or died.

        Raises:
            OSError: no file can be made beside the records.
        """
        self._records_path.parent.mkdir(parents=True, exist_ok=True)
        waiting, told = list(asked), ""
        while waiting:
            elsewhere: list[A] = []
            for each in waiting:
                trial_id = each.trial.trial_id
                lease = lockfiles.try_lock(self._path(trial_id))
                if lease is None:
                    elsewhere.append(each)
                    continue
                self._held[trial_id] = lease
                if (found := self._found(each)) is not None:
                    self.end(trial_id)
                    self._on_elsewhere(found)
                    continue
                yield each
            waiting = elsewhere
            if waiting:
                told = self._wait(waiting, told)

    def end(self, trial_id: str) -> None:
        """The trial's record is written, or it is given up."""
        lease = self._held.pop(trial_id, None)
        if lease is not None:
            lease.release()

    def close(self) -> None:
        """Give up all that are held."""
        for trial_id in list(self._held):
            self.end(trial_id)

    def _path(self, trial_id: str) -> Path:
        return self._records_path.with_name(f".{self._records_path.stem}.{trial_id}.lease")

    def _found(self, asked: Asked) -> Record | None:
        """The trial's record that came since it was decided to run it."""
        records, _ = record.read(self._records_path)
        newest = {each.trial_id: each for each in records}.get(asked.trial.trial_id)
        if newest is None or (asked.previous is not None and newest.raw == asked.previous.raw):
            return None
        return newest

    def _wait(self, waiting: Sequence[Asked], told: str) -> str:
        """Let time go by; what was said of those who are waited for, if it is new."""
        paths = [self._path(each.trial.trial_id) for each in waiting]
        who = sorted({note for path in paths if (note := lockfiles.holder(path))})
        text = f"{len(waiting)} trials are in hand elsewhere ({', '.join(who)}); waiting for them"
        if who and text != told:
            self._tell(text)
            told = text
        time.sleep(_LOOK_SECONDS)
        return told
