"""Footer sentences that every kind of table has: machine, origin, load and staleness."""

from __future__ import annotations

from collections.abc import Sequence

from bench.report.format import GAP, counted, gibibytes
from bench.report.sections import Row, Section
from bench.report.summary import Record, clean, dig
from bench.store.costs import CostLine

# Of the processor time: from here on a row's times are marked.
_BUSY = 0.1


def notes_of(section: Section, *own: str, metrics: Sequence[str] = ()) -> tuple[str, ...]:
    """Footer of a section's table: the table's own sentences stand in the middle."""
    notes = [machine_note(section), _origin_note(section), _costs_note(section), *own]
    return (*filter(None, [*notes, _weights_note(section)]), *mark_notes(section, metrics))


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


def busy_mark(row: Row) -> str:
    """‡ where others took much of the processor time while the row was timed."""
    share = row.timing.load if row.timing else None
    return "‡" if share is not None and share > _BUSY else ""


def _busy_note(section: Section) -> str:
    if not any(busy_mark(row) for row in section.rows):
        return ""
    return (
        f"‡ others took more than {100 * _BUSY:.0f} % of the processor time in one of the row's "
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
