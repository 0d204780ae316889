"""What a command sees to before anything else, so that what it was started in decides nothing.

Called before the imports that take time: an interrupt during those is a sentence too.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from bench.errors import Stopped, reason_of
from bench.store.folders import of_user, private_folder

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Whoever presses Ctrl-C often means it once; what is ended meanwhile takes less.
_DEAF_SECONDS = 5.0
_state = {"is_under_way": False, "stopped_at": -1e9}


def settle(arguments: Sequence[str]) -> None:
    """Bring the process into the state that all commands count on.

    Args:
        arguments: of the command, should it have to be started anew.
    """
    if sys.flags.optimize > 1:  # a study's docstring is its claim
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONOPTIMIZE"}
        command = [sys.executable, "-m", "bench", *arguments]
        os.execve(sys.executable, command, environment)
    _open_streams()
    for name in _SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    os.environ["MPLBACKEND"] = "agg"  # figures are files
    os.environ.pop("PYTHONWARNINGS", None)  # in trials a library's warning would be an error
    _choose_fonts_folder()


def begin() -> None:
    """From here on a signal raises :class:`Stopped`, once."""
    _state["is_under_way"] = True


def end() -> None:
    """From here on signals change nothing: the process is about to end."""
    for name in _SIGNALS:
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if not _state["is_under_way"]:
        with suppress(OSError):
            os.write(2, f"bench: {reason_of(number)}\n".encode())
        os._exit(128 + number)
    now = time.monotonic()
    if now - _state["stopped_at"] > _DEAF_SECONDS:
        _state["stopped_at"] = now
        raise Stopped(number)


def _open_streams() -> None:
    """Standard streams are open, and print any text: what has no character there is a `?`."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    # Python has none for a descriptor that was closed when it started.
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", "") == "strict" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def _choose_fonts_folder() -> None:
    """Matplotlib keeps its list of fonts in the user's own folder, where that can be written."""
    home = os.path.expanduser("~")  # noqa: PTH111 - never raises
    if not (os.path.isdir(home) and os.access(home, os.W_OK)):  # noqa: PTH112
        folder = private_folder(Path(tempfile.gettempdir()) / of_user("matplotlib"))
        if folder is not None:
            os.environ.setdefault("MPLCONFIGDIR", str(folder))
