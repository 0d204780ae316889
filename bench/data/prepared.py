"""The prepared data of a `DataSpec`, as every trial maps it into memory. Imports no torch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.csr import Dataset
from bench.data.sources import csr_arrays, csr_from, load_raw, prepared_fingerprint
from bench.data.transform import Prepared, prepare
from bench.settings import DataSpec

# Of what a prepared entry holds, part of its key: another form is built anew, and no data is stale.
_LAYOUT = 2
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
_said: set[str] = set()


def load_dataset(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Dataset:
    """The prepared data of a spec, memory-mapped; built and cached when absent.

    `facts["fingerprint"]` is :func:`bench.data.sources.prepared_fingerprint`.

    Raises:
        bench.data.source.DataError: the data is missing, bad, or too small for the spec.
    """
    fingerprint = prepared_fingerprint(spec, data_dir, cache_dir)

    def build() -> Entry:
        raw = load_raw(spec, data_dir, cache_dir)
        return _to_entry(prepare(spec, raw), raw.label_names)

    key = cache_key({"prepared": fingerprint, "layout": _LAYOUT})
    dataset = _from_entry(
        load_or_build(cache_dir, key, build), name=spec.name, fingerprint=fingerprint
    )
    _warn(dataset.facts)
    return dataset


def _warn(facts: Mapping[str, Any]) -> None:
    """Say, once a process, what makes of this data's numbers something else than they seem."""
    for text in _warnings(facts):
        if text not in _said:
            _said.add(text)
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


def _to_entry(prepared: Prepared, label_names: tuple[str, ...] | None) -> Entry:
    data, kept = prepared.dataset, prepared.kept_labels
    arrays: dict[str, Any] = {"test_rows": data.test_rows}
    columns = {}
    for part in _PARTS:
        if (rows := getattr(data, part)) is not None:
            arrays |= csr_arrays(part, rows)
            columns[part] = rows.num_columns
    texts = {}
    if kept is not None:
        arrays["kept_labels"] = kept
        if label_names is not None:
            label_names = tuple(label_names[label] for label in kept.tolist())
    if label_names is not None:
        texts["labels.txt"] = label_names
    meta = {
        "facts": data.facts,
        "columns": columns,
        "label_fingerprint": data.label_fingerprint,
    }
    return Entry(arrays, meta, texts)


def _from_entry(entry: Entry, **facts_of_spec: str) -> Dataset:
    facts = {**entry.meta["facts"], **facts_of_spec}
    parts = {part: csr_from(part, entry, width) for part, width in entry.meta["columns"].items()}
    return Dataset(
        **parts,
        num_features=facts["num_features"],
        num_labels=facts["num_labels"],
        task=facts["task"],
        facts=facts,
        test_rows=entry.arrays["test_rows"],
        label_fingerprint=entry.meta["label_fingerprint"],
    )
