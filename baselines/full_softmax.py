"""Full softmax over all L labels (one-vs-all BCE for multi-label), plain and chunked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from baselines.heads import SoftmaxHead
from baselines.label_layer import LabelLayer
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.lean import Update, WeightType, refuse_without_update
from bench.nn.losses import LossKind, Reduction, refuse_mean_of_softmax
from bench.nn.options import Count, Positive, Size, check_values


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

    head: SoftmaxHead

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
        super().__init__(facts, **shared)
        self.output_rate = output_rate
        self.updates_in_loss = update != "optimizer"
        is_linear = self.encoder_kind == "linear"
        self.head = SoftmaxHead(
            None if is_linear else self.hidden_dims[-1],
            self.num_labels,
            loss=loss or ("softmax" if self.task == "multiclass" else "bce"),
            label_counts=facts.label_counts if self.prior_start else None,
            num_points=facts.num_train_points,
            seed=self.seed,
            chunk_size=chunk_size,
            loss_reduction=loss_reduction,
            update=update,
            weight_type=weight_type,
            output_rate=self.learning_rate if self.updates_in_loss else None,
            weight_decay=self.weight_decay,
            output_std=output_std,
            start=self.start,
        )
        self.encoder = self.build_encoder((self.seed,), self.num_labels)
        if is_linear:
            counts = self.head.column_counts(facts.label_counts)
            self.start_from_prior(None, counts, self.head.loss_kind)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """The mean over the columns of a softmax; what only a lean update has, or has not."""
        super().refuse_together(settings)
        refuse_mean_of_softmax(settings)
        refuse_without_update(settings)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean loss of the batch's points over all L labels."""
        if self.updates_in_loss:
            self.head.output_rate = (self.output_rate or self.learning_rate) * self.rate_factor
        return self.head.loss(self.encoder(batch), batch)
