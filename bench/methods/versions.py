"""Which versions of method, data source, protocol and metrics a trial would be run with today.

A record holds the versions that it was made with, by name; a name that it lacks was at 1.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bench.methods.cards import card

if TYPE_CHECKING:
    from bench.methods.kinds import Kind
    from bench.settings import Trial

#: Of what all trained methods share: encoder, optimisers, order of batches, dropout, and those
#: metrics that have no version of their own. Golden runs detect when it must rise (`tests/golden`).
PROTOCOL = 1

#: Of metrics that have one of their own: when it rises, the others of a record still hold.
#:
#: `psp`: since 2 propensities are those of the complete training file; at 1 validation points had
#: been left out of the counts.
METRIC_VERSIONS: Mapping[str, int] = {"psp": 2}
_METRICS: Mapping[str, re.Pattern[str]] = {"psp": re.compile(r"PS(P|nDCG)@")}


def current_versions(trial: Trial, kind: Kind) -> dict[str, int]:
    """Versions that a record of this trial would hold if it ran now."""
    own = card(trial.model.method, kind.name)
    versions = {
        "method": own.version,
        "protocol": PROTOCOL,
        **own.versions_of_options(trial.model.options),
        **METRIC_VERSIONS,
    }
    if kind.sources:
        sources = importlib.import_module(kind.sources)
        versions["source"] = int(sources.source_version(trial.data))
    return versions


def of_behaviour(versions: Mapping[str, int]) -> dict[str, int]:
    """Those of them that decide what is trained and answered, not how answers are scored."""
    return {name: version for name, version in versions.items() if name not in METRIC_VERSIONS}


def is_older(versions: Mapping[str, int], current: Mapping[str, int]) -> bool:
    """Whether a record was made by code that has trained or answered differently since.

    Metrics with a version of their own are judged one by one, see :func:`is_metric_older`.

    >>> is_older({"method": 1}, {"method": 1, "sampler=in_batch": 2})
    True
    >>> is_older({"method": 1}, {"method": 1, "protocol": 1, "psp": 2})
    False
    """
    return any(versions.get(name, 1) < version for name, version in of_behaviour(current).items())


def is_metric_older(metric: str, record: Mapping[str, Any]) -> bool:
    """Whether today's code would make another value of the answers that a record's metric is of."""
    family = next((name for name, known in _METRICS.items() if known.match(metric)), None)
    if family is None:
        return False
    versions = record.get("versions") or {}
    # Where no validation points were carved out, both versions count the same.
    has_validation = bool((record.get("data") or {}).get("num_validation_points"))
    return has_validation and versions.get(family, 1) < METRIC_VERSIONS[family]


def without_older_metrics(value: Any, *records: Mapping[str, Any]) -> Any:
    """A part of a record without the metrics that are older in one of some records.

    Also without the curve where one of them has none of a method that is not trained by steps:
    trivial baselines once had no validation.
    """
    if isinstance(value, Mapping):
        return {
            name: without_older_metrics(each, *records)
            for name, each in value.items()
            if not any(is_metric_older(str(name), record) for record in records)
            and not (name == "curve" and any(map(_is_not_validated, records)))
        }
    if isinstance(value, list | tuple):
        return [without_older_metrics(each, *records) for each in value]
    return value


def _is_not_validated(record: Mapping[str, Any]) -> bool:
    training = record.get("training") or {}
    return training.get("num_steps") == 0 and not training.get("curve")
