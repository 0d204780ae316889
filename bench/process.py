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

_PACKAGES = (Path(__file__).parent, Path(__file__).parent.parent / "baselines")
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# Whoever presses Ctrl-C often means it once; what is ended meanwhile takes less.
_DEAF_SECONDS = 5.0
_state = {"is_under_way": False, "stopped_at": -1e9}


class Stopped(KeyboardInterrupt):
    """The process was told to end.

    Attributes:
        status: the exit status that says so.
        reason: for a sentence.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number
        self.reason = reason_of(number)


def reason_of(number: int) -> str:
    """What ended a process, for a sentence."""
    name = signal.Signals(number).name
    return "interrupted" if name == "SIGINT" else f"ended by {name}"


def settle(arguments: Sequence[str], cache_dir: Path) -> None:
    """Bring the process into the state that all commands count on.

    Args:
        arguments: of the command, of which `--cache-dir` is looked at.
        cache_dir: where there is none.
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
    _choose_folders(_cache_dir(arguments) or cache_dir)


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


def _cache_dir(arguments: Sequence[str]) -> Path | None:
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name == "--cache-dir" and (equals or place + 1 < len(arguments)):
            return Path(value if equals else arguments[place + 1])
    return None


def _choose_folders(cache_dir: Path) -> None:
    """Compiled kernels are kept in the run's cache folder where the source tree takes none.

    Numba gives up at import where neither the tree nor the user's own folder can be written;
    Matplotlib keeps its list of fonts in the latter.
    """
    with suppress(RuntimeError):  # a user whom the system does not know has no folder
        cache_dir = cache_dir.expanduser()
    if not all(_takes_kernels(package) for package in _PACKAGES):
        os.environ.setdefault("NUMBA_CACHE_DIR", str(_usable(cache_dir) / "numba"))
    if not os.access(os.path.expanduser("~"), os.W_OK):  # noqa: PTH111 - never raises
        os.environ.setdefault("MPLCONFIGDIR", str(_usable(cache_dir) / "matplotlib"))


def _takes_kernels(package: Path) -> bool:
    folders = {package, *(file.parent for file in package.glob("**/*.py"))}
    for kept in (folder / "__pycache__" for folder in folders):
        if not os.access(kept if kept.exists() else kept.parent, os.W_OK):
            return False
        if kept.exists() and not kept.is_dir():
            return False
    return True


def _usable(folder: Path) -> Path:
    """The folder if it can be written, else a temporary one of this user's."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder.resolve()
    return Path(tempfile.gettempdir()) / f"bench-{os.getuid() if hasattr(os, 'getuid') else ''}"
