"""One output layer over all L labels: what full and sampled methods share, inference included."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.layers import draw_output
from bench.nn.losses import LossKind
from bench.nn.options import Size, check_values
from bench.nn.ranking import compile_top_k, exact_top_k, shares_of_product, top_k_of_product


class LabelLayer(ExtremeClassifier):
    """Encoder and one weight vector a label; subclasses differ in how they are trained.

    Rows of the weight are labels: torch's layout of a linear layer, that of row-sparse updates, and
    the fastest in the products of training and inference alike.

    Args:
        facts: sizes and label frequencies of the training data.
        loss: the loss that the biases' start is for.
        output_std: standard deviation of the output layer's initial weights.
        **shared: see :class:`ExtremeClassifier`.
    """

    #: Of the output layer's weights; what an optimiser trains has 32 bits.
    weight_dtype = torch.float32

    def __init__(
        self, facts: DataFacts, loss: LossKind, *, output_std: Size = 0.0, **shared: Any
    ) -> None:
        check_values(LabelLayer.__init__, locals())
        super().__init__(facts, **shared)
        self.loss_kind: LossKind = loss
        self.encoder = self.build_encoder((self.seed,), self.num_labels)
        biases = None
        if self.encoder_kind != "linear":
            weight = torch.zeros(self.num_labels, self.hidden_dims[-1], dtype=self.weight_dtype)
            bias = torch.zeros(self.num_labels)
            draw_output(weight, bias, self.seed, output_std, self.start, self.hidden_dims[-1])
            self.output = nn.Parameter(weight)
            self.output_bias = nn.Parameter(bias)
            biases = self.output_bias.unsqueeze(0)
        self.start_from_prior(biases, facts.label_counts.unsqueeze(0), loss)

    def identity(self) -> Mapping[str, object]:
        """The loss that logits are of."""
        return {**super().identity(), "loss": self.loss_kind}

    def encode(self, batch: Batch) -> Tensor:
        """Hidden vectors `(N, H)`; logits `(N, L)` of a linear model."""
        hidden: Tensor = self.encoder(batch)
        return hidden[0]

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits and their labels, each `(N, k)`, best first; ties by smaller label."""
        if self.encoder_kind == "linear":
            return exact_top_k(hidden, k)
        return top_k_of_product(hidden, self.output, self.output_bias, k)

    def logits(self, batch: Batch) -> Tensor:
        """Logits `(N, L)` of all labels."""
        hidden = self.encode(batch)
        if self.encoder_kind == "linear":
            return hidden
        return torch.addmm(self.output_bias, hidden, self.output.to(hidden.dtype).t())

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """Each label's own under BCE, else its share of all L labels' softmax."""
        if self.loss_kind == "bce":
            return scores.sigmoid()
        hidden = self.encode(batch)
        if self.encoder_kind == "linear":
            return (scores - hidden.logsumexp(1, keepdim=True)).exp()
        return shares_of_product(hidden, self.output, self.output_bias, scores)

    def prepare_inference(self, k: int) -> None:
        """Compile the kernels of ranking."""
        compile_top_k()

    def hidden_floats(self, batch_size: int) -> int:
        """Floats of hidden vectors in a training step.

        Of each layer its output before and after the ReLU and the gradients of both.
        """
        return 4 * batch_size * sum(self.hidden_dims)
