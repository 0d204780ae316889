"""Bucket scores of MACH models trained on real data, for queries of its test split."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bench.data.cache import Entry, cache_key, load_or_build
from bench.data.module import ExtremeDataModule
from bench.experiments.decoding.problems import Problem, describe
from bench.experiments.decoding.sources import VERSIONS, training_data, training_fingerprint
from bench.experiments.trainer import train_by_steps
from bench.experiments.training import data_facts
from bench.mach.hashing import build_hash
from bench.mach.module import Mach
from bench.methods.cards import card
from bench.nn.classifier import DataFacts
from bench.settings import derive_seed

_BATCH_SIZE = 256
_HIDDEN = 256
_LEARNING_RATE = 0.005
_HASH_SEED = 0


def build(
    *,
    data_dir: Path,
    cache_dir: Path,
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
        data_dir: where the data set lies.
        cache_dir: where prepared data and scores are kept.
        dataset: `simplewiki`, `citeulike` or `planted`.
        num_worlds: R.
        num_buckets: B.
        num_steps: optimiser steps of 256 points each, a shared encoder of 256.
        num_queries: N, at most the size of the test split.

    Raises:
        SettingsError: an unknown data set.
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
        "data": training_fingerprint(dataset, data_dir, cache_dir),
    }
    data = ExtremeDataModule(spec, batch_size=_BATCH_SIZE, data_dir=data_dir, cache_dir=cache_dir)
    data.setup()
    facts = data_facts(data)

    def train() -> Entry:
        scores = _train(data, facts, num_worlds, num_buckets, num_steps, num_queries)
        return Entry({"scores": scores.numpy()}, settings)

    entry = load_or_build(cache_dir / "scores", cache_key(settings), train)
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
