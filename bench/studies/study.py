"""Studies: named grids of trials behind one claim, found by name or in a user's Python file.

Whatever such a file raises becomes one sentence with the file and the line, and is no fault of the
suite. Modules beside the file can be imported by it.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

from bench.errors import Stopped, StudyError, UserError, message_of
from bench.methods.card import TRAINING, Kind
from bench.methods.cards import card
from bench.settings import SettingsError, Trial
from bench.studies.published import Curve, Published
from bench.studies.tuning import Tuning

#: `cpu`: two cores; `gpu`: one large GPU, under an hour; `paper`: the paper's own scale and length,
#: on a GPU where there is one.
Profile = Literal["cpu", "gpu", "paper"]
PROFILES: tuple[Profile, ...] = get_args(Profile)

#: Modules with the suite's own studies, each in its `STUDIES`: name → what builds the study.
MODULES = (
    "bench.studies.rivals",
    "bench.studies.decode",
    "bench.studies.theory",
    "bench.studies.papers.multilabel",
    "bench.studies.papers.multiclass",
    "bench.studies.papers.search",
    "bench.studies.papers.worlds",
    "bench.studies.scale",
)
_LONGEST_NAME = 80  # logs are files that begin with it


@dataclass(frozen=True, kw_only=True)
class Study:
    """A named set of trials.

    Attributes:
        name: file-safe, in lower case.
        claim: the study function's docstring: claim, command, hardware, duration, expected outcome.
        trials: profile → trials, in the order of the tables.
        smoke: the same grid, tiny, on synthetic data; seconds a trial.
        primary_metrics: columns that tables and figures lead with; the first one is "quality".
        profiles: those that `trials` answers to.
        optional_data: names of published data sets that a user may import; without their files the
            trials on them are left out, and a run names the command that imports them.
        part: trial → name of the table it stands in; "" when there is one table.
        published: reference rows.
        curves: published curves, for figures.
        quantities: further columns of a paper's table (`bench.report.columns`).
        figures: figures that show it (`bench.report.renderers`); () for those of its kind.
        shown_as: what renders it, where that is not its kind's (`bench.report.renderers`).
        file: the user's file that defines the study, set on loading; trials' processes import it,
            so that data sources and methods that it registers exist there too.
        kind: what its trials are.
        tuning: how its methods are tuned.
        start: trials of which a method's first is its first try; None: those of the study.
        is_chosen: whether a trial's settings were chosen as all methods' were; others are shown
            beside these, and none of them stands for its method.
    """

    name: str
    claim: str
    trials: Callable[[Profile], list[Trial]]
    smoke: Callable[[], list[Trial]]
    primary_metrics: tuple[str, ...] = ("P@1", "P@3", "P@5")
    profiles: tuple[Profile, ...] = ("cpu", "gpu")
    optional_data: tuple[str, ...] = ()
    part: Callable[[Trial], str] = lambda trial: ""
    published: tuple[Published, ...] = ()
    curves: tuple[Curve, ...] = ()
    quantities: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    shown_as: str = ""
    file: Path | None = None
    kind: Kind = TRAINING
    tuning: Tuning = field(default_factory=Tuning)
    start: Callable[[], list[Trial]] | None = None
    is_chosen: Callable[[Trial], bool] = lambda trial: True

    def __post_init__(self) -> None:
        name, claim = self.name, self.claim
        is_name = isinstance(name, str) and re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name)
        if not is_name or len(name) > _LONGEST_NAME or name == "all":
            raise StudyError(
                f"study name {name!r:.100} is no file name; expected lower-case letters, digits, "
                f"'-' and '_', at most {_LONGEST_NAME} in all, and not 'all'"
            )
        if not isinstance(claim, str) or not claim.strip():
            raise StudyError(f"study {name} has no claim; give its function a docstring")
        for what in ("trials", "smoke", "part", "is_chosen"):
            if not callable(getattr(self, what)):
                raise StudyError(
                    f"{what} of study {name} is a {type(getattr(self, what)).__name__}; "
                    "expected a function"
                )
        if not isinstance(self.kind, Kind):
            raise StudyError(
                f"kind of study {name} is {self.kind!r}; expected a bench.methods.card.Kind"
            )

    @property
    def headline(self) -> str:
        """First line of the claim."""
        return self.claim.strip().splitlines()[0]

    @property
    def duration(self) -> str:
        """How long the `cpu` profile takes, as its claim states; "" where it does not."""
        found = re.search(r"Duration: ([^.;]+)", " ".join(self.claim.split()))
        return found[1].replace("`", "") if found else ""

    def build_trials(self, profile: Profile) -> list[Trial]:
        """The trials of a profile; budgets in seconds may still be in them (`bench.store.budgets`).

        Raises:
            StudyError: the study has no such profile, no trials in it, something else among them,
                or one twice.
        """
        if profile not in self.profiles:
            raise StudyError(
                f"study {self.name} has no profile {profile!r}; it has {', '.join(self.profiles)}"
            )
        with located(self.file, self.trials):
            trials = self._checked_trials(called(self.trials, profile))
            if not trials:
                raise StudyError(f"study {self.name} has no trials; expected at least one")
            return trials

    def build_smoke(self) -> list[Trial]:
        """The tiny trials of `--smoke`; there may be none.

        Raises:
            StudyError: something else is among them, or one twice.
        """
        with located(self.file, self.smoke):
            return self._checked_trials(called(self.smoke))

    def _checked_trials(self, trials: object) -> list[Trial]:
        if not isinstance(trials, list | tuple):
            raise StudyError(
                f"trials of study {self.name} are a {type(trials).__name__}; expected a list"
            )
        seen: set[str] = set()
        for trial in trials:
            if not isinstance(trial, Trial):
                raise StudyError(
                    f"among the trials of study {self.name} is a {type(trial).__name__}; "
                    "expected bench.settings.Trial alone"
                )
            if trial.trial_id in seen:
                raise StudyError(
                    f"study {self.name} asks twice for trial {trial.trial_id} "
                    f"({trial.model.method}, replicate {trial.replicate})"
                )
            seen.add(trial.trial_id)
            with located(self.file, self.part):
                part: object = called(self.part, trial)
                if not isinstance(part, str):
                    raise StudyError(
                        f"part of study {self.name} gives a {type(part).__name__}; expected text"
                    )
        return list(trials)


def study_names() -> list[str]:
    """Names of the registered studies, in their order."""
    return list(_registry())


def repeats(name: str, method: str) -> bool:
    """Whether a method gives the same again in a study; true of a person's own, not at hand."""
    try:
        return card(method, load_study(name).kind.name).is_repeatable
    except (StudyError, SettingsError):
        return True


