"""The columns of tables, declared once: what each takes from a row, and how it prints."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report.format import megabytes, number, percent
from bench.report.sections import Row, Section
from bench.report.summary import Number, Record, Summary, dig

Value = Callable[[Row], Summary | None]
# Of the median: a wider range over the rounds leaves no third digit worth printing.
_SPREAD_OF_THREE_DIGITS = 0.1


@dataclass(frozen=True)
class Column:
    """One quantity.

    Attributes:
        name: short name, for choosing columns.
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

    def write(self, row: Row) -> str | None:
        """Median and, where that prints otherwise, its range."""
        summary = self.value(row)
        if summary is None:
            return None
        median, low, high = self._texts(summary)
        return median + self.mark(row) + ("" if low == high else f" ({low}–{high})")

    def mark(self, row: Row) -> str:
        """† where the metric is computed otherwise today."""
        return "†" if self.is_quality and row.has_older(self.name) else ""

    def _texts(self, summary: Summary) -> list[str]:
        text = self.text
        if text is None:
            is_close = summary.high - summary.low <= _SPREAD_OF_THREE_DIGITS * abs(summary.median)
            text = functools.partial(number, digits=3 if is_close else 2)
        return [text(value) for value in (summary.median, summary.low, summary.high)]


def recorded(*path: str) -> Value:
    """A number of the quality records."""
    return lambda row: row.at(*path)


def timed(phase: str, factor: float = 1.0) -> Value:
    """Seconds of a timed phase for one step or query, in another unit."""

    def value(row: Row) -> Summary | None:
        seconds = row.seconds(phase)
        return seconds.scaled(factor) if seconds else None

    return value


def rate(phase: str) -> Value:
    """Steps or queries a second."""

    def value(row: Row) -> Summary | None:
        seconds = row.seconds(phase)
        return seconds.inverted() if seconds else None

    return value


def load(row: Row) -> Summary | None:
    """Share of the processor time that others took while the row was timed, at its worst."""
    share = row.timing.load if row.timing else None
    return None if share is None else Summary(share, share, share)


def _bytes_of(record: Record, *parts: str) -> Number | None:
    sizes = [dig(record, "memory", f"{part}_bytes") for part in parts]
    return None if None in sizes else sum(sizes)


def model_bytes(row: Row) -> Summary | None:
    """Bytes that prediction needs: parameters, and hash tables or inverted lists beside them."""

    def sum_of(record: Record) -> Number | None:
        return _bytes_of(record, "parameter", "decode") or _bytes_of(record, "parameter")

    return row.summarize(sum_of)


def training_bytes(row: Row) -> Summary | None:
    """Bytes of parameters, gradients and optimiser state by arithmetic; None if one is unknown."""
    return row.summarize(lambda record: _bytes_of(record, "parameter", "gradient", "optimizer"))


def train_seconds(row: Row) -> Summary | None:
    """Steps × seconds a step, or what a method that learns in one piece took."""
    whole = row.seconds("fit")
    if whole:
        return whole
    seconds, steps = row.seconds("train"), row.at("training", "num_steps")
    return seconds.scaled(steps.median) if seconds and steps else None


HOST_PEAK = Column("host", "host peak MB", recorded("memory", "host_peak_bytes"), megabytes)
STEPS = Column("steps", "steps/s", rate("train"))
LATENCY = Column("latency", "latency ms", timed("latency", 1e3), is_compact=True)
LOAD = Column("load", "load %", load, percent)


def validation_column(metric: str) -> Column:
    """Quality by which a row is chosen: at the end of training, on the validation split."""
    return Column(
        "validation",
        f"validation {metric} %",
        lambda row: row.validation(metric),
        percent,
        is_compact=True,
    )


def quality_column(metric: str) -> Column:
    """A metric on the test split."""
    return Column(
        metric, f"{metric} %", recorded("test", metric), percent, is_quality=True, is_compact=True
    )


def training_columns(section: Section) -> tuple[Column, ...]:
    """Columns of studies that train: memory, time, quality, speed of inference, load by others."""
    return (
        Column("model", "model MB", model_bytes, megabytes, is_compact=True),
        Column("training", "training MB", training_bytes, megabytes, is_compact=True),
        HOST_PEAK,
        Column(
            "device",
            "device peak MB",
            recorded("memory", "device_allocated_peak_bytes"),
            megabytes,
            is_optional=True,
        ),
        Column("seconds", "train s", train_seconds, is_compact=True),
        Column("epochs", "epochs", recorded("training", "num_epochs"), number),
        STEPS,
        validation_column(section.metrics[0]),
        *(quality_column(metric) for metric in section.metrics),
        LATENCY,
        Column("throughput", "queries/s", rate("throughput")),
        Column("decode", "decode ms", timed("decode", 1e3)),
        LOAD,
    )


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
