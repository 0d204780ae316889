"""What trials of this kind start from: sizes and distributions, no file; never imports torch."""

from __future__ import annotations

from pathlib import Path

from bench.settings import DataSpec, SettingsError, short_hash

#: Raised by whoever changes what a source gives for the same options; records of a lower one are
#: stale.
VERSIONS: dict[str, int] = {
    "sparse_probabilities": 1,  # V / base_prob of K labels with equal probabilities
    "distribution": 1,  # probabilities of L labels that sum to 1
    "labels": 1,  # nothing but their number
    "shapes": 1,  # sizes of a data set
}


def source_version(spec: DataSpec) -> int:
    """Version of the spec's source.

    Raises:
        SettingsError: the source is unknown.
    """
    if spec.source not in VERSIONS:
        raise SettingsError(f"source is {spec.source!r}; expected one of {', '.join(VERSIONS)}")
    return VERSIONS[spec.source]


def data_fingerprint(spec: DataSpec, data_dir: Path, cache_dir: Path) -> str:
    """Hash of the source, its version and its options: there is nothing else that could change.

    Args:
        spec: of the data.
        data_dir: unused; nothing is read.
        cache_dir: unused.

    Raises:
        SettingsError: the source is unknown.
    """
    facts = {
        "source": spec.source,
        "version": source_version(spec),
        "options": dict(spec.options),
    }
    return short_hash(facts)
