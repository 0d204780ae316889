"""Numbers that others published and that stand beside ours; never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.settings import Scalar

#: How sure a published number is.
Tag = Literal["A", "F", "ABS", "X", "C", "T", "I", "M"]
TAGS: Mapping[Tag, str] = {
    "A": "read in a file of the authors",
    "F": "read off a figure of the authors",
    "ABS": "read in an abstract",
    "X": "read on the page of the Extreme Classification Repository",
    "C": "read in code",
    "T": "third party, not the authors",
    "I": "inferred or derived by us",
    "M": "from memory, unverified",
}


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of numbers that others published, printed beside ours.

    Attributes:
        label: what the row is called (system and set-up).
        metrics: quantity → value on the same scale as ours (0.271, not 27.1).
        source: where it was published.
        part: table of the study that the row stands in; "" for each of them.
        repeated: study of ours that runs the published set-up, and the set-up's name among
            `bench.studies.presets`: what it came to here stands beside the number in the overview.
    """

    label: str
    metrics: Mapping[str, float]
    source: str
    part: str = ""
    repeated: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class PaperRow(Published):
    """Published numbers, each a cell of its own beside the row of ours that it is of.

    `metrics` may hold any quantity of `bench.report.columns`: metrics by their name, `P@1,
    R = 16` (fewer worlds of the same training), `P@1, min` (another estimator), times and sizes.

    Attributes:
        tag: how sure the numbers are.
        beside: settings of the rows that it stands beside: `method`, and options of data, model or
            training as `bench.methods.labels.flatten` names them (`hidden_dims` as "512-512"); of a
            tuple, one of its values. Empty: we have no such system, the row is shown as published
            only.
        why: what explains a difference, where something does.
        data: what they were measured on, where ours is other data in its place: nobody can expect
            the numbers to agree, and no difference is printed.
    """

    tag: Tag
    beside: Mapping[str, Scalar | tuple[Scalar, ...]] = field(default_factory=dict)
    why: str = ""
    data: str = ""


@dataclass(frozen=True, kw_only=True)
class Claim(PaperRow):
    """Numbers that are stated of one row of a study without data, and how near ours must come.

    Attributes:
        over: settings of another row, whose quantity is divided by this one's: a reduction.
        relation: what is claimed of ours.
        tolerance: how far ours may be from a number, in its own unit; half a unit of the last
            printed digit, or the error of reading it off.
        num_errors: the same in standard errors of ours, where ours was estimated from draws.
    """

    over: Mapping[str, Scalar] = field(default_factory=dict)
    relation: Literal["=", "≤", "≥"] = "="
    tolerance: float = 0.0
    num_errors: float = 0.0

    def agrees(self, quantity: str, measured: float, standard_error: float | None = None) -> bool:
        """Whether ours is what is claimed, within the tolerance.

        >>> claim = Claim(label="size", metrics={"GB": 0.3}, source="", tag="A", tolerance=0.05)
        >>> claim.agrees("GB", 0.338), claim.agrees("GB", 0.36)
        (True, False)
        """
        slack = self.tolerance + self.num_errors * (standard_error or 0.0)
        difference = measured - self.metrics[quantity]
        if self.relation == "≤":
            return difference <= slack
        return difference >= -slack if self.relation == "≥" else abs(difference) <= slack


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A published curve that a figure shows faintly beside ours, for its shape.

    Attributes:
        label: what the line is called.
        panel: what it is of; curves of one panel share it.
        points: (x, y) by ascending x, y on the same scale as our quality; one point alone with
            x = None is a horizontal line.
        tag: how sure the points are.
        source: where it was published.
        part: part of the study that it stands beside; "" for each of them.
    """

    label: str
    panel: str
    points: tuple[tuple[float | None, float], ...]
    tag: Tag
    source: str
    part: str = ""

    @property
    def level(self) -> float | None:
        """Height of a horizontal line; None for a curve."""
        ((x, y), *others) = self.points
        return y if x is None and not others else None


def has_options(
    options: Mapping[str, Any], wanted: Mapping[str, Scalar | tuple[Scalar, ...]]
) -> bool:
    """Whether a trial with these options is the one that a published number names.

    >>> has_options({"method": "mach", "num_buckets": 500}, {"num_buckets": (500, 10_000)})
    True
    """
    return all(
        name in options and options[name] in (value if isinstance(value, tuple) else (value,))
        for name, value in wanted.items()
    )
