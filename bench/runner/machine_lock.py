"""Who measures on this machine right now, of all users and in whatever folders.

Each who does is a file, locked for as long as its process lives, in the folder for temporary files.
Trials beside a session of timing would spoil it, and two sessions each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.errors import UserError
from bench.store import lockfiles

FOLDER = Path(tempfile.gettempdir()) / "mach-bench-runners"


class Busy(UserError):  # noqa: N818 - says what the machine is
    """Somebody measures on this machine; the message says who, and what."""


@dataclass(frozen=True)
class Presence:
    """Who measures.

    Attributes:
        pid: of the process.
        command: `run`, `cost`, `budget` or `audit`.
        study: what is run or timed.
        user: whose process it is.
    """

    pid: int
    command: str
    study: str
    user: str

    def __str__(self) -> str:
        return f"process {self.pid} of {self.user} ({self.command} {self.study})"


@contextlib.contextmanager
def announced(command: str, study: str, *, alone: bool = False) -> Iterator[list[Presence]]:
    """Be known as one who measures; who else does.

    Where the folder for temporary files cannot be used, nobody knows of anybody.

    Args:
        command: what is done, see :class:`Presence`.
        study: with which study.
        alone: refuse to be beside others.

    Raises:
        Busy: others measure, and `alone`.
    """
    note = json.dumps([os.getpid(), command, study, lockfiles.this_user()])
    with contextlib.ExitStack() as stack:
        others: list[Presence] = []
        with contextlib.suppress(OSError):
            _make_folder()
            with lockfiles.locked_folder(FOLDER):  # of two who come at once, one comes second
                others = _others()
                if not (alone and others):
                    own = FOLDER / f"{os.getpid()}-{os.urandom(4).hex()}"
                    lock = lockfiles.try_lock(own, note)
                    if lock is not None:
                        stack.callback(lock.release)
        if alone and others:
            raise Busy(
                f"{command} {study} measures seconds, and {' and '.join(map(str, others))} would "
                "disturb it on this machine; start it again when that is over"
            )
        yield others


def _make_folder() -> None:
    if not FOLDER.is_dir():
        FOLDER.mkdir(exist_ok=True)
        FOLDER.chmod(0o1777)  # as /tmp itself: for all, and each removes but their own


def _others() -> list[Presence]:
    lockfiles.sweep(FOLDER, "*-*")
    found = []
    for path in sorted(FOLDER.glob("*-*")):
        with contextlib.suppress(ValueError, TypeError):
            presence = Presence(*json.loads(lockfiles.holder(path) or ""))
            if presence.pid != os.getpid():
                found.append(presence)
    return found
