"""What a row of a cost line says: seconds of phases, ratios of rows, load by others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import costs
from bench.costs import CostLine
from bench.report.values import Summary, dig
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
        """Seconds for one step or query: of the calmest round, and the range over all of them."""
        return _calmest(self.rounds(phase).values())

    def speedup(self, other: Timing, phase: str) -> Summary | None:
        """The other row's time ÷ this one's, and its range over their common session's rounds."""
        if other.line is not self.line:
            return None
        own, theirs = self.rounds(phase), other.rounds(phase)
        ratios = [theirs[number] / own[number] for number in {*own} & {*theirs}]
        if not ratios:
            return None
        calm = min(theirs.values()) / min(own.values())
        return Summary(calm, min(calm, *ratios), max(calm, *ratios))

    @property
    def load(self) -> float | None:
        """Share of the processor time that others took, in the phase in which it was largest."""
        num_cores = dig(self.line.machine, "num_cores")
        return costs.load_share(self.row, num_cores) if num_cores else None


def _calmest(seconds: Iterable[float]) -> Summary | None:
    known = list(seconds)
    return Summary(min(known), min(known), max(known)) if known else None


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
