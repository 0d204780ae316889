"""Which versions of method, data source and protocol a trial would be run with today."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from bench.cards import card

if TYPE_CHECKING:
    from bench.settings import Trial
    from bench.study import Kind

#: Of what all trained methods share: encoder, optimisers, order of batches, dropout, metrics.
#: Golden runs tell when it must rise (`tests/golden`).
PROTOCOL = 1


def current_versions(trial: Trial, kind: Kind) -> dict[str, int]:
    """Versions that a record of this trial would hold if it ran now.

    Raises:
        SettingsError: its method is not known.
        DataError: its data source is not known.
    """
    versions = {"method": card(trial.model.method, kind.name).version, "protocol": PROTOCOL}
    if kind.sources:
        sources = importlib.import_module(kind.sources)
        versions["source"] = int(sources.source_version(trial.data))
    return versions


def is_older(versions: Mapping[str, int], current: Mapping[str, int]) -> bool:
    """Whether a record was made by code that has behaved differently since."""
    return any(versions.get(name, 0) < version for name, version in current.items())
