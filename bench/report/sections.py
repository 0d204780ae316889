"""Records of one machine → sections, one for each part of a study, whose rows pool replicates.

A study that trains has a section for each data set and each fingerprint of it. Sections of papers'
tables, decodes, theory and scale hold rows on several sets, which are compared nevertheless.

Nothing is averaged over gaps: a row keeps its records, and a summary of a quantity that one of its
finished replicates lacks does not exist. What was timed joins a row by what its cost depends on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from bench.methods import cards
from bench.methods.card import PAPERS, TRAINING, Card, KindName
from bench.methods.cards import is_metric_older
from bench.methods.labels import Named, describe_rows, sort_key
from bench.report.summary import (
    Number,
    Record,
    Summary,
    Timing,
    Timings,
    clean,
    dig,
    group_by,
    summarize,
)
from bench.settings import SettingsError, Trial
from bench.store.costs import shared_costs
from bench.store.files import file_safe
from bench.store.record import machine_key
from bench.studies.published import Curve, Published
from bench.studies.study import Study

IsStale = Callable[[Record], bool]


@dataclass(frozen=True)
class Row:
    """One configuration with its replicates.

    Attributes:
        settings: the trial's settings without the replicate.
        flat: each of them under its own name, see `labels.flatten`.
        records: the latest record of each replicate, by replicate.
        setting: what distinguishes it in its section, in short.
        timing: what was timed; None: nothing.
        is_stale: some record was measured by an older version of the method, source or protocol.
        is_chosen: it may stand for its method (`Study.is_chosen`).
    """

    settings: Mapping[str, Any]
    flat: Mapping[str, Any]
    card: Card
    records: tuple[Record, ...]
    setting: str = ""
    timing: Timing | None = None
    is_stale: bool = False
    is_chosen: bool = True

    @property
    def label(self) -> str:
        """What readers call the method under its loss."""
        return str(clean(self.card.name_for(self.flat.get("loss"))))

    @property
    def name(self) -> str:
        """Method and setting."""
        return ", ".join(filter(None, [self.label, self.setting]))

    @property
    def trial_id(self) -> str:
        """Of its first replicate; "" where its settings are no longer those of a trial."""
        trial = trial_of({"settings": {**self.settings, "replicate": 0}})
        return trial.trial_id if trial else ""

    @property
    def is_trivial(self) -> bool:
        """Whether this is a reference without training rather than a competitor."""
        return self.card.is_trivial

    @property
    def done(self) -> tuple[Record, ...]:
        """Records of the replicates that finished."""
        return tuple(record for record in self.records if record.get("status") == "done")

    def summarize(self, value: Callable[[Record], Number | None]) -> Summary | None:
        """Median and range of a quantity over the replicates that finished, or else over all."""
        return summarize(value(record) for record in self.done or self.records)

    def at(self, *path: str) -> Summary | None:
        """Median and range of the number at a path of keys."""
        return self.summarize(lambda record: dig(record, *path))

    def quality(self, metric: str) -> Summary | None:
        """Median and range on the test split; None unless every finished replicate has it."""
        return self.at("test", metric) if self.done else None

    def has_older(self, metric: str) -> bool:
        """Whether a metric of some replicate is computed otherwise today."""
        return any(is_metric_older(metric, record) for record in self.done)

    @property
    def fingerprint(self) -> str | None:
        """Of the data; None where no replicate got that far."""
        return next((f for record in self.records if (f := _fingerprint(record))), None)

    def seconds(self, phase: str) -> Summary | None:
        """Seconds for one step or query in a timed phase."""
        return self.timing.seconds(phase) if self.timing else None

    def validation(self, metric: str) -> Summary | None:
        """Quality on the validation split of the weights tested, over finished replicates.

        They are those of the end of training, or of the best validation where that was asked for.
        What a row is chosen by, so that nothing is picked on the test split.
        """
        return summarize(_final(record, metric) for record in self.done)


def _final(record: Record, metric: str) -> Number | None:
    curve = dig(record, "training", "curve") or ()
    kept = dig(record, "training", "kept_step")
    values: list[Number | None] = [
        dig(entry, "metrics", metric)
        for entry in curve
        if kept is None or dig(entry, "step") == kept
    ]
    return next((value for value in reversed(values) if value is not None), None)


def best_row(rows: Sequence[Row], metric: str) -> Row | None:
    """The finished row that ends best on validation; one without a curve comes after all others.

    Where settings of some were chosen as all methods' were, it is one of these.
    """

    def merit(row: Row) -> float:
        found = row.validation(metric)
        return found.median if found else -1.0

    done = [row for row in rows if row.done]
    return max([row for row in done if row.is_chosen] or done, key=merit, default=None)


@dataclass(frozen=True)
class Section:
    """What one table shows: the rows of one part of a study.

    Attributes:
        facts: the data facts of its records: of one set of data where the study trains; those that
            all records have in common in a paper's table; the first record's elsewhere.
        is_only: the study has no other one on this machine.
    """

    study: Study
    machine: str
    part: str
    data_name: str
    rows: tuple[Row, ...]
    facts: Mapping[str, Any]
    is_only: bool = True

    @property
    def metrics(self) -> tuple[str, ...]:
        """The study's quality columns; the first one leads."""
        return self.study.primary_metrics

    @property
    def published(self) -> tuple[Published, ...]:
        """The study's published numbers for this part."""
        return tuple(p for p in self.study.published if p.part in ("", self.part))

    @property
    def curves(self) -> tuple[Curve, ...]:
        """Its published curves."""
        return tuple(c for c in self.study.curves if c.part in ("", self.part))

    @property
    def trained(self) -> tuple[Row, ...]:
        """Rows that compete."""
        return tuple(row for row in self.rows if not row.is_trivial)

    @property
    def trivial(self) -> tuple[Row, ...]:
        """References without training."""
        return tuple(row for row in self.rows if row.is_trivial)

    @property
    def task(self) -> str:
        """`multiclass` or `multilabel`; empty when no record got as far as the data."""
        return str(self.facts.get("task") or "")

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record behind the rows."""
        return tuple(record for row in self.rows for record in row.records)

    @property
    def ceiling(self) -> float | None:
        """Bound of the share of points whose first label is right.

        Of a point with several labels the ceiling is one of label occurrences: it bounds no P@k.
        """
        return self.facts.get("ceiling") if self.task == "multiclass" else None

    @property
    def name(self) -> str:
        """Study, part and data."""
        return " · ".join(dict.fromkeys(filter(None, [self.study.name, self.part, self.data_name])))

    @property
    def suffix(self) -> str:
        """What distinguishes its files from those of the study's other sections."""
        return "" if self.is_only else f"-{file_safe(self.part or self.data_name)}"

    @property
    def title(self) -> str:
        """Its name and the size of the data."""
        sizes = [
            f"{letter} = {self.facts[key]:,}"
            for letter, key in _SIZES.items()
            if isinstance(self.facts.get(key), int)
        ]
        return ", ".join([self.name, *sizes])

    @property
    def subject(self) -> str:
        """What a figure of it is about."""
        return self.about(self.title)

    def about(self, *words: str) -> str:
        """What a figure is about: the words, and the machine."""
        return f"{', '.join(filter(None, words))}; {self.machine}."


