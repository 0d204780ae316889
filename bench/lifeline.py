"""What ties a process to its parent: it ends with it, and so do its own child processes.

Those may be anything, in sessions of their own. So a trial's process bears a mark in its
environment, which all that it starts inherit: who bears the mark of a trial that is over is ended
by its runner, by guards where the runner is dead, or else by the next runner.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_MARK = "MACH_BENCH_TRIAL"
_PROC = Path("/proc")
# Who is ended may have started another one meanwhile.
_MOST_SWEEPS = 20


def take_over_stdin() -> queue.Queue[bytes]:
    """Lines of standard input as they come. At the end of the stream the process exits."""
    descriptor = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    stream = os.fdopen(descriptor, "rb")
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        for line in stream:
            if not line.endswith(b"\n"):
                break
            lines.put(line)
        abandon()

    threading.Thread(target=read, daemon=True, name="parent-watch").start()
    return lines


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies, however it dies.

    The watch on stdin alone would not do: it needs the interpreter's lock, which compiled code may
    hold for long.
    """
    if sys.platform == "linux":
        _ask_for_signal_at_parents_death(signal.SIGKILL)
        if os.getppid() != parent_pid:  # it died before the request took effect
            abandon()


def end_group_with_this() -> None:
    """Leave guards behind that end this one's own child processes when this one is gone.

    Whoever started this process does so too, but may be dead itself. There are two, the second one
    guarding the first: whichever of the three dies first, those that are left end all.
    """
    leader = os.getpid()
    if sys.platform != "linux" or os.getpgrp() != leader or os.fork():
        return
    try:
        os.closerange(0, 1024)  # what it inherited would keep the pipes open
        # Not by the name of the interpreter, which people end by its name.
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"bench-guard", 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
        guarded, first = leader, os.getpid()
        if os.fork() == 0:
            guarded = first
        _ask_for_signal_at_parents_death(signal.SIGTERM)
        if os.getppid() == guarded:
            signal.sigwait({signal.SIGTERM, signal.SIGCHLD})
        _end_all(lambda pid: _mark_of(pid) == os.environ.get(_MARK) and not _is_in_this_group(pid))
    finally:
        os.killpg(0, signal.SIGKILL)


def new_mark() -> dict[str, str]:
    """What the environment of a trial's process has to hold, so that what it starts is known."""
    return {_MARK: f"{os.getpid()} {_start_of(os.getpid())} {os.urandom(8).hex()}"}


def end_marked(mark: dict[str, str]) -> None:
    """End whatever bears a mark."""
    _end_all(lambda pid: _mark_of(pid) == mark[_MARK])


def end_abandoned() -> None:
    """End what bears the mark of a runner that is gone."""

    def is_abandoned(pid: int) -> bool:
        runner, _, rest = (_mark_of(pid) or "").partition(" ")
        if not runner.isdecimal() or _namespace_of(pid) != _namespace_of(os.getpid()):
            return False  # another container's processes have other numbers for each other
        return _start_of(int(runner)) != rest.partition(" ")[0]

    _end_all(is_abandoned)


def abandon() -> NoReturn:
    """End at once, without a word: nobody is left to hear one."""
    os._exit(1)


def _ask_for_signal_at_parents_death(number: signal.Signals) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _end_all(is_meant: Callable[[int], bool]) -> None:
    for _ in range(_MOST_SWEEPS):
        meant = [pid for pid in _processes() if pid != os.getpid() and is_meant(pid)]
        for pid in meant:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not meant:
            return


def _processes() -> Iterator[int]:
    """Numbers of all processes; none where the kernel does not list them."""
    with suppress(OSError):
        yield from [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal()]


def _mark_of(pid: int) -> str | None:
    """The mark that a process of this user bears; a dead one bears none."""
    start = f"{_MARK}=".encode()
    with suppress(OSError):
        for variable in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
            if variable.startswith(start):
                return variable[len(start) :].decode(errors="replace")
    return None


def _start_of(pid: int) -> str:
    """When a process began, in the kernel's ticks; empty where there is none.

    With its number it names a process once and for all.
    """
    with suppress(OSError, IndexError):
        # Its name, in parentheses, may hold anything.
        return (
            (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        )
    return ""


def _namespace_of(pid: int) -> str | None:
    with suppress(OSError):
        return str((_PROC / str(pid) / "ns" / "pid").readlink())
    return None


def _is_in_this_group(pid: int) -> bool:
    with suppress(OSError):
        return os.getpgid(pid) == os.getpgrp()
    return False
