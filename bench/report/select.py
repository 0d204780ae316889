"""Records of one machine → sections, one for each part and data set, whose rows pool replicates.

Nothing is averaged over gaps: a row keeps its records, and a summary of a quantity that one of its
finished replicates lacks does not exist.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.record import machine_key
from bench.report.labels import METHOD_ORDER, describe_settings, method_name, sort_key
from bench.study import TRAINING, Kind, Published

Record = Mapping[str, Any]
Number = int | float

FLOORS = ("frequency", "centroid")


def dig(record: Mapping[str, Any], *path: str) -> Any:
    """Value at a path of keys; None where the path ends early.

    >>> dig({"memory": {"parameter_bytes": 8}}, "memory", "parameter_bytes")
    8
    >>> dig({"memory": None}, "memory", "parameter_bytes") is None
    True
    """
    value: Any = record
    for key in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


@dataclass(frozen=True)
class Summary:
    """Median and range of one quantity over replicates."""

    median: float
    low: float
    high: float
    num_values: int


def summarize(values: Iterable[Number | None]) -> Summary | None:
    """Median and range; None when there is no value or any is missing.

    >>> summarize([3, 1, 2])
    Summary(median=2, low=1, high=3, num_values=3)
    >>> summarize([3, None]) is None
    True
    """
    numbers = list(values)
    present = [number for number in numbers if number is not None]
    if not present or len(present) < len(numbers):
        return None
    return Summary(statistics.median(present), min(present), max(present), len(present))


@dataclass(frozen=True)
class Row:
    """One configuration with its replicates.

    Attributes:
        settings: the trial's settings without the replicate.
        setting: those that tell it from the other rows of its section, in short.
        records: the latest record of each replicate, by replicate.
        is_stale: some record was measured with code that has since changed.
    """

    settings: Mapping[str, Any]
    setting: str
    records: tuple[Record, ...]
    is_stale: bool = False

    @property
    def method(self) -> str:
        """Registered name of the method."""
        return str(dig(self.settings, "model", "method"))

    def name(self, task: str) -> str:
        """What readers call the method on data of a task."""
        return method_name(self.method, task, self.options.get("loss"))

    @property
    def options(self) -> Mapping[str, Any]:
        """The method's own options."""
        return dig(self.settings, "model", "options") or {}

    @property
    def is_floor(self) -> bool:
        """Whether this is a reference without training rather than a competitor."""
        return self.method in FLOORS

    @property
    def done(self) -> tuple[Record, ...]:
        """Records of the replicates that finished."""
        return tuple(record for record in self.records if record.get("status") == "done")

    @property
    def measured(self) -> tuple[Record, ...]:
        """Finished replicates, or, when none finished, what the others got to measure."""
        return self.done or self.records

    def summarize(self, value: Callable[[Record], Number | None]) -> Summary | None:
        """Median and range of a quantity over the measured replicates."""
        return summarize([value(record) for record in self.measured])

    def at(self, *path: str) -> Summary | None:
        """Median and range of the number at a path of keys."""
        return self.summarize(lambda record: dig(record, *path))

    def final_validation(self, metric: str) -> float:
        """Quality on the validation split at the end of training, median over replicates.

        What a series' or a method's setting is chosen by, so that nothing is picked on the test
        split; −1 where no replicate measured it.
        """
        finals = []
        for record in self.done:
            curve = dig(record, "training", "curve") or ()
            values = [dig(entry, "metrics", metric) for entry in curve]
            known = [float(value) for value in values if value is not None]
            finals += known[-1:]
        return statistics.median(finals) if finals else -1.0