def load_study(name_or_path: str) -> Study:
    """A registered study by name, or the one that a Python file defines.

    A file defines `study()` that returns a `Study`, or `STUDY`, or `STUDIES` with one entry. It may
    register data sources and methods of its own: `SOURCES["mine"] = f"{__name__}:MySource"`.

    Raises:
        StudyError: no such study or file, or the file defines none.
    """
    registry = _registry()
    if name_or_path.endswith(".py"):
        path = Path(name_or_path)
        study = _checked(defined_in(import_file(path), path), name_or_path)
        if study.name in registry:
            raise StudyError(
                f"{path} defines a study named {study.name!r}, as the suite does; "
                "its results would mix: choose another name"
            )
        return dataclasses.replace(study, file=path.resolve())
    if name_or_path not in registry:
        raise StudyError(
            f"unknown study {name_or_path!r}; known: {', '.join(registry) or 'none'}, "
            "or the path of a Python file that defines one"
        )
    return _checked(registry[name_or_path](), name_or_path)


def _registry() -> Mapping[str, Callable[[], Study]]:
    found: dict[str, Callable[[], Study]] = {}
    for name in MODULES:
        found |= importlib.import_module(name).STUDIES
    return found


def _checked(study: object, where: str) -> Study:
    if not isinstance(study, Study):
        raise StudyError(
            f"{where} gives a {type(study).__name__}; expected a bench.studies.study.Study"
        )
    return study


_LONGEST_MESSAGE = 500


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
