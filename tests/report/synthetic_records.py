"""Made-up records and cost lines for the report's tests: plausible in shape, measured nowhere."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.report.render import Cell, Table
from bench.report.sections import Section, select_sections
from bench.report.summary import Timings
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.store.costs import parse
from bench.studies.study import Study
from tests.data.rows import planted

MACHINE = {"cpu": "Imaginary CPU 9000", "num_cores": 2}
MACHINE |= {"memory_bytes": 8 * 2**30, "accelerator": None}
SLUG = "imaginary-2c"
NUM_LABELS = {"small": 20_000, "all": 83_071, "tags": 52_946}
NUM_FEATURES = 89_822
NUM_TRAIN = {"small": 410_000, "all": 608_623, "tags": 30_000}
TRIVIAL = ("frequency", "centroid")


def study(name: str = "imaginary", **fields: Any) -> Study:
    """A study all of whose records are shown."""
    plain = {"claim": "A claim.", "trials": lambda profile: [], "smoke": list, "profiles": ()}
    return Study(name=name, **{**plain, **fields})


STUDY = study()


def trial(
    method: str,
    *,
    data: str = "small",
    encoder: str = "mlp",
    hidden: int = 128,
    replicate: int = 0,
    learning_rate: float = 1e-3,
    num_steps: int = 8000,
    **options: Any,
) -> Trial:
    """Trial of a method on a made-up data set."""
    points = planted(NUM_TRAIN[data], 66_822, NUM_FEATURES, NUM_LABELS[data])
    return Trial(
        data=DataSpec(source="planted", name=data, options=points),
        model=ModelSpec(
            method=method,
            encoder=encoder,  # type: ignore[arg-type]
            hidden_dims=(hidden,) if encoder == "mlp" else (),
            options=options,
        ),
        train=TrainSpec(learning_rate=learning_rate, num_steps=num_steps),
        replicate=replicate,
    )


def provenance(machine: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Where a record or cost line comes from."""
    return {
        "commit": "abcdef0123456789",
        "is_dirty": False,
        "python": "3.12.0",
        "packages": {"torch": "2.13.0"},
        "machine": machine or MACHINE,
        "flags": {"num_threads": 2},
    }


def bare(of: Trial, *, status: str = "done", **more: Any) -> dict[str, Any]:
    """What all records hold, and `more`."""
    return {
        "schema": 2,
        "study": "imaginary",
        "trial_id": of.trial_id,
        "settings": of.to_dict(),
        "status": status,
        "reason": None if status == "done" else f"made-up {status}",
        "started_at": "2030-01-02T03:04:05Z",
        "versions": {"method": 1, "source": 1, "protocol": 1},
        "provenance": provenance(),
        **more,
    }


def record(
    of: Trial,
    *,
    study: str = "imaginary",
    status: str = "done",
    accuracy: float | None = None,
    validation: float | None = None,
    machine: Mapping[str, Any] | None = None,
    task: str = "multiclass",
    version: int = 1,
) -> dict[str, Any]:
    """A record as a trial of that kind might leave it; accuracies are exact P@1s."""
    rng = random.Random(of.trial_id)
    size = _size(of)
    quality = _accuracy(of) * (1 + 0.015 * rng.uniform(-1, 1)) if accuracy is None else accuracy
    blocks = ("memory", "clock", "training", "test", "worlds", "estimators", "inference")
    base = bare(
        of,
        study=study,
        status=status,
        versions={"method": version, "source": 1, "protocol": 1, "sampler=in_batch": 2},
        data=_facts(of, task),
        provenance=provenance(machine),
        **dict.fromkeys((*blocks, "resolved")),
    )
    if status == "oom":
        base["memory"] = {"predicted_bytes": 33 * 2**30}
    if status != "done":
        return base
    is_trained = of.model.method not in TRIVIAL
    parameters = 4 * size
    activations = 4 * 256 * size // 800 if is_trained else 0
    training = 4 * parameters if is_trained else parameters
    start = 420_000_000
    base["memory"] = {
        "parameter_bytes": parameters,
        "gradient_bytes": parameters if is_trained else 0,
        "optimizer_bytes": 2 * parameters if is_trained else 0,
        "activation_bytes": activations,
        "predicted_bytes": training + activations,
        "host_baseline_bytes": start,
        "host_peak_bytes": start + int(1.15 * training) + activations + 60_000_000,
        "host_train_peak_bytes": start + int(1.1 * training) + activations + 40_000_000,
        "device_allocated_peak_bytes": None,
        "device_reserved_peak_bytes": None,
        "decode_bytes": 4 * NUM_LABELS[of.data.name],
    }
    base["clock"] = {"setup_seconds": 12.0, "train_seconds": 300.0, "wall_seconds": 340.0}
    base["test"] = _metrics(quality)
    if not is_trained:
        return base
    steps = of.train.num_steps or 0
    end = quality if validation is None else validation
    base["training"] = {
        "num_steps": steps,
        "num_epochs": steps * 256 / NUM_TRAIN[of.data.name],
        "points_seen": steps * 256,
        "curve": [
            {
                "step": steps * k // 8,
                "epoch": steps * k / 8 * 256 / NUM_TRAIN[of.data.name],
                "loss": 9 - k / 2,
                "metrics": _metrics(end * (1 - math.exp(-3.2 * k / 8)) / (1 - math.exp(-3.2))),
            }
            for k in range(9)
        ],
    }
    if of.model.method == "mach":
        base["worlds"] = list(_subsets(of, quality, rng))
    return base


