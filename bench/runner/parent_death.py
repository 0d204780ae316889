"""What ties a process to its parent: it ends with it, and so do its own child processes."""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import sys
import threading
from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15


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
    """Leave guards behind that end this one's process group when this one is gone.

    Whoever started this process does so too, but may be dead itself. There are two, the second one
    guarding the first: whichever of the three dies first, those that are left end the group, and
    nothing outside of it. What has left the group is not theirs.
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
    finally:
        os.killpg(0, signal.SIGKILL)


def abandon() -> NoReturn:
    """End at once, without a word: nobody is left to hear one."""
    os._exit(1)


def _ask_for_signal_at_parents_death(number: signal.Signals) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
