"""What a person sees of rounds: a line while they go on, and each row's ratios at their end."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from bench.costs import CostLine, median_seconds, seconds_per_unit
from bench.progress import LiveLine, describe, printable
from bench.rounds import Group
from bench.settings import Trial

# Phase → what one unit of it is.
_UNITS = {"train": "step", "fit": "fit"}
# The kernel counts in hundredths of a second: of less than this a share says nothing.
_TELLING_SECONDS = 0.2


class TurnsView:
    """Follows a session on a stream: one live line on a terminal, one line a turn elsewhere.

    Args:
        num_rounds: of the session.
        stream: where to write; standard output if None.
    """

    def __init__(self, num_rounds: int, stream: TextIO | None = None) -> None:
        self._num_rounds = num_rounds
        self._line = LiveLine(stream or sys.stdout)

    def on_turn(
        self,
        group: Group,
        number: int,
        place: int,
        trial: Trial,
        word: str,
        phases: Mapping[str, Any] | None,
    ) -> None:
        """Show a turn, see `bench.rounds.OnTurn`."""
        where = f"round {number + 1} of {self._num_rounds}, row {place + 1} of {len(group.trials)}"
        head = f"[{where}] {describe(trial)}"
        if phases is not None:
            self._line.say(f"{head} · {phases_text(phases)}")
        elif word[:1].isupper():  # an outcome
            self._line.say(printable(f"{head} · {word}"))
        else:
            self._line.show(head, word)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._line.clear()


def phases_text(phases: Mapping[str, Any]) -> str:
    """Medians of a visit's phases.

    >>> phases_text({"train": {"seconds": [0.02, 0.04, 0.03], "units": 2}})
    'train 15 ms a step'
    """
    parts = []
    for name in phases:
        seconds = seconds_per_unit({"phases": phases}, name)
        if seconds is not None:
            parts.append(f"{name} {1e3 * seconds:.3g} ms a {_UNITS.get(name, 'query')}")
    return ", ".join(parts)


def ratio(row: Mapping[str, Any], first: Mapping[str, Any], phase: str) -> list[float]:
    """Row's seconds ÷ the first row's, in each round in which both were measured."""
    before = {visit["round"]: seconds_per_unit(visit, phase) for visit in first["visits"]}
    ratios = []
    for visit in row["visits"]:
        ours, theirs = seconds_per_unit(visit, phase), before.get(visit["round"])
        if ours is not None and theirs is not None:
            ratios.append(ours / theirs)
    return ratios


def load_share(row: Mapping[str, Any], num_cores: int) -> float | None:
    """Largest share of the processor time that others took in one of a row's phases."""
    shares = []
    names = {name for visit in row["visits"] for name in visit["phases"]}
    for name in names:
        phases = [visit["phases"][name] for visit in row["visits"] if name in visit["phases"]]
        wall = sum(phase.get("wall_seconds") or 0.0 for phase in phases)
        others = [phase.get("other_cpu_seconds") for phase in phases]
        if wall >= _TELLING_SECONDS and None not in others:
            shares.append(min(1.0, sum(others) / (wall * num_cores)))
    return max(shares, default=None)


def summary(line: CostLine) -> Iterator[str]:
    """A line for each row: its times, and their ratios to the first row's, formed in rounds."""
    rows: Sequence[Mapping[str, Any]] = line.rows
    group = " · ".join(word for word in (line.group["part"], line.group["data"]["name"]) if word)
    yield printable(f"{line.study}, {group}: {line.num_rounds} rounds")
    done = [row for row in rows if row["status"] == "done"]
    # Floors, which are not trained, are no measure of the others.
    trained = [row for row in done if any("fit" not in v["phases"] for v in row["visits"])]
    reference = next(iter(trained or done), None)
    for row in rows:
        head = "  " + describe(Trial.from_dict(row["settings"] | {"replicate": 0}))
        if row["status"] != "done" or reference is None:
            yield f"{head}: {row['status'].upper()} {printable(row['reason'] or '')}".rstrip()
            continue
        yield head
        names = list(dict.fromkeys(name for visit in row["visits"] for name in visit["phases"]))
        for name in names:
            yield "    " + _phase_line(row, reference, name)
        share = load_share(row, line.machine.get("num_cores") or 1)
        if share is not None and share >= 0.1:
            yield f"    others took up to {100 * share:.0f} % of the processor time"


def _phase_line(row: Mapping[str, Any], first: Mapping[str, Any], name: str) -> str:
    seconds = median_seconds(row, name)
    if seconds is None:
        return f"{name}: –"
    text = f"{name:<12} {1e3 * seconds:10.3g} ms a {_UNITS.get(name, 'query')}"
    ratios = ratio(row, first, name)
    if ratios and row is not first:
        low, high = min(ratios), max(ratios)
        text += f", {statistics.median(ratios):.3g} × the first ({low:.3g}–{high:.3g})"
    return text
