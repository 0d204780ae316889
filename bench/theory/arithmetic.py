"""What follows from stated sizes alone: worlds that bounds ask for, weights and their bytes.

Never imports torch, so that a trial takes no longer than its process.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.settings import Trial
from bench.theory import bounds
from bench.theory.outcome import Outcome, read_options


@dataclass(frozen=True, kw_only=True)
class Needed:
    """A published setting.

    Attributes:
        dataset: its name.
        num_labels: L.
        num_buckets: B.
        num_worlds: R that was used.
        delta: probability of an indistinguishable pair that is allowed.
    """

    dataset: str
    num_labels: int
    num_buckets: int
    num_worlds: int
    delta: float


def count_worlds(trial: Trial, seed: int) -> Outcome:
    """R by both forms of the bound, and the pairs expected at the R that was used.

    Args:
        trial: its options are those of :class:`Needed`.
        seed: unused; nothing is drawn.
    """
    setting = read_options(Needed, trial)
    sizes = (setting.num_labels, setting.num_buckets)
    return Outcome(
        test={
            "worlds needed, draft of 2020": bounds.worlds_needed(*sizes, setting.delta),
            "worlds needed, 2018": bounds.worlds_needed_2018(*sizes, setting.delta),
            "expected pairs": bounds.expected_pairs(*sizes, setting.num_worlds),
        },
        facts={"num_labels": setting.num_labels},
    )


@dataclass(frozen=True, kw_only=True)
class Stated:
    """A matrix of weights that no class of the suite holds, by its stated shape.

    Attributes:
        what: it is.
        num_rows: rows.
        num_columns: columns.
        num_copies: such matrices.
        bytes_per_weight: kept for each weight, whatever for.
    """

    what: str
    num_rows: int
    num_columns: int
    num_copies: int = 1
    bytes_per_weight: int = 4


def multiply(trial: Trial, seed: int) -> Outcome:
    """Weights and bytes of a stated shape.

    Args:
        trial: its options are those of :class:`Stated`.
        seed: unused; nothing is drawn.
    """
    stated = read_options(Stated, trial)
    weights = stated.num_rows * stated.num_columns * stated.num_copies
    return Outcome(
        test={"parameters": float(weights), "bytes": float(weights * stated.bytes_per_weight)}
    )
