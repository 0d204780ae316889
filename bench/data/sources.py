"""Registry of data sources, and the way from a `DataSpec` to raw arrays in the cache."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.csr import Csr
from bench.data.raw import DataError, RawData, Source
from bench.settings import DataSpec

# Name → "module:class". A new source is one file and one line here; a user's study may add its own.
SOURCES: dict[str, str] = {
    "vw": "bench.data.vw:VwSource",
    "xmlrepo": "bench.data.xmlrepo:XmlRepoSource",
    "pysource": "bench.data.pysource:PySource",
    "planted": "bench.data.planted:PlantedSource",
}

_PARTS = ("train_features", "train_labels", "test_features", "test_labels")


def build_source(spec: DataSpec) -> Source:
    """The spec's source with its options.

    Raises:
        DataError: the source or one of its options is unknown, or a needed option is missing.
    """
    if spec.source not in SOURCES:
        raise DataError(f"source is {spec.source!r}; expected one of {sorted(SOURCES)}")
    module_name, _, class_name = SOURCES[spec.source].partition(":")
    source_class = getattr(importlib.import_module(module_name), class_name)
    allowed = [entry.name for entry in dataclasses.fields(source_class)]
    unknown = sorted(set(spec.options) - set(allowed))
    if unknown:
        raise DataError(f"source {spec.source!r} has no option {unknown}; expected {allowed}")
    try:
        return cast(Source, source_class(**spec.options))
    except TypeError as error:
        raise DataError(f"options of source {spec.source!r}: {error}; has {allowed}") from error


def raw_identity(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
    """JSON value that changes whenever the raw arrays would; the raw cache's key."""
    source = build_source(spec)
    return {
        "source": spec.source,
        "version": source.version,
        "options": dict(spec.options),
        "identity": dict(source.identity(data_dir, cache_dir)),
    }


def load_raw(spec: DataSpec, data_dir: Path, cache_dir: Path) -> RawData:
    """Raw data of the spec's source, memory-mapped; read or generated when not in the cache.

    Raises:
        DataError: the data is missing, or not what the options promise; nothing is cached then.
    """
    identity = raw_identity(spec, data_dir, cache_dir)

    def build() -> Entry:
        raw = build_source(spec).build(data_dir)
        if not raw.fingerprint:
            raw = dataclasses.replace(raw, fingerprint=identity["identity"]["fingerprint"])
        return _to_entry(raw)

    return _from_entry(load_or_build(cache_dir, cache_key(identity), build))


def csr_arrays(name: str, rows: Csr) -> dict[str, Any]:
    """Arrays of a `Csr` under names that :func:`csr_from` reads back."""
    arrays = {f"{name}.offsets": rows.offsets, f"{name}.ids": rows.ids}
    if rows.values is not None:
        arrays[f"{name}.values"] = rows.values
    return arrays


def csr_from(name: str, entry: Entry, num_columns: int) -> Csr:
    """The `Csr` that :func:`csr_arrays` put into an entry."""
    arrays = entry.arrays
    values = arrays.get(f"{name}.values")
    return Csr(arrays[f"{name}.offsets"], arrays[f"{name}.ids"], values, num_columns)


def _to_entry(raw: RawData) -> Entry:
    arrays: dict[str, Any] = {}
    for part in _PARTS:
        arrays |= csr_arrays(part, getattr(raw, part))
    if raw.bayes_hits is not None:
        arrays["bayes_hits"] = raw.bayes_hits
    meta = {
        "num_features": raw.train_features.num_columns,
        "num_labels": raw.train_labels.num_columns,
        "task": raw.task,
        "fingerprint": raw.fingerprint,
        "facts": dict(raw.facts),
    }
    return Entry(arrays, meta, {"labels.txt": raw.label_names} if raw.label_names else {})


def _from_entry(entry: Entry) -> RawData:
    widths = {"features": entry.meta["num_features"], "labels": entry.meta["num_labels"]}
    parts = {part: csr_from(part, entry, widths[part.rpartition("_")[2]]) for part in _PARTS}
    return RawData(
        **parts,
        task=entry.meta["task"],
        fingerprint=entry.meta["fingerprint"],
        facts=entry.meta["facts"],
        bayes_hits=entry.arrays.get("bayes_hits"),
        label_names=entry.texts.get("labels.txt"),
    )
