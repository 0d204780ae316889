"""What rounds of timing left behind: one JSON line for each group of rows, appended, never edited.

A group is what a table compares. Its rows are visited once a round, in a shuffled order, and a line
holds the raw seconds of every visit, so that ratios can be formed inside a round.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench import record
from bench.lines import COST_LINE, PHASES
from bench.record import (
    SCHEMA,
    RecordError,
    check_id,
    check_line,
    check_value,
    machine_key,
    to_plain,
)


@dataclass(frozen=True)
class CostLine:
    """One group of rows in one session: a thin view of its JSON object.

    Attributes:
        raw: the JSON object; not to be changed.
    """

    raw: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_line(self.raw, COST_LINE)

    @property
    def study(self) -> str:
        """Name of the study."""
        return cast(str, self.raw["study"])

    @property
    def group(self) -> Mapping[str, Any]:
        """What the rows have in common: part of the study, and data."""
        return cast(Mapping[str, Any], self.raw["group"])

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """A row a distinct `cost_id`."""
        return tuple(self.raw["rows"])

    @property
    def num_rounds(self) -> int:
        """Rounds of the session."""
        return cast(int, self.raw["num_rounds"])

    @property
    def started_at(self) -> str:
        """When the session began, in UTC."""
        return cast(str, self.raw["started_at"])

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Commit, software, machine and flags."""
        return cast(Mapping[str, Any], self.raw["provenance"])

    @property
    def machine(self) -> Mapping[str, Any]:
        """Where it was measured."""
        return cast(Mapping[str, Any], self.provenance["machine"])

    def to_json(self) -> str:
        """One line of JSON, without the line end."""
        return json.dumps(self.raw, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def build(
    *,
    study: str,
    group: Mapping[str, Any],
    started_at: str,
    num_rounds: int,
    rows: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> CostLine:
    """Line from its parts; seconds keep six significant digits.

    Raises:
        RecordError: a part has the wrong type.
    """
    return CostLine(
        {
            "schema": SCHEMA,
            "study": study,
            "group": to_plain(group),
            "started_at": started_at,
            "num_rounds": num_rounds,
            "rows": [dict(row) | {"visits": _rounded(row["visits"])} for row in to_plain(rows)],
            "provenance": to_plain(provenance),
        }
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def costs_path(results_dir: Path, study: str, slug: str) -> Path:
    """File of one study's costs on one machine."""
    return results_dir / "costs" / study / f"{slug}.jsonl"


def append(path: Path, line: CostLine) -> None:
    """Add a line, durably and whole."""
    record.append_line(path, line.to_json())


def read_costs(path: Path) -> tuple[list[CostLine], list[str]]:
    """All whole lines of a file in order, and a warning for each that is not.

    Raises:
        SchemaError: a line of another schema.
        RecordError: the file cannot be read.
    """
    return record.read_lines(path, _own)


def _own(raw: Any) -> CostLine:
    """A line whose rows have settings that are still those of their ids, and its group's data."""
    line = CostLine(raw)
    for place, row in enumerate(line.rows):
        if row["settings"]["data"] != line.group["data"]:
            raise RecordError(f"'group.data' is not 'rows[{place}].settings.data'")
        check_id(row["settings"], "cost_id", row["cost_id"])
    return line


def latest_costs(lines: Iterable[CostLine]) -> list[CostLine]:
    """The newest line of each group on each machine."""
    newest: dict[str, CostLine] = {}
    for line in lines:
        key = json.dumps([line.study, line.group, machine_key(line.machine)], sort_keys=True)
        newest[key] = line
    return list(newest.values())


def seconds_per_unit(visit: Mapping[str, Any], phase: str) -> float | None:
    """Median seconds of a phase's samples in one visit, for one step or query; None without any."""
    measured = visit["phases"].get(phase)
    if not measured or not measured["seconds"]:
        return None
    return float(statistics.median(measured["seconds"]) / measured["units"])


def calmest_seconds(row: Mapping[str, Any], phase: str) -> float | None:
    """Least :func:`seconds_per_unit` of a row's visits; None where it was not measured.

    Others on the machine can only add to a time, and add to some visits far more than to others:
    the calmest visit's median comes back under load where a median over visits does not.
    """
    found = [seconds_per_unit(visit, phase) for visit in row.get("visits") or ()]
    return min((seconds for seconds in found if seconds is not None), default=None)


def load_share(row: Mapping[str, Any], num_cores: int) -> float | None:
    """Largest share of the processor time that others took in one of a row's phases, in [0, 1].

    The kernel counts in hundredths of a second, so that short phases are judged together.

    Returns:
        None where the kernel was silent, or all phases together are too short to tell.
    """
    spans: dict[str, list[tuple[float, float | None]]] = {}
    for visit in row.get("visits") or ():
        for name, phase in visit["phases"].items():
            span = phase.get("wall_seconds") or 0.0, phase.get("other_cpu_seconds")
            spans.setdefault(name, []).append(span)
    is_long = {name: sum(wall for wall, _ in spans[name]) >= _TELLING_SECONDS for name in spans}
    short = [span for name in spans if not is_long[name] for span in spans[name]]
    groups = [*(spans[name] for name in spans if is_long[name]), short]
    shares = [share for group in groups if (share := _share(group, num_cores)) is not None]
    return max(shares, default=None)


# Of less than this in all, a count in hundredths of a second is chance.
_TELLING_SECONDS = 0.5


def _share(spans: Iterable[tuple[float, float | None]], num_cores: int) -> float | None:
    walls, others = zip(*spans, strict=True) if spans else ((), ())
    if sum(walls) < _TELLING_SECONDS or None in others:
        return None
    return float(min(1.0, sum(others) / (sum(walls) * num_cores)))


def check_phases(phases: Any) -> None:
    """Refuse what a visit cannot have measured.

    Raises:
        RecordError: a phase is no list of seconds above 0, each of as many units.
    """
    check_value(phases, PHASES)
