"""Rounds of timing: every row of a table once a round, in a shuffled order, load by others metered.

Rows have a process each, which is prepared once and waits for its repetitions, so that a slow
minute of a shared machine meets all of them alike. Where not all processes fit into memory
together, the largest ones end after a repetition and are prepared again for the next.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.measure.experiment import Context
from bench.measure.memory import available_memory_bytes
from bench.methods.cards import card, current_versions
from bench.runner.child import Child, ChildFailed
from bench.settings import Trial
from bench.store import costs, provenance
from bench.store.costs import LOADED, CostLine, check_phases, first_replicate, load_share
from bench.store.lines import RecordError
from bench.studies.study import Study

_READY_SECONDS = 1800.0
_REPETITION_SECONDS = 900.0
# What is left free for the process that is timed, beside what the largest one so far took.
_SPARE_BYTES = 2 << 30


@dataclass(frozen=True)
class Group:
    """Rows that are compared: those of one part of a study on one data set.

    Attributes:
        part: name of the table.
        data: the data set's settings.
        trials: one for each row, in the order of the table.
    """

    part: str
    data: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def title(self) -> str:
        """Part and data in words."""
        return " · ".join(word for word in (self.part, str(self.data["name"])) if word)


def groups_of(study: Study, trials: Sequence[Trial], *, is_for_steps: bool = False) -> list[Group]:
    """Groups of a study's trials, in their order.

    Replicates are one row. Rates and lengths of one model have a row each, because inference is
    timed on the weights that each ended with.

    Args:
        study: which tells parts.
        trials: its trials.
        is_for_steps: only seconds a step are asked for: what shares a `cost_id` is one row.
    """
    found: dict[tuple[str, str], dict[str, Trial]] = {}
    for trial in trials:
        key = (study.part(trial), repr(trial.data))
        first = first_replicate(trial)
        found.setdefault(key, {}).setdefault(
            first.cost_id if is_for_steps else first.trial_id, first
        )
    return [
        Group(part, next(iter(rows.values())).to_dict()["data"], tuple(rows.values()))
        for (part, _), rows in found.items()
    ]


@dataclass
class _Row:
    """A row's state during a session."""

    trial: Trial
    child: Child | None = None
    status: str = "done"
    reason: str | None = None
    found: dict[str, Any] = field(default_factory=dict)
    resident_bytes: int = 0
    repetitions: list[dict[str, Any]] = field(default_factory=list)


#: Takes, of a row: group, round (from 0), index in it, trial, and a word or what was measured.
OnRepetition = Callable[[Group, int, int, Trial, str, Mapping[str, Any] | None], None]


