"""What models are trained on here: a stream that is drawn as it is read, or a prepared data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench.data.batch import Batch
from bench.data.sources import STREAM, data_fingerprint
from bench.experiments.scale.stream import QueryStream
from bench.experiments.training import load_data
from bench.measure.experiment import Context
from bench.methods.arithmetic import DataSizes
from bench.nn.classifier import DataFacts
from bench.settings import DataSpec, SettingsError, Trial


@dataclass(frozen=True, kw_only=True)
class Points:
    """Points of a trial, and what is known of them before a single one is drawn.

    Attributes:
        described: sizes, with label counts that hold no numbers.
        count_labels: `(L,)` int64 training points of each label; of a stream it takes a pass.
        sizes: the same for arithmetic.
        train: training batches, endlessly repeatable; it has a length.
        test: test batches of so many points.
        facts: what a record says of the data.
    """

    described: DataFacts
    count_labels: Callable[[], Tensor]
    sizes: DataSizes
    train: Iterable[Batch]
    test: Callable[[int], Iterable[Batch]]
    facts: Mapping[str, Any]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in a pass."""
        return len(self.train)  # type: ignore[arg-type]

    def counted(self) -> DataFacts:
        """The sizes with the label counts."""
        return replace(self.described, label_counts=self.count_labels())


def load_points(trial: Trial, context: Context) -> Points:
    """The points that a trial names."""
    if trial.data.source == STREAM:
        return _streamed(trial, context)
    module = load_data(trial, context)
    return Points(
        described=DataFacts(
            num_features=module.num_features,
            num_labels=module.num_labels,
            task=module.task,
            label_counts=_no_counts(module.num_labels),
            num_train_points=module.dataset.train_features.num_rows,
        ),
        count_labels=lambda: module.label_counts,
        sizes=DataSizes.of_facts(module.facts),
        train=module.train_dataloader(),
        test=lambda size: module.test_dataloader(batch_size=size),
        facts=module.facts,
    )


def read_stream(spec: DataSpec) -> QueryStream:
    """The stream of a spec."""
    try:
        return QueryStream(**spec.options)  # type: ignore[arg-type]
    except TypeError as error:
        raise SettingsError(f"options of {spec.source!r}: {error}") from error


def _streamed(trial: Trial, context: Context) -> Points:
    stream = read_stream(trial.data)
    facts = {
        "fingerprint": data_fingerprint(trial.data, context.data_dir, context.cache_dir),
        "task": "multiclass",
        "num_labels": stream.num_labels,
        "num_features": stream.num_features,
        "num_train_points": stream.num_train_queries,
        "num_test_points": stream.num_test_queries,
        "features_per_point": float(stream.tokens_per_query),
        "labels_per_point": 1.0,
    }
    return Points(
        described=DataFacts(
            num_features=stream.num_features,
            num_labels=stream.num_labels,
            task="multiclass",
            label_counts=_no_counts(stream.num_labels),
            num_train_points=stream.num_train_queries,
        ),
        count_labels=stream.label_counts,
        sizes=replace(DataSizes.of_facts(facts), is_streamed=True),
        train=_Batches(stream, trial.train.batch_size),
        test=lambda size: stream.batches("test", size),
        facts=facts,
    )


def _no_counts(num_labels: int) -> Tensor:
    return torch.empty(num_labels, dtype=torch.int64, device="meta")


@dataclass(frozen=True)
class _Batches:
    """The training queries of a stream in batches, the same in every pass."""

    stream: QueryStream
    batch_size: int

    def __len__(self) -> int:
        return math.ceil(self.stream.num_train_queries / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.stream.batches("train", self.batch_size)
