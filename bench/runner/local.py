"""The default engine: one trial at a time, each in a fresh process of this machine."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.measure.experiment import Accelerator
from bench.measure.memory import num_oom_kills
from bench.measure.processors import thread_limits
from bench.runner.engine import Event, Job, OnEvent
from bench.runner.worker import without_folders
from bench.settings import Trial
from bench.store import record
from bench.store.record import STATUSES, Record, RecordError, Status

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
    # Threads that wait at a barrier sleep rather than spin: with any other load on the machine,
    # spinning made small steps 7 times slower, and the measurement one of the neighbours.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large tensors come in huge pages. A step's logits are freed and allocated anew each time, and
    # faulting them in by 4 KiB took up to half of a full-softmax step.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def _ignore(job: Job, event: Event) -> None:
    """Listener of those who do not listen."""


class LocalEngine:
    """Runs each trial in a process of its own and gives its record, whatever becomes of it.

    Args:
        data_dir: where data sources find their files.
        cache_dir: for prepared data; what trials print goes to `logs/` below it.
        accelerator: what trials compute on.
        on_event: told of each trial's start and of the events that it emits.
    """

    def __init__(
        self,
        *,
        data_dir: Path,
        cache_dir: Path,
        accelerator: Accelerator = "cpu",
        on_event: OnEvent = _ignore,
    ) -> None:
        self._data_dir = data_dir.resolve()
        self._cache_dir = cache_dir.resolve()
        self._accelerator = accelerator
        self._on_event = on_event

    def run(self, jobs: Iterable[Job]) -> Iterator[Record]:
        """Records in the order of the jobs."""
        for job in jobs:
            yield self._run_one(job)

    def _run_one(self, job: Job) -> Record:
        self._on_event(job, {"event": "start"})
        started_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        began = time.monotonic()
        log = self._cache_dir / "logs" / f"{job.study}-{job.trial.trial_id}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        child = Child(log)
        try:
            child.send(
                request(
                    job.trial,
                    job.entry,
                    data_dir=self._data_dir,
                    cache_dir=self._cache_dir,
                    accelerator=self._accelerator,
                    study_file=job.study_file,
                )
            )
            ending = self._follow(job, child, began + job.trial.train.trial_timeout_seconds)
        finally:
            child.kill()
        if ending is None:
            ending = child.describe_death()
        return _to_record(job, ending, started_at, time.monotonic() - began)

    def _follow(self, job: Job, child: Child, deadline: float) -> dict[str, Any] | None:
        """The result, failure or timeout of a trial; None if its process died without a word."""
        partial: dict[str, Any] = {}
        for message in child.messages(deadline):
            kind = message.get("event")
            if kind in ("result", "failure"):
                child.wait(_EXIT_GRACE_SECONDS)
                return message | {"payload": _merged(partial, message["payload"])}
            if kind == "partial":
                partial = _merged(partial, {k: v for k, v in message.items() if k != "event"})
            self._on_event(job, message)
        if time.monotonic() < deadline:
            child.wait(_EXIT_GRACE_SECONDS)
            return None
        child.terminate()
        seconds = job.trial.train.trial_timeout_seconds
        reason = f"not done after {seconds:g} seconds (trial_timeout_seconds)"
        return {"status": "timeout", "reason": reason, "payload": partial}


def request(
    trial: Trial,
    entry: str,
    *,
    data_dir: Path,
    cache_dir: Path,
    accelerator: Accelerator,
    study_file: Path | None,
    is_timed: bool = False,
) -> dict[str, Any]:
    """What a worker is asked for, see `bench.runner.worker`."""
    return {
        "trial": trial.to_dict(),
        "entry": entry,
        "data_dir": str(data_dir.resolve()),
        "cache_dir": str(cache_dir.resolve()),
        "accelerator": accelerator,
        "study_file": None if study_file is None else str(study_file),
        "parent_pid": os.getpid(),
        "is_timed": is_timed,
    }


class Child:
    """A worker process, its request pipe and its event pipe.

    Args:
        log: file that takes what it prints.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._pending = bytearray()
        self._num_oom_kills = num_oom_kills()
        self._events, child_end = os.pipe()
        # -u: the log is whole up to the moment of a kill.
        environment = os.environ | TRIAL_ENVIRONMENT
        command = [sys.executable, "-u", "-X", "faulthandler", "-m", "bench.runner.worker"]
        try:
            with suppress(OSError):
                log.unlink()  # another user's, in a shared cache, could not be written
            with log.open("wb") as output:
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

    @property
    def returncode(self) -> int | None:
        """Exit status; None while it runs."""
        return self._process.returncode

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Write one line to its standard input; one that is dead already does not mind."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died on the start line; its exit status tells why

    def messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What the worker says until it falls silent for good or the deadline is over.

        One that says what is no message is ended, and has failed.
        """
        is_over = False
        while (seconds_left := deadline - time.monotonic()) > 0:
            if not self._has_said(0.0 if is_over else min(seconds_left, _LOOK_SECONDS)):
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
                    self.terminate()
                    yield {"event": "failure", **_failure("its process sent what is no message")}
                    return
                yield message

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Lines that have come to their end; the beginning of one that never does is one too."""
        self._pending += chunk
        if b"\n" not in chunk and len(self._pending) < _MOST_MESSAGE_BYTES:
            return []
        *lines, rest = bytes(self._pending).split(b"\n")
        self._pending = bytearray(rest)
        return lines or [rest]

    def _has_said(self, seconds: float) -> bool:
        return bool(select.select([self._events], [], [], seconds)[0])

    def wait(self, seconds: float) -> None:
        """Let it end by itself for a while, then end it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.terminate()

    def terminate(self) -> None:
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

    def describe_death(self) -> dict[str, Any]:
        """Ending of a process that gave no result of its own; out of memory only with evidence.

        What it printed is none: an abort may be for anything, and is run again.
        """
        tail = _log_tail(self._log)
        code = self._process.returncode
        is_oom = False
        if code is None or code >= 0:
            reason = f"ended with exit status {code} and no result"
        else:
            reason = f"killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL and (num_oom_kills() or 0) > (self._num_oom_kills or 0):
            is_oom = True
            reason += ", as the kernel did because memory ran out"
        return _failure(f"{reason}; log: {tail}" if tail else reason, "oom" if is_oom else "error")


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


def _failure(reason: str, status: Status = "error") -> dict[str, Any]:
    return {"status": status, "reason": reason, "payload": {}}


def _log_tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    tail = " | ".join([line for line in lines if line][-_REASON_LOG_LINES:])
    return without_folders(tail)[-_REASON_LOG_CHARACTERS:]


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Union of two payloads, block by block; the second one wins."""
    merged = dict(first)
    for name, block in second.items():
        old = merged.get(name)
        merged[name] = (
            {**old, **block} if isinstance(old, dict) and isinstance(block, dict) else block
        )
    return merged


def _to_record(job: Job, ending: Mapping[str, Any], started_at: str, wall_seconds: float) -> Record:
    # With the start of the process, which its own clocks do not see.
    payload = _merged(ending["payload"], {"clock": {"wall_seconds": wall_seconds}})
    common: dict[str, Any] = {
        "study": job.study,
        "trial_id": job.trial.trial_id,
        "settings": job.trial.to_dict(),
        "started_at": started_at,
        "versions": dict(job.versions),
        "provenance": dict(job.provenance) | {"flags": ending.get("flags", {})},
    }
    try:
        return record.build(
            status=ending.get("status", "done"),
            reason=ending.get("reason"),
            payload=payload,
            **common,
        )
    except RecordError as error:
        reason = f"the trial's result is no record: {error}"
        return record.build(status="error", reason=reason, payload={}, **common)
