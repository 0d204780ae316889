"""What the papers' studies share: rows over replicates, and published rows from a line of text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from bench.data.download.catalogue import SETS
from bench.settings import DataSpec, ModelSpec, Scalar, TrainSpec, Trial
from bench.studies.published import PaperRow, Tag

_ENTRY = re.compile(r"(.+?) ([\d./– ]+)")
_LONG_SECONDS = 3 * 24 * 3600.0


def repeat(rows: Iterable[Trial], replicates: int) -> list[Trial]:
    """Every row so many times, replicates outermost; a row's own limit of time is lifted."""
    kept = [
        dataclasses.replace(
            row, train=dataclasses.replace(row.train, trial_timeout_seconds=_LONG_SECONDS)
        )
        for row in rows
    ]
    return [
        dataclasses.replace(row, replicate=replicate)
        for replicate in range(replicates)
        for row in kept
    ]


def set_title(trial: Trial) -> str:
    """Title of a trial's published set; the name of other data."""
    name = trial.data.name
    return SETS[name].title if name in SETS else name


def peer(data: DataSpec, method: str, **options: Scalar) -> Trial:
    """A peer's row; settings of our own training do not apply to it."""
    model = ModelSpec(method=method, encoder="linear", options=options)
    return Trial(data=data, model=model, train=TrainSpec())


def shares(text: str, names: Sequence[str]) -> dict[str, float]:
    """Percentages in the order of their names as shares; a dash is a number that there is not.

    >>> shares("62.9/39.01 47.67", ("P@1", "P@3", "PSP@1"))
    {'P@1': 0.629, 'P@3': 0.3901, 'PSP@1': 0.4767}
    """
    values = text.replace("/", " ").split()
    pairs = zip(names, values, strict=False)
    if len(values) > len(names):
        raise ValueError(f"{text!r} has {len(values)} numbers for {len(names)} names")
    return {name: round(float(value) / 100, 6) for name, value in pairs if value != "–"}


def published_rows(
    text: str,
    names: Sequence[str],
    *,
    part: str,
    source: str,
    tag: Tag,
    beside: Mapping[str, Mapping[str, Scalar]],
) -> Iterator[PaperRow]:
    """A row for each `system numbers` between semicolons: `FastXML 69.61/64.12; Parabel 67.44/–`.

    `beside` has the settings of the rows of ours that a system is.
    """
    for entry in text.split(";"):
        match = _ENTRY.fullmatch(entry.strip())
        if match is None:
            raise ValueError(f"{entry!r} is no system with numbers")
        system, numbers = match.groups()
        yield PaperRow(
            label=system,
            metrics=shares(numbers, names),
            source=source,
            part=part,
            tag=tag,
            beside=beside.get(system, {}),
        )
