"""What every field of the files under `results/` is: records, cost lines, audits, budgets.

Known names are checked by type and range; names that a later version, or a method of somebody's
own, has beside them may hold any plain value. Null stands for what is missing.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

from bench.settings import DataSpec, ModelSpec, TrainSpec
from bench.store.schema import (
    Check,
    block,
    columns,
    either,
    flag,
    from_hint,
    listing,
    named,
    number,
    one_of,
    optional,
    text,
)

#: How a trial ends, and what an audit makes of a record.
Status = Literal["done", "oom", "timeout", "error"]
Outcome = Literal["found", "differs", "failed"]
STATUSES: tuple[Status, ...] = typing.get_args(Status)
OUTCOMES: tuple[Outcome, ...] = typing.get_args(Outcome)

_NUMBER, _TEXT, _FLAG = optional(number()), optional(text()), optional(flag)
_COUNT = optional(number(0, whole=True))
_AMOUNT = optional(number(0))
_SECONDS = optional(number(0, 1e12))
# A mean of shares may exceed 1 by rounding.
_SHARE = optional(number(0, 1 + 1e-6))
_ID = text(r"[\w-]{1,64}", "letters, digits and '-'")
_TIME = text(r"\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?", "a time like 2026-01-31T12:00:00Z")

# Shares of points or labels; a metric under another name may be any number.
_SHARES = re.compile(
    r"(authors )?(P|R|nDCG|PSP|PSnDCG|w?(MAP|MRR)|wR|wnDCG)@\d+.*|top-\d+.*|recall|exact_share"
)


def _metrics(value: Any, path: str) -> None:
    """Metric → number."""
    named(_NUMBER)(value, path)
    for name, each in value.items():
        if _SHARES.fullmatch(name):
            _SHARE(each, f"{path}.{name}")


def _facts(value: Any, path: str) -> None:
    """Facts of the data, where names that begin with `num_` are counts."""
    _KNOWN_FACTS(value, path)
    for name, each in value.items():
        if name.startswith("num_"):
            _COUNT(each, f"{path}.{name}")


_KNOWN_FACTS = block(
    {
        **dict.fromkeys(("fingerprint", "name", "source", "task"), _TEXT),
        **dict.fromkeys(("ceiling", "bayes_accuracy", "test_fraction_kept", "peak_share"), _SHARE),
        "repeated_test_share": _SHARE,
        **dict.fromkeys(("features_per_point", "labels_per_point"), _AMOUNT),
    }
)


def _spec(kind: type, *needed: str) -> Check:
    """A group of settings, by the annotations of its class; one that is no more may be anything."""
    hints = typing.get_type_hints(kind)
    return block({name: from_hint(hint) for name, hint in hints.items()}, needed=needed)


_SPECS: Mapping[str, Check] = {
    "data": _spec(DataSpec, "source", "name"),
    "model": _spec(ModelSpec, "method"),
    "train": _spec(TrainSpec),
}
_SETTINGS = block(_SPECS, needed=_SPECS)
_REPLICATE = {"replicate": number(0, whole=True)}
_TRIAL_SETTINGS = block({**_SPECS, **_REPLICATE}, needed=(*_SPECS, *_REPLICATE))

MEMORY_NAMES = (
    "parameter_bytes",
    "gradient_bytes",
    "optimizer_bytes",
    "activation_bytes",
    "predicted_bytes",
    "host_baseline_bytes",
    "host_peak_bytes",
    "host_train_peak_bytes",
    "host_evaluation_peak_bytes",
    "device_allocated_peak_bytes",
    "device_reserved_peak_bytes",
    "decode_bytes",
)
CLOCK_NAMES = (
    "setup_seconds",
    "train_seconds",
    "validation_seconds",
    "evaluation_seconds",
    "wall_seconds",
)
_MEMORY = block(dict.fromkeys(MEMORY_NAMES, _COUNT))
_CLOCK = block(dict.fromkeys(CLOCK_NAMES, _SECONDS))
_VALIDATION = block({"step": _COUNT, "epoch": _AMOUNT, "loss": _NUMBER, "metrics": _metrics})
_TRAINING = block(
    {
        "num_steps": _COUNT,
        "num_epochs": _AMOUNT,
        "points_seen": _COUNT,
        "kept_step": _COUNT,
        "curve": optional(listing(_VALIDATION)),
    }
)
_SUBSET = block(
    {
        "num_worlds": number(1, whole=True),
        "worlds": listing(number(0, whole=True)),
        "num_points": _COUNT,
        "metrics": _metrics,
    },
    needed=("num_worlds", "metrics"),
)


def _with_columns(*names: str) -> Check:
    """A curve without data that has these columns; those of counts hold whole numbers."""
    whole = either(number(0, whole=True), listing(number(0, whole=True)))
    counts = {name: whole for name in names if name.startswith("num_")}
    has_names = block(counts, needed=names)

    def check(value: Any, path: str) -> None:
        columns(number())(value, path)
        has_names(value, path)

    return check


_CURVES = block(
    {
        "reconstruction": named(_with_columns("num_worlds", "error")),
        "means": named(_with_columns("prob", "mean", "standard_error")),
    }
)


def _estimators(value: Any, path: str) -> None:
    """Estimator → metrics; or the errors and curves of a study without data."""
    _KNOWN_ESTIMATORS(value, path)
    for name, each in value.items():
        if isinstance(each, Mapping) and any(map(_SHARES.fullmatch, each)):
            _metrics(each, f"{path}.{name}")


_KNOWN_ESTIMATORS = block(
    {"standard_errors": named(_AMOUNT), "curves": _CURVES}, others=optional(block({}))
)
_INFERENCE = block({"k": _COUNT, "num_scored": optional(listing(number(0)))})
_MACHINE = block(
    {
        "cpu": text(),
        "num_cores": number(1, whole=True),
        "memory_bytes": _COUNT,
        "accelerator": _TEXT,
    }
)
_FLAGS = block(
    {
        **dict.fromkeys(("num_threads", "num_interop_threads", "numba_threads"), _COUNT),
        **dict.fromkeys(("is_deterministic", "flushes_denormals"), _FLAG),
        **dict.fromkeys(
            ("float32_matmul_precision", "default_dtype", "huge_pages_of_kernel"), _TEXT
        ),
        "environment": named(text()),
    }
)
_PROVENANCE = block(
    {
        "commit": _TEXT,
        "is_dirty": _FLAG,
        "python": text(),
        "packages": named(_TEXT),
        "machine": _MACHINE,
        "flags": _FLAGS,
    },
    needed=("machine",),
)
_VERSIONS = named(number(0, whole=True))

#: Blocks that a trial's own process fills; null for what it did not reach.
PAYLOAD: Mapping[str, Check] = {
    "data": optional(_facts),
    "memory": optional(_MEMORY),
    "clock": optional(_CLOCK),
    "training": optional(_TRAINING),
    "test": optional(_metrics),
    "estimators": optional(_estimators),
    "inference": optional(_INFERENCE),
    "resolved": optional(block({})),
    "worlds": optional(listing(_SUBSET)),
}

_RECORD = {
    "study": text(),
    "trial_id": _ID,
    "settings": _TRIAL_SETTINGS,
    "status": one_of(*STATUSES),
    "started_at": _TIME,
    "versions": _VERSIONS,
    "provenance": _PROVENANCE,
}
# Of a line that corrects an older one without training: `fields` are what differs.
_CORRECTION = {"of": _TIME, "at": _TIME, "fields": listing(text()), "reason": text()}
#: A quality record.
RECORD = block(
    {
        **_RECORD,
        "reason": _TEXT,
        **PAYLOAD,
        "correction": optional(block({**_CORRECTION, "commit": _TEXT}, needed=_CORRECTION)),
    },
    needed=_RECORD,
)


_PHASE = {
    "seconds": listing(number(0, 1e12, above=True)),
    "units": number(1, whole=True),
}
#: What a visit measured: phase → seconds, each of so many units, and the load meanwhile.
PHASES = named(
    block({**_PHASE, "wall_seconds": _SECONDS, "other_cpu_seconds": _SECONDS}, needed=_PHASE)
)
_VISIT = {"round": number(0, whole=True), "phases": PHASES}
_ROW = {
    "cost_id": _ID,
    "settings": _SETTINGS,
    "status": one_of(*STATUSES),
    "versions": _VERSIONS,
    "visits": listing(block({**_VISIT, "place": _COUNT}, needed=_VISIT)),
}
_ROW_EXTRAS = {
    **dict.fromkeys(("reason", "fingerprint", "weights"), _TEXT),
    "weights_of": optional(_ID),
    **dict.fromkeys(("decode_bytes", "output_bytes"), _COUNT),
    "memory": optional(_MEMORY),
    "inference": optional(block({})),
}
_GROUP = {"part": text(), "data": _SPECS["data"]}
_COST_LINE = {
    "study": text(),
    "started_at": _TIME,
    "group": block(_GROUP, needed=_GROUP),
    "provenance": _PROVENANCE,
    "num_rounds": number(1, whole=True),
    "rows": listing(block({**_ROW, **_ROW_EXTRAS}, needed=_ROW)),
}
COST_LINE = block(_COST_LINE, needed=_COST_LINE)

_AUDIT = {"at": _TIME, "study": text(), "trial_id": _ID, "outcome": one_of(*OUTCOMES)}
AUDIT = block(
    {
        **_AUDIT,
        "largest_difference": _AMOUNT,
        "reason": _TEXT,
        "commit": _TEXT,
        "is_dirty": _FLAG,
    },
    needed=_AUDIT,
)

_BUDGET = {
    "cost_id": _ID,
    "budget_seconds": number(0, 1e12, above=True),
    "num_steps": number(1, whole=True),
    "seconds_per_step": number(0, 1e12, above=True),
    "measured": block({}),
}
_BUDGETS = {
    "study": text(),
    "budgets": listing(block({**_BUDGET, "label": text()}, needed=_BUDGET)),
}
BUDGETS = block(_BUDGETS, needed=("budgets",))
