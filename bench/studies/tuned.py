"""What tuning came to: for each method of a study the settings that it found best, as data.

`bench tune STUDY` writes `tuned/<study>.json` in a results folder; studies take their rows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bench.errors import UserError, os_message
from bench.settings import ModelSpec, SettingsError, TrainSpec, Trial

SCHEMA = 1
#: The reference, wherever the command is given.
_REFERENCE = Path(__file__).parents[2] / "results" / "tuned"


class TunedError(UserError):
    """A file is not the outcome of a tuning."""


class TunedMethod(Struct, frozen=True, kw_only=True):
    """A method's best settings, and how they were found.

    Attributes:
        method: its name.
        settings: of the trial that is best on validation, as `Trial.to_dict` gives them; its length
            is a budget in seconds where it trains by steps.
        text: the same in words.
        value: validation quality at the best checkpoint, the mean where there were replicates.
        default: likewise of the method's first try.
        best_so_far: best value after each try; null before the first that has one.
        num_tries: tries that were made.
        num_failed: of these without a value: out of memory, no end in time, an error.
        seconds: that its tries were given, by their budgets; of a method without steps, what all
            tries of another come to.
        wall_seconds: that they took, set-up and validation included.
        edges: settings in which the best lies at an edge that counts → −1 or 1.
        distances: setting → levels between the best and the nearest edge of what was tried.
    """

    method: str
    settings: dict[str, Any]
    text: str
    value: float
    default: float | None
    best_so_far: list[float | None]
    num_tries: int
    num_failed: int
    seconds: float | None
    wall_seconds: float
    edges: dict[str, int]
    distances: dict[str, int]

    @property
    def trial(self) -> Trial:
        """The best settings as a trial."""
        return Trial.from_dict(self.settings)


class Tuned(Struct, frozen=True, kw_only=True):
    """The outcome of tuning a study.

    Attributes:
        study: its name.
        metric: what was maximised.
        data: name of the data set.
        num_validation_points: that the metric is a mean over.
        rule: settings of the tuning, and whether the reserve was used.
        made: `started_at`, `commit`, `machine`.
        methods: in the order of tables.
        failed: methods without any value → why.
    """

    study: str
    metric: str
    data: str
    num_validation_points: int
    rule: dict[str, Any]
    made: dict[str, Any]
    methods: list[TunedMethod]
    failed: dict[str, str]
    schema: int = SCHEMA


def tuned_path(results_dir: Path, study: str) -> Path:
    """File of a study's outcome."""
    return results_dir / "tuned" / f"{study}.json"


def read_tuned(path: Path) -> Tuned:
    """The outcome in a file.

    Raises:
        TunedError: there is none, or the file holds something else.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Tuned)
        for method in found.methods:
            assert method.trial
    except OSError as error:
        raise TunedError(f"{path}: {os_message(error)}; `bench tune` writes it") from error
    except (ValueError, RecursionError, SettingsError) as error:
        raise TunedError(f"{path}: {error}; expected the outcome of `bench tune`") from None
    if found.schema != SCHEMA:
        raise TunedError(f"{path}: schema is {found.schema}; expected {SCHEMA}")
    return found


def tuned(study: str | Path) -> Mapping[str, tuple[ModelSpec, TrainSpec]]:
    """Best settings by method, as rows of :func:`bench.grid`: the model, and how it is trained.

    Args:
        study: name of a built-in one that was tuned for the reference, or the file that
            `bench tune` wrote.

    Raises:
        TunedError: nothing of the kind is there.
    """
    path = study if str(study).endswith(".json") else _REFERENCE / f"{study}.json"
    found = read_tuned(Path(path))
    return {each.method: (each.trial.model, each.trial.train) for each in found.methods}


def tuned_or_none(study: str) -> Mapping[str, tuple[ModelSpec, TrainSpec]] | None:
    """Likewise of a built-in study; None while there is no outcome."""
    return tuned(study) if tuned_path(_REFERENCE.parent, study).exists() else None
