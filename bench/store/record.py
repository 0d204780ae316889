"""What a trial left behind: one JSON object a line, appended and never edited.

A record holds the quality that settings alone decide, bytes, a status and the provenance; nothing
derived. Missing is null, never 0. What depends on a machine's speed is in `bench.store.costs`, what
each field may hold in `bench.store.lines`; `bench.runner.child.run_job` builds records, and
`bench.report.load` reads them for tables.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import reprlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from bench.errors import StorageError, os_message
from bench.settings import SettingsError, Trial
from bench.store import lines
from bench.store.files import sync
from bench.store.hosts import files_of_kind
from bench.store.lines import RecordError, Status
from bench.store.locks import lock_open

SCHEMA = 2

PAYLOAD_KEYS = lines.Payload.__struct_fields__
# A block that was reached in part has all its names, with null for the rest.
_BLOCK_KEYS = {
    "memory": lines.Memory.__struct_fields__,
    "clock": lines.Clock.__struct_fields__,
}


class SchemaError(RecordError):
    """A record was written by another version of the schema."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One measured outcome; see :func:`parse`.

    Attributes:
        raw: the JSON object; not to be changed.
        study: name of the study that asked for the trial.
        trial_id: hash of the resolved settings.
        settings: resolved settings, as `Trial.to_dict` gives them.
        status: how the trial ended.
        reason: why the trial is not done; None when it is.
        versions: of method, source and protocol that it was made with.
        provenance: code, software, machine and flags behind the numbers.
    """

    raw: Mapping[str, Any]
    study: str
    trial_id: str
    settings: Mapping[str, Any]
    status: Status
    reason: str | None = None
    versions: Mapping[str, int]
    provenance: Mapping[str, Any]

    @property
    def machine(self) -> Mapping[str, Any]:
        """Where the trial ran."""
        return cast(Mapping[str, Any], self.provenance["machine"])

    @property
    def wall_seconds(self) -> float | None:
        """Seconds from the start of the trial's process to its end; None if nobody knows."""
        return self.block("clock").get("wall_seconds")

    def block(self, name: str) -> Mapping[str, Any]:
        """A block of the payload (`data`, `memory`, `clock` …); empty where it was not reached."""
        return cast("Mapping[str, Any] | None", self.raw.get(name)) or {}

    def to_json(self) -> str:
        """One line of JSON, without the line end."""
        return json.dumps(self.raw, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def parse(raw: Any) -> Record:
    """A record from its JSON object.

    Raises:
        SchemaError: it is of another schema.
        RecordError: it is of none, or a field is not what it must be; the message names it.
    """
    check_schema(raw)
    line = lines.check_record(raw)
    return Record(
        raw=raw,
        study=line.study,
        trial_id=line.trial_id,
        settings=raw["settings"],
        status=raw["status"],
        reason=line.reason,
        versions=line.versions,
        provenance=raw["provenance"],
    )


def check_schema(raw: Any) -> None:
    """Refuse what is no JSON object of this schema."""
    schema = raw.get("schema") if isinstance(raw, Mapping) else None
    if type(schema) is not int:  # neither true nor 2.0
        raise RecordError(f"'schema' is {reprlib.repr(schema)}; expected {SCHEMA}")
    if schema != SCHEMA:
        raise SchemaError(f"record has schema {schema}; this version reads schema {SCHEMA}")


def build(
    *,
    study: str,
    trial_id: str,
    settings: Mapping[str, Any],
    status: Status,
    reason: str | None,
    started_at: str,
    versions: Mapping[str, int],
    payload: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> Record:
    """Record from its parts, with NaN and infinities turned to null and absent blocks added."""
    unknown = sorted(set(payload) - set(PAYLOAD_KEYS))
    if unknown:
        raise RecordError(f"unknown block {unknown[0]!r} in a payload; expected {PAYLOAD_KEYS}")
    blocks = {name: to_plain(payload.get(name)) for name in PAYLOAD_KEYS}
    for name, keys in _BLOCK_KEYS.items():
        if isinstance(blocks[name], dict):
            blocks[name] = dict.fromkeys(keys) | blocks[name]
    return parse(
        {
            "schema": SCHEMA,
            "study": study,
            "trial_id": trial_id,
            "settings": to_plain(settings),
            "status": status,
            "reason": to_plain(reason),
            "started_at": started_at,
            "versions": dict(versions),
            **blocks,
            "provenance": to_plain(provenance),
        }
    )


def to_plain(value: Any) -> Any:
    """The same value in JSON's types; NaN and infinities become null.

    Arrays and tensors are unpacked by their own `tolist`; what is no text of UTF-8, such as the
    rest of a file name that could not be decoded, is escaped.

    Raises:
        RecordError: a value has no JSON form.

    >>> to_plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {to_plain(str(key)): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):
        return to_plain(value.tolist())
    raise RecordError(f"a record cannot hold {value!r} of type {type(value).__name__}")


def append(path: Path, record: Record) -> None:
    """Add a record to a file of them; see :func:`append_line`."""
    append_line(path, record.to_json())


def append_line(path: Path, text: str) -> None:
    """Add one line to a file, durably; safe beside other writers.

    A torn last line, left by a killed writer, is closed first so that it spoils nothing else. A
    line that cannot be written in full (a full disk) is taken back.

    Raises:
        StorageError: it cannot be written; it is kept in another folder then, which is named.
    """
    try:
        _append_line(path, text.encode() + b"\n")
    except OSError as error:
        raise StorageError(f"{path}: {os_message(error)}; {_kept_elsewhere(path, text)}") from error


def _append_line(path: Path, line: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        lock_open(descriptor, path)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            written = 0
            while written < len(line):
                written += os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if not size:
        sync(path.parent)


def _kept_elsewhere(path: Path, text: str) -> str:
    """Where a line that took hours is, if its own file cannot be written: in words."""
    name = f"bench-kept-{path.parent.name}-{path.stem}-{os.getpid()}{path.suffix}"
    for folder in (tempfile.gettempdir, Path.cwd, Path.home):
        with contextlib.suppress(OSError, RuntimeError):
            other = Path(folder()) / name
            try:
                _append_line(other, text.encode() + b"\n")
            except OSError:
                other.unlink(missing_ok=True)  # nobody else's: this process is in its name
                raise
            return f"the line is kept in {other}; append it to the file when there is room"
    return f"nor could the line be kept elsewhere, which is: {text}"


def read(path: Path) -> tuple[list[Record], list[str]]:
    """All complete records of a file in order, and a warning (`file:line: …`) for each that is not.

    A file that does not exist holds none.

    Raises:
        SchemaError: a record of another schema; ignoring it would run its trial again.
        RecordError: the file cannot be read.
    """
    return read_lines(path, _own)


def read_kind(path: Path) -> tuple[list[Record], list[str]]:
    """Records of all hosts of a file's kind, the oldest first, and warnings; see :func:`read`.

    Those of one host are in their order.
    """
    paths = files_of_kind(path)
    found = [read(each) for each in paths]
    records = [each for records, _ in found for each in records]
    if len(paths) > 1:
        records.sort(key=lambda each: str(each.raw["started_at"]))
    return records, [warning for _, warnings in found for warning in warnings]


def quality(measured: Record) -> dict[str, Any]:
    """All of a record that settings alone decide."""
    names = ("test", "worlds", "estimators", "training")
    return {name: measured.raw.get(name) for name in names}


def contradictions(
    files: Mapping[Path, Sequence[Record]], repeats: Callable[[str, str], bool]
) -> Iterator[str]:
    """A sentence for each record that is not what another one of the same trial says.

    Args:
        files: records, by where they stand.
        repeats: whether a method gives the same again, by study and name.
    """
    first: dict[tuple[Any, ...], tuple[Path, Record]] = {}
    for path, records in files.items():
        for each in records:
            where, other = first.setdefault(_identity(each), (path, each))
            method = each.settings["model"]["method"]
            if quality(other) != quality(each) and repeats(each.study, method):
                yield (
                    f"{path}: trial {each.trial_id} differs from that in {where}; expected "
                    "the same quality of the same versions, data, threads and processors"
                )


def _identity(each: Record) -> tuple[Any, ...]:
    """What decides a record's quality; one that is not done stands for itself."""
    if each.status != "done":
        return (each.to_json(),)
    return (
        each.study,
        each.trial_id,
        machine_key(each.machine),
        tuple(sorted(each.versions.items())),
        each.block("data").get("fingerprint"),
        each.provenance["flags"].get("num_threads"),
        each.raw["test"] is None,  # tuning scores validation alone
    )


def _own(raw: Any) -> Record:
    """A record whose settings are still those of its id."""
    found = parse(raw)
    check_id(found.settings, "trial_id", found.trial_id)
    return found


def check_id(settings: Mapping[str, Any], name: Literal["trial_id", "cost_id"], known: str) -> None:
    """Refuse settings that are not those of an id.

    Of settings whose names are not today's, nothing is known.
    """
    try:
        trial = Trial.from_dict({"replicate": 0, **settings})
    except SettingsError as error:
        if isinstance(
            error.__cause__, TypeError | KeyError
        ):  # a name that is not known, or missing
            return
        raise RecordError(str(error)) from None
    if (own := getattr(trial, name)) != known:
        raise RecordError(f"{name!r} is {known!r}, but its settings give {own!r}")


T = TypeVar("T")


def read_lines(path: Path, parse: Callable[[Any], T]) -> tuple[list[T], list[str]]:
    """What a file of JSON lines holds, and a warning for each line that is not complete.

    Args:
        path: a file; one that does not exist holds nothing.
        parse: from a line's value; raises `RecordError` for one that it does not take.

    Raises:
        SchemaError: a line of another schema.
        RecordError: the file cannot be read.
    """
    parsed: list[T] = []
    warnings: list[str] = []
    try:
        lines_of_file = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return parsed, warnings
    except OSError as error:
        raise RecordError(f"{path}: {os_message(error)}; expected a file of lines") from error
    for number, line in enumerate(lines_of_file, start=1):
        if not line.strip():
            continue
        try:
            parsed.append(parse(msgspec.json.decode(line)))
        except SchemaError as error:
            raise SchemaError(f"{path}:{number}: {error}") from None
        except RecordError as error:
            warnings.append(f"{path}:{number}: line ignored: {error}")
        except (ValueError, RecursionError) as error:
            what = "torn last line" if number == len(lines_of_file) else "line is not JSON"
            warnings.append(f"{path}:{number}: {what} ignored ({_brief(error)})")
    return parsed, warnings


def machine_key(machine: Mapping[str, Any]) -> str:
    """What distinguishes a machine from others.

    Memory counts in GiB: what a system keeps of it for itself differs by pages from start to start.

    >>> machine_key({"num_cores": 2, "memory_bytes": 25_276_502_016})
    '{"memory_bytes": 24, "num_cores": 2}'
    """
    known = dict(machine)
    if known.get("memory_bytes") is not None:
        known["memory_bytes"] = round(known["memory_bytes"] / 2**30)
    return json.dumps(known, sort_keys=True)


def latest(records: Iterable[Record]) -> list[Record]:
    """The last record of each trial on each machine, in the order of its first one."""
    newest: dict[tuple[str, str, str], Record] = {}
    for record in records:
        newest[record.study, record.trial_id, machine_key(record.machine)] = record
    return list(newest.values())


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
