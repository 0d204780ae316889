"""A source's data, and the prepared data of a `DataSpec`, as every trial maps it into memory.

Both are cached, each under a key of all that it depends on. Imports no torch.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.data.cache import Entry, cache_key, load_or_write
from bench.data.csr import Csr, Dataset, Int64s
from bench.data.source import DataError, RawData
from bench.data.sources import build_source, prepared_fingerprint, raw_identity
from bench.data.transform import Prepared, prepare
from bench.measure.experiment import Context
from bench.settings import DataSpec, Trial

# Of what an entry holds, part of its key: another form is built anew, and no data is stale.
_LAYOUT = 2
_RAW_PARTS = ("train_features", "train_labels", "test_features", "test_labels")
_RAW_ARRAYS = ("bayes_hits", "train_groups")
_PARTS = (
    "train_features",
    "train_labels",
    "validation_features",
    "validation_labels",
    "test_features",
    "test_labels",
    "set_aside_labels",
)
# Below this share of test labels that occur in training, the files hardly belong together.
_LEAST_CEILING = 0.1

_log = logging.getLogger(__name__)
_warned: set[str] = set()


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """What a process does that only prepares a trial's data (`bench.runner.run.prepare_apart`)."""
    dataset = load_dataset(trial.data, context.data_dir, context.cache_dir)
    return {"data": dataset.facts}


