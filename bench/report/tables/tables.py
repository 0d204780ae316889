"""The table of a study that trains, and what all tables share: marks, states, footer sentences.

What its cells hold is in `bench.report.columns`; no syntax here.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.columns import Column, shown_columns, training_columns, validation_column
from bench.report.render import GAP, Cell, Table, counted, gibibytes, number, percent
from bench.report.sections import Row, Section, best_row
from bench.report.summary import Record, clean, dig
from bench.store.costs import LOADED, CostLine
from bench.studies.tuning import standard_error

_MEANING = (
    "Quality: median (range) over n replicates; times: best of rounds (range over all of them); "
    "train s: steps × seconds a step; bold: the row that leads on validation; "
)
_MEANING_IN_FULL = (
    "MB = 10⁶ bytes; training MB: parameters, gradients and optimiser state by arithmetic; decode "
    "ms: from the hidden vector to the best labels, a query in batches of 256; load: processor "
    "time that others took, in the timed phase where it was largest; OOM: out of memory (predicted "
    "need); "
)


def build_table(section: Section, *, is_compact: bool = False) -> Table:
    """Table of a section: competitors, trivial baselines and ceilings, then published numbers."""
    columns = shown_columns(training_columns(section), section.rows, is_compact=is_compact)
    leaders = leading_rows(section)
    judged = [column for column in columns if column.is_quality or column.name == "validation"]

    def line(row: Row) -> tuple[Cell, ...]:
        name = Cell(marked(row), is_italic=row.is_trivial)
        bold = judged if any(row is leader for leader in leaders) else ()
        return (name, Cell(row.setting), Cell(count_text(row)), *cells(row, columns, bold))

    groups = [
        list(map(line, section.trained)),
        [*map(line, section.trivial), *_ceilings(section, columns)],
        published_lines(section, columns),
    ]
    meaning = _MEANING + ("" if is_compact else _MEANING_IN_FULL) + f"{GAP} not measured."
    return Table(
        title=section.title,
        columns=("method", "setting", "n", *(column.title for column in columns)),
        groups=tuple(tuple(group) for group in groups if group),
        notes=notes_of(
            section,
            _quality_note(section),
            meaning,
            metrics=[column.name for column in columns if column.is_quality],
        ),
        spare=spare_of(columns),
    )


def spare_of(columns: Sequence[Column]) -> tuple[str, ...]:
    """Heads of what a narrow terminal does without: what short tables lack goes first.

    What rows are chosen by and what leads stay.
    """
    kept = [next((column for column in columns if column.is_quality), columns[0])]
    kept += [column for column in columns if column.name == "validation"]
    others = [column for column in reversed(columns) if column not in kept]
    ordered = sorted(others, key=lambda column: column.is_compact)
    return tuple(column.title for column in ordered)


def leading_rows(section: Section) -> list[Row]:
    """The trained rows that end best on validation, all of them where they print alike."""
    column = validation_column(section.metrics[0])
    best = best_row(section.trained, section.metrics[0])
    top = column.median(best) if best else None
    return [row for row in section.trained if top and column.median(row) == top]


def marked(row: Row, name: str = "") -> str:
    """Name of a row's method with the marks that footnotes explain."""
    return (name or row.label) + ("†" if row.is_stale else "") + busy_mark(row)


def cells(row: Row, columns: Sequence[Column], bold: Sequence[Column] = ()) -> list[Cell]:
    """The numbers of a row; its status where its first quality would stand, if it has none."""
    texts = [(column.write(row), column in bold) for column in columns]
    found = [Cell(text, is_bold=is_bold) if text else Cell(GAP) for text, is_bold in texts]
    if not row.done:
        index = next((i for i, column in enumerate(columns) if column.is_quality), 0)
        found[index] = Cell(status_text(row))
    return found


