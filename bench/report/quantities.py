"""Quantities that papers print, taken from our records and written the same way as theirs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from bench.methods.card import TRAINING_ENTRY
from bench.report.columns import model_bytes, train_seconds
from bench.report.format import number, percent
from bench.report.sections import Row, Section
from bench.report.summary import Number, Record, Summary, dig

Take = Callable[[Section, Row], Summary | None]
Write = Callable[[float], str]


@dataclass(frozen=True)
class Quantity:
    """One thing that a paper may state of a row.

    Attributes:
        title: what it is, with its unit.
        take: the quantity of a row; None where it was not measured.
        measured: writes ours.
        published: writes theirs, with the digits that there are.
        is_share: compared by a difference in points; else by a ratio.
    """

    title: str
    take: Take
    measured: Write
    published: Write
    is_share: bool = False

    def compare(self, measured: float, published: float) -> str:
        """Ours beside theirs: points more or less, or how many times as much."""
        if not self.is_share:
            return f"{number(measured / published)}×" if published else ""
        gap = 100 * (measured - published)
        return f"{'−' if gap < 0 else '+'}{abs(gap):.1f}"


def quantity_of(name: str) -> Quantity:
    """The quantity of a name; what is no time or size is a metric of the test split.

    A metric may be that of fewer worlds (`P@1, R = 16`) or of another estimator (`P@1, min`), both
    of the same training.

    >>> quantity_of("P@1, R = 16").title
    'P@1, R = 16 %'
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    metric, _, of = name.partition(", ")
    take: Take = _metric(metric)
    if of.startswith("R = "):
        take = _worlds(metric, int(of.removeprefix("R = ")))
    elif of:
        take = _estimator(metric, of)
    return Quantity(f"{name} %", take, percent, _printed_share, is_share=True)


def _metric(metric: str) -> Take:
    return lambda section, row: row.at("test", metric)


def _estimator(metric: str, estimator: str) -> Take:
    return lambda section, row: row.at("estimators", estimator, metric)


def _worlds(metric: str, num_worlds: int) -> Take:
    """Median over subsets of the worlds, then over replicates.

    All worlds together too are taken on the points that their subsets were decoded on: on the whole
    test split only where there is no such curve.
    """

    def of_record(record: Record) -> Number | None:
        values = [
            dig(entry, "metrics", metric)
            for entry in record.get("worlds") or ()
            if entry.get("num_worlds") == num_worlds
        ]
        if not values and dig(record, "settings", "model", "options", "num_worlds") == num_worlds:
            whole: Number | None = dig(record, "test", metric)
            return whole
        return statistics.median(values) if values and None not in values else None

    return lambda section, row: row.summarize(of_record)


def _times(take: Callable[[Row], Summary | None], factor: float) -> Take:
    def scaled(section: Section, row: Row) -> Summary | None:
        found = take(row)
        return found.scaled(factor) if found else None

    return scaled


def _at(*path: str, factor: float = 1.0) -> Take:
    return _times(lambda row: row.at(*path), factor)


def _parameters(row: Row) -> Summary | None:
    """Bytes of parameters of 32 bits; None of a peer, whose files hold more than numbers."""
    if row.card.entry != TRAINING_ENTRY:
        return None
    return row.at("memory", "parameter_bytes")


def _reduction(section: Section, row: Row) -> Summary | None:
    """L ÷ (B · R): by how much linear worlds are smaller than one linear layer over all labels."""
    sizes = [row.flat.get("num_buckets"), row.flat.get("num_worlds")]
    num_labels = section.facts.get("num_labels")
    if None in sizes or not num_labels or row.flat.get("hidden_dims"):
        return None
    ratio = num_labels / (int(str(sizes[0])) * int(str(sizes[1])))
    return Summary(ratio, ratio, ratio)


def _printed_share(value: float) -> str:
    """As papers print it: two decimals, more where it has more.

    >>> _printed_share(0.629), _printed_share(0.15446)
    ('62.90', '15.446')
    """
    text = f"{100 * value:.3f}"
    return text.removesuffix("0")


def _printed(value: float) -> str:
    """No more digits than there are."""
    return f"{value:.4g}"


#: Times and sizes by name, in the order of the columns.
QUANTITIES: Mapping[str, Quantity] = MappingProxyType(
    {
        "reduction": Quantity("size reduction ×", _reduction, number, _printed),
        "parameters": Quantity(
            "million parameters", _times(_parameters, 0.25e-6), number, _printed
        ),
        "model GB": Quantity("model GB", _times(model_bytes, 1e-9), number, _printed),
        "host peak GB": Quantity(
            "host peak GB", _at("memory", "host_peak_bytes", factor=1e-9), number, _printed
        ),
        "train peak GB": Quantity(
            "host peak in training GB",
            _at("memory", "host_train_peak_bytes", factor=1e-9),
            number,
            _printed,
        ),
        "evaluation peak GB": Quantity(
            "host peak in evaluation GB",
            _at("memory", "host_evaluation_peak_bytes", factor=1e-9),
            number,
            _printed,
        ),
        "train hours": Quantity("train h", _times(train_seconds, 1 / 3600), number, _printed),
        "query ms": Quantity(
            "ms a query", _times(lambda row: row.seconds("latency"), 1e3), number, _printed
        ),
        "decode ms": Quantity(
            "decode ms a query", _times(lambda row: row.seconds("decode"), 1e3), number, _printed
        ),
    }
)


def ordered(names: Sequence[str], leading: Sequence[str]) -> list[str]:
    """Names of quantities without repetition: times and sizes, leading metrics, then the rest."""
    met = dict.fromkeys(names)
    first = [name for name in QUANTITIES if name in met]
    rest = [name for name in met if name not in QUANTITIES and name not in leading]
    return [*first, *leading, *rest]
