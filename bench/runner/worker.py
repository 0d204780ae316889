"""The process of one trial: reads it from stdin, reports over a pipe, dies with its parent.

Started by `bench.runner.child`. Stdin carries the request, one JSON line, and, where the trial is
timed, a line a repetition; it stays open: its end means that the parent is gone. Messages go
through a pipe of their own, so that whatever a library prints cannot spoil them. What is measured
is up to the module that the request names: `bench.experiments.training` for methods of our own.
"""

from __future__ import annotations

import argparse
import dis
import errno
import importlib
import json
import logging
import os
import queue
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from bench.errors import message_of
from bench.measure.experiment import Context, Experiment
from bench.measure.memory import PredictedOutOfMemory, available_memory_bytes, host_data_bytes
from bench.measure.phases import Repetition
from bench.runner.parent_death import abandon, die_with_parent, end_group_with_this, take_over_stdin
from bench.settings import Trial
from bench.store.record import to_plain
from bench.studies.study import import_file

# Of what torch raises when memory runs out, some has no type of its own: its text is looked at,
# from its start to its end, and only if it was torch's own code that raised it.
_NATIVE_WORDS = re.compile(
    r"\[enforce fail at alloc_cpu\.cpp:\d+\] [^\n]{0,80}DefaultCPUAllocator: "
    r"(can't allocate|not enough) memory: you tried to allocate \d+ bytes"
    r"|CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling "
    r"|cuDNN error: CUDNN_STATUS_ALLOC_FAILED"
    r"|std::bad_alloc$"
)
_CUDA_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation
_FOLDERS = re.compile(r"(?<![\w:/.~-])(?:file://)?~?/(?:[^\s/:'\",()]+/)+")


def main() -> int:
    """Run the trial on stdin; the exit status says only whether a result was delivered."""
    parser = argparse.ArgumentParser(prog="bench.runner.worker")
    parser.add_argument("--events-fd", type=int, required=True)
    arguments = parser.parse_args()

    end_group_with_this()
    lines = take_over_stdin()
    request = json.loads(lines.get())
    die_with_parent(request["parent_pid"])
    channel = _Channel(arguments.events_fd)
    logging.getLogger("bench").addHandler(_Notes(channel))
    if request["accelerator"] == "cpu":
        limit_memory(request["memory_bytes"])
    channel.send(_outcome(request, lines, channel))
    return 0


def _outcome(
    request: Mapping[str, Any], lines: queue.Queue[bytes], channel: _Channel
) -> dict[str, Any]:
    try:
        if request["study_file"] is not None:
            import_file(Path(request["study_file"]))
        experiment = cast(Experiment, importlib.import_module(request["entry"]))
        trial = Trial.from_dict(request["trial"])
        context = Context(
            data_dir=Path(request["data_dir"]),
            cache_dir=Path(request["cache_dir"]),
            accelerator=request["accelerator"],
            validation_only=request["validation_only"],
            keep_models=request["keep_models"],
            worlds=None if request["worlds"] is None else tuple(request["worlds"]),
            emit=channel.emit,
        )
        if request["is_timed"]:
            payload = experiment.time(trial, context, _repetitions(lines, channel))
        else:
            payload = experiment.run(trial, context)
        plain = to_plain(payload)
    except BaseException as error:  # a method's SystemExit too is how its trial failed
        lift_memory_limit()  # what follows must not fail for want of memory
        traceback.print_exc()
        return {"event": "failure", "flags": process_flags()} | describe_failure(error)
    return {"event": "result", "payload": plain, "flags": process_flags()}


def _repetitions(lines: queue.Queue[bytes], channel: _Channel) -> Iterator[Repetition]:
    """One for each round that the parent asks for; its times are sent when the next is pulled."""
    channel.send({"event": "ready"})
    while (number := json.loads(lines.get())["round"]) is not None:
        repetition = Repetition(number)
        yield repetition
        channel.send({"event": "repetition", "phases": to_plain(repetition.to_record())})


