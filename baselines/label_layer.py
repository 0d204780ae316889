"""One output layer over all L labels: what full and sampled methods share, inference included."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from baselines.heads import LabelHead
from bench.data.batch import Batch
from bench.nn.classifier import ExtremeClassifier


class LabelLayer(ExtremeClassifier):
    """Encoder and one weight vector a label; subclasses differ in how they are trained.

    A subclass makes the head, and then the encoder.
    """

    head: LabelHead

    def identity(self) -> Mapping[str, object]:
        """The loss that logits are of."""
        return {**super().identity(), "loss": self.head.loss_kind}

    def encode(self, batch: Batch) -> Tensor:
        """Hidden vectors `(N, H)`; logits `(N, L)` of a linear model."""
        hidden: Tensor = self.encoder(batch)
        return hidden[0]

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits and their labels, each `(N, k)`, best first; ties by smaller label."""
        return self.head.rank(hidden, k)

    def logits(self, batch: Batch) -> Tensor:
        """Logits `(N, L)` of all labels."""
        return self.head.logits(self.encode(batch))

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """Each label's own under BCE, else its share of all L labels' softmax."""
        return self.head.probabilities(self.encode(batch), scores, labels)

    def prepare_inference(self, k: int) -> None:
        """Compile the kernels of ranking."""
        self.head.prepare_inference(k)
