"""Problems to decode: bucket scores of some queries, planted ones or a trained model's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.module import ExtremeDataModule
from bench.experiments.decoding.sources import (
    VERSIONS,
    source_version,
    training_data,
    training_fingerprint,
)
from bench.experiments.trainer import train_by_steps
from bench.experiments.training import data_facts
from bench.mach.hashing import HashFamily, build_hash
from bench.mach.module import Mach
from bench.measure.experiment import Context
from bench.methods.cards import card
from bench.nn.classifier import DataFacts
from bench.settings import DataSpec, SettingsError, derive_seed

#: Labels that a query's worlds agree on, and their shares of the planted probability.
_SHARES = (0.5, 0.125, 0.125, 0.125, 0.125)
_LOGIT_NOISE = 1.0
# Worlds are not equally sure of a label.
_BUMP_NOISE = 0.5
# Of the models whose scores are taken.
_BATCH_SIZE = 256
_HIDDEN = 256
_LEARNING_RATE = 0.005
_HASH_SEED = 0


@dataclass(frozen=True)
class Problem:
    """Bucket scores of some queries and the hash that they were made with.

    Attributes:
        scores: `(N, R, B)` float32 log probabilities.
        hashes: the R hashes of L labels.
        table: `(R, L)` of the hashes, in the narrowest type.
        facts: for the record's `data` block.
    """

    scores: Tensor
    hashes: HashFamily
    table: Tensor
    facts: Mapping[str, Any]

    @property
    def num_labels(self) -> int:
        """L."""
        return self.table.shape[1]

    @property
    def num_worlds(self) -> int:
        """R."""
        return self.scores.shape[1]

    @property
    def num_buckets(self) -> int:
        """B."""
        return self.scores.shape[2]


def build_problem(spec: DataSpec, context: Context) -> Problem:
    """Problem that a spec describes, always the same for the same options."""
    source_version(spec)  # refuses an unknown source
    return SOURCES[spec.source](context, **spec.options)


def describe(scores: Tensor, num_labels: int) -> dict[str, Any]:
    """Facts of any problem: its sizes, and how peaked its scores are.

    `peak_share` is the median over queries and worlds of the best bucket's probability.
    """
    num_queries, num_worlds, num_buckets = scores.shape
    best = scores.amax(dim=2).exp().flatten()
    return {
        "num_labels": num_labels,
        "num_worlds": num_worlds,
        "num_buckets": num_buckets,
        "num_queries": num_queries,
        "peak_share": float(torch.quantile(best[: 1 << 20], 0.5)),
    }


def planted_scores(
    context: Context,
    *,
    num_labels: int,
    num_worlds: int,
    num_buckets: int,
    peak: float,
    num_queries: int = 1024,
    hash_family: str = "balanced",
    seed: int = 0,
) -> Problem:
    """Log-softmax of Gaussian logits with bumps in the buckets of a query's own labels.

    Args:
        context: unused; nothing is read.
        num_labels: L.
        num_worlds: R.
        num_buckets: B.
        peak: probability, about, that a world gives to the buckets of the query's five labels
            together, half of it to the first one's; 0 plants nothing (the worst case of a decode
            that prunes).
        num_queries: N.
        hash_family: see `bench.mach.hashing`.
        seed: of labels, logits and hashes.
    """
    if not 0 <= peak < 1:
        raise SettingsError(f"peak is {peak}; expected 0 up to, not including, 1")
    hashes = build_hash(hash_family, num_labels, num_buckets, num_worlds, seed)
    table = hashes.table()
    generator = torch.Generator().manual_seed(derive_seed("planted scores", seed))
    labels = torch.randint(num_labels, (num_queries, len(_SHARES)), generator=generator)
    scores = torch.empty(num_queries, num_worlds, num_buckets)
    block = max((1 << 24) // (num_worlds * num_buckets), 1)
    for start in range(0, num_queries, block):
        logits = scores[start : start + block]
        logits.normal_(0, _LOGIT_NOISE, generator=generator)
        if peak > 0:
            _plant(logits, table, labels[start : start + block], peak, generator)
        logits -= logits.logsumexp(dim=2, keepdim=True)
    return Problem(scores, hashes, table, describe(scores, num_labels))


def _plant(
    logits: Tensor, table: Tensor, labels: Tensor, peak: float, generator: torch.Generator
) -> None:
    """Raise the logits `(n, R, B)` of the labels' buckets, in index."""
    background = logits.logsumexp(dim=2)
    odds = peak / (1 - peak)
    # The least first, so that labels that share a bucket leave it with the larger bump.
    for index in reversed(range(len(_SHARES))):
        noise = _BUMP_NOISE * torch.randn(background.shape, generator=generator)
        bump = background + math.log(odds * _SHARES[index]) + noise
        buckets = table[:, labels[:, index]].T.long().unsqueeze(2)
        logits.scatter_(2, buckets, bump.unsqueeze(2))