def _size(of: Trial) -> int:
    options, labels = of.model.options, NUM_LABELS[of.data.name]
    hidden = of.model.hidden_dims[-1] if of.model.hidden_dims else 0
    if of.model.method == "mach":
        worlds, buckets = int(options["num_worlds"] or 0), int(options["num_buckets"] or 0)
        if not hidden:
            return worlds * buckets * NUM_FEATURES
        encoders = 1 if options.get("share_encoder") else worlds
        return encoders * NUM_FEATURES * hidden + worlds * hidden * buckets
    if of.model.method in TRIVIAL:
        return labels if of.model.method == "frequency" else 60 * labels
    return NUM_FEATURES * hidden + (hidden + 1) * labels


def _accuracy(of: Trial) -> float:
    options = of.model.options
    best = {"small": 0.42, "all": 0.31, "tags": 0.35}[of.data.name]
    if of.model.method == "mach":
        cells = float(options["num_worlds"] or 0) * float(options["num_buckets"] or 0)
        share = {True: 0.96, False: 1.0}[bool(options.get("share_encoder"))]
        return best * share * cells / (cells + 5000)
    if of.model.method == "sampled_softmax":
        return best * {"uniform": 0.8, "unigram": 0.93}.get(str(options.get("sampler")), 0.97)
    return best * {"frequency": 0.02, "centroid": 0.7}.get(of.model.method, 1.0)


def _metrics(quality: float) -> dict[str, float]:
    return {"P@1": quality, "P@3": 0.47 * quality, "P@5": 0.32 * quality, "top-5": 1.6 * quality}


def _subsets(of: Trial, quality: float, rng: random.Random) -> Iterable[dict[str, Any]]:
    total = int(of.model.options["num_worlds"] or 0)
    buckets = float(of.model.options["num_buckets"] or 0)
    best = quality * (total * buckets + 5000) / (total * buckets)
    num = 1
    while num <= total:
        for _ in range(5 if num < total else 1):
            value = best * num * buckets / (num * buckets + 5000)
            value *= 1 + 0.06 * rng.uniform(-1, 1) / num
            yield {"num_worlds": num, "num_points": 2000, "metrics": _metrics(value)}
        num *= 2


def _facts(of: Trial, task: str) -> dict[str, Any]:
    return {
        "source": of.data.source,
        "name": of.data.name,
        "fingerprint": "f00d" * 16,
        "num_train_points": NUM_TRAIN[of.data.name],
        "num_validation_points": 2000,
        "num_test_points": 10_000,
        "num_test_points_total": 66_822,
        "num_features": NUM_FEATURES,
        "num_labels": NUM_LABELS[of.data.name],
        "task": task,
        "ceiling": 0.972,
    }


def phases_of(of: Trial) -> dict[str, tuple[float, int]]:
    """Phase → seconds for one unit, and units, as a row of that kind might take."""
    size = _size(of)
    latency = 0.0004 + size * 1.3e-10
    learning = (
        {"fit": (1.5, 1)} if of.model.method in TRIVIAL else {"train": (size * 9e-9 + 0.004, 12)}
    )
    return {
        **learning,
        "latency": (latency, 1),
        "throughput": (latency / 9, 256),
        "decode": (latency / 20, 256),
    }