def status_text(row: Row) -> str:
    """Why a row has no quality: `OOM (12.3 GiB)`, `timeout` or `error`."""
    status = str(row.records[-1].get("status"))
    if status != "oom":
        return status
    predicted = row.at("memory", "predicted_bytes")
    return f"OOM ({gibibytes(predicted.median)})" if predicted else "OOM"


def count_text(row: Row) -> str:
    """How many replicates a row has: `3`, or `2 of 3 (OOM)`."""
    done, total = len(row.done), len(row.records)
    if done == total or not done:
        return str(total)
    others = sorted(str(r.get("status")) for r in row.records if r.get("status") != "done")
    return f"{done} of {total} ({', '.join(others)})".replace("oom", "OOM")


def _ceilings(section: Section, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    bounds = {
        "Ceiling: label seen in training": section.ceiling,
        "Best attainable (Bayes)": section.facts.get("bayes_accuracy"),
    }
    empty = Cell("")
    return [
        (
            Cell(name, is_italic=True),
            empty,
            empty,
            *(Cell(percent(share) if c.name in ("P@1", "top-1") else GAP) for c in columns),
        )
        for name, share in bounds.items()
        if share is not None and section.task == "multiclass"
    ]


def published_lines(section: Section, columns: Sequence[Column]) -> list[tuple[Cell, ...]]:
    """What others published of the quantities, below our rows."""
    rows = []
    for entry in section.published:
        values = [(column, entry.metrics.get(column.name)) for column in columns]
        texts = [GAP if v is None else (column.text or number)(v) for column, v in values]
        name = Cell(f"elsewhere: {entry.label}", is_italic=True)
        rows.append((name, Cell(entry.source), Cell(""), *map(Cell, texts)))
    return rows


def _quality_note(section: Section) -> str:
    points = section.facts.get("num_test_points")
    if not points:
        return ""
    text = f"{points:,} test points"
    total = section.facts.get("num_test_points_total")
    if total and total != points:
        text += f" of {total:,}"
    metric = section.metrics[0]
    summaries = [row.quality(metric) for row in section.trained]
    best = max((summary.median for summary in summaries if summary), default=None)
    if best is not None:
        error = 100 * standard_error(best, points)
        text += f" (standard error of {metric} at {percent(best)} %: {error:.2f} points)"
    ceiling = section.facts.get("ceiling")
    if ceiling is not None and section.task == "multilabel":
        text += f"; {percent(ceiling)} % of their label occurrences have a label seen in training"
    validation = section.facts.get("num_validation_points")
    return text + (f"; {validation:,} validation points." if validation else ".")


def notes_of(section: Section, *own: str, metrics: Sequence[str] = ()) -> tuple[str, ...]:
    """Footer of a section's table: the table's own sentences stand in the middle."""
    notes = [machine_note(section), _origin_note(section), _costs_note(section), *own]
    notes += [_weights_note(section), _errors_note(section)]
    return (*filter(None, notes), *mark_notes(section, metrics))


def mark_notes(section: Section, metrics: Sequence[str] = ()) -> tuple[str, ...]:
    """What the marks at the names of rows, and at some of their metrics, mean where they occur."""
    notes = [_busy_note(section), _stale_note(section), _older_note(section, metrics)]
    return tuple(filter(None, notes))


def machine_note(section: Section) -> str:
    """Processor, cores, memory and accelerator."""
    texts = {machine_text(record) for record in section.records}
    return f"Machine {section.machine}: {'; '.join(sorted(texts))}."


def machine_text(record: Record) -> str:
    """The machine of a record, in words."""
    machine = dig(record, "provenance", "machine") or {}
    words = [str(machine.get("cpu") or "unknown processor")]
    if machine.get("num_cores"):
        words.append(f"{machine['num_cores']} cores")
    if machine.get("memory_bytes"):
        words.append(gibibytes(machine["memory_bytes"]))
    if machine.get("accelerator"):
        words.append(str(machine["accelerator"]))
    return ", ".join(words)


def _origin_note(section: Section) -> str:
    """Commits, days and threads of the quality, and the fingerprint of the data."""
    text = _origin([(dig(r, "provenance"), str(r.get("started_at"))) for r in section.records])
    threads = {dig(record, "provenance", "flags", "num_threads") for record in section.records}
    if len(threads) == 1 and None not in threads:
        text += f"; {threads.pop()} threads"
    fingerprint = section.facts.get("fingerprint")
    is_one_set = len({str(dig(row.settings, "data")) for row in section.rows}) == 1
    return text + (f"; data {str(fingerprint)[:10]}." if fingerprint and is_one_set else ".")


def _origin(made: list[tuple[Record, str]]) -> str:
    commits = set()
    for provenance, _ in made:
        commit = str(clean(dig(provenance, "commit")) or "unknown")[:10]
        commits.add(commit + ("+changes" if dig(provenance, "is_dirty") else ""))
    days = {started_at[:10] for _, started_at in made}
    text = f"Commit{'s' if len(commits) > 1 else ''} {', '.join(sorted(commits))}; {min(days)}"
    return text + (f" to {max(days)}" if len(days) > 1 else "")


def _costs_note(section: Section) -> str:
    """When times were measured, and in how many rounds."""
    if not any(row.card.is_timed for row in section.rows):
        return ""  # of what is never timed
    lines: list[CostLine] = []
    for row in section.rows:
        if row.timing and row.timing.line not in lines:
            lines.append(row.timing.line)
    if not lines:
        return "Times were not measured."
    numbers = sorted({int(line.raw["num_rounds"]) for line in lines})
    text = _origin([(line.provenance, line.started_at) for line in lines])
    rounds = " or ".join(map(str, numbers))
    return f"Times: {rounds} rounds over all rows; {text[0].lower()}{text[1:]}."


def _weights_note(section: Section) -> str:
    timed = [row.timing for row in section.rows if row.timing]
    started = [t for t in timed if t.has_inference and t.row.get("weights") == "started"]
    others = [timing for timing in timed if not timing.has_inference]
    sentences = []
    if started:
        which = "all rows" if len(started) == len(section.rows) else counted(len(started), "row")
        sentences.append(f"Inference of {which} was timed on weights that had only begun to learn.")
    if others:
        whose = "its" if len(others) == 1 else "their"
        which = counted(len(others), "row")
        sentences.append(f"Inference of {which} was not timed on weights of {whose} own: {GAP}.")
    return " ".join(sentences)


def _errors_note(section: Section) -> str:
    """Why rows have no numbers, those with the same reason together."""
    rows: dict[str, list[str]] = {}
    for row in section.rows:
        last = row.records[-1]
        if not row.done and last.get("status") == "error":
            rows.setdefault(str(last.get("reason")), []).append(row.label)
    texts = [f"{', '.join(dict.fromkeys(names))}: {reason}" for reason, names in rows.items()]
    return f"Errors: {'; '.join(texts)}." if texts else ""


def busy_mark(row: Row) -> str:
    """‡ where others took much of the processor time while the row was timed."""
    share = row.timing.load if row.timing else None
    return "‡" if share is not None and share > LOADED else ""


def _busy_note(section: Section) -> str:
    if not any(busy_mark(row) for row in section.rows):
        return ""
    return (
        f"‡ others took more than {100 * LOADED:.0f} % of the processor time in one of the row's "
        "timed phases: its times are upper bounds."
    )


def _stale_note(section: Section) -> str:
    is_stale = any(row.is_stale for row in section.rows)
    return "† made by an older version of method, data source or protocol." if is_stale else ""


def _older_note(section: Section, metrics: Sequence[str]) -> str:
    if not any(row.has_older(metric) for row in section.rows for metric in metrics):
        return ""
    return (
        "† at a PSP: its propensities are those of the training points without the validation "
        "points; today they are those of the complete training file."
    )
