"""What a command sees to before anything else, so that what it was started in decides nothing.

Called before the imports that take time: an interrupt during those is a sentence too.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bench.errors import Stopped, reason_of
from bench.store.files import of_user, private_folder

_SIGNALS = [
    signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]
_STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def settle() -> None:
    """Bring the process into the state that all commands count on."""
    if sys.flags.optimize > 1:
        sys.exit("bench: python -OO leaves out docstrings, which are the studies' claims; use -O")
    for descriptor, (name, mode) in enumerate(_STREAMS):
        try:
            os.fstat(descriptor)
        except OSError:  # closed; else the next file that is opened would take what is printed
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # what has no character there is a `?`
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_at_once)
    os.environ["MPLBACKEND"] = "agg"  # figures are files
    os.environ.pop("PYTHONWARNINGS", None)  # in trials a library's warning would be an error
    home = os.path.expanduser("~")  # noqa: PTH111 - never raises
    if not (os.path.isdir(home) and os.access(home, os.W_OK)):  # noqa: PTH112
        folder = private_folder(Path(tempfile.gettempdir()) / of_user("matplotlib"))
        if folder is not None:  # for Matplotlib's list of fonts
            os.environ.setdefault("MPLCONFIGDIR", str(folder))


def begin() -> None:
    """From here on the first signal raises :class:`Stopped`; others change nothing."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _end_at_once:
            signal.signal(number, _stop)


def end() -> None:
    """From here on signals change nothing: what is under way is taken away."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, f"bench: {reason_of(number)}\n".encode())
    os._exit(128 + number)


def _stop(number: int, frame: FrameType | None) -> None:
    end()
    raise Stopped(number)
