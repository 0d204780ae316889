"""The process of one trial: reads it from stdin, reports over a pipe, dies with its parent.

Started by `bench.engine.local`. Stdin carries one JSON line and then stays open: its end means
that the parent is gone. The result goes through a pipe of its own, so that whatever a library
prints cannot spoil it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from bench.measure.load import LoadMeter
from bench.measure.memory import PredictedOutOfMemory, available_memory_bytes, host_data_bytes
from bench.record import to_plain
from bench.registry import resolve
from bench.settings import Trial
from bench.study import import_file

DEFAULT_ENTRY = "bench.trial:execute"

Execute = Callable[..., Mapping[str, Any]]

_PR_SET_PDEATHSIG = 1
_MEMORY_WORDS = re.compile(
    r"can't allocate memory|cannot allocate memory|out of memory|bad_alloc|_ALLOC_FAILED",
    flags=re.IGNORECASE,
)
_FOLDERS = re.compile(r"(?<![\w:/.~-])(?:file://)?~?/(?:[^\s/:'\",()]+/)+")


def main() -> int:
    """Run the trial on stdin; the exit status says only whether a result was delivered."""
    parser = argparse.ArgumentParser(prog="bench.engine.worker")
    parser.add_argument("--events-fd", type=int, required=True)
    parser.add_argument("--entry", default=DEFAULT_ENTRY, metavar="MODULE:FUNCTION")
    arguments = parser.parse_args()

    request = json.loads(_take_over_stdin())
    _die_with_parent(request["parent_pid"])
    channel = _Channel(arguments.events_fd)
    if request["accelerator"] == "cpu":
        limit_memory()
    channel.send(_outcome(request, arguments.entry, channel))
    return 0


def _outcome(request: Mapping[str, Any], entry: str, channel: _Channel) -> dict[str, Any]:
    try:
        if request["study_file"] is not None:
            import_file(Path(request["study_file"]))
        execute: Execute = resolve(entry)
        payload = execute(
            Trial.from_dict(request["trial"]),
            data_dir=Path(request["data_dir"]),
            cache_dir=Path(request["cache_dir"]),
            accelerator=request["accelerator"],
            emit=channel.emit,
        )
        plain = to_plain({"load": channel.load()} | dict(payload))
    except Exception as error:
        lift_memory_limit()  # what follows must not fail for want of memory
        traceback.print_exc()
        return {"event": "failure", "flags": process_flags()} | describe_failure(error)
    return {"event": "result", "payload": plain, "flags": process_flags()}


class _Channel:
    """The pipe to the parent, and the load on the machine while the trial says that it trains."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._meter = LoadMeter()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Pass an event on to the parent."""
        if event.get("event") == "phase":
            if event.get("phase") == "train":
                self._meter.start()
            else:
                self._meter.stop()
        self.send(to_plain(event))

    def load(self) -> dict[str, Any]:
        self._meter.stop()
        return {"other_cpu_share": self._meter.other_cpu_share()}

    def send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                _abandon()


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Status, reason and predicted memory of a trial that raised."""
    if isinstance(error, PredictedOutOfMemory):
        memory = dict(error.parts) | {"predicted_bytes": error.predicted_bytes}
        return {"status": "oom", "reason": str(error), "payload": {"memory": to_plain(memory)}}
    status = "oom" if any(is_out_of_memory(link) for link in _chain(error)) else "error"
    message = without_folders(str(error).strip())[:1000]
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" (at {Path(frame[0].filename).name}:{frame[0].lineno})" if frame else ""
    return {"status": status, "reason": f"{type(error).__name__}: {message}{where}", "payload": {}}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of Python, torch or the system, says that memory ran out."""
    # By name, because a trial that never imported torch cannot have raised torch's class.
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    worded = isinstance(error, RuntimeError | OSError) and mentions_memory(str(error))
    return isinstance(error, MemoryError) or named or worded


def mentions_memory(text: str) -> bool:
    """Whether a message or a log is that of an allocation that failed."""
    return _MEMORY_WORDS.search(text) is not None


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to file names: a record names no one's folders.

    >>> without_folders("no file '/home/someone/data/train.txt'")
    "no file 'train.txt'"
    """
    return _FOLDERS.sub("", text)


def limit_memory() -> None:
    """Let allocations beyond the available memory fail, before the kernel kills the process."""
    available, used = available_memory_bytes(), host_data_bytes()
    if available is None or used is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + available
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def lift_memory_limit() -> None:
    """Undo :func:`limit_memory`."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def process_flags() -> dict[str, Any]:
    """Switches of this process that change speed or rounding; empty if it never used torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    return {
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "is_deterministic": torch.are_deterministic_algorithms_enabled(),
        "default_dtype": str(torch.get_default_dtype()),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "huge_pages": os.environ.get("THP_MEM_ALLOC_ENABLE") == "1",
    }


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def _take_over_stdin() -> bytes:
    """The request's line. A thread then waits for the end of the stream, and with it, exits."""
    descriptor = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    stream = os.fdopen(descriptor, "rb", buffering=0)
    line = stream.readline()
    if not line.endswith(b"\n"):
        _abandon()

    def wait_for_end() -> None:
        while stream.read(4096):
            pass
        _abandon()

    threading.Thread(target=wait_for_end, daemon=True, name="parent-watch").start()
    return line


def _die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies, however it dies.

    The watch on stdin alone would not do: it needs the interpreter's lock, which compiled code may
    hold for long.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent_pid:  # it died before the request took effect
            _abandon()


def _abandon() -> NoReturn:
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
