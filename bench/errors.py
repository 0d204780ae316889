"""Errors that the person who runs the suite can mend, and that commands print as a sentence."""

from __future__ import annotations

import signal


class UserError(ValueError):
    """A request, a file or a folder is not what it must be; the message says which and why.

    Every error that a command turns into a sentence is of this type; anything else is a fault of
    the suite and keeps its traceback.
    """


class StudyError(UserError):
    """A study cannot be found, or does not hold what a study must."""


class StorageError(UserError):
    """A folder or file cannot be read or written."""


class Stopped(KeyboardInterrupt):
    """The process was asked to end.

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


def os_message(error: OSError) -> str:
    """The system's message, without number and path.

    >>> os_message(FileNotFoundError(2, "No such file or directory", "x"))
    'no such file or directory'
    """
    text = error.strerror or str(error) or type(error).__name__
    return text[:1].lower() + text[1:]


def message_of(error: BaseException) -> str:
    """An error's own text; empty where it cannot even be printed.

    >>> message_of(ValueError("no more"))
    'no more'
    """
    try:
        return str(error)
    except BaseException:  # a person's own class may raise anything at all
        return ""
