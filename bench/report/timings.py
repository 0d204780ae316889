"""What a row of a cost line says: seconds of phases, ratios in rounds, load by others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import costs
from bench.costs import CostLine
from bench.report.values import Summary, dig, summarize
from bench.settings import SettingsError, Trial


@dataclass(frozen=True)
class Timing:
    """A row of a cost line, with the session that it was measured in."""

    row: Mapping[str, Any]
    line: CostLine

    @property
    def visits(self) -> Sequence[Mapping[str, Any]]:
        """The row's turns, one a round."""
        return self.row.get("visits") or ()

    def rounds(self, phase: str) -> dict[int, float]:
        """Round → seconds for one step or query."""
        found = {v["round"]: costs.seconds_per_unit(v, phase) for v in self.visits}
        return {number: seconds for number, seconds in found.items() if seconds is not None}

    def seconds(self, phase: str) -> Summary | None:
        """Seconds for one step or query: median and range over the rounds; None if not measured."""
        return summarize(self.rounds(phase).values())

    def speedup(self, other: Timing, phase: str) -> Summary | None:
        """The other row's time ÷ this one's, formed in each round of their common session."""
        if other.line is not self.line:
            return None
        own, theirs = self.rounds(phase), other.rounds(phase)
        return summarize(theirs[number] / own[number] for number in sorted({*own} & {*theirs}))

    @property
    def load(self) -> float | None:
        """Share of the processor time that others took, in the phase in which it was largest."""
        num_cores = dig(self.line.machine, "num_cores")
        names = {name for visit in self.visits for name in visit["phases"]}
        shares = [_load(self.visits, name, num_cores) for name in names] if num_cores else []
        return max((share for share in shares if share is not None), default=None)


def _load(visits: Sequence[Mapping[str, Any]], name: str, num_cores: int) -> float | None:
    phases = [phase for visit in visits if (phase := visit["phases"].get(name))]
    others = [phase.get("other_cpu_seconds") for phase in phases]
    walls = [phase.get("wall_seconds") or 0.0 for phase in phases]
    if None in others or not sum(walls):
        return None
    return float(sum(others) / (sum(walls) * num_cores))


class Timings:
    """The rows of the newest session of each group, by part and by what their cost depends on."""

    def __init__(self, lines: Sequence[CostLine]) -> None:
        self._rows: dict[tuple[str, str], Timing] = {}
        for line in sorted(lines, key=lambda line: line.started_at):
            for row in line.rows:
                # Without its file at hand, a study's parts have no names.
                for part in ("", str(line.group["part"])):
                    self._rows[part, row["cost_id"]] = Timing(row, line)

    def find(
        self, part: str, settings: Mapping[str, Any], fingerprint: str | None
    ) -> Timing | None:
        """The row of these settings; none where it was measured on other data."""
        try:
            key = Trial.from_dict(settings).cost_id
        except SettingsError:
            return None
        timing = self._rows.get((part, key))
        known = {fingerprint, timing.row.get("fingerprint")} - {None} if timing else set()
        return timing if len(known) < 2 else None