_SIZES = {"L": "num_labels", "D": "num_features", "N": "num_train_points"}


def select_sections(
    records: Sequence[Record],
    study: Study,
    machine: str,
    timings: Timings,
    is_stale: IsStale = lambda record: False,
) -> tuple[Section, ...]:
    """Sections of one machine's latest records, in the order of their numbers of labels.

    Records that differ in part, in the machine or in the data's name never share a section. In a
    study that trains nor do those that differ in the data's fingerprint; one that stopped before
    its data were read joins the fingerprint seen last. Elsewhere rows of several fingerprints share
    one: a paper's table, whose rows weigh features as each system does (unless the files changed
    under the same settings), and decodes, theory and scale, whose rows are of problems of their
    own. Of a paper's table, what was published and nobody has run is a section without rows.
    """

    def group_of(record: Record) -> tuple[str, str, str]:
        trial = trial_of(record)
        data_name = str(dig(record["settings"], "data", "name") or "")
        return study.part(trial) if trial else "", data_name, hardware_of(record)

    groups = group_by(records, group_of)
    finished = (trial_of(record) for record in records if record.get("status") == "done")
    shared = shared_costs(trial for trial in finished if trial is not None)
    is_of_papers = study.shown_as == PAPERS
    sections: list[Section] = []
    for (part, data_name, _), members in sorted(groups.items(), key=_group_order):
        # Problems of the decode differ in size and share a table: they are not one set of data.
        is_one_set = study.kind.name == TRAINING.name
        is_one_set &= not is_of_papers or _has_changed_data(members)
        for same_data in _split_by_fingerprint(members) if is_one_set else [members]:
            facts = clean(_common_facts(same_data) if is_of_papers else _facts(same_data))
            sections.append(
                Section(
                    study=study,
                    machine=clean(machine),
                    part=clean(part),
                    data_name=clean(data_name),
                    rows=_rows(same_data, part, study, timings, shared, is_stale),
                    facts=facts,
                    is_only=len(groups) == 1,
                )
            )
    return (*sections, *(_without_rows(sections, study) if is_of_papers else ()))


