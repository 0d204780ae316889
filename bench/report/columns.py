"""The columns of all tables: what each takes from a row, and how it prints."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.methods.card import TRAINING_ENTRY
from bench.report.render import megabytes, number, percent
from bench.report.sections import Row, Section
from bench.report.summary import Number, Record, Summary, dig

Value = Callable[[Row], Summary | None]
# Of the median: a wider range over the rounds leaves no third digit worth printing.
_SPREAD_OF_THREE_DIGITS = 0.1


@dataclass(frozen=True)
class Column:
    """One quantity.

    Attributes:
        name: short name, for choosing columns; published numbers are held by it.
        title: what it is, with its unit.
        value: the quantity of a row; None where it was not measured.
        text: prints a value; None: as many digits as the range allows, three at most.
        is_quality: on the test split; the row that leads on validation is set in bold.
        is_optional: left out of a table in which it is nowhere known.
        is_compact: also in the short table that the README shows.
    """

    name: str
    title: str
    value: Value
    text: Callable[[float], str] | None = None
    is_quality: bool = False
    is_optional: bool = False
    is_compact: bool = False

    def median(self, row: Row) -> str | None:
        """The median as printed; None where the row lacks the quantity."""
        summary = self.value(row)
        return self._texts(summary)[0] if summary else None

    def parts(self, row: Row) -> tuple[str, str] | None:
        """Median with its mark, and its range in brackets where that prints otherwise."""
        summary = self.value(row)
        if summary is None:
            return None
        median, low, high = self._texts(summary)
        return median + self.mark(row), "" if low == high else f" ({low}–{high})"

    def write(self, row: Row) -> str | None:
        """Median and range; None where the row lacks the quantity."""
        parts = self.parts(row)
        return "".join(parts) if parts else None

    def mark(self, row: Row) -> str:
        """† where the metric is computed otherwise today."""
        return "†" if self.is_quality and row.has_older(self.name) else ""

    def _texts(self, summary: Summary) -> list[str]:
        text = self.text
        if text is None:
            is_close = summary.high - summary.low <= _SPREAD_OF_THREE_DIGITS * abs(summary.median)
            text = functools.partial(number, digits=3 if is_close else 2)
        return [text(value) for value in (summary.median, summary.low, summary.high)]


# Values -------------------------------------------------------------------------------------------


def scaled(value: Value, factor: float) -> Value:
    """A quantity in another unit."""

    def of_row(row: Row) -> Summary | None:
        summary = value(row)
        return summary.scaled(factor) if summary else None

    return of_row


def recorded(*path: str, factor: float = 1.0) -> Value:
    """A number of the quality records, in another unit."""
    return scaled(lambda row: row.at(*path), factor)


def _finished(*path: str) -> Value:
    """A number of the quality records of replicates that finished."""
    return lambda row: row.at(*path) if row.done else None


def timed(phase: str, factor: float = 1.0) -> Value:
    """Seconds of a timed phase for one step or query, in another unit."""
    return scaled(lambda row: row.seconds(phase), factor)


def rate(phase: str) -> Value:
    """Steps or queries a second."""

    def value(row: Row) -> Summary | None:
        seconds = row.seconds(phase)
        return seconds.inverted() if seconds else None

    return value


def constant(value: float | None) -> Summary | None:
    """A number that replicates have in common."""
    return None if value is None else Summary(value, value, value)


def _load(row: Row) -> Summary | None:
    """Share of the processor time that others took while the row was timed, at its worst."""
    return constant(row.timing.load) if row.timing else None


def _bytes_of(record: Record, *parts: str) -> Number | None:
    sizes = [dig(record, "memory", f"{part}_bytes") for part in parts]
    return None if None in sizes else sum(sizes)


def model_bytes(row: Row) -> Summary | None:
    """Bytes that prediction needs: parameters, and hash tables or inverted lists beside them."""

    def sum_of(record: Record) -> Number | None:
        return _bytes_of(record, "parameter", "decode") or _bytes_of(record, "parameter")

    return row.summarize(sum_of)


def _training_bytes(row: Row) -> Summary | None:
    """Bytes of parameters, gradients and optimiser state by arithmetic; None if one is unknown."""
    return row.summarize(lambda record: _bytes_of(record, "parameter", "gradient", "optimizer"))


def _train_seconds(row: Row) -> Summary | None:
    """Steps × seconds a step, or what a method that learns in one piece took."""
    in_one_piece = row.seconds("fit")
    if in_one_piece:
        return in_one_piece
    seconds, steps = row.seconds("train"), row.at("training", "num_steps")
    return seconds.scaled(steps.median) if seconds and steps else None


def _parameters(row: Row) -> Summary | None:
    """Parameters of 32 bits; None of a peer, whose files hold more than numbers."""
    if row.card.entry != TRAINING_ENTRY:
        return None
    return recorded("memory", "parameter_bytes", factor=0.25)(row)


def _reduction(row: Row) -> Summary | None:
    """L ÷ (B · R): by how much linear worlds are smaller than one linear layer over all labels."""
    sizes = [row.flat.get("num_buckets"), row.flat.get("num_worlds")]
    num_labels = row.at("data", "num_labels")
    if None in sizes or not num_labels or row.flat.get("hidden_dims"):
        return None
    return constant(num_labels.median / (int(str(sizes[0])) * int(str(sizes[1]))))


def _of_worlds(metric: str, num_worlds: int) -> Value:
    """Median over subsets of the worlds, then over replicates.

    All worlds together too are taken on the points that their subsets were decoded on: on the
    complete test split only where there is no such curve.
    """

    def of_record(record: Record) -> Number | None:
        values = [
            dig(entry, "metrics", metric)
            for entry in record.get("worlds") or ()
            if entry.get("num_worlds") == num_worlds
        ]
        if not values and dig(record, "settings", "model", "options", "num_worlds") == num_worlds:
            values = [dig(record, "test", metric)]
        return statistics.median(values) if values and None not in values else None

    return lambda row: row.summarize(of_record) if row.done else None


# Columns ------------------------------------------------------------------------------------------

HOST_PEAK = Column("host", "host peak MB", recorded("memory", "host_peak_bytes"), megabytes)
STEPS = Column("steps", "steps/s", rate("train"))
LATENCY = Column("latency", "latency ms", timed("latency", 1e3), is_compact=True)
LOAD = Column("load", "load %", _load, percent)


def validation_column(metric: str) -> Column:
    """Quality by which a row is chosen: at the end of training, on the validation split."""
    return Column(
        "validation",
        f"validation {metric} %",
        lambda row: row.validation(metric),
        percent,
        is_compact=True,
    )


def quality_column(name: str) -> Column:
    """A metric on the test split.

    It may be that of fewer worlds (`P@1, R = 16`) or of another estimator (`P@1, min`), both of the
    same training.

    >>> quality_column("P@1, R = 16").title
    'P@1, R = 16 %'
    """
    metric, _, of = name.partition(", ")
    value = _finished("estimators", of, metric) if of else _finished("test", metric)
    if of.startswith("R = "):
        value = _of_worlds(metric, int(of.removeprefix("R = ")))
    return Column(name, f"{name} %", value, percent, is_quality=True, is_compact=True)


def training_columns(section: Section) -> tuple[Column, ...]:
    """Columns of studies that train: memory, time, quality, speed of inference, load by others."""
    device_peak = recorded("memory", "device_allocated_peak_bytes")
    return (
        Column("model", "model MB", model_bytes, megabytes, is_compact=True),
        Column("training", "training MB", _training_bytes, megabytes, is_compact=True),
        HOST_PEAK,
        Column("device", "device peak MB", device_peak, megabytes, is_optional=True),
        Column("seconds", "train s", _train_seconds, is_compact=True),
        Column("epochs", "epochs", recorded("training", "num_epochs"), number),
        STEPS,
        validation_column(section.metrics[0]),
        *(quality_column(metric) for metric in section.metrics),
        LATENCY,
        Column("throughput", "queries/s", rate("throughput")),
        Column("decode", "decode ms", timed("decode", 1e3)),
        LOAD,
    )


def _peak(name: str, title: str, key: str) -> Column:
    return Column(name, title, recorded("memory", f"{key}_peak_bytes", factor=1e-9), number)


#: Times and sizes that papers print, in the order of the columns.
OF_PAPERS = (
    Column("reduction", "size reduction ×", _reduction, number),
    Column("parameters", "million parameters", scaled(_parameters, 1e-6), number),
    Column("model GB", "model GB", scaled(model_bytes, 1e-9), number),
    _peak("host peak GB", "host peak GB", "host"),
    _peak("train peak GB", "host peak in training GB", "host_train"),
    _peak("evaluation peak GB", "host peak in evaluation GB", "host_evaluation"),
    Column("train hours", "train h", scaled(_train_seconds, 1 / 3600), number),
    Column("query ms", "ms a query", timed("latency", 1e3), number),
    Column("decode ms", "decode ms a query", timed("decode", 1e3), number),
)


def papers_columns(names: Sequence[str], leading: Sequence[str]) -> list[Column]:
    """Columns without repetition: times and sizes, leading metrics, then the rest."""
    sizes = {column.name: column for column in OF_PAPERS}
    rest = [name for name in dict.fromkeys(names) if name not in sizes and name not in leading]
    first = [column for column in OF_PAPERS if column.name in names]
    return [*first, *map(quality_column, [*leading, *rest])]


def shown_columns(
    columns: Sequence[Column], rows: Sequence[Row], *, is_compact: bool
) -> list[Column]:
    """Those of a table, or of a short one, that are not optional and unknown."""
    return [
        column
        for column in columns
        if (column.is_compact or not is_compact)
        and (not column.is_optional or any(column.value(row) for row in rows))
    ]
