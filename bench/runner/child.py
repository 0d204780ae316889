"""From job to record, in a process of the trial's own: it gets one request, answers with messages.

That process is `bench.runner.worker`; it calls `run` of the module that the method's card names.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.measure.environment import ENVIRONMENT
from bench.measure.experiment import Context
from bench.measure.memory import num_oom_kills
from bench.measure.processors import THREAD_VARIABLES, thread_limits
from bench.methods.cards import card, current_versions
from bench.runner.worker import without_folders
from bench.settings import Trial
from bench.store import provenance, record
from bench.store.lines import STATUSES, RecordError, Status
from bench.store.record import Record
from bench.studies.study import Study

_EXIT_GRACE_SECONDS = 20.0
_TERMINATE_GRACE_SECONDS = 3.0
# A silent process is looked at so often, to see whether it is still there.
_LOOK_SECONDS = 2.0
# More without a line's end is no message, but would fill the runner's memory.
_MOST_MESSAGE_BYTES = 1 << 26
_REASON_LOG_LINES = 5
_REASON_LOG_CHARACTERS = 600

#: What a trial's process has in its environment beside its parent's.
TRIAL_ENVIRONMENT = {
    # The order of sets, and with it anything built from one, is the same in every process.
    "PYTHONHASHSEED": "0",
    **ENVIRONMENT,
}


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
        num_threads: that it computes in; None: as many as the machine has cores. Bits go by it.
        parts: numbers of what it trains one after another, such as worlds; empty: all at once.
    """

    study: str
    trial: Trial
    entry: str
    versions: Mapping[str, int]
    provenance: Mapping[str, Any]
    study_file: Path | None = None
    num_threads: int | None = None
    parts: range = range(0)


def build_job(
    study: Study,
    trial: Trial,
    machine: Mapping[str, Any],
    source: Mapping[str, Any],
    num_threads: int | None = None,
) -> Job:
    """The job of a study's trial, by today's code."""
    own = card(trial.model.method, study.kind.name)
    return Job(
        study=study.name,
        trial=trial,
        entry=own.entry,
        parts=range(0) if own.in_turn is None else own.in_turn(trial.model),
        versions=current_versions(trial, study.kind),
        study_file=study.file,
        num_threads=num_threads,
        provenance={**source, "machine": dict(machine)},
    )


def run_job(job: Job, context: Context) -> Record:
    """Run a trial in a process of this machine; its record.

    All that an engine needs on the machine where a trial runs: nothing is shared but the folders.
    """
    context.emit({"event": "start"})
    started_at = provenance.utc_now()
    began = time.monotonic()
    name = f"{job.study}-{job.trial.trial_id}"
    if context.worlds is not None:
        name += "-worlds-{}-{}".format(*context.worlds)
    log = context.cache_dir / "logs" / f"{name}.log"
    limit = job.trial.train.trial_timeout_seconds
    ending: dict[str, Any] = {"status": "done", "reason": None}
    try:
        with Child(
            job.trial,
            job.entry,
            context,
            log=log,
            study_file=job.study_file,
            num_threads=job.num_threads,
        ) as child:
            message = child.wait_for("result", limit)
        payload, flags = message["payload"], message.get("flags", {})
    except ChildFailed as failure:
        payload, flags = failure.payload, failure.flags
        ending = {"status": failure.status, "reason": failure.reason}
        if failure.status == "timeout":
            ending["reason"] = f"not done after {limit:g} seconds (trial_timeout_seconds)"
    # With the start of the process, which the trial's own clock does not see.
    payload = merged(payload, {"clock": {"wall_seconds": time.monotonic() - began}})
    common = {"started_at": started_at, "flags": flags}
    try:
        return build_record(job, payload=payload, **ending, **common)
    except RecordError as error:
        reason = f"the trial's result is no record: {error}"
        return build_record(job, status="error", reason=reason, payload={}, **common)


def build_record(
    job: Job,
    *,
    started_at: str,
    status: Status,
    reason: str | None,
    payload: Mapping[str, Any],
    flags: Mapping[str, Any] | None = None,
) -> Record:
    """The record of a job's trial; see `bench.store.record.build`."""
    return record.build(
        study=job.study,
        trial_id=job.trial.trial_id,
        settings=job.trial.to_dict(),
        status=status,
        reason=reason,
        started_at=started_at,
        versions=dict(job.versions),
        payload=payload,
        provenance=dict(job.provenance) | {"flags": flags or {}},
    )