def trial_of(record: Record) -> Trial | None:
    """The trial of a record; None where its settings are no longer those of one."""
    try:
        return Trial.from_dict(record["settings"])
    except SettingsError:
        return None


def _facts(records: Sequence[Record]) -> Mapping[str, Any]:
    return next((record["data"] for record in records if record.get("data")), {})


def _common_facts(records: Sequence[Record]) -> dict[str, Any]:
    """Facts of the data that hold for all records: rows may weigh features or validate apart."""
    known = [record["data"] for record in records if record.get("data")]
    first = known[0] if known else {}
    return {
        name: value
        for name, value in first.items()
        if all(name in other and other[name] == value for other in known)
    }


def _has_changed_data(records: Sequence[Record]) -> bool:
    """Whether records of one and the same data settings were made from different data."""
    found: dict[str, set[str]] = {}
    for record in records:
        fingerprint = _fingerprint(record)
        if fingerprint is not None:
            key = json.dumps(dig(record, "settings", "data"), sort_keys=True)
            found.setdefault(key, set()).add(fingerprint)
    return any(len(fingerprints) > 1 for fingerprints in found.values())


def _without_rows(sections: Sequence[Section], study: Study) -> Iterator[Section]:
    """A section for each published part of which there is no record."""
    known = {section.part for section in sections}
    for part in dict.fromkeys(entry.part for entry in study.published):
        if sections and part and part not in known:
            yield replace(sections[0], part=part, data_name=part, rows=(), facts={})


def hardware_of(record: Record) -> str:
    """Key of the machine of a record."""
    return machine_key(dig(record, "provenance", "machine") or {})


def _group_order(group: tuple[tuple[str, str, str], list[Record]]) -> tuple[int, str, str, str]:
    key, members = group
    return (max(dig(member, "data", "num_labels") or 0 for member in members), *key)


def _split_by_fingerprint(records: Sequence[Record]) -> list[list[Record]]:
    ordered = sorted(records, key=lambda record: str(record.get("started_at")))
    latest = next((f for record in reversed(ordered) if (f := _fingerprint(record))), "")
    groups = group_by(ordered, lambda record: _fingerprint(record) or latest)
    return [groups[key] for key in sorted(groups)]


def _fingerprint(record: Record) -> str | None:
    found = dig(record, "data", "fingerprint")
    return None if found is None else str(found)


def _rows(
    records: Sequence[Record],
    part: str,
    study: Study,
    timings: Timings,
    shared: frozenset[str],
    is_stale: IsStale,
) -> tuple[Row, ...]:
    kind = study.kind.name
    task = str(next((t for r in records if (t := dig(r, "data", "task"))), ""))
    order = card_order(kind)

    def pool(replicates: Sequence[Record]) -> Row:
        settings = {k: v for k, v in replicates[0]["settings"].items() if k != "replicate"}
        own = Named.of(clean(settings), kind, task)
        row = Row(
            settings=clean(settings),
            flat=own.flat,
            card=own.card,
            records=tuple(map(clean, replicates)),
            is_stale=any(map(is_stale, replicates)),
        )
        trial = trial_of(replicates[0])
        if trial is None:
            return row
        timing = timings.find(part, trial, row.fingerprint, shared)
        return replace(row, timing=timing, is_chosen=study.is_chosen(trial))

    def order_of(row: Row) -> tuple[Any, ...]:
        name = row.card.name
        return (order.get(name, len(order)), name, sort_key(row.card, row.flat))

    by_replicate = sorted(records, key=lambda r: int(r["settings"].get("replicate") or 0))
    rows = [pool(group) for group in group_by(by_replicate, _settings_text).values()]
    named = [Named.of(row.settings, kind, task) for row in rows]
    # Of a decode, a draw or a synthetic twin columns show what it is of.
    texts = describe_rows(named, is_distinct=kind == TRAINING.name)
    described = [replace(row, setting=text) for row, text in zip(rows, texts, strict=True)]
    return tuple(sorted(described, key=order_of))


def _settings_text(record: Record) -> str:
    """Settings that replicates share."""
    return json.dumps({**record["settings"], "replicate": 0}, sort_keys=True)


def card_order(kind: str) -> dict[str, int]:
    """Registered methods → their index in tables."""
    known = cards.cards(cast(KindName, kind))
    return {card.name: index for index, card in enumerate(known)}
