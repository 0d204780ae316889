"""Two towers: a query and a label are near each other or not; what the papers call DSSM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from baselines.sampled_labels import NumSamples, SampledLabels, SamplerName, Sampling
from baselines.sampled_losses import sampled_loss
from bench.data.batch import Batch
from bench.nn.checkpoint import SelfDescribing
from bench.nn.classifier import DataFacts
from bench.nn.layers import draw_output, row_lookup
from bench.nn.options import Positive, Size, check_values
from bench.nn.ranking import compile_top_k, shares_of_product, top_k_of_product
from bench.settings import SettingsError

Similarity = Literal["cosine", "dot"]
# A vector shorter than this is not made longer than 1: a point without features has the vector 0.
_LEAST_NORM = 1e-3


class TwoTower(SelfDescribing, SampledLabels):
    """Score of a label: cosine (or dot product) of a query's and a label's vector, over τ.

    The query tower is the encoder that all methods share, without a ReLU on its vectors, so that
    they may point anywhere. The label tower is a table: the sources have no text of labels, and one
    free vector a label is what a tower can at best be. This differs from the papers' DSSM, whose
    second tower reads a product's title: that one has no parameter that grows with L and can score
    a product it never saw; this one cannot, and has L · H of them. From the same loss over all
    labels, a softmax differs in its biases, its lengths of vectors and τ alone.

    It is trained as a sampled softmax: a point's own labels against the labels of the batch's other
    points, or sampled ones, with the logQ correction.

    Args:
        facts: sizes and label frequencies of the training data.
        similarity: `cosine` or `dot`.
        temperature: τ, by which scores are divided; small ones sharpen a cosine's softmax.
        sampler: of the negatives, see :func:`baselines.samplers.build_sampler`.
        num_samples: S, of samplers that draw.
        power: exponent of the `unigram` sampler.
        rectify: ReLU on the query's vectors, as in the other methods.
        output_std: standard deviation of the initial label vectors' entries; None: 1/√H, so that
            they have about unit length.
        **shared: see :class:`ExtremeClassifier`; label vectors have no bias to start from a prior.

    Raises:
        SettingsError: a linear encoder (there is no vector to compare), an unknown similarity, or τ
            or `output_std` out of range.

    Source: Huang et al. 2013 (DSSM); negatives of the batch with logQ: Yi et al. 2019.
    """

    sparse_outputs = ("output",)

    def __init__(
        self,
        facts: DataFacts,
        *,
        similarity: Similarity = "cosine",
        temperature: Positive = 0.05,
        sampler: SamplerName = "in_batch",
        num_samples: NumSamples = 1024,
        power: float = 0.75,
        rectify: bool = False,
        output_std: Size | None = None,
        **shared: Any,
    ) -> None:
        check_values(TwoTower.__init__, locals())
        self.refuse_together(shared | {"similarity": similarity, "output_std": output_std})
        super().__init__(facts, **shared)
        width = self.hidden_dims[-1]
        std = 1 / math.sqrt(width) if output_std is None else output_std
        self.sampling = Sampling(
            sampler,
            facts.label_counts,
            facts.num_train_points,
            num_samples=num_samples,
            power=power,
            seed=self.seed,
        )
        self.similarity: Similarity = similarity
        self.temperature = temperature
        self.encoder = self.build_encoder((self.seed,), None, activate_last=rectify)
        labels = torch.zeros(self.num_labels, width)
        draw_output(labels, None, self.seed, std, self.start, width)
        self.output = nn.Parameter(labels)
        self._ranked: tuple[Tensor, Tensor] | None = None

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """A linear encoder, which has no vector to compare, and label vectors without direction."""
        super().refuse_together(settings)
        if settings.get("encoder") == "linear":
            raise SettingsError("two towers compare vectors; encoder is 'linear', expected 'mlp'")
        if settings["output_std"] == 0 and settings["similarity"] == "cosine":
            raise SettingsError("output_std is 0; expected above 0 for a cosine")

    def identity(self) -> Mapping[str, object]:
        """What is done with two vectors."""
        return {
            **super().identity(),
            "similarity": self.similarity,
            "temperature": self.temperature,
        }

    def encode(self, batch: Batch) -> Tensor:
        """Vectors `(N, H)` of the queries, L2-normalised for a cosine, over τ."""
        hidden: Tensor = self.encoder(batch)
        return self._scaled(hidden[0]) / self.temperature

    def _scaled(self, vectors: Tensor) -> Tensor:
        if self.similarity == "dot":
            return vectors
        norms: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        # A length past float32 must not pass for a direction of zeros: the difference is NaN then.
        scale = 1 / norms.clamp_min(_LEAST_NORM) + (norms - norms).detach()
        unit: Tensor = vectors * scale
        return unit

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of log(estimated partition sum) − mean score of the own labels."""
        self._ranked = None
        rows, negatives = self.sample(batch)
        labels = row_lookup(self.output, rows, dense_gradient=self.has_dense_gradients)
        # As in a sampled softmax: bfloat16 is too coarse for the corrections.
        scores = (self.encode(batch) @ self._scaled(labels).t()).float()
        return sampled_loss(scores, rows, batch, negatives)

    def prepare_inference(self, k: int) -> None:
        """Compile the kernels of ranking, and scale the label vectors once."""
        compile_top_k()
        self._ranked = self._label_side()

    @torch.no_grad()
    def _label_side(self) -> tuple[Tensor, Tensor]:
        """Label vectors `(L, H)` as they are multiplied, and biases of 0."""
        return self._scaled(self.output.detach()), self.output.new_zeros(self.num_labels)

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Largest scores and their labels, each `(N, k)`, best first; ties by smaller label."""
        vectors, zeros = self._ranked or self._label_side()
        return top_k_of_product(hidden, vectors, zeros, k)

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """Shares of the softmax over all L labels, which sampling estimates."""
        return shares_of_product(self.encode(batch), *(self._ranked or self._label_side()), scores)

    def decode_bytes(self) -> int:
        """Bytes of the scaled label vectors, where they are others than the parameters."""
        num_floats = self.num_labels
        if self.similarity == "cosine":
            num_floats += self.output.numel()
        return num_floats * self.output.element_size()