def cost_row(
    of: Trial, phases: Mapping[str, Any], rounds: Sequence[float] = (1.0, 1.02, 0.99), **more: Any
) -> dict[str, Any]:
    """A row of a cost line, of phase → seconds for one unit, and units; others took `load`."""
    load = more.pop("load", 0.02)
    settings = of.to_dict()
    visits = [
        {
            "round": number,
            "place": 0,
            "phases": {
                name: {
                    "seconds": [factor * seconds * units] * 3,
                    "units": units,
                    "wall_seconds": 1.0,
                    "other_cpu_seconds": None if load is None else load * 2,
                }
                for name, (seconds, units) in phases.items()
            },
        }
        for number, factor in enumerate(rounds)
    ]
    return {
        "cost_id": of.cost_id,
        "settings": {name: settings[name] for name in ("data", "model", "train")},
        "status": "done",
        "reason": None,
        "versions": {"method": 1, "source": 1, "protocol": 1},
        "fingerprint": None,
        "weights": "trained",
        "visits": visits,
        **more,
    }


def cost_line(
    rows: Sequence[dict[str, Any]],
    *,
    part: str = "",
    machine: Mapping[str, Any] | None = None,
    started_at: str = "2030-01-05T03:04:05Z",
) -> dict[str, Any]:
    """A line of one session of rounds."""
    return {
        "schema": 2,
        "study": "imaginary",
        "group": {"part": part, "data": rows[0]["settings"]["data"]},
        "started_at": started_at,
        "num_rounds": 3,
        "rows": list({(row["cost_id"], row.get("weights_of")): row for row in rows}.values()),
        "provenance": provenance(machine),
    }


def costs_of(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Cost lines of trials that train, one for each data set."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for of in trials:
        groups.setdefault(of.data.name, []).append(cost_row(of, phases_of(of)))
    return [cost_line(rows) for rows in groups.values()]


def full_grid(data: str = "small", replicates: int = 3) -> list[Trial]:
    """Every method in a few settings, trivial baselines once."""
    trials = [trial(each, data=data, encoder="linear") for each in TRIVIAL]
    for i in range(replicates):
        trials += [trial("full_softmax", data=data, replicate=i, chunk_size=c) for c in (None, 64)]
        trials += [
            trial("sampled_softmax", data=data, replicate=i, sampler=sampler, num_samples=2048)
            for sampler in ("uniform", "unigram", "in_batch")
        ]
        trials += [
            trial(
                "mach",
                data=data,
                hidden=64,
                replicate=i,
                num_buckets=buckets,
                num_worlds=worlds,
                share_encoder=shared,
            )
            for buckets in (256, 1024, 4096)
            for worlds, shared in ((4, True), (16, True), (16, False))
        ]
    return trials


def sections(
    records: Sequence[dict[str, Any]],
    costs: Sequence[dict[str, Any]] = (),
    of: Study = STUDY,
    **more: Any,
) -> tuple[Section, ...]:
    """Sections of records and cost lines."""
    timings = Timings([parse(line) for line in costs])
    return select_sections(records, of, SLUG, timings, **more)


def cells(table: Table) -> list[dict[str, Cell]]:
    """Rows of a table: head → cell."""
    rows = [row for group in table.groups for row in group]
    return [dict(zip(table.columns, row, strict=True)) for row in rows]


def texts(table: Table) -> list[dict[str, str]]:
    """Rows of a table: head → text."""
    return [{head: cell.text for head, cell in row.items()} for row in cells(table)]


def write(
    results: Path,
    records: Sequence[dict[str, Any]],
    costs: Sequence[dict[str, Any]] = (),
    machine: str = SLUG,
) -> Path:
    """Write records and cost lines where the report looks for them; returns the records' file."""
    for kind, lines in (("costs", costs), ("records", records)):
        path = results / kind / "imaginary" / f"{machine}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def changed(original: dict[str, Any], value: Any, *path: str) -> dict[str, Any]:
    """Copy of a record with one value replaced."""
    copied = copy.deepcopy(original)
    place = copied
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copied