def load_dataset(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Dataset:
    """The prepared data of a spec, memory-mapped; built and cached when absent.

    `facts["fingerprint"]` is :func:`bench.data.sources.prepared_fingerprint`.

    Raises:
        bench.data.source.DataError: the data is missing, bad, or too small for the spec.
    """
    entry, fingerprint = _prepared_entry(spec, data_dir, cache_dir)
    dataset = _from_entry(entry, name=spec.name, fingerprint=fingerprint)
    _warn(dataset.facts)
    return dataset


def load_labels(
    spec: DataSpec, data_dir: Path, cache_dir: Path
) -> tuple[tuple[str, ...] | None, Int64s | None]:
    """What the L labels of :func:`load_dataset` are called by their source, in order.

    Returns:
        Names, where the source has some; `(L,)` ids of the source's numbering, where labels were
        chosen of it.
    """
    entry, _ = _prepared_entry(spec, data_dir, cache_dir)
    names = entry.texts.get("labels.txt")
    return names and names[: entry.meta["facts"]["num_labels"]], entry.arrays.get("kept_labels")


def _prepared_entry(spec: DataSpec, data_dir: Path, cache_dir: Path) -> tuple[Entry, str]:
    fingerprint = prepared_fingerprint(spec, data_dir, cache_dir)

    def build(folder: Path) -> Entry:
        raw = load_raw(spec, data_dir, cache_dir)
        return _to_entry(prepare(spec, raw, folder), raw.label_names)

    key = cache_key({"prepared": fingerprint, "layout": _LAYOUT})
    return load_or_write(cache_dir, key, build), fingerprint


def load_raw(spec: DataSpec, data_dir: Path, cache_dir: Path) -> RawData:
    """Data of the spec's source, memory-mapped; read or generated when not in the cache.

    Raises:
        DataError: the data is missing, or not what the options promise; nothing is cached then.
    """
    identity = raw_identity(spec, data_dir, cache_dir)

    def build(folder: Path) -> Entry:
        raw = build_source(spec).build(data_dir, folder)
        if raw_identity(spec, data_dir, cache_dir) != identity:
            raise DataError(f"{spec.name}: the files changed while they were read; run it again")
        return _raw_to_entry(spec.source, raw)

    key = cache_key({**identity, "layout": _LAYOUT})
    return _raw_from_entry(load_or_write(cache_dir, key, build))


def _warn(facts: Mapping[str, Any]) -> None:
    """Once a process, log what makes this data's numbers something else than they seem."""
    for text in _warnings(facts):
        if text not in _warned:
            _warned.add(text)
            _log.warning("%s", text)


def _warnings(facts: Mapping[str, Any]) -> Iterator[str]:
    name, ceiling = facts["name"], facts.get("ceiling")
    if ceiling is not None and ceiling < _LEAST_CEILING:
        share = f"only {ceiling:.1%}" if ceiling else "none"
        yield (
            f"{name}: {share} of the test labels occur in training, and no method can find the "
            "others; expected both files to write their labels alike"
        )
    if facts.get("is_unfiltered"):
        yield (
            f"{name}: labels that are a point's own text are not filtered out of its test labels "
            "and of the answers, as the published numbers of LF data sets have it; measured and "
            "published numbers cannot be compared"
        )


def _raw_to_entry(source: str, raw: RawData) -> Entry:
    arrays: dict[str, Any] = {}
    for part in _RAW_PARTS:
        arrays |= _csr_arrays(part, getattr(raw, part))
    arrays |= {name: array for name in _RAW_ARRAYS if (array := getattr(raw, name)) is not None}
    meta = {
        "source": source,
        "num_train_points": raw.train_labels.num_rows,
        "num_features": raw.train_features.num_columns,
        "num_labels": raw.train_labels.num_columns,
        "num_test_labels": raw.test_labels.num_columns,
        "task": raw.task,
        "facts": dict(raw.facts),
    }
    return Entry(arrays, meta, {"labels.txt": raw.label_names} if raw.label_names else {})


def _raw_from_entry(entry: Entry) -> RawData:
    meta = entry.meta
    widths = (meta["num_features"], meta["num_labels"], meta["num_features"])
    parts = {
        part: _csr_from(part, entry, width)
        for part, width in zip(_RAW_PARTS, (*widths, meta["num_test_labels"]), strict=True)
    }
    return RawData(
        **parts,
        task=meta["task"],
        facts=meta["facts"],
        bayes_hits=entry.arrays.get("bayes_hits"),
        label_names=entry.texts.get("labels.txt"),
        train_groups=entry.arrays.get("train_groups"),
    )


def _to_entry(prepared: Prepared, label_names: tuple[str, ...] | None) -> Entry:
    data, kept = prepared.dataset, prepared.kept_labels
    arrays: dict[str, Any] = {"test_rows": data.test_rows}
    columns = {}
    for part in _PARTS:
        if (rows := getattr(data, part)) is not None:
            arrays |= _csr_arrays(part, rows)
            columns[part] = rows.num_columns
    texts = {}
    if kept is not None:
        arrays["kept_labels"] = kept
        if label_names is not None:
            label_names = tuple(label_names[label] for label in kept.tolist())
    if label_names is not None:
        texts["labels.txt"] = label_names
    meta = {"facts": data.facts, "columns": columns, "label_fingerprint": data.label_fingerprint}
    return Entry(arrays, meta, texts)


def _from_entry(entry: Entry, **facts_of_spec: str) -> Dataset:
    facts = {**entry.meta["facts"], **facts_of_spec}
    parts = {part: _csr_from(part, entry, width) for part, width in entry.meta["columns"].items()}
    return Dataset(
        **parts,
        num_features=facts["num_features"],
        num_labels=facts["num_labels"],
        task=facts["task"],
        facts=facts,
        test_rows=entry.arrays["test_rows"],
        label_fingerprint=entry.meta["label_fingerprint"],
    )


def _csr_arrays(name: str, rows: Csr) -> dict[str, Any]:
    arrays = {f"{name}.offsets": rows.offsets, f"{name}.ids": rows.ids}
    if rows.values is not None:
        arrays[f"{name}.values"] = rows.values
    return arrays


def _csr_from(name: str, entry: Entry, num_columns: int) -> Csr:
    arrays = entry.arrays
    values = arrays.get(f"{name}.values")
    return Csr(arrays[f"{name}.offsets"], arrays[f"{name}.ids"], values, num_columns)
