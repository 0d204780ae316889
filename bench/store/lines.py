"""What every field of the files under `results/` is: records, cost lines, audits, budgets.

Values are taken as they are written: a text of digits is no number, `1.0` no integer, `true` not
1, and NaN nothing. Names that a later version, or a method of somebody's own, has beside those
known here may hold anything. Null stands for what is missing.
"""

from __future__ import annotations

import copy
import functools
import re
import reprlib
import sys
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, ValidationError

from bench.errors import UserError
from bench.settings import DataSpec, ModelSpec, TrainSpec

#: How a trial ends, and what an audit makes of a record.
Status = Literal["done", "oom", "timeout", "error"]
Outcome = Literal["found", "differs", "failed"]
STATUSES: tuple[Status, ...] = typing.get_args(Status)

_MOST = 2**63 - 1  # what other programs read as an integer
_LARGEST = sys.float_info.max
Whole = Annotated[int, Meta(ge=-_MOST, le=_MOST)]
Count = Annotated[int, Meta(ge=0, le=_MOST)]
Positive = Annotated[int, Meta(ge=1, le=_MOST)]
# msgspec finds NaN outside of any bounds.
Number = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
Amount = Annotated[float, Meta(ge=0, le=_LARGEST)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Duration = Annotated[float, Meta(gt=0, le=1e12)]
# A mean of shares may exceed 1 by rounding.
Share = Annotated[float, Meta(ge=0, le=1 + 1e-6)]
Id = Annotated[str, Meta(pattern=r"^[\w-]{1,64}\Z")]
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?\Z")]
StatusText = Annotated[str, Meta(pattern=r"^(done|oom|timeout|error)\Z")]
OutcomeText = Annotated[str, Meta(pattern=r"^(found|differs|failed)\Z")]
Scalar = bool | Whole | Number | str | None
# Metric → number; those of `_IS_SHARE` are shares, which `check_record` sees to.
Metrics = dict[str, Number | None]
Counts, Shares = dict[str, Count | None], dict[str, Share | None]

# Shares of points or labels; a metric under another name may be any number.
_IS_SHARE = functools.cache(
    re.compile(
        r"(authors )?(P|R|nDCG|PSP|PSnDCG|w?(MAP|MRR)|wR|wnDCG)@\d+.*|top-\d+.*"
        r"|recall|exact_share"
    ).fullmatch
)


def _settings(kind: type, *required: str) -> Any:
    """A group of settings, by the annotations of its class; one that is no more may be anything."""
    bounded = {"int": Whole, "float": Number, "Scalar": Scalar}
    hints = typing.get_type_hints(kind, localns=bounded, include_extras=True)
    others = [(name, hint, None) for name, hint in hints.items() if name not in required]
    return msgspec.defstruct(kind.__name__, [*((n, hints[n]) for n in required), *others])


_SPECS = {
    "data": _settings(DataSpec, "source", "name"),
    "model": _settings(ModelSpec, "method"),
    "train": _settings(TrainSpec),
}
Settings = msgspec.defstruct("Settings", _SPECS.items())
TrialSettings = msgspec.defstruct("TrialSettings", [*_SPECS.items(), ("replicate", Count)])
Group = msgspec.defstruct("Group", [("part", str), ("data", _SPECS["data"])])


class Facts(Struct):
    """Facts of the data, beside counts, whose names begin with `num_`."""

    fingerprint: str | None = None
    name: str | None = None
    source: str | None = None
    task: str | None = None
    ceiling: Share | None = None
    bayes_accuracy: Share | None = None
    test_fraction_kept: Share | None = None
    peak_share: Share | None = None
    repeated_test_share: Share | None = None
    features_per_point: Amount | None = None
    labels_per_point: Amount | None = None


class Memory(Struct):
    """Bytes, as counted, predicted or seen."""

    parameter_bytes: Count | None = None
    gradient_bytes: Count | None = None
    optimizer_bytes: Count | None = None
    activation_bytes: Count | None = None
    predicted_bytes: Count | None = None
    host_baseline_bytes: Count | None = None
    host_peak_bytes: Count | None = None
    host_train_peak_bytes: Count | None = None
    host_evaluation_peak_bytes: Count | None = None
    device_allocated_peak_bytes: Count | None = None
    device_reserved_peak_bytes: Count | None = None
    decode_bytes: Count | None = None


class Clock(Struct):
    """Seconds of a trial's parts."""

    setup_seconds: Seconds | None = None
    train_seconds: Seconds | None = None
    validation_seconds: Seconds | None = None
    evaluation_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None


class Validation(Struct):
    """A point of a trial's curve."""

    step: Count | None = None
    epoch: Amount | None = None
    loss: Number | None = None
    metrics: Metrics = {}


class Training(Struct):
    """How a training went."""

    num_steps: Count | None = None
    num_epochs: Amount | None = None
    points_seen: Count | None = None
    kept_step: Count | None = None
    curve: list[Validation] | None = None


class Subset(Struct):
    """What some of the worlds come to."""

    num_worlds: Positive
    metrics: Metrics
    worlds: list[Count] = []
    num_points: Count | None = None


class _Columns(Struct):
    """Columns of a table, each a list."""

    def __post_init__(self) -> None:
        lengths = {len(column) for column in msgspec.structs.astuple(self) if column is not None}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError("Expected columns of one length above 0")


class Reconstruction(_Columns):
    """Error of an estimator by number of worlds."""

    num_worlds: list[Count]
    error: list[Number]
    standard_error: list[Number] | None = None


class Means(_Columns):
    """Mean of an estimator by probability."""

    prob: list[Number]
    mean: list[Number]
    standard_error: list[Number]


class Curves(Struct):
    """Curves of a study without data, by estimator or number of buckets."""

    reconstruction: dict[str, Reconstruction] = {}
    means: dict[str, Means] = {}


class Inference(Struct):
    """How predictions were made."""

    k: Count | None = None
    num_scored: list[Amount] | None = None


class Machine(Struct):
    """Where it was measured."""

    cpu: str = ""
    num_cores: Positive = 1
    memory_bytes: Count | None = None
    accelerator: str | None = None


class Flags(Struct):
    """What a process was set to."""

    num_threads: Count | None = None
    num_interop_threads: Count | None = None
    numba_threads: Count | None = None
    is_deterministic: bool | None = None
    flushes_denormals: bool | None = None
    float32_matmul_precision: str | None = None
    default_dtype: str | None = None
    huge_pages_of_kernel: str | None = None
    environment: dict[str, str] = {}


class Part(Struct, kw_only=True):
    """Worlds that were trained apart from the others of a trial.

    Attributes:
        worlds: the first one's number, and the last one's plus 1.
        node: of a cluster: which of those that had a part in the trial.
    """

    worlds: tuple[Count, Count]
    node: Count
    machine: Machine
    train_seconds: Seconds | None = None
    wall_seconds: Seconds | None = None


class Provenance(Struct, kw_only=True):
    """Code, software, machine and flags behind the numbers.

    Attributes:
        parts: worlds and where they were trained; the trial's seconds of training are their sum.
        num_nodes: that had a part in the trial.
    """

    machine: Machine
    commit: str | None = None
    is_dirty: bool | None = None
    python: str = ""
    packages: dict[str, str | None] = {}
    flags: Flags = msgspec.field(default_factory=Flags)
    parts: list[Part] = []
    num_nodes: Count | None = None


class Correction(Struct, kw_only=True):
    """Of a line that corrects an older one without training: `fields` are what differs."""

    of: Time
    at: Time
    fields: list[str]
    reason: str
    commit: str | None = None


class Payload(Struct, kw_only=True):
    """Blocks that a trial's own process fills; null for what it did not reach."""

    data: Facts | None = None
    memory: Memory | None = None
    clock: Clock | None = None
    training: Training | None = None
    test: Metrics | None = None
    estimators: dict[str, dict[str, Any] | None] | None = None  # see `check_record`
    inference: Inference | None = None
    resolved: dict[str, Any] | None = None
    worlds: list[Subset] | None = None


class RecordLine(Payload, kw_only=True):
    """A quality record."""

    study: str
    trial_id: Id
    settings: TrialSettings  # type: ignore[valid-type]
    status: StatusText
    started_at: Time
    versions: dict[str, Count]
    provenance: Provenance
    reason: str | None = None
    correction: Correction | None = None


class Phase(Struct):
    """Seconds, each of so many units, and the load meanwhile."""

    seconds: list[Duration]
    units: Positive
    wall_seconds: Seconds | None = None
    other_cpu_seconds: Seconds | None = None


#: What a repetition measured.
Phases = dict[str, Phase]


class Visit(Struct):
    """One repetition of a row's measurement."""

    round: Count
    phases: Phases
    place: Count | None = None


class Row(Struct, kw_only=True):
    """A configuration's costs."""

    cost_id: Id
    settings: Settings  # type: ignore[valid-type]
    status: StatusText
    versions: dict[str, Count]
    visits: list[Visit]
    reason: str | None = None
    fingerprint: str | None = None
    weights: str | None = None
    weights_of: Id | None = None
    decode_bytes: Count | None = None
    output_bytes: Count | None = None
    memory: Memory | None = None
    inference: dict[str, Any] | None = None


class CostsLine(Struct):
    """A group of rows, timed in one session."""

    study: str
    started_at: Time
    group: Group  # type: ignore[valid-type]
    provenance: Provenance
    num_rounds: Positive
    rows: list[Row]


class Audit(Struct, kw_only=True):
    """What became of a record that was made again."""

    at: Time
    study: str
    trial_id: Id
    outcome: OutcomeText
    largest_difference: Amount | None = None
    reason: str | None = None
    commit: str | None = None
    is_dirty: bool | None = None


T = TypeVar("T")


class RecordError(UserError):
    """A value is not a record."""


def check(value: Any, kind: type[T], path: str = "") -> T:
    """A value as one of the types above; numbers, texts and lists are taken as they are written.

    Args:
        value: of JSON.
        kind: what it should be.
        path: that leads to it, for the message.

    Raises:
        RecordError: with the path to what is something else, its value and what was expected.
    """
    try:
        return msgspec.convert(value, kind)
    except ValidationError as error:
        inner_path, found, expected = _located(value, kind, str(error))
        where = (path + inner_path).removeprefix(".")
        where = where if len(where) <= _LONGEST_PATH else f"…{where[-_LONGEST_PATH:]}"
        shown = ascii(where) if where else "the whole"
        raise RecordError(f"{shown} is {_brief(found)}; {expected}") from None
    except UnicodeEncodeError as error:
        raise RecordError(f"a text is {_brief(error.object)}; expected whole characters") from None


def check_record(raw: Mapping[str, Any]) -> RecordLine:
    """The JSON object of a quality record, as its type."""
    line = check(raw, RecordLine)
    check(_named(raw.get("data") or {}, lambda n: n.startswith("num_")), Counts, "data")
    for path, metrics in _all_metrics(line):
        check(_named(metrics, _IS_SHARE), Shares, path)
    return line


def _all_metrics(line: RecordLine) -> Iterator[tuple[str, Metrics]]:
    """Metrics anywhere in a record, and where."""
    yield "test", line.test or {}
    for name, values in (line.estimators or {}).items():
        kind = _ESTIMATES.get(name, Metrics)
        check(values or {}, kind, f"estimators.{name}")
        if kind is Metrics:
            yield f"estimators.{name}", values or {}
    curve = line.training.curve if line.training else None
    for i, validation in enumerate(curve or ()):
        yield f"training.curve[{i}].metrics", validation.metrics
    for i, subset in enumerate(line.worlds or ()):
        yield f"worlds[{i}].metrics", subset.metrics


# Estimator → metrics, but for the errors and curves of a study without data.
_ESTIMATES: Mapping[str, Any] = {"standard_errors": dict[str, Amount | None], "curves": Curves}


def _named(values: Mapping[str, Any], is_meant: Callable[[str], object]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if is_meant(name)}


def _located(value: Any, kind: Any, problem: str) -> tuple[str, Any, str]:
    """Where in a value a problem is that msgspec found, what is there, and what was expected.

    msgspec writes `[...]` for any name of a mapping: it is the one that alone makes the problem.
    """
    expected, _, steps = problem.partition(" - at `$")
    path, inner = "", copy.deepcopy(value)
    root = inner
    for step in re.findall(r"\.\w+|\[\d+\]|\[\.\.\.\]", steps):
        if step == "[...]":
            for name, item in dict(inner).items():
                inner.clear()
                inner[name] = item
                if _problem(root, kind) == problem:
                    break
            path, inner = f"{path}.{name}", item
        else:
            path += step
            inner = inner[step[1:] if step[0] == "." else int(step[1:-1])]
    return path, inner, expected[:1].lower() + expected[1:]


def _problem(value: Any, kind: Any) -> str | None:
    try:
        msgspec.convert(value, kind)
    except ValidationError as error:
        return str(error)
    return None


_LONGEST_PATH = 200
_SHORT = reprlib.Repr()
_SHORT.maxlong = _SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 3, 3


def _brief(value: Any) -> str:
    """The value for a sentence: cut, and with what no terminal should obey escaped."""
    try:
        shown = _SHORT.repr(value)
    except ValueError:  # an int of more digits than Python writes
        shown = "a number of thousands of digits"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
