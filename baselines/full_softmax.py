"""Full softmax over all L labels (one-vs-all BCE for multi-label), plain and chunked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from baselines.label_layer import LabelLayer
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.lean import LeanUpdate, Update, WeightType, refuse_without_update
from bench.nn.losses import (
    LossKind,
    Reduction,
    build_positives,
    chunked_loss,
    fused_loss_of_logits,
    loss_scale,
    refuse_mean_of_softmax,
    tiling,
)
from bench.nn.options import Count, Positive, Size, check_values
from bench.settings import derive_seed


class FullSoftmax(LabelLayer):
    """Logits of all L labels at every step.

    Args:
        facts: sizes and label frequencies of the training data.
        chunk_size: points whose logits exist together in the training of a softmax; None keeps all
            `(N, L)` logits, the plain form. Values and gradients are equal. BCE takes some labels
            of all points at a time whatever it is.
        loss: `softmax` or `bce`; None: softmax for multiclass, BCE (one-vs-all) for multi-label.
            Softmax on multi-label data spreads the target evenly over a point's labels.
        loss_reduction: of BCE over the labels, `sum` or `mean`, as MACH's over its buckets.
        update: of the output layer. `optimizer`: as of all layers. `sgd` or `row_adagrad`: while
            the loss is computed, some labels at a time, so that neither a gradient nor moments of
            it are ever held, see `bench.nn.lean`; at `output_rate`, which decays as the rate of the
            encoder's optimiser does.
        weight_type: of the output layer; `bfloat16`, rounded stochastically, needs such an update.
        output_rate: learning rate of such an update; None: that of the optimiser.
        output_std: standard deviation of the output layer's initial weights.
        **shared: see :class:`LabelLayer`.

    Source: chunking with gradients made in the forward pass, as in Liger's fused linear
    cross-entropy (Hsu et al. 2024); spread targets: Menon et al. 2019 (PAL, normalised).
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        chunk_size: Count | None = None,
        loss: LossKind | None = None,
        loss_reduction: Reduction = "sum",
        update: Update = "optimizer",
        weight_type: WeightType = "float32",
        output_rate: Positive | None = None,
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        given = locals()
        check_values(FullSoftmax.__init__, given)
        self.refuse_together(given | shared)
        default: LossKind = "softmax" if facts.task == "multiclass" else "bce"
        self.weight_dtype = getattr(torch, weight_type)
        super().__init__(facts, loss or default, output_std=output_std, **shared)
        self.chunk_size = chunk_size
        self.loss_scale = loss_scale(loss_reduction, self.loss_kind, self.num_labels)
        self.output_rate = output_rate
        self.lean: LeanUpdate | None = None
        self.updates_in_loss = update != "optimizer"
        if update != "optimizer":
            self.output.requires_grad_(False)
            self.output_bias.requires_grad_(False)
            seed = derive_seed("rounding", self.seed)
            self.lean = LeanUpdate([seed], self.num_labels, rule=update)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """The mean over the columns of a softmax; what only a lean update has, or has not."""
        super().refuse_together(settings)
        refuse_mean_of_softmax(settings)
        refuse_without_update(settings)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean loss of the batch's points over all L labels."""
        positives = build_positives(
            batch.label_ids.unsqueeze(0),
            batch.label_offsets,
            batch.label_point_ids,
            self.num_labels,
            self.loss_kind,
        )
        hidden: Tensor = self.encoder(batch)
        if self.encoder_kind == "linear":
            loss = fused_loss_of_logits(hidden, positives, self.loss_kind)
        elif self.lean is not None:
            return self.lean.loss(
                hidden,
                self.output.unsqueeze(0),
                self.output_bias.unsqueeze(0),
                positives,
                self.loss_kind,
                rate=(self.output_rate or self.learning_rate) * self.rate_factor,
                scale=self.loss_scale,
                weight_decay=self.weight_decay,
            )
        else:
            loss = chunked_loss(
                hidden,
                self.output.unsqueeze(0),
                positives,
                self.loss_kind,
                bias=self.output_bias.unsqueeze(0),
                points_per_chunk=self.chunk_size,
            )
        return loss * self.loss_scale if self.loss_scale != 1 else loss

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Logits, whose gradient takes their place, of a batch or of a tile of it.

        A linear model's are kept by its biases' addition too; BCE copies a tile for its softplus.
        """
        if self.encoder_kind == "linear":
            return 4 * 2 * batch_size * self.num_labels
        if self.lean is not None:
            chunk = self.lean.chunk_bytes(batch_size, self.output)
            return chunk + 4 * self.hidden_floats(batch_size)
        tiles = tiling(
            1, batch_size, self.num_labels, self.loss_kind, points_per_chunk=self.chunk_size
        )
        copies = 1 if self.loss_kind == "softmax" else 2
        return 4 * (copies * tiles.floats + self.hidden_floats(batch_size))