@dataclass(frozen=True)
class Section:
    """What one table shows: the rows of one part of a study on one data set.

    Attributes:
        facts: the data facts of its records (they agree on the fingerprint).
        metrics: the study's quality columns.
        published: the study's published numbers for this part.
    """

    study: str
    machine: str
    part: str
    data_name: str
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]
    metrics: tuple[str, ...]
    published: tuple[Published, ...] = ()
    is_only: bool = True

    @property
    def trained(self) -> tuple[Row, ...]:
        """Rows that compete."""
        return tuple(row for row in self.rows if not row.is_floor)

    @property
    def floors(self) -> tuple[Row, ...]:
        """Class frequency and centroid rows."""
        return tuple(row for row in self.rows if row.is_floor)

    @property
    def task(self) -> str:
        """`multiclass` or `multilabel`; empty when no record got as far as the data."""
        return str(self.facts.get("task") or "")

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record behind the rows."""
        return tuple(record for row in self.rows for record in row.records)

    @property
    def title(self) -> str:
        """Study, part and size of the data."""
        names = [self.study]
        names += [name for name in (self.part, self.data_name) if name and name not in names]
        sizes = [
            f"{letter} = {self.facts[key]:,}"
            for letter, key in (
                ("L", "num_labels"),
                ("D", "num_features"),
                ("N", "num_train_points"),
            )
            if isinstance(self.facts.get(key), int)
        ]
        return ", ".join([" · ".join(names), *sizes])


@dataclass(frozen=True)
class StudyView:
    """What a report needs to know of a study; every field has a meaning without one.

    Attributes:
        metrics: quality columns.
        trial_ids: trials of the study in any profile; None accepts every record.
        expected: profile → its trials, to say which of them have no record.
        part_of: names the part that a record's settings belong to.
        published: published rows; one with a `part` stands in that part's table only.
        kind: what its trials are.
    """

    name: str
    metrics: tuple[str, ...] = ("P@1", "P@3", "P@5")
    trial_ids: frozenset[str] | None = None
    expected: Mapping[str, frozenset[str]] = field(default_factory=dict)
    part_of: Callable[[Mapping[str, Any]], str] = field(default=lambda settings: "")
    published: tuple[Published, ...] = ()
    kind: Kind = TRAINING


def select_sections(
    records: Sequence[Record],
    study: StudyView,
    machine: str,
    is_stale: Callable[[Record], bool] = lambda record: False,
) -> tuple[Section, ...]:
    """Sections of one machine's latest records, in the order of the study's parts.

    Records of trials that the study no longer has are left out. Records that differ in the machine
    or in the data's fingerprint never share a section; one that stopped before its data were read
    joins the fingerprint seen last.
    """
    kept = [
        record
        for record in records
        if study.trial_ids is None or record.get("trial_id") in study.trial_ids
    ]
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for record in kept:
        settings = record["settings"]
        data_name = str(dig(settings, "data", "name") or "")
        key = (study.part_of(settings), data_name, hardware_of(record))
        groups.setdefault(key, []).append(record)
    sections: list[Section] = []
    for (part, data_name, _), members in sorted(groups.items(), key=_group_order):
        for same_data in _split_by_fingerprint(members):
            facts: Mapping[str, Any] = next((m["data"] for m in same_data if m.get("data")), {})
            sections.append(
                Section(
                    study=study.name,
                    machine=machine,
                    part=part,
                    data_name=data_name,
                    rows=_rows(same_data, is_stale),
                    facts=facts,
                    metrics=study.metrics,
                    published=tuple(entry for entry in study.published if _stands_in(entry, part)),
                    is_only=len(groups) == 1,
                )
            )
    return tuple(sections)


def hardware_of(record: Record) -> str:
    """What tells the machine of a record from others."""
    return machine_key(dig(record, "provenance", "machine") or {})


def _stands_in(entry: Published, part: str) -> bool:
    return getattr(entry, "part", None) in (None, "", part)


def _group_order(group: tuple[tuple[str, str, str], list[Record]]) -> tuple[int, str, str, str]:
    (part, data_name, hardware), members = group
    sizes = [dig(member, "data", "num_labels") or 0 for member in members]
    return (max(sizes), part, data_name, hardware)


def _split_by_fingerprint(records: Sequence[Record]) -> list[list[Record]]:
    groups: dict[str, list[Record]] = {}
    latest = ""
    for record in sorted(records, key=lambda record: str(record.get("started_at"))):
        fingerprint = dig(record, "data", "fingerprint")
        if fingerprint is not None:
            latest = str(fingerprint)
            groups.setdefault(latest, []).append(record)
    unknown = [record for record in records if dig(record, "data", "fingerprint") is None]
    groups.setdefault(latest, []).extend(unknown)
    return [groups[key] for key in sorted(groups) if groups[key]]


def _rows(records: Sequence[Record], is_stale: Callable[[Record], bool]) -> tuple[Row, ...]:
    pooled: dict[str, list[Record]] = {}
    for record in records:
        settings = {k: v for k, v in record["settings"].items() if k != "replicate"}
        pooled.setdefault(json.dumps(settings, sort_keys=True), []).append(record)
    plain = [json.loads(text) for text in pooled]
    names = describe_settings(plain)
    rows = [
        Row(
            settings=settings,
            setting=name,
            records=tuple(sorted(group, key=lambda r: int(r["settings"].get("replicate", 0)))),
            is_stale=any(is_stale(record) for record in group),
        )
        for settings, name, group in zip(plain, names, pooled.values(), strict=True)
    ]
    order = {method: place for place, method in enumerate(METHOD_ORDER)}
    return tuple(
        sorted(rows, key=lambda row: (order.get(row.method, len(order)), sort_key(row.settings)))
    )
