"""A Python file of the user's own that defines a study.

Whatever such a file raises becomes one sentence with the file and the line, and is no fault of
the suite. Modules beside the file can be imported by it.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.errors import Stopped, UserError, message_of

_LONGEST_MESSAGE = 500


class StudyError(UserError):
    """A study cannot be found, or does not hold what a study must."""


class _LocatedError(StudyError):
    """One that names file and line already."""


def import_file(path: Path) -> ModuleType:
    """Run a study file as a module; its name depends on the file's name alone.

    Raises:
        StudyError: there is no such file, or it raises.
    """
    if not path.is_file():
        raise StudyError(f"no study file {str(path)!r}")
    spec = importlib.util.spec_from_file_location(f"study_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise StudyError(f"{path} cannot be imported")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that a file beside it hides no library
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # registries and dataclasses look the module up
    try:
        with located(path):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def defined_in(module: ModuleType, path: Path) -> object:
    """The study that a file defines: `study()`, `STUDY`, or the one entry of `STUDIES`.

    Raises:
        StudyError: it defines none, or raises.
    """
    studies = getattr(module, "STUDIES", {})
    if hasattr(module, "study"):
        found = module.study
    elif hasattr(module, "STUDY"):
        found = module.STUDY
    elif isinstance(studies, Mapping) and len(studies) == 1:
        found = next(iter(studies.values()))
    else:
        raise StudyError(f"{path} defines no study; expected study(), STUDY or one in STUDIES")
    if not callable(found):
        return found
    with located(path, found):
        return called(found)


def called(function: Callable[..., Any], *arguments: object) -> Any:
    """What a person's function returns.

    Raises:
        StudyError: it is `async`, so that calling it does nothing.
    """
    found = function(*arguments)
    if inspect.iscoroutine(found):
        found.close()  # else Python warns that nobody awaited it
        name = getattr(function, "__name__", "it")
        raise StudyError(f"{name}() is async; expected a plain function")
    return found


@contextmanager
def located(path: Path | None, function: Callable[..., Any] | None = None) -> Iterator[None]:
    """Turn what a study file raises into a sentence; what the suite's own studies raise passes.

    Args:
        path: the file; None for a study of the suite.
        function: what is called, whose line is named where the error has none of the file's.

    Raises:
        StudyError: with file and line.
    """
    try:
        yield
    except _LocatedError:
        raise
    except BaseException as error:
        # Whoever presses Ctrl-C means the command, not the file.
        if path is None or type(error) in (KeyboardInterrupt, Stopped):
            raise
        text = str(error.msg) if isinstance(error, SyntaxError) else message_of(error)
        message = " ".join(text.split())[:_LONGEST_MESSAGE]
        if not isinstance(error, UserError):
            message = f"{type(error).__name__}: {message}" if message else type(error).__name__
        raise _LocatedError(f"{_place(error, path, function)}: {message}") from error


def _place(error: BaseException, path: Path, function: Callable[..., Any] | None) -> str:
    """`file:line` of the last step in the file, or in a file beside it; else of the function."""
    own, folder = path.resolve(), path.resolve().parent
    steps = [(step.filename, step.lineno) for step in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        steps.append((error.filename or "", error.lineno))
    for name, line in reversed(steps):
        with suppress(OSError, ValueError):  # compiled code may call its file anything
            file = Path(name).resolve()
            if line and file.parent == folder and file.is_file():  # not `<string>`
                return f"{_shown(file)}:{line}"
    code = getattr(function, "__code__", None)
    if code is not None and Path(code.co_filename).resolve() == own:
        return f"{_shown(own)}:{code.co_firstlineno}"
    return _shown(own)


def _shown(path: Path) -> str:
    """A path as short as it can be typed here."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