class ChildFailed(Exception):  # noqa: N818 - an outcome of a trial, not a mistake
    """A process did not give what it was asked for."""

    def __init__(
        self,
        status: Status,
        reason: str,
        payload: Mapping[str, Any],
        flags: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.payload = payload
        self.flags = flags or {}


class Child:
    """A process that runs or times one trial, see `bench.runner.worker`; left, it is ended.

    `partial` has the blocks of the record that are known before its end.

    Args:
        trial: what is asked for.
        entry: module of its experiment.
        context: where and on what it runs; takes the events that are not waited for.
        log: file that takes what it prints.
        study_file: a user's file to import first.
        num_threads: that it computes in; None: as many as this machine has cores.
        is_timed: times the trial, instead of running it.
    """

    def __init__(
        self,
        trial: Trial,
        entry: str,
        context: Context,
        *,
        log: Path,
        study_file: Path | None = None,
        num_threads: int | None = None,
        is_timed: bool = False,
    ) -> None:
        self._emit = context.emit
        self.partial: dict[str, Any] = {}
        self._log = log
        self._pending = bytearray()
        self._start(num_threads)
        try:
            self.send(
                {
                    "trial": trial.to_dict(),
                    "entry": entry,
                    "data_dir": str(context.data_dir.resolve()),
                    "cache_dir": str(context.cache_dir.resolve()),
                    "accelerator": context.accelerator,
                    "validation_only": context.validation_only,
                    "keep_models": context.keep_models,
                    "memory_bytes": context.memory_bytes,
                    "worlds": context.worlds,
                    "study_file": None if study_file is None else str(study_file),
                    "parent_pid": os.getpid(),
                    "is_timed": is_timed,
                }
            )
        except BaseException:
            self.kill()
            raise

    def _start(self, num_threads: int | None) -> None:
        self._num_oom_kills = num_oom_kills()
        self._events, child_end = os.pipe()
        environment = os.environ | TRIAL_ENVIRONMENT
        if num_threads is not None:
            environment |= dict.fromkeys(THREAD_VARIABLES, str(num_threads))
        # -u: the log is complete up to the moment of a kill.
        command = [sys.executable, "-u", "-X", "faulthandler", "-m", "bench.runner.worker"]
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):
                self._log.unlink()  # another user's, in a shared cache, could not be written
            with self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    [*command, "--events-fd", str(child_end)],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(child_end,),
                    env=environment | thread_limits(environment),
                    start_new_session=True,  # Ctrl-C reaches the runner alone, which ends the trial
                )
        except BaseException:
            os.close(self._events)
            raise
        finally:
            os.close(child_end)

    def __enter__(self) -> Self:
        """The process, until the block is left."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it, whatever it does."""
        self.kill()

    @property
    def resident_bytes(self) -> int:
        """Memory that the process holds now; 0 when it is gone."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def send(self, message: Mapping[str, Any]) -> None:
        """Write a line to its standard input; one that is dead already does not mind."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # its exit status tells why

    def wait_for(self, wanted: str, seconds: float) -> Mapping[str, Any]:
        """The next message of one kind; the others are events of the context.

        Args:
            wanted: `ready`, `repetition` or `result`, which has all blocks of the record.
            seconds: from now on.
        """
        deadline = time.monotonic() + seconds
        for message in self._messages(deadline):
            event = message["event"]
            if event in ("result", "failure"):
                self._wait()
                message["payload"] = merged(self.partial, message["payload"])
            if event == wanted:
                return message
            if event == "failure":
                flags = message.get("flags")
                raise ChildFailed(message["status"], message["reason"], message["payload"], flags)
            if event == "partial":
                blocks = {name: block for name, block in message.items() if name != "event"}
                self.partial = merged(self.partial, blocks)
            self._emit(message)
        if time.monotonic() < deadline:
            self._wait()
            raise self._death()
        self._terminate()
        raise ChildFailed("timeout", f"no {wanted} after {seconds:g} seconds", self.partial)

    def _messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What it says until it falls silent for good or the deadline is over."""
        is_over = False
        while (seconds_left := deadline - time.monotonic()) > 0:
            wait = 0.0 if is_over else min(seconds_left, _LOOK_SECONDS)
            if not select.select([self._events], [], [], wait)[0]:
                if is_over:
                    return
                # Its own child processes may hold the pipe open: its end is not theirs.
                is_over = self._process.poll() is not None
                continue
            chunk = os.read(self._events, 1 << 16)
            if not chunk:
                return
            for line in self._lines(chunk):
                message = _message(line)
                if message is None:
                    self._terminate()
                    raise ChildFailed("error", "its process sent what is no message", self.partial)
                yield message

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Lines that have come to their end; the beginning of one that never does is one too."""
        self._pending += chunk
        if b"\n" not in chunk and len(self._pending) < _MOST_MESSAGE_BYTES:
            return []
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        return lines or [rest]

    def _wait(self) -> None:
        """Let it end by itself for a while, then end it."""
        try:
            self._process.wait(_EXIT_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._terminate()

    def _terminate(self) -> None:
        """End the process, first politely."""
        self._process.terminate()
        try:
            self._process.wait(_TERMINATE_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End whatever is left of the process and its children, and close the pipes."""
        if self._events < 0:
            return
        # Its group has its number until the last of its own child processes is gone.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):  # of a request that it did not live to read
                self._process.stdin.close()
        os.close(self._events)
        self._events = -1

    def _death(self) -> ChildFailed:
        """Failure of a process that gave no message of its end; `oom` only with evidence.

        What it printed is none: an abort may be for anything, and is run again.
        """
        code = self._process.returncode
        is_oom = False
        if code is None or code >= 0:
            reason = f"ended with exit status {code} and no result"
        else:
            reason = f"killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL and (num_oom_kills() or 0) > (self._num_oom_kills or 0):
            is_oom = True
            reason += ", as the kernel did because memory ran out"
        tail = _log_tail(self._log)
        reason = f"{reason}; log: {tail}" if tail else reason
        return ChildFailed("oom" if is_oom else "error", reason, self.partial)


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Union of two payloads, block by block; the second one wins."""
    found = dict(first)
    for name, block in second.items():
        old = found.get(name)
        if isinstance(old, dict) and isinstance(block, dict):
            block = {**old, **block}
        found[name] = block
    return found


def _message(line: bytes) -> dict[str, Any] | None:
    """An event of a worker; None for anything else."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not isinstance(message.get("event"), str):
        return None
    if message["event"] in ("result", "failure") and not isinstance(message.get("payload"), dict):
        return None
    is_status = message.get("status") in STATUSES and isinstance(message.get("reason"), str)
    return None if message["event"] == "failure" and not is_status else message


def _log_tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    tail = " | ".join([line for line in lines if line][-_REASON_LOG_LINES:])
    return without_folders(tail)[-_REASON_LOG_CHARACTERS:]