def model_scores(
    context: Context,
    *,
    dataset: str,
    num_worlds: int,
    num_buckets: int,
    num_steps: int,
    num_queries: int = 1024,
) -> Problem:
    """Log probabilities of the buckets, from worlds trained with a softmax loss.

    Training takes minutes once; its scores are kept in the cache under the versions of MACH and of
    this source, and the fingerprint of the data.

    Args:
        context: its cache keeps prepared data and scores.
        dataset: `simplewiki`, `citeulike` or `planted`.
        num_worlds: R.
        num_buckets: B.
        num_steps: optimiser steps of 256 points each, a shared encoder of 256.
        num_queries: N, at most the size of the test split.
    """
    spec = training_data(dataset)
    settings = {
        "dataset": dataset,
        "num_worlds": num_worlds,
        "num_buckets": num_buckets,
        "num_steps": num_steps,
        "num_queries": num_queries,
        "mach": card("mach").version,
        "source": VERSIONS["model_scores"],
        "data": training_fingerprint(dataset, context.data_dir, context.cache_dir),
    }
    data = ExtremeDataModule(
        spec, batch_size=_BATCH_SIZE, data_dir=context.data_dir, cache_dir=context.cache_dir
    )
    data.setup()
    facts = data_facts(data)

    def train() -> Entry:
        scores = _train(data, facts, num_worlds, num_buckets, num_steps, num_queries)
        return Entry({"scores": scores.numpy()}, settings)

    entry = load_or_build(context.cache_dir / "scores", cache_key(settings), train)
    scores = torch.from_numpy(entry.arrays["scores"].copy())
    hashes = build_hash("balanced", facts.num_labels, num_buckets, num_worlds, _HASH_SEED)
    found = describe(scores, facts.num_labels)
    return Problem(scores, hashes, hashes.table(), found)


def _train(
    data: ExtremeDataModule,
    facts: DataFacts,
    num_worlds: int,
    num_buckets: int,
    num_steps: int,
    num_queries: int,
) -> Tensor:
    model = Mach(
        facts,
        num_buckets=num_buckets,
        num_worlds=num_worlds,
        share_encoder=True,
        hash_seed=_HASH_SEED,
        loss="softmax",
        estimator="log_mean",
        encoder="mlp",
        hidden_dims=(_HIDDEN,),
        learning_rate=_LEARNING_RATE,
        seed=derive_seed("model scores", 0),
    )
    cpu, batches = torch.device("cpu"), data.train_dataloader()
    train_by_steps(model, batches, device=cpu, precision="32-true", max_steps=num_steps)
    model.eval()
    kept: list[Tensor] = []
    with torch.inference_mode():
        for batch in data.test_dataloader():
            kept.append(model.bucket_logits(batch).log_softmax(-1))
            if sum(block.shape[0] for block in kept) >= num_queries:
                break
    return torch.cat(kept)[:num_queries].clone()


#: Sources by name; each has a version in `bench.experiments.decoding.sources`.
SOURCES: Mapping[str, Callable[..., Problem]] = {
    "planted_scores": planted_scores,
    "model_scores": model_scores,
}
