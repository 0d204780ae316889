"""What rounds of timing left behind: one JSON line for each group of rows, appended, never edited.

A group is what a table compares. Its rows are visited once a round, in a shuffled order, and a line
holds the raw seconds of every repetition, so that ratios can be formed inside a round.

What training costs depends on less than what a trial is: rows that differ in rate or length alone
have one `cost_id`. How long a decode takes depends on the weights: a row names in `weights_of` the
trial whose weights its inference was timed on. Lines from before name none: the cache then kept
weights by `cost_id`, those of the last trial that had it.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from bench.settings import Trial
from bench.store import record
from bench.store.hosts import own_path
from bench.store.lines import CostsLine, Phases, RecordError, check
from bench.store.record import SCHEMA, check_id, check_schema, machine_key, to_plain

#: Phases that depend on what a `cost_id` is of alone; all others are inference.
TRAINING_PHASES = ("train", "fit")
#: Share of the processor time that others took, from which on times are marked.
LOADED = 0.1


@dataclass(frozen=True, kw_only=True)
class CostLine:
    """One group of rows in one session; see :func:`parse`.

    Attributes:
        raw: the JSON object; not to be changed.
        study: name of the study.
        group: what the rows have in common: part of the study, and data.
        rows: a row a configuration, whose replicates share it.
        num_rounds: of the session.
        started_at: when the session began, in UTC.
        provenance: commit, software, machine and flags.
    """

    raw: Mapping[str, Any]
    study: str
    group: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    num_rounds: int
    started_at: str
    provenance: Mapping[str, Any]

    @property
    def machine(self) -> Mapping[str, Any]:
        """Where it was measured."""
        return cast(Mapping[str, Any], self.provenance["machine"])

    @property
    def has_failed(self) -> bool:
        """Whether a row has ended in an error; out of memory and out of time are outcomes."""
        return any(row["status"] == "error" for row in self.rows)

    @property
    def key(self) -> str:
        """What newer lines of the same group and machine share."""
        return json.dumps([self.study, self.group, machine_key(self.machine)], sort_keys=True)

    def to_json(self) -> str:
        """One line of JSON, without the line end."""
        return json.dumps(self.raw, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(raw: Any) -> CostLine:
    """A line from its JSON object.

    Raises:
        SchemaError: it is of another schema.
        RecordError: it is of none, or a field is not what it must be; the message names it.
    """
    check_schema(raw)
    check(raw, CostsLine)
    fields = [entry.name for entry in dataclasses.fields(CostLine) if entry.name != "raw"]
    return CostLine(raw=raw, **{name: raw[name] for name in fields})


def build(
    *,
    study: str,
    group: Mapping[str, Any],
    started_at: str,
    num_rounds: int,
    rows: Sequence[Mapping[str, Any]],
    provenance: Mapping[str, Any],
) -> CostLine:
    """Line from its parts; seconds keep six significant digits."""
    return parse(
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
    """File of one study's costs on this host, a machine of a kind."""
    return own_path(results_dir / "costs" / study, slug)


def append(path: Path, line: CostLine) -> None:
    """Add a line, durably and completely."""
    record.append_line(path, line.to_json())


def read_costs(path: Path) -> tuple[list[CostLine], list[str]]:
    """All complete lines of a file in order, and a warning for each that is not."""
    return record.read_lines(path, _own)


def _own(raw: Any) -> CostLine:
    """A line whose rows have settings that are still those of their ids, and its group's data."""
    line = parse(raw)
    for index, row in enumerate(line.rows):
        if row["settings"]["data"] != line.group["data"]:
            raise RecordError(f"'group.data' is not 'rows[{index}].settings.data'")
        check_id(row["settings"], "cost_id", row["cost_id"])
        if row.get("weights_of") is not None:
            check_id(row["settings"], "trial_id", row["weights_of"])
    return line


def newest_costs(lines: Iterable[CostLine]) -> list[CostLine]:
    """The newest line of each group on each machine, whatever became of it."""
    return list({line.key: line for line in lines}.values())


