"""The columns of a table: each takes one raw number from a record and says how it prints."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.report.format import megabytes, number, percent
from bench.report.select import Number, Record, dig


@dataclass(frozen=True)
class Column:
    """One quantity.

    Attributes:
        name: short name, for choosing columns.
        title: what it is, with its unit.
        value: the quantity in a record; None where it was not measured.
        text: prints a value.
        is_quality: larger is better and the best one is set in bold.
        is_optional: left out of a table in which it is nowhere known.
    """

    name: str
    title: str
    value: Callable[[Record], Number | None]
    text: Callable[[float], str] = number
    is_quality: bool = False
    is_optional: bool = False


def model_bytes(record: Record) -> Number | None:
    """Bytes that prediction needs: parameters, and hash tables or inverted lists beside them."""
    parts = [dig(record, "memory", f"{part}_bytes") for part in ("parameter", "decode")]
    return None if parts[0] is None else sum(part for part in parts if part is not None)


def training_bytes(record: Record) -> Number | None:
    """Bytes of parameters, gradients and optimiser state by arithmetic; None if one is unknown."""
    parts = [
        dig(record, "memory", f"{part}_bytes") for part in ("parameter", "gradient", "optimizer")
    ]
    return None if None in parts else sum(parts)


def steps_per_second(record: Record) -> Number | None:
    """Training steps in a second, from the median window."""
    seconds = _median(dig(record, "training", "step_seconds"))
    steps = dig(record, "training", "window_steps")
    return steps / seconds if seconds and steps else None


def latency_milliseconds(record: Record) -> Number | None:
    """Median time of one query at batch 1."""
    seconds = _median(dig(record, "inference", "latency_seconds"))
    return None if seconds is None else 1e3 * seconds


def queries_per_second(record: Record) -> Number | None:
    """Queries in a second at the throughput batch size, from the median batch."""
    seconds = _median(dig(record, "inference", "throughput_seconds"))
    size = dig(record, "inference", "throughput_batch_size")
    return size / seconds if seconds and size else None


def _median(samples: Sequence[Number] | None) -> Number | None:
    present = [sample for sample in samples or () if sample is not None]
    return statistics.median(present) if present else None


def _at(*path: str) -> Callable[[Record], Number | None]:
    return lambda record: dig(record, *path)


def quality_column(metric: str) -> Column:
    """Column of a metric on the test split, in percent."""
    return Column(metric, f"{metric} %", _at("test", metric), percent, is_quality=True)


COST_COLUMNS = (
    Column("parameters", "model MB", model_bytes, megabytes),
    Column("training", "training MB", training_bytes, megabytes),
    Column("host", "host peak MB", _at("memory", "host_peak_bytes"), megabytes),
    Column(
        "device",
        "device peak MB",
        _at("memory", "device_allocated_peak_bytes"),
        megabytes,
        is_optional=True,
    ),
    Column("train_seconds", "train s", _at("clock", "train_seconds")),
    Column("epochs", "epochs", _at("training", "num_epochs")),
    Column("steps", "steps/s", steps_per_second),
)
SPEED_COLUMNS = (
    Column("latency", "latency ms", latency_milliseconds),
    Column("throughput", "queries/s", queries_per_second),
    Column("decode", "decode s", _at("clock", "decode_seconds")),
)
COMPACT = ("parameters", "training", "train_seconds", "latency")


def table_columns(metrics: Sequence[str], *, is_compact: bool = False) -> tuple[Column, ...]:
    """All columns, or those of a compact table, with one for each quality metric."""
    columns = (*COST_COLUMNS, *map(quality_column, metrics), *SPEED_COLUMNS)
    if not is_compact:
        return columns
    return tuple(column for column in columns if column.is_quality or column.name in COMPACT)
