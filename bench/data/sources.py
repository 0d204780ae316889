"""Registry of data sources, what identifies their data, and raw arrays in the cache.

Imports no torch: whoever plans trials asks here whether the data of a record is today's.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.csr import Csr
from bench.data.source import DataError, RawData, Source
from bench.data.transform import VERSION
from bench.settings import DataSpec

# Name → "module:class". A new source is one file and one line here; a user's study may add its own.
SOURCES: dict[str, str] = {
    "texts": "bench.data.texts:TextsSource",
    "vw": "bench.data.vw:VwSource",
    "xmlrepo": "bench.data.xmlrepo:XmlRepoSource",
    "pysource": "bench.data.pysource:PySource",
    "planted": "bench.data.planted:PlantedSource",
    "searchlog": "bench.data.searchlog:SearchLogSource",
}

# Of what a raw entry holds, part of its key: another form is built anew, and no version rises.
_LAYOUT = 2
_PARTS = ("train_features", "train_labels", "test_features", "test_labels")
_OPTIONAL_ARRAYS = ("bayes_hits", "train_groups")


# Fields of a `DataSpec` that `prepare` does not read, and those that the raw identity holds.
_NOT_PREPARED = frozenset({"name", "propensity", "ks", "source", "options"})


def source_version(spec: DataSpec) -> int:
    """Version of the spec's source: it rises whenever the source builds other arrays than before.

    Raises:
        DataError: the source is unknown.
    """
    return _source_class(spec).version


def build_source(spec: DataSpec) -> Source:
    """The spec's source with its options.

    Raises:
        DataError: the source or one of its options is unknown, or a needed option is missing.
    """
    source_class: Any = _source_class(spec)
    allowed = [entry.name for entry in dataclasses.fields(source_class)]
    unknown = sorted(set(spec.options) - set(allowed))
    if unknown:
        raise DataError(f"source {spec.source!r} has no option {unknown}; expected {allowed}")
    try:
        return cast(Source, source_class(**spec.options))
    except TypeError as error:
        raise DataError(f"options of source {spec.source!r}: {error}; has {allowed}") from error


def data_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str | None:
    """What `facts["fingerprint"]` of the spec's data would be today, without preparing the data.

    Checksums are remembered, so that this takes milliseconds from the second time on.

    Returns:
        64 hex digits, see :func:`prepared_fingerprint`; None where the data cannot be had: files
        are missing, or the spec is one that no source can read (preparing it says why).
    """
    try:
        return prepared_fingerprint(spec, data_dir, cache_dir)
    except (DataError, OSError):
        return None


def prepared_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str:
    """Digest (64 hex digits) that changes whenever the prepared data of a spec would.

    Covers the source, its version, its options, the content of its files, the version of the
    preparation and every field of the spec that it reads. A setting that has its default's value
    does not count, so that a new setting leaves the fingerprints as they were.

    Raises:
        DataError: a file is missing, or the spec is one that no source can read.
    """
    identity = {
        "raw": raw_identity(spec, data_dir, cache_dir),
        "version": VERSION,
        "settings": _chosen(spec, without=_NOT_PREPARED),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def raw_identity(spec: DataSpec, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
    """JSON value that changes whenever the raw arrays would; the raw cache's key."""
    source = build_source(spec)
    return {
        "source": spec.source,
        "version": source.version,
        "options": _chosen(source),
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
        if raw_identity(spec, data_dir, cache_dir) != identity:
            raise DataError(f"{spec.name}: the files changed while they were read; run it again")
        return _to_entry(raw)

    key = cache_key({**identity, "layout": _LAYOUT})
    return _from_entry(load_or_build(cache_dir, key, build))


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


def _source_class(spec: DataSpec) -> type[Source]:
    if spec.source not in SOURCES:
        raise DataError(f"source is {spec.source!r}; expected one of {sorted(SOURCES)}")
    module_name, _, class_name = SOURCES[spec.source].partition(":")
    return cast("type[Source]", getattr(importlib.import_module(module_name), class_name))


def _chosen(settings: Any, without: Collection[str] = ()) -> dict[str, Any]:
    """Fields of a dataclass that differ from their defaults."""
    return {
        entry.name: getattr(settings, entry.name)
        for entry in dataclasses.fields(settings)
        if entry.name not in without and getattr(settings, entry.name) != entry.default
    }


def _to_entry(raw: RawData) -> Entry:
    arrays: dict[str, Any] = {}
    for part in _PARTS:
        arrays |= csr_arrays(part, getattr(raw, part))
    for name in _OPTIONAL_ARRAYS:
        if (array := getattr(raw, name)) is not None:
            arrays[name] = array
    meta = {
        "num_features": raw.train_features.num_columns,
        "num_labels": raw.train_labels.num_columns,
        "num_test_labels": raw.test_labels.num_columns,
        "task": raw.task,
        "facts": dict(raw.facts),
    }
    return Entry(arrays, meta, {"labels.txt": raw.label_names} if raw.label_names else {})


def _from_entry(entry: Entry) -> RawData:
    meta = entry.meta
    widths = (meta["num_features"], meta["num_labels"], meta["num_features"])
    parts = {
        part: csr_from(part, entry, width)
        for part, width in zip(_PARTS, (*widths, meta["num_test_labels"]), strict=True)
    }
    return RawData(
        **parts,
        task=entry.meta["task"],
        facts=entry.meta["facts"],
        bayes_hits=entry.arrays.get("bayes_hits"),
        label_names=entry.texts.get("labels.txt"),
        train_groups=entry.arrays.get("train_groups"),
    )
