"""What a person sees of rounds: a line while they go on, and each row's ratios at their end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from bench.cli.progress import LiveLine, printable
from bench.methods.labels import RowNames
from bench.runner.timing import Group, OnRepetition
from bench.settings import Trial
from bench.store.costs import LOADED, CostLine, best_seconds, load_share, seconds_per_unit

# Phase → what one unit of it is.
_UNITS = {"train": "step", "fit": "fit"}


class TimingView:
    """Follows a session: one live line on a terminal, one line a repetition elsewhere."""

    def __init__(self, num_rounds: int, names: RowNames) -> None:
        self._num_rounds = num_rounds
        self._names = names
        self._line = LiveLine()

    def on_repetition(
        self,
        group: Group,
        number: int,
        index: int,
        trial: Trial,
        word: str,
        phases: Mapping[str, Any] | None,
    ) -> None:
        """Show a repetition, see `bench.runner.timing.OnRepetition`."""
        where = f"round {number + 1} of {self._num_rounds}, row {index + 1} of {len(group.trials)}"
        short = f"{number + 1}/{self._num_rounds}, {index + 1}/{len(group.trials)}"
        if number >= self._num_rounds:  # of rows that others disturbed in all of them
            where = short = f"further round {number + 1 - self._num_rounds}"
        full, apart = (printable(name(trial)) for name in (self._names.full, self._names.apart))
        head = f"[{where}] {full}"
        if phases is not None:
            self._line.say(f"{head} · {phases_text(phases)}")
        elif word[:1].isupper():  # an outcome
            self._line.say(printable(f"{head} · {word}"))
        else:
            self._line.show([head, f"[{where}] {apart}", f"[{short}] {apart}"], [word])

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._line.clear()


@contextmanager
def shown(num_rounds: int, names: RowNames) -> Iterator[OnRepetition]:
    """What follows a session, for as long as it goes on."""
    view = TimingView(num_rounds, names)
    try:
        yield view.on_repetition
    finally:
        view.close()


def phases_text(phases: Mapping[str, Any]) -> str:
    """Medians of a repetition's phases.

    >>> phases_text({"train": {"seconds": [0.02, 0.04, 0.03], "units": 2}})
    'train 15 ms a step'
    """
    parts = []
    for name in phases:
        seconds = seconds_per_unit({"phases": phases}, name)
        if seconds is not None:
            parts.append(f"{name} {1e3 * seconds:.3g} ms a {_UNITS.get(name, 'query')}")
    return ", ".join(parts)


def summary(line: CostLine, names: RowNames) -> Iterator[str]:
    """A line for each row: its times, and their ratios to the first row's."""
    rows: Sequence[Mapping[str, Any]] = line.rows
    group = " · ".join(word for word in (line.group["part"], line.group["data"]["name"]) if word)
    yield printable(f"{line.study}, {group}: {line.num_rounds} rounds")
    done = [row for row in rows if row["status"] == "done"]
    # Floors, which are not trained, are no measure of the others.
    trained = [row for row in done if any("fit" not in v["phases"] for v in row["visits"])]
    reference = next(iter(trained or done), None)
    for row in rows:
        head = "  " + printable(names.full(Trial.from_dict(row["settings"] | {"replicate": 0})))
        if row["status"] != "done" or reference is None:
            yield f"{head}: {row['status'].upper()} {printable(row['reason'] or '')}".rstrip()
            continue
        yield head
        for name in dict.fromkeys(name for each in row["visits"] for name in each["phases"]):
            yield "    " + _phase_line(row, reference, name)
        share = load_share(row, line.machine.get("num_cores") or 1)
        if share is not None and share >= LOADED:
            yield f"    others took up to {100 * share:.0f} % of the processor time"


def _phase_line(row: Mapping[str, Any], first: Mapping[str, Any], name: str) -> str:
    seconds = best_seconds(row, name)
    if seconds is None:
        return f"{name}: –"
    text = f"{name:<12} {1e3 * seconds:10.3g} ms a {_UNITS.get(name, 'query')}"
    theirs = best_seconds(first, name)
    if theirs is not None and row is not first:
        text += f", {seconds / theirs:.3g} × the first"
    return text
