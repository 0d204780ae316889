"""Softmax whose partition sum is estimated from sampled labels; evaluation is over all labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from baselines.heads import SampledSoftmaxHead
from baselines.label_layer import LabelLayer
from baselines.sampled_labels import NumSamples, SampledLabels, SamplerName
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts
from bench.nn.losses import LossKind
from bench.nn.options import Size, check_values
from bench.settings import SettingsError


class SampledSoftmax(SampledLabels, LabelLayer):
    """Cross-entropy over a point's own labels and a batch-wide sample of the others.

    For point i with labels P and sampled labels S, the partition sum is estimated by
    Σ_{y ∈ P} exp(z_y) + Σ_{s ∈ S∖P} w_s exp(z_s): a point's own labels are surely present, so they
    need no correction; sampled ones carry w = times drawn / expected count, and those that are own
    labels of the point (accidental hits) are masked. Its expectation is the full sum, and with
    sampler `all` it is the full softmax.

    Args:
        facts: sizes and label frequencies of the training data.
        sampler: see :func:`baselines.samplers.build_sampler`.
        num_samples: S, drawn anew for each batch.
        power: exponent of the `unigram` sampler.
        **shared: see :class:`LabelLayer`.

    Raises:
        SettingsError: the encoder is linear (its rows are features, not labels: nothing to sample).
    """

    #: The loss that sampling estimates.
    estimated_loss: ClassVar[LossKind] = "softmax"
    sparse_outputs = ("head.weight", "head.bias")

    def __init__(
        self,
        facts: DataFacts,
        *,
        sampler: SamplerName = "unigram",
        num_samples: NumSamples = 1024,
        power: float = 0.75,
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        check_values(SampledSoftmax.__init__, locals())
        self.refuse_together(shared)
        super().__init__(facts, **shared)
        self.head = SampledSoftmaxHead(
            self.hidden_dims[-1],
            self.num_labels,
            loss=self.estimated_loss,
            label_counts=facts.label_counts,
            num_points=facts.num_train_points,
            seed=self.seed,
            sampler=sampler,
            num_samples=num_samples,
            power=power,
            sparse=not self.has_dense_gradients,
            prior_start=self.prior_start,
            output_std=output_std,
            start=self.start,
        )
        self.sampling = self.head.sampling
        self.encoder = self.build_encoder((self.seed,), self.num_labels)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """A linear encoder, whose rows are features: there are no labels to sample."""
        super().refuse_together(settings)
        if settings.get("encoder") == "linear":
            raise SettingsError("sampled softmax needs a hidden layer; encoder is 'linear'")

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of the estimated loss."""
        return self.head.loss(self.encode(batch), batch)
