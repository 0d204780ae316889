"""Numbers of the papers that stand beside ours; never imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from bench.published import Published, Tag
from bench.settings import Scalar

Relation = Literal["=", "≤", "≥"]


@dataclass(frozen=True, kw_only=True)
class Claim(Published):
    """One published number and the trial that it stands beside.

    `metrics` holds one quantity of the trial's record.

    Attributes:
        tag: how sure the number is.
        beside: options that the trial has, of data or model.
        over: options of another trial, whose quantity is divided by this one's: a reduction.
        relation: what is claimed of ours.
        tolerance: how far ours may be from it, in the number's own unit; half a unit of the last
            printed digit, or the error of reading it off.
        num_errors: the same in standard errors of ours, where ours was estimated from draws.
        why: the reason where the two do not agree.
    """

    tag: Tag
    beside: Mapping[str, Scalar]
    over: Mapping[str, Scalar] = field(default_factory=dict)
    relation: Relation = "="
    tolerance: float = 0.0
    num_errors: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        if len(self.metrics) != 1:
            raise ValueError(f"{self.label} has {len(self.metrics)} numbers; expected one")

    @property
    def quantity(self) -> str:
        """What the number is of."""
        return next(iter(self.metrics))

    @property
    def value(self) -> float:
        """The number."""
        return self.metrics[self.quantity]

    def agrees(self, measured: float, standard_error: float | None) -> bool:
        """Whether ours is what is claimed, within the tolerance.

        >>> claim = Claim(label="size", metrics={"GB": 0.3}, source="", tag="A", beside={},
        ...               tolerance=0.05)
        >>> claim.agrees(0.338, None), claim.agrees(0.36, None)
        (True, False)
        """
        slack = self.tolerance + self.num_errors * (standard_error or 0.0)
        difference = measured - self.value
        if self.relation == "≤":
            return difference <= slack
        return difference >= -slack if self.relation == "≥" else abs(difference) <= slack
