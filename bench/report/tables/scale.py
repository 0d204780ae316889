"""The table of studies at the papers' largest sizes: what each row needs, and what it takes."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.columns import (
    LOAD,
    Column,
    quality_column,
    recorded,
    scaled,
    shown_columns,
    timed,
)
from bench.report.render import GAP, Cell, Table, number
from bench.report.sections import Row, Section
from bench.report.summary import Number, Record, Summary, dig
from bench.report.tables.tables import count_text, marked, notes_of, published_lines, spare_of
from bench.studies.twins import TWINS, Length, training_length

_MEANING = (
    "GB = 10⁹ bytes; needs: the most that any phase needs, by arithmetic, in float32 with Adam's "
    "moments unless a row says otherwise; at once: what training all worlds together would need; "
    "a world: its weights; peaks: of the process, as measured; s a world and epoch, h in all: "
    "computed, measured seconds a step × steps (× worlds) of the complete training; trained s: of "
    "a world, as the run took it; query ms: worlds × a world's bucket scores + decode in batches "
    "of 64, or a full layer's answer in batches of 256; decode: from bucket scores to labels; OOM: "
    f"out of memory, as predicted; {GAP} not measured."
)
_FLAT = (
    "Worlds that were not all trained are decoded from flat random scores, the worst case of a "
    "decode."
)


def length_of(row: Row) -> Length | None:
    """Length of the training that a row stands for."""
    return training_length(row.settings)


def num_worlds(row: Row) -> int:
    """R; of what has no worlds 1."""
    return int(row.flat.get("num_worlds") or 1)


def _epoch_seconds(row: Row) -> Summary | None:
    length = length_of(row)
    return timed("train", length.steps)(row) if length else None


def _hours(row: Row) -> Summary | None:
    length = length_of(row)
    steps = length.steps * length.epochs * num_worlds(row) if length else 0
    return timed("train", steps / 3600)(row) if length else None


def _trained_seconds(record: Record) -> Number | None:
    seconds = dig(record, "clock", "world_seconds") or ()
    is_complete = len(seconds) == dig(record, "settings", "model", "options", "num_worlds")
    return sum(seconds) / len(seconds) if seconds and is_complete else None


def _query_seconds(row: Row) -> Summary | None:
    """Of worlds their bucket scores and the decode; ranges are the sums of the parts' ranges."""
    world, decode = row.seconds("world"), row.seconds("decode")
    if world is None or decode is None:
        return row.seconds("throughput")
    scores = world.scaled(num_worlds(row))
    return Summary(
        scores.median + decode.median, scores.low + decode.low, scores.high + decode.high
    )


def scale_columns(section: Section) -> tuple[Column, ...]:
    """Columns of these studies: bytes, times, quality."""
    is_twin = any(row.settings["data"]["name"] in TWINS for row in section.rows)
    qualities = () if is_twin else tuple(quality_column(metric) for metric in section.metrics)

    def gigabytes(name: str, title: str, key: str, **more: bool) -> Column:
        return Column(name, title, recorded("memory", key), _gigabytes, **more)

    world = recorded("memory", "world_bytes", factor=1e-6)
    return (
        gigabytes("needs", "needs GB", "predicted_bytes", is_compact=True),
        gigabytes("at_once", "at once GB", "all_at_once_bytes", is_optional=True),
        gigabytes("model", "model GB", "parameter_bytes"),
        Column("world", "a world MB", world, is_optional=True),
        gigabytes("labels", "table, index GB", "decode_bytes", is_optional=True),
        gigabytes("training_peak", "training peak GB", "host_train_peak_bytes", is_compact=True),
        gigabytes(
            "decode_peak",
            "decode peak GB",
            "host_decode_peak_bytes",
            is_optional=True,
            is_compact=True,
        ),
        gigabytes("device", "device peak GB", "device_allocated_peak_bytes", is_optional=True),
        Column("step", "step ms", timed("train", 1e3)),
        Column("epoch", "s a world and epoch", _epoch_seconds, is_compact=True),
        Column("hours", "h in all", _hours, is_compact=True),
        Column(
            "trained", "trained s", lambda row: row.summarize(_trained_seconds), is_optional=True
        ),
        Column("query", "query ms", scaled(_query_seconds, 1e3), is_compact=True),
        Column("decode", "decode ms", timed("decode", 1e3)),
        Column("alone", "decode alone ms", timed("decode-alone", 1e3), is_compact=True),
        *qualities,
        LOAD,
    )


