"""Registry of data sources, and what identifies their data.

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

from bench.data.source import DataError, Source
from bench.data.transform import VERSION
from bench.settings import DataSpec, short_hash

# Name → "module:class". A new source is one file and one line here; a user's study may add its own.
SOURCES: dict[str, str] = {
    "texts": "bench.data.texts:TextsSource",
    "vw": "bench.data.vw:VwSource",
    "xmlrepo": "bench.data.xmlrepo:XmlRepoSource",
    "pysource": "bench.data.pysource:PySource",
    "planted": "bench.data.planted:PlantedSource",
    "searchlog": "bench.data.searchlog:SearchLogSource",
}

#: Drawn while it is read, never prepared; see `bench.experiments.scale.stream`.
STREAM = "query_stream"
#: Raised by whoever changes what the stream gives for the same options.
STREAM_VERSION = 1

# Fields of a `DataSpec` that `prepare` does not read, and those that the raw identity holds.
_NOT_PREPARED = frozenset({"name", "propensity", "ks", "source", "options"})


def source_version(spec: DataSpec) -> int:
    """Version of the spec's source: it rises whenever the source builds other arrays."""
    return STREAM_VERSION if spec.source == STREAM else _source_class(spec).version


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
    if spec.source == STREAM:
        return short_hash(
            {"source": STREAM, "version": STREAM_VERSION, "options": {**spec.options}}
        )
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
    """JSON value that changes whenever the source's arrays would; the key of their cache entry."""
    source = build_source(spec)
    return {
        "source": spec.source,
        "version": source.version,
        "options": _chosen(source),
        "identity": dict(source.identity(data_dir, cache_dir)),
    }


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
