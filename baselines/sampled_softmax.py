"""Softmax whose partition sum is estimated from sampled labels; evaluation is over all labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines.full_softmax import exact_top_k
from baselines.samplers import Negatives, build_sampler
from bench.classifier import DataFacts, ExtremeClassifier, output_weight
from bench.data.batch import Batch
from bench.layers import row_lookup
from bench.losses import with_ones


class SampledSoftmax(ExtremeClassifier):
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
        output_std: standard deviation of the output layer's initial weights.
        **shared: see :class:`ExtremeClassifier`.

    Raises:
        ValueError: the encoder is linear (its rows are features, not labels: nothing to sample).
    """

    def __init__(
        self,
        facts: DataFacts,
        *,
        sampler: str = "log_uniform",
        num_samples: int = 1024,
        power: float = 0.75,
        output_std: float = 0.0,
        **shared: Any,
    ) -> None:
        super().__init__(facts, **shared)
        if self.encoder_kind == "linear":
            raise ValueError("sampled softmax needs a hidden layer; encoder is 'linear'")
        self.num_samples = facts.num_labels if sampler == "all" else num_samples
        if sampler == "in_batch":
            self.num_samples = 0
        mass = int(facts.label_counts.sum())
        self._labels_per_point = mass / max(facts.num_train_points, 1)
        with torch.device("cpu"):  # also when the model itself is built without memory
            self.sampler = build_sampler(
                sampler,
                facts.label_counts,
                facts.num_train_points,
                num_samples=num_samples,
                power=power,
                seed=self.seed,
            )
        self.encoder = self.build_encoder((self.seed,), None)
        # Rows are labels, so that a step reads and writes sampled rows only.
        start = output_weight(1, self.hidden_dims[-1], self.num_labels, (self.seed,), output_std)
        self.output = nn.Parameter(start.detach()[0].t().contiguous())
        self.start_from_prior(facts.label_counts.unsqueeze(0), "softmax")

    def _output_biases(self) -> Tensor:
        return self.output[:, -1].unsqueeze(0)

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of log(estimated partition sum) − mean logit of the own labels."""
        own, point_ids = batch.label_ids, batch.label_point_ids
        negatives = self.sampler.sample(own, batch.num_points)
        rows = torch.unique(torch.cat([own, negatives.labels]))
        dense = self.has_dense_gradients
        weight = row_lookup(self.output, rows, dense_gradient=dense)
        hidden = with_ones(self.encoder(batch)[0])
        return sampled_loss(hidden, weight, rows, batch, point_ids, negatives)

    def logits(self, batch: Batch) -> Tensor:
        """Logits `(N, L)` of all labels."""
        return with_ones(self.encoder(batch)[0]) @ self.output.t()

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits over all labels, and these labels, each `(N, k)`."""
        logits = self.logits(batch)
        with self.decode_timer():
            return exact_top_k(logits, k)

    def sparse_rows(self, batch_size: int, entries_per_point: float) -> dict[str, int]:
        """Rows of features, and of own and sampled labels."""
        rows = self._rows(batch_size)
        shared = super().sparse_rows(batch_size, entries_per_point)
        return shared | {"output": rows}

    def _rows(self, batch_size: int) -> int:
        return min(int(self.num_samples + batch_size * self._labels_per_point), self.num_labels)

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Logits of the sampled labels, their masked copy and their gradient, and gathered rows."""
        rows = self._rows(batch_size)
        hidden = 2 * batch_size * sum(self.hidden_dims)
        return 4 * (3 * batch_size * rows + 2 * rows * self.hidden_dims[-1] + hidden)


def sampled_loss(
    hidden: Tensor,
    weight: Tensor,
    rows: Tensor,
    batch: Batch,
    point_ids: Tensor,
    negatives: Negatives,
) -> Tensor:
    """Sampled-softmax loss from the gathered rows of the output layer.

    Args:
        hidden: `(N, H)`.
        weight: `(U, H)` rows of own and sampled labels.
        rows: `(U,)` int64, ascending: the label of each row.
        batch: the points.
        point_ids: `(M,)` which point each own label belongs to.
        negatives: the sampled labels, all of them in `rows`.

    Returns:
        Scalar; points without labels add nothing.
    """
    num_points = batch.num_points
    logits = hidden @ weight.t()
    own_columns = torch.searchsorted(rows, batch.label_ids)
    own_logits = logits[point_ids, own_columns]
    # One array of log weights does three things: corrects sampled labels, drops rows that are only
    # another point's own label, and (below) masks accidental hits.
    log_weights = logits.new_full((rows.numel(),), -torch.inf)
    log_weights[torch.searchsorted(rows, negatives.labels)] = negatives.log_weights.to(logits.dtype)
    corrected = (logits + log_weights).index_put((point_ids, own_columns), _minus_inf(logits))
    negative_part = torch.logsumexp(corrected, dim=1)
    top = own_logits.detach().new_full((num_points,), -torch.inf)
    top = top.scatter_reduce(0, point_ids, own_logits.detach(), "amax")
    has_labels = torch.isfinite(top)
    shift = torch.where(has_labels, top, torch.zeros_like(top))
    own_sum = torch.zeros_like(shift).index_add(
        0, point_ids, torch.exp(own_logits - shift[point_ids])
    )
    own_part = torch.log(torch.where(has_labels, own_sum, torch.ones_like(own_sum))) + shift
    log_partition = torch.logaddexp(own_part, negative_part)
    counts = batch.label_offsets.diff().clamp(min=1).to(logits.dtype)
    own_mean = torch.zeros_like(shift).index_add(0, point_ids, own_logits) / counts
    return torch.where(has_labels, log_partition - own_mean, torch.zeros_like(shift)).mean()


def _minus_inf(like: Tensor) -> Tensor:
    return torch.tensor(-torch.inf, dtype=like.dtype, device=like.device)