@dataclass(frozen=True, kw_only=True)
class Session:
    """How rounds are run.

    Attributes:
        study: whose rows.
        context: where and on what they run.
        machine: the `machine` block of the lines.
        num_rounds: those of the study's kind if None.
        num_extra_rounds: at most so many more, of rows that others disturbed in all of theirs.
        on_repetition: takes what becomes of every repetition.
    """

    study: Study
    context: Context
    machine: Mapping[str, Any]
    num_rounds: int | None = None
    num_extra_rounds: int = 0
    on_repetition: OnRepetition = lambda group, number, index, trial, word, phases: None

    def measure(self, groups: Sequence[Group]) -> Iterator[CostLine]:
        """A line for each group, as soon as its rounds are over."""
        for group in groups:
            yield self._measure(group)

    def _measure(self, group: Group) -> CostLine:
        started_at = provenance.utc_now()
        rows = [_Row(trial) for trial in group.trials]
        shuffle = random.Random(f"{self.study.name} {group.title} {started_at}")
        num_rounds = self.num_rounds or self.study.kind.num_rounds
        try:
            for number in range(num_rounds + self.num_extra_rounds):
                due = [row for row in rows if number < num_rounds or self._is_disturbed(row)]
                for index, row in enumerate(shuffle.sample(due, len(due))):
                    if row.status == "done":
                        self._repeat(group, number, index, row, rows)
            for row in rows:
                self._end(row)
        finally:
            for row in rows:
                self._drop(row)
        flags: Mapping[str, Any] = next(
            (row.found["flags"] for row in rows if row.found.get("flags")), {}
        )
        source = provenance.collect(accelerator=self.machine["accelerator"])
        return costs.build(
            study=self.study.name,
            group={"part": group.part, "data": group.data},
            started_at=started_at,
            num_rounds=num_rounds,
            rows=[self._to_record(row) for row in rows],
            provenance=source | {"machine": dict(self.machine), "flags": flags},
        )

    def _is_disturbed(self, row: _Row) -> bool:
        """Whether others took a telling part of the processors in every repetition."""
        num_cores = self.machine.get("num_cores") or 1
        shares = (load_share({"visits": [each]}, num_cores) for each in row.repetitions)
        return all(share is not None and share >= LOADED for share in shares)

    def _repeat(self, group: Group, number: int, index: int, row: _Row, rows: list[_Row]) -> None:
        """A row's repetition; its failure is the row's outcome."""

        def report(word: str, phases: Mapping[str, Any] | None = None) -> None:
            self.on_repetition(group, number, index, row.trial, word, phases)

        others = [other for other in rows if other is not row]
        try:
            try:
                phases = self._phases(row, others, number, report)
            except ChildFailed as failure:
                if failure.status != "oom" or not any(other.child for other in others):
                    raise
                # Only beside the others did it not fit.
                self._drop(row)
                for other in others:
                    self._end(other)
                phases = self._phases(row, others, number, report)
        except ChildFailed as failure:
            self._drop(row)
            row.status, row.reason = failure.status, failure.reason
            row.found |= {"memory": failure.payload.get("memory")}
            report(f"{failure.status.upper()}: {failure.reason}")
            return
        row.repetitions.append({"round": number, "place": index, "phases": phases})
        report("done", phases)

    def _phases(
        self, row: _Row, others: list[_Row], number: int, report: Callable[[str], None]
    ) -> Mapping[str, Any]:
        """What a row's process measured in a round; it is started if there is none."""
        if row.child is None:
            self._make_room(others, row.resident_bytes)
            report("starts")
            row.child = self._start(row.trial, report)
            row.child.wait_for("ready", _READY_SECONDS)
        report("is timed")
        row.child.send({"round": number})
        message = row.child.wait_for("repetition", _REPETITION_SECONDS)
        try:
            check_phases(message.get("phases"))
        except RecordError as error:
            raise ChildFailed("error", str(error), row.child.partial) from None
        row.resident_bytes = row.child.resident_bytes
        phases: Mapping[str, Any] = message["phases"]
        return phases

    def _start(self, trial: Trial, report: Callable[[str], None]) -> Child:
        def emit(event: Mapping[str, Any]) -> None:
            if event["event"] == "phase":
                report(str(event.get("phase")))
            elif event["event"] == "note":
                report(f"Note: {event.get('text')}")

        name = f"{self.study.name}-cost-{trial.trial_id}.log"
        return Child(
            trial,
            card(trial.model.method, self.study.kind.name).entry,
            replace(self.context, emit=emit),
            log=self.context.cache_dir / "logs" / name,
            study_file=self.study.file,
            is_timed=True,
        )

    def _drop(self, row: _Row) -> None:
        if row.child is not None:
            row.child.kill()
            row.child = None

    def _make_room(self, others: list[_Row], known_bytes: int) -> None:
        """End waiting processes, the largest first, until the next one fits.

        Args:
            others: the other rows.
            known_bytes: what the row that starts took before; 0 if it has not started yet: then as
                much as the largest so far is left free.
        """
        wanted = known_bytes or max((other.resident_bytes for other in others), default=0)
        held = sorted(
            (other for other in others if other.child is not None),
            key=lambda other: other.resident_bytes,
        )
        while held and _lacks(wanted + _SPARE_BYTES):
            self._end(held.pop())

    def _end(self, row: _Row) -> None:
        """Let a row's process finish, with what it says beside its repetitions."""
        child, row.child = row.child, None
        if child is None:
            return
        try:
            with child:
                child.send({"round": None})
                message = child.wait_for("result", _REPETITION_SECONDS)
            row.found |= {**message["payload"], "flags": message.get("flags", {})}
        except ChildFailed as failure:
            row.status, row.reason = failure.status, failure.reason

    def _to_record(self, row: _Row) -> dict[str, Any]:
        settings = row.trial.to_dict()
        return {
            "versions": current_versions(row.trial, self.study.kind),
            "fingerprint": None,
            "weights": None,
            **{name: value for name, value in row.found.items() if name != "flags"},
            "cost_id": row.trial.cost_id,
            # A budget that nobody has turned into steps is of no trial that has been run.
            "weights_of": None if row.trial.train.budget_seconds else row.trial.trial_id,
            "settings": {name: settings[name] for name in ("data", "model", "train")},
            "status": row.status,
            "reason": row.reason,
            "visits": row.repetitions,
        }


def _lacks(num_bytes: int) -> bool:
    """Whether the machine is known to have less memory left."""
    available = available_memory_bytes()
    return available is not None and available < num_bytes
