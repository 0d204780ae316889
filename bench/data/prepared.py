"""The prepared data of a `DataSpec`, as every trial maps it into memory. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.csr import Dataset
from bench.data.sources import csr_arrays, csr_from, load_raw, prepared_fingerprint
from bench.data.transform import Prepared, prepare
from bench.settings import DataSpec

_PARTS = (
    "train_features",
    "train_labels",
    "validation_features",
    "validation_labels",
    "test_features",
    "test_labels",
)


def load_dataset(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Dataset:
    """The prepared data of a spec, memory-mapped; built and cached when absent.

    `facts["fingerprint"]` is :func:`bench.data.sources.prepared_fingerprint`.

    Raises:
        bench.data.raw.DataError: the data is missing, bad, or too small for the spec.
    """
    fingerprint = prepared_fingerprint(spec, data_dir, cache_dir)

    def build() -> Entry:
        raw = load_raw(spec, data_dir, cache_dir)
        return _to_entry(prepare(spec, raw), raw.label_names)

    entry = load_or_build(cache_dir, cache_key({"prepared": fingerprint}), build)
    return _from_entry(entry, name=spec.name, fingerprint=fingerprint)


def _to_entry(prepared: Prepared, label_names: tuple[str, ...] | None) -> Entry:
    data, kept = prepared.dataset, prepared.kept_labels
    arrays: dict[str, Any] = {}
    for part in _PARTS:
        arrays |= csr_arrays(part, getattr(data, part))
    texts = {}
    if kept is not None:
        arrays["kept_labels"] = kept
        if label_names is not None:
            label_names = tuple(label_names[label] for label in kept.tolist())
    if label_names is not None:
        texts["labels.txt"] = label_names
    return Entry(arrays, data.facts, texts)


def _from_entry(entry: Entry, **facts_of_spec: str) -> Dataset:
    facts = {**entry.meta, **facts_of_spec}
    widths = {"features": facts["num_features"], "labels": facts["num_labels"]}
    parts = {part: csr_from(part, entry, widths[part.rpartition("_")[2]]) for part in _PARTS}
    return Dataset(
        **parts,
        num_features=facts["num_features"],
        num_labels=facts["num_labels"],
        task=facts["task"],
        facts=facts,
    )