def latest_costs(lines: Iterable[CostLine]) -> list[CostLine]:
    """The line of each group on each machine that counts: the newest one in which no row failed.

    A session in which a row's process was killed replaces no complete one. Of a group that has no
    complete line the newest counts.
    """
    counting: dict[str, CostLine] = {}
    for line in lines:
        known = counting.get(line.key)
        if known is None or known.has_failed or not line.has_failed:
            counting[line.key] = line
    return list(counting.values())


def of_one_host(hosts: Iterable[Sequence[CostLine]]) -> list[CostLine]:
    """Of each part of a study, which is what a table shows, the lines of one host alone.

    That is the host which has timed most of the part's groups, or else timed them last.

    Args:
        hosts: lines of each that count, see :func:`latest_costs`.
    """
    chosen: dict[str, list[CostLine]] = {}

    def merit(lines: Sequence[CostLine]) -> tuple[int, int, str]:
        whole = sum(not line.has_failed for line in lines)
        return whole, len(lines), max((line.started_at for line in lines), default="")

    for lines in hosts:
        parts: dict[str, list[CostLine]] = {}
        for line in lines:
            parts.setdefault(str(line.group["part"]), []).append(line)
        for part, own in parts.items():
            chosen[part] = max(chosen.get(part, []), own, key=merit)
    return [line for lines in chosen.values() for line in lines]


def num_failed_since(lines: Iterable[CostLine], counting: Iterable[CostLine]) -> int:
    """Sessions of a group that are newer than the one that counts, because a row failed in them."""
    started = {line.key: line.started_at for line in counting}
    return sum(line.has_failed and line.started_at > started[line.key] for line in lines)


def first_replicate(trial: Trial) -> Trial:
    """The trial of a configuration that is timed, and whose weights are kept."""
    return dataclasses.replace(trial, replicate=0)


def shared_costs(trials: Iterable[Trial]) -> frozenset[str]:
    """Cost ids that several configurations of a study have: rates or lengths of one model."""
    found: dict[str, set[str]] = {}
    for trial in trials:
        found.setdefault(trial.cost_id, set()).add(first_replicate(trial).trial_id)
    return frozenset(cost_id for cost_id, ids in found.items() if len(ids) > 1)


def is_of_weights(row: Mapping[str, Any], trial: Trial, shared: Collection[str]) -> bool:
    """Whether a row's inference was timed on the weights of a trial's configuration.

    Args:
        row: of the trial's `cost_id`.
        trial: any of the configuration's replicates.
        shared: :func:`shared_costs` of the study's trials: of these a row that names no trial
            holds for none, unless its model learns inside a repetition.
    """
    known = row.get("weights_of")
    if known is not None:
        return bool(known == first_replicate(trial).trial_id)
    return row.get("weights") is None or trial.cost_id not in shared


def seconds_per_unit(repetition: Mapping[str, Any], phase: str) -> float | None:
    """Median seconds of a phase in one repetition, for one step or query; None without any."""
    measured = repetition["phases"].get(phase)
    if not measured or not measured["seconds"]:
        return None
    return float(statistics.median(measured["seconds"]) / measured["units"])


def best_seconds(row: Mapping[str, Any], phase: str) -> float | None:
    """Least :func:`seconds_per_unit` of a row's repetitions; None where it was not measured.

    Others on the machine can only add to a time, and add to some repetitions far more than to
    others: the least median comes back under load where a median over all of them does not.
    """
    found = [seconds_per_unit(repetition, phase) for repetition in row.get("visits") or ()]
    return min((seconds for seconds in found if seconds is not None), default=None)


def load_share(row: Mapping[str, Any], num_cores: int) -> float | None:
    """Largest share of the processor time that others took in one of a row's phases, in [0, 1].

    The kernel counts in hundredths of a second, so that short phases are judged together.

    Returns:
        None where the kernel was silent, or all phases together are too short to judge by.
    """
    spans: dict[str, list[tuple[float, float | None]]] = {}
    for repetition in row.get("visits") or ():
        for name, phase in repetition["phases"].items():
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
    """Refuse what a repetition cannot have measured."""
    check(phases, Phases)
