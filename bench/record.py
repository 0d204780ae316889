"""What a trial left behind: one JSON object a line, appended and never edited.

A record holds the quality that settings alone decide, bytes, a status and the provenance; nothing
derived. Missing is null, never 0. What depends on a machine's speed is in `bench.costs`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, cast, get_args

SCHEMA = 2

Status = Literal["done", "oom", "timeout", "error"]
STATUSES: tuple[Status, ...] = get_args(Status)

# Blocks that a trial's own process fills; null for what it did not reach.
PAYLOAD_MAPPINGS = (
    "data",
    "memory",
    "clock",
    "training",
    "test",
    "estimators",
    "inference",
    "resolved",
)
PAYLOAD_LISTS = ("worlds",)
PAYLOAD_KEYS = PAYLOAD_MAPPINGS + PAYLOAD_LISTS

_MEMORY_KEYS = (
    "parameter_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "activation_bytes",
    "predicted_bytes",
    "host_baseline_bytes",
    "host_peak_bytes",
    "host_train_peak_bytes",
    "device_allocated_peak_bytes",
    "device_reserved_peak_bytes",
    "decode_bytes",
)
_CLOCK_KEYS = (
    "setup_seconds",
    "train_seconds",
    "validation_seconds",
    "evaluation_seconds",
    "wall_seconds",
)
# A block that was reached in part has all its names, with null for the rest.
_BLOCK_KEYS: Mapping[str, tuple[str, ...]] = {"memory": _MEMORY_KEYS, "clock": _CLOCK_KEYS}


class RecordError(ValueError):
    """A value is not a record."""


class SchemaError(RecordError):
    """A record was written by another version of the schema."""


@dataclass(frozen=True)
class Record:
    """One measured outcome: a thin view of its JSON object.

    Attributes:
        raw: the JSON object; not to be changed.
    """

    raw: Mapping[str, Any]

    def __post_init__(self) -> None:
        _validate(self.raw)

    @property
    def study(self) -> str:
        """Name of the study that asked for the trial."""
        return cast(str, self.raw["study"])

    @property
    def trial_id(self) -> str:
        """Hash of the resolved settings."""
        return cast(str, self.raw["trial_id"])

    @property
    def settings(self) -> Mapping[str, Any]:
        """Resolved settings, as `Trial.to_dict` gives them."""
        return cast(Mapping[str, Any], self.raw["settings"])

    @property
    def method(self) -> str:
        """Registered name of the method."""
        return cast(str, self.settings["model"]["method"])

    @property
    def replicate(self) -> int:
        """Which independent repetition of the same configuration."""
        return cast(int, self.settings["replicate"])

    @property
    def status(self) -> Status:
        """How the trial ended."""
        return cast(Status, self.raw["status"])

    @property
    def reason(self) -> str | None:
        """Why the trial is not done; None when it is."""
        return cast("str | None", self.raw.get("reason"))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Code, software, machine and flags behind the numbers."""
        return cast(Mapping[str, Any], self.raw["provenance"])

    @property
    def versions(self) -> Mapping[str, int]:
        """Versions of method, source and protocol that it was made with."""
        return cast(Mapping[str, int], self.raw["versions"])

    @property
    def machine(self) -> Mapping[str, Any]:
        """Where the trial ran."""
        return cast(Mapping[str, Any], self.provenance["machine"])

    def block(self, name: str) -> Mapping[str, Any]:
        """A block of the payload (`data`, `memory`, `clock` …); empty where it was not reached."""
        return cast("Mapping[str, Any] | None", self.raw.get(name)) or {}

    def to_json(self) -> str:
        """One line of JSON, without the line end."""
        return json.dumps(self.raw, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


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
    """Record from its parts, with NaN and infinities turned to null and absent blocks added.

    Raises:
        RecordError: a part has the wrong type, or the payload has an unknown block.
    """
    unknown = sorted(set(payload) - set(PAYLOAD_KEYS))
    if unknown:
        raise RecordError(f"unknown block {unknown[0]!r} in a payload; expected {PAYLOAD_KEYS}")
    blocks = {name: to_plain(payload.get(name)) for name in PAYLOAD_KEYS}
    for name, keys in _BLOCK_KEYS.items():
        if isinstance(blocks[name], dict):
            blocks[name] = dict.fromkeys(keys) | blocks[name]
    return Record(
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
    line that cannot be written whole (a full disk) is taken back.
    """
    line = text.encode() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
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
        os.close(descriptor)  # releases the lock
    if not size:
        _sync_directory(path.parent)


def read(path: Path) -> tuple[list[Record], list[str]]:
    """All whole records of a file in order, and a warning (`file:line: …`) for each that is not.

    A file that does not exist holds none.

    Raises:
        SchemaError: a record of another schema; ignoring it would run its trial again.
    """
    return read_lines(path, Record)


T = TypeVar("T")


def read_lines(path: Path, parse: Callable[[Any], T]) -> tuple[list[T], list[str]]:
    """What a file of JSON lines holds, and a warning for each line that is not whole.

    Args:
        path: a file; one that does not exist holds nothing.
        parse: from a line's value; raises `RecordError` for one that it does not take.

    Raises:
        SchemaError: a line of another schema.
    """
    parsed: list[T] = []
    warnings: list[str] = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return parsed, warnings
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            parsed.append(parse(json.loads(line)))
        except SchemaError as error:
            raise SchemaError(f"{path}:{number}: {error}") from None
        except RecordError as error:
            warnings.append(f"{path}:{number}: line ignored: {error}")
        except (ValueError, RecursionError) as error:
            what = "torn last line" if number == len(lines) else "line is not JSON"
            warnings.append(f"{path}:{number}: {what} ignored ({_brief(error)})")
    return parsed, warnings


def machine_key(machine: Mapping[str, Any]) -> str:
    """What tells a machine from others.

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


def check_schema(raw: Any) -> None:
    """Refuse what is no JSON object of this schema.

    Raises:
        SchemaError: it is of another schema.
        RecordError: it is of none.
    """
    if not isinstance(raw, Mapping):
        raise RecordError(f"a record is a JSON object, not {type(raw).__name__}")
    schema = raw.get("schema")
    if schema != SCHEMA:
        if isinstance(schema, int):
            raise SchemaError(f"record has schema {schema}; this version reads schema {SCHEMA}")
        raise RecordError(f"'schema' is {schema!r}; expected {SCHEMA}")


def _validate(raw: Any) -> None:
    check_schema(raw)
    for name in ("study", "trial_id", "started_at"):
        require_type(raw, name, str)
    for name in ("settings", "provenance", "versions"):
        require_type(raw, name, Mapping)
    for name, version in raw["versions"].items():
        if not isinstance(version, int):
            raise RecordError(f"version of {name!r} is {version!r}; expected a whole number")
    for name in ("data", "model", "train"):
        require_type(raw["settings"], name, Mapping)
    require_type(raw["settings"]["model"], "method", str)
    require_type(raw["settings"], "replicate", int)
    if raw.get("status") not in STATUSES:
        raise RecordError(f"'status' is {raw.get('status')!r}; expected one of {STATUSES}")
    if raw.get("reason") is not None:
        require_type(raw, "reason", str)
    for name in PAYLOAD_MAPPINGS:
        if raw.get(name) is not None:
            require_type(raw, name, Mapping)
    for name in PAYLOAD_LISTS:
        if raw.get(name) is not None:
            require_type(raw, name, Sequence)
    require_type(raw["provenance"], "machine", Mapping)


def require_type(raw: Mapping[str, Any], name: str, expected: type) -> None:
    """Refuse a value of another type.

    Raises:
        RecordError: the value under a name is not of this type.
    """
    if not isinstance(raw.get(name), expected):
        raise RecordError(f"{name!r} is {raw.get(name)!r}; expected {expected.__name__}")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _brief(error: Exception) -> str:
    return str(error).splitlines()[0][:120]
