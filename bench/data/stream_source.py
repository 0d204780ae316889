"""What is known of the data of this kind of study without drawing it; never imports torch."""

from __future__ import annotations

from pathlib import Path

from bench.data import sources
from bench.settings import DataSpec, short_hash

#: Name of the source that is drawn as it is read, see `bench.experiments.scale.stream`.
STREAM = "query_stream"
#: Raised by whoever changes what the stream gives for the same options.
STREAM_VERSION = 1


def source_version(spec: DataSpec) -> int:
    """Version of the spec's source: the stream, or one of those that models are trained on.

    Raises:
        DataError: the source is unknown.
    """
    return STREAM_VERSION if spec.source == STREAM else sources.source_version(spec)


def data_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str | None:
    """Hash of all that the points follow from; None where files are not at hand.

    Args:
        spec: of the data.
        data_dir: where data sets lie.
        cache_dir: where what is known of them is kept.

    Raises:
        DataError: the source is unknown.
    """
    if spec.source != STREAM:
        return sources.data_fingerprint(spec, data_dir, cache_dir)
    facts = {"source": STREAM, "version": STREAM_VERSION, "options": dict(spec.options)}
    return short_hash(facts)
