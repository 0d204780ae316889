"""Full softmax over all L labels (one-vs-all BCE for multi-label), plain and chunked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.label_layer import LabelLayer
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
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
from bench.nn.options import Count, Size, check_values


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
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        check_values(FullSoftmax.__init__, locals())
        default: LossKind = "softmax" if facts.task == "multiclass" else "bce"
        super().__init__(facts, loss or default, output_std=output_std, **shared)
        self.chunk_size = chunk_size
        self.loss_scale = loss_scale(loss_reduction, self.loss_kind, self.num_labels)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """The mean over the columns of a softmax."""
        super().refuse_together(settings)
        refuse_mean_of_softmax(settings)

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
        tiles = tiling(
            1, batch_size, self.num_labels, self.loss_kind, points_per_chunk=self.chunk_size
        )
        copies = 1 if self.loss_kind == "softmax" else 2
        return 4 * (copies * tiles.floats + self.hidden_floats(batch_size))
