"""What every measurement of this kind of study gives, and how it reads its options."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bench.settings import SettingsError, Trial

Options = TypeVar("Options")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One trial's numbers.

    Attributes:
        test: quantity → value; None where the quantity does not exist.
        standard_errors: of those quantities that were estimated from draws.
        curves: what figures show beside them, JSON values.
        facts: of the data.
    """

    test: Mapping[str, float | None]
    standard_errors: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def read_options(kind: type[Options], trial: Trial) -> Options:
    """The options of a trial's data and model as the fields of a dataclass.

    Raises:
        SettingsError: an option that it does not have, or lacks, or a value that it refuses.
    """
    try:
        return kind(**trial.data.options, **trial.model.options)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"options of {trial.model.method!r}: {error}") from error


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean of independent draws, two or more, and its standard error.

    >>> mean_and_error([1.0, 3.0])
    (2.0, 1.0)
    """
    count = len(values)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    return mean, math.sqrt(squares / (count - 1) / count)