def _gigabytes(num_bytes: float) -> str:
    return number(num_bytes / 1e9)


def build_scale_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: what trains here, what does not fit and by how much, published rows."""
    columns = shown_columns(scale_columns(section), section.rows, is_compact=is_compact)
    rows = [_line(row, columns) for row in section.rows]
    is_flat = any(dig(row.settings, "model", "options", "trained_worlds") for row in section.rows)
    return Table(
        title=section.title,
        columns=("method", "setting", "n", *(column.title for column in columns)),
        groups=tuple(tuple(group) for group in (rows, published_lines(section, columns)) if group),
        notes=notes_of(section, _length_note(section), _seen_note(section), _MEANING)
        + ((_FLAT,) if is_flat else ()),
        spare=spare_of(columns),
    )


def _line(row: Row, columns: Sequence[Column]) -> tuple[Cell, ...]:
    found = [Cell(column.write(row) or GAP) for column in columns]
    if not row.done:
        status = str(row.records[-1].get("status"))
        needed = found[0].text
        found[0] = Cell(f"OOM: {needed}" if status == "oom" else status)
    return (Cell(marked(row)), Cell(setting_of(row)), Cell(count_text(row)), *found)


def setting_of(row: Row) -> str:
    """What distinguishes a row: its widths first."""
    widths = row.flat.get("hidden_dims")
    return ", ".join(filter(None, [f"H={widths}" if widths else "linear", row.setting]))


def _length_note(section: Section) -> str:
    """Length of the complete training, from which what is not measured was computed."""
    lengths = {length for row in section.rows if (length := length_of(row))}
    texts = [f"{each.epochs:g} × {each.steps:,} steps" for each in sorted(lengths, key=repr)]
    twin = TWINS.get(section.data_name)
    whose = f" of {twin.set_up.reproduces}" if twin else ""
    points = section.facts.get("num_train_points")
    if twin and isinstance(points, int):
        total = twin.set_up.sizes.num_train_points
        whose += (
            f"; the synthetic twin has {points:,} of {total:,} points, "
            f"{twin.features_per_point:g} features a point and labels by Zipf's law, which are "
            "ours; its accuracy is its own"
        )
    return f"Complete training: {' or '.join(texts)}{whose}." if texts else ""


def _seen_note(section: Section) -> str:
    known = (dig(record, "data", "num_labels_seen") for record in section.records)
    seen = next((found for found in known if found is not None), None)
    shares = [row.at("test", "seen in training") for row in section.rows if row.done]
    share = next((found for found in shares if found), None)
    if not isinstance(seen, int) or share is None:
        return ""
    points = section.facts.get("num_test_points")
    num_labels = section.facts.get("num_labels")
    of_all = f", {100 * seen / num_labels:.1f} % of all" if num_labels else ""
    return (
        f"{seen:,} labels have training points{of_all}; recall is that of the "
        f"{100 * share.median:.1f} % of {points:,} test queries that ask for one of them."
    )


def compared(section: Section) -> list[Column]:
    """Columns in which own results stand beside the reference's."""
    names = ("needs", "training_peak", "step", "query", *section.metrics)
    return [column for column in scale_columns(section) if column.name in names]


def rows_of(section: Section) -> list[tuple[Row, str]]:
    """Rows in order, and the setting that distinguishes each."""
    return [(row, setting_of(row)) for row in section.rows]