class _Channel:
    """The pipe to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def emit(self, event: Mapping[str, Any]) -> None:
        """Pass an event on to the parent."""
        self.send(to_plain(event))

    def send(self, message: Mapping[str, Any]) -> None:
        line = json.dumps(message, allow_nan=False).encode() + b"\n"
        with self._lock:
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except BrokenPipeError:
                abandon()


class _Notes(logging.Handler):
    """What our own code logs: into the trial's log, and to the person who follows the run."""

    def __init__(self, channel: _Channel) -> None:
        super().__init__(logging.WARNING)
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        sys.stderr.write(f"{text}\n")
        self._channel.emit({"event": "note", "text": text})


def describe_failure(error: BaseException) -> dict[str, Any]:
    """Status, reason and predicted memory of a trial that raised."""
    if isinstance(error, PredictedOutOfMemory):
        memory = dict(error.parts) | {"predicted_bytes": error.predicted_bytes}
        return {"status": "oom", "reason": str(error), "payload": {"memory": to_plain(memory)}}
    status = "oom" if any(is_out_of_memory(link) for link in _chain(error)) else "error"
    message = without_folders(message_of(error).strip())[:1000]
    frame = traceback.extract_tb(error.__traceback__)[-1:]
    where = f" (at {Path(frame[0].filename).name}:{frame[0].lineno})" if frame else ""
    return {"status": status, "reason": f"{type(error).__name__}: {message}{where}", "payload": {}}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception is how Python, torch or the system says that memory ran out.

    By its type or number, not by its words, which may be anybody's.
    """
    if isinstance(error, MemoryError):  # NumPy's own is one
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    torch = sys.modules.get("torch")  # one that never imported it cannot have raised its errors
    if torch is None:
        return False
    if isinstance(error, torch.OutOfMemoryError):
        return True
    if isinstance(error, torch.AcceleratorError):
        return getattr(error, "error_code", None) == _CUDA_MEMORY_ALLOCATION
    is_native = type(error) is RuntimeError and not _was_raised_in_python(error)
    return is_native and _NATIVE_WORDS.match(message_of(error)) is not None


def _was_raised_in_python(error: BaseException) -> bool:
    """Whether a `raise` made the error, rather than compiled code in a call."""
    last = error.__traceback__
    if last is None:
        return True  # nothing tells where it comes from
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code.co_code
    return dis.opname[code[last.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")


def without_folders(text: str) -> str:
    """The text with absolute paths cut down to file names: a record names no one's folders.

    >>> without_folders("no file '/home/someone/data/train.txt'")
    "no file 'train.txt'"
    """
    return _FOLDERS.sub("", text)


def limit_memory(most_bytes: int | None = None) -> None:
    """Let allocations beyond the available memory fail, before the kernel kills the process.

    Args:
        most_bytes: that the process may have, where it is to leave some to others.
    """
    import resource  # where there is none, nothing is run, but what there is can be listed

    available, used = available_memory_bytes(), host_data_bytes()
    if available is None or used is None:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = used + available if most_bytes is None else min(used + available, most_bytes)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def lift_memory_limit() -> None:
    """Undo :func:`limit_memory`."""
    import resource

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
        "numba_threads": _numba_threads(),
        "flushes_denormals": _flushes_denormals(torch),
        "huge_pages_of_kernel": _huge_pages(),
        "environment": {name: os.environ[name] for name in _SPEED_VARIABLES if name in os.environ},
    }


# What libraries read that decides how fast they are.
_SPEED_VARIABLES = (
    "OMP_WAIT_POLICY",
    "THP_MEM_ALLOC_ENABLE",
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "ATEN_CPU_CAPABILITY",
    "LD_PRELOAD",
    "MALLOC_ARENA_MAX",
)
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def _numba_threads() -> int | None:
    numba = sys.modules.get("numba")
    return None if numba is None else int(numba.get_num_threads())


def _flushes_denormals(torch: Any) -> bool:
    return bool(float(torch.tensor([1e-39]) * torch.tensor([1.0])) == 0.0)


def _huge_pages() -> str | None:
    """The kernel's mode: `always`, `madvise` or `never`."""
    try:
        found = re.search(r"\[(\w+)\]", _HUGE_PAGES.read_text())
    except OSError:
        return None
    return found[1] if found else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


if __name__ == "__main__":
    sys.exit(main())
