"""The parent's side of a row in rounds of timing: a process that waits for its turns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.measure.experiment import Accelerator
from bench.runner.local import Child, request
from bench.settings import Trial
from bench.store.costs import check_phases
from bench.store.record import RecordError, Status

_READY_SECONDS = 1800.0
_VISIT_SECONDS = 900.0

OnPhase = Callable[[str], None]


class AttendantFailed(Exception):  # noqa: N818 - an outcome of a row, as of a trial
    """A row's process cannot go on.

    Args:
        status: `oom`, `timeout` or `error`.
        reason: in words.
        payload: what was known until then.
    """

    def __init__(self, status: Status, reason: str, payload: Mapping[str, Any]) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.payload = payload


class Attendant:
    """One row's process, from its start to its end.

    Args:
        trial: the row.
        entry: the experiment's module.
        log: file that takes what it prints.
        data_dir: where data sets lie.
        cache_dir: for prepared data and kept weights.
        accelerator: what it computes on.
        study_file: a user's file to import first.
        on_phase: told what it is at while it makes itself ready.

    Raises:
        AttendantFailed: it did not become ready.
    """

    def __init__(
        self,
        trial: Trial,
        entry: str,
        *,
        log: Path,
        data_dir: Path,
        cache_dir: Path,
        accelerator: Accelerator,
        study_file: Path | None,
        on_phase: OnPhase,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._on_phase = on_phase
        self._partial: dict[str, Any] = {}
        self._child = Child(log)
        asked = request(
            trial,
            entry,
            data_dir=data_dir,
            cache_dir=cache_dir,
            accelerator=accelerator,
            study_file=study_file,
            is_timed=True,
        )
        try:
            self._child.send(asked)
            self._await("ready", _READY_SECONDS)
        except BaseException:
            self._child.kill()
            raise

    @property
    def resident_bytes(self) -> int:
        """Memory that the process holds now; 0 when it is gone."""
        try:
            pages = int(Path(f"/proc/{self._child.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def visit(self, round_number: int) -> Mapping[str, Any]:
        """Give it a turn; the `phases` that it measured.

        Raises:
            AttendantFailed: it did not come to an end.
        """
        self._child.send({"round": round_number})
        phases = self._await("visited", _VISIT_SECONDS).get("phases")
        try:
            if not isinstance(phases, Mapping):
                raise RecordError(f"a visit's phases are {phases!r}; expected an object")
            check_phases(phases)
        except RecordError as error:
            raise AttendantFailed("error", str(error), self._partial) from None
        return phases

    def end(self) -> Mapping[str, Any]:
        """Let it finish; what it says beside its visits, and its process' flags.

        Raises:
            AttendantFailed: it failed at that.
        """
        try:
            self._child.send({"round": None})
            message = self._await("result", _VISIT_SECONDS)
        finally:
            self.kill()
        return {**message["payload"], "flags": message.get("flags", {})}

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._child.kill()

    def _await(self, wanted: str, seconds: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + seconds
        for message in self._child.messages(deadline):
            event = message.get("event")
            if event == wanted:
                return message
            if event == "failure":
                payload = {**self._partial, **message["payload"]}
                raise AttendantFailed(message["status"], message["reason"], payload)
            if event == "phase":
                self._on_phase(str(message.get("phase")))
            elif event == "note":
                self._on_phase(f"Note: {message.get('text')}")
            elif event == "partial":
                self._partial |= {key: value for key, value in message.items() if key != "event"}
        if time.monotonic() >= deadline:
            self._child.terminate()
            raise AttendantFailed("timeout", f"not {wanted} after {seconds:g} s", self._partial)
        self._child.wait(5.0)
        ending = self._child.describe_death()
        raise AttendantFailed(ending["status"], ending["reason"], self._partial)
