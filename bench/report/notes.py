"""Footer sentences that every kind of table has: machine, origin, load and staleness."""

from __future__ import annotations

from bench.report.format import gibibytes, percent
from bench.report.select import Section, dig, summarize

_LOAD_WORTH_TELLING = 0.05


def machine_note(section: Section) -> str:
    """Processor, cores, memory and accelerator."""
    texts = []
    for record in section.records:
        machine = dig(record, "provenance", "machine") or {}
        words = [str(machine.get("cpu") or "unknown processor")]
        if machine.get("num_cores"):
            words.append(f"{machine['num_cores']} cores")
        if machine.get("memory_bytes"):
            words.append(gibibytes(machine["memory_bytes"]))
        if machine.get("accelerator"):
            words.append(str(machine["accelerator"]))
        if ", ".join(words) not in texts:
            texts.append(", ".join(words))
    return f"Machine {section.machine}: {'; '.join(sorted(texts))}."


def origin_note(section: Section) -> str:
    """Commits, days and threads of the measurements, and the fingerprint of the data."""
    commits, days, threads = set(), set(), set()
    for record in section.records:
        commit = str(dig(record, "provenance", "commit") or "unknown")[:10]
        commits.add(commit + ("+changes" if dig(record, "provenance", "is_dirty") else ""))
        days.add(str(record.get("started_at"))[:10])
        threads.add(dig(record, "provenance", "flags", "num_threads"))
    plural = "s" if len(commits) > 1 else ""
    text = f"Commit{plural} {', '.join(sorted(commits))}; {min(days)}"
    text += f" to {max(days)}" if len(days) > 1 else ""
    if len(threads) == 1 and None not in threads:
        text += f"; {threads.pop()} threads"
    fingerprint = section.facts.get("fingerprint")
    return text + (f"; data {str(fingerprint)[:10]}." if fingerprint else ".")


def load_note(section: Section, during: str) -> str:
    """How busy other processes kept the machine during the trials; "" where that is little."""
    shares = [dig(record, "load", "other_cpu_share") for record in section.records]
    load = summarize(share for share in shares if share is not None)
    if not load or load.median <= _LOAD_WORTH_TELLING:
        return ""
    return (
        f"Other processes took {percent(load.median)} % of the processor time during {during} "
        f"(median of the trials; at most {percent(load.high)} %): times are upper bounds, and what "
        "was learnt within a time budget is a lower one."
    )


def stale_note(section: Section) -> str:
    """What † means, where it occurs."""
    is_stale = any(row.is_stale for row in section.rows)
    return "† measured with code that has changed since." if is_stale else ""
