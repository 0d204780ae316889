"""Full softmax over all L labels (one-vs-all BCE for multi-label), plain and chunked."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bench.classifier import DataFacts, ExtremeClassifier, output_weight
from bench.data.batch import Batch
from bench.losses import (
    LossKind,
    Positives,
    build_positives,
    chunked_loss,
    fused_loss_of_logits,
    loss_of_logits,
    with_ones,
)


class FullSoftmax(ExtremeClassifier):
    """Logits of all L labels at every step.

    Args:
        facts: sizes and label frequencies of the training data.
        chunk_size: points whose logits exist together during training; None keeps all `(N, L)`
            logits, the plain form. Values and gradients are equal.
        loss: `softmax` or `bce`; None: softmax for multiclass, BCE (one-vs-all) for multi-label.
            Softmax on multi-label data spreads the target evenly over a point's labels.
        output_std: standard deviation of the output layer's initial weights.
        **shared: see :class:`ExtremeClassifier`.

    Source: chunking with gradients made in the forward pass, as in Liger's fused linear
    cross-entropy (Hsu et al. 2024); spread targets: Menon et al. 2019 (PAL, normalised).
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        chunk_size: int | None = None,
        loss: LossKind | None = None,
        output_std: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(facts, **shared)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"chunk_size is {chunk_size}; expected None or at least 1")
        self.chunk_size = chunk_size
        self.loss_kind: LossKind = loss or ("softmax" if self.task == "multiclass" else "bce")
        self.encoder = self.build_encoder((self.seed,), self.num_labels)
        if self.encoder_kind == "mlp":
            self.output = output_weight(
                1, self.hidden_dims[-1], self.num_labels, (self.seed,), output_std
            )
        self.start_from_prior(facts.label_counts.unsqueeze(0), self.loss_kind)

    def _positives(self, batch: Batch) -> Positives:
        columns = batch.label_ids.unsqueeze(0)
        return build_positives(
            columns, batch.label_offsets, batch.label_point_ids, self.num_labels, self.loss_kind
        )

    def logits(self, batch: Batch) -> Tensor:
        """Logits `(N, L)`."""
        hidden: Tensor = self.encoder(batch)
        if self.encoder_kind == "linear":
            return hidden[0]
        return with_ones(hidden[0]) @ self.output[0]

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean loss of the batch's points over all L labels."""
        positives = self._positives(batch)
        if self.encoder_kind == "linear":
            return fused_loss_of_logits(self.encoder(batch), positives, self.loss_kind)
        if self.chunk_size is None:
            return loss_of_logits(self.logits(batch).unsqueeze(0), positives, self.loss_kind)
        return chunked_loss(
            with_ones(self.encoder(batch)),
            self.output,
            positives,
            self.loss_kind,
            points_per_chunk=self.chunk_size,
        )

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits and their labels, each `(N, k)`, best first."""
        logits = self.logits(batch)
        with self.decode_timer():
            return exact_top_k(logits, k)

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Two `(n, L)` buffers, logits and their gradient, of a batch or of a chunk."""
        points = batch_size
        if self.chunk_size is not None and self.encoder_kind == "mlp":
            points = min(batch_size, self.chunk_size)
        hidden = 2 * batch_size * sum(self.hidden_dims)
        return 4 * (2 * points * self.num_labels + hidden)


def exact_top_k(logits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Top k of all labels.

    Raises:
        ValueError: k exceeds the number of labels.
    """
    if k > logits.shape[1]:
        raise ValueError(f"k is {k}, but there are only {logits.shape[1]} labels")
    top: tuple[Tensor, Tensor] = torch.topk(logits, k, dim=1)
    return top[0], top[1]
