"""Kinds of studies: which cards their trials' methods have, and what is known of their data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.methods.card import KindName


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a study's trials are; their methods are the cards of this kind.

    Attributes:
        name: of the kind, see `bench.methods.card`.
        sources: module that gives of a `DataSpec`, without torch, its `source_version(spec)` and
            `data_fingerprint(spec, data_dir, cache_dir)`; "": the trials take no data.
        prepares_data: whether the data of all trials is loaded into the cache beforehand.
        num_rounds: of timing, at least three, or ratios have no spread.
    """

    name: KindName
    sources: str
    prepares_data: bool = True
    num_rounds: int = 7


#: Trains a method on points and scores it on others.
TRAINING = Kind(name="training", sources="bench.data.sources")
#: Decodes given bucket scores, with no training inside the trial.
DECODING = Kind(
    name="decoding", sources="bench.experiments.decoding.sources", prepares_data=False, num_rounds=3
)
#: Holds the papers' formulas and claims beside draws and counts; needs no data.
THEORY = Kind(name="theory", sources="", prepares_data=False)
#: Trains at the papers' largest sizes, or states by how much they do not fit.
SCALE = Kind(name="scale", sources="bench.data.sources", prepares_data=False, num_rounds=3)
#: What shows the studies that reproduce a paper's table or figure: published beside measured.
PAPERS = "papers"
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in (TRAINING, DECODING, THEORY, SCALE)}
