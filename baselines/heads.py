"""Output layers with a weight vector a label, by themselves: trained on all labels or a sample."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from baselines.sampled_labels import NumSamples, SamplerName, Sampling
from baselines.sampled_losses import sampled_bce_loss, sampled_loss
from baselines.samplers import Negatives
from bench.nn.head import Labelled, OutputHead
from bench.nn.layers import OWN_START, Start, draw_output, row_lookup
from bench.nn.lean import (
    LeanUpdate,
    Update,
    WeightType,
    rate_of_update,
    refuse_without_update,
)
from bench.nn.losses import (
    LossKind,
    Reduction,
    build_positives,
    chunked_loss,
    fused_loss_of_logits,
    loss_scale,
)
from bench.nn.options import Count, Size, check_values
from bench.nn.ranking import compile_top_k, exact_top_k, shares_of_product, top_k_of_product
from bench.settings import SettingsError, derive_seed


class LabelHead(OutputHead):
    """One weight vector and bias a label; subclasses differ in how they are trained.

    Rows of the weight are labels: torch's layout of a linear layer, that of row-sparse updates, and
    the fastest in the products of training and inference alike.
    """

    def __init__(
        self,
        hidden_dim: int | None,
        num_labels: int,
        loss: LossKind,
        *,
        label_counts: Tensor | None,
        num_points: int | None,
        seed: int,
        output_std: float,
        start: Start,
        weight_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.width = num_labels if hidden_dim is None else hidden_dim
        self.num_labels = num_labels
        self.loss_kind: LossKind = loss
        self.weight_dtype = weight_dtype
        if hidden_dim is not None:
            weight = torch.zeros(num_labels, hidden_dim, dtype=weight_dtype)
            bias = torch.zeros(num_labels)
            draw_output(weight, bias, seed, output_std, start, hidden_dim)
            self.weight = nn.Parameter(weight)
            self.bias = nn.Parameter(bias)
        self.start_from_prior(label_counts, num_points)

    def biases(self) -> Tensor | None:
        """`(1, L)` view of the biases; None without a layer."""
        return None if self.hidden_dim is None else self.bias.unsqueeze(0)

    def column_counts(self, label_counts: Tensor) -> Tensor:
        """`(1, L)`: the counts themselves."""
        return label_counts.unsqueeze(0)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits `(N, L)` of all labels."""
        if self.hidden_dim is None:
            return hidden
        return torch.addmm(self.bias, hidden, self.weight.to(hidden.dtype).t())

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits and their labels, each `(N, k)`, best first; ties by smaller label."""
        if self.hidden_dim is None:
            return exact_top_k(hidden, k)
        return top_k_of_product(hidden, self.weight, self.bias, k)

    def probabilities(self, hidden: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Each label's own under BCE, else its share of all L labels' softmax."""
        if self.loss_kind == "bce":
            return scores.sigmoid()
        if self.hidden_dim is None:
            return (scores - hidden.logsumexp(1, keepdim=True)).exp()
        return shares_of_product(hidden, self.weight, self.bias, scores)

    def prepare_inference(self, k: int) -> None:
        """Compile the kernels of ranking."""
        compile_top_k()


class SoftmaxHead(LabelHead):
    """Softmax over all L labels, or one-vs-all BCE, whose logits become their own gradient.

    >>> head = SoftmaxHead(16, 1000, chunk_size=4)
    >>> hidden, labels = torch.randn(8, 16), torch.arange(8)
    >>> head(hidden, labels).shape, head.top_k(hidden, 5)[1].shape
    (torch.Size([]), torch.Size([8, 5]))

    Args:
        hidden_dim: H; None, of our linear models: no layer, hidden vectors are `(N, L)` logits.
        num_labels: L.
        loss: `softmax`, which spreads its target evenly over a point's labels, or `bce`.
        label_counts: `(L,)` training points of each label: biases start at their frequencies, which
            spares BCE the steps in which it learns that labels are rare.
        num_points: training points that these are of; None: all have one label.
        seed: of initial weights.
        chunk_size: points whose logits exist together in the training of a softmax; None: all.
        loss_reduction: see :class:`baselines.full_softmax.FullSoftmax`.
        update: `sgd` or `row_adagrad`: the layer is updated while the loss is computed, in the
            memory of its weights, and no optimiser knows of it.
        weight_type: `bfloat16` with such an update.
        output_rate: learning rate of such an update; this attribute may be set before any step.
        weight_decay: of such an update.
        output_std: standard deviation of initial weights.
        start: distribution of initial weights and biases in place of that.

    Raises:
        SettingsError: a value or combination that is not what was expected.
    """

    def __init__(
        self,
        hidden_dim: int | None,
        num_labels: int,
        *,
        loss: LossKind = "softmax",
        label_counts: Tensor | None = None,
        num_points: int | None = None,
        seed: int = 0,
        chunk_size: Count | None = None,
        loss_reduction: Reduction = "sum",
        update: Update = "optimizer",
        weight_type: WeightType = "float32",
        output_rate: Size | None = None,
        weight_decay: Size = 0.0,
        output_std: Size = 0.0,
        start: Start = OWN_START,
    ) -> None:
        given = locals()
        check_values(SoftmaxHead.__init__, given)
        refuse_without_update(given | {"encoder": "linear"} if hidden_dim is None else given)
        super().__init__(
            hidden_dim,
            num_labels,
            loss,
            label_counts=label_counts,
            num_points=num_points,
            seed=seed,
            output_std=output_std,
            start=start,
            weight_dtype=getattr(torch, weight_type),
        )
        self.chunk_size = chunk_size
        self.loss_scale = loss_scale(loss_reduction, loss, num_labels)
        self.output_rate = rate_of_update(update, output_rate)
        self.weight_decay = weight_decay
        self.lean: LeanUpdate | None = None
        if update != "optimizer":
            self.requires_grad_(False)
            self.lean = LeanUpdate([derive_seed("rounding", seed)], num_labels, rule=update)

    def loss(self, hidden: Tensor, points: Labelled) -> Tensor:
        """Mean loss of the points over all L labels."""
        positives = build_positives(
            points.label_ids.unsqueeze(0),
            points.label_offsets,
            points.label_point_ids,
            self.num_labels,
            self.loss_kind,
        )
        if hidden.dim() == 2:
            hidden = hidden.unsqueeze(0)
        if self.hidden_dim is None:
            loss = fused_loss_of_logits(hidden, positives, self.loss_kind)
        elif self.lean is not None:
            return self.lean.loss(
                hidden,
                self.weight.unsqueeze(0),
                self.bias.unsqueeze(0),
                positives,
                self.loss_kind,
                rate=self.output_rate,
                scale=self.loss_scale,
                weight_decay=self.weight_decay,
            )
        else:
            loss = chunked_loss(
                hidden,
                self.weight.unsqueeze(0),
                positives,
                self.loss_kind,
                bias=self.bias.unsqueeze(0),
                points_per_chunk=self.chunk_size,
            )
        return loss * self.loss_scale if self.loss_scale != 1 else loss


class SampledSoftmaxHead(LabelHead):
    """Softmax, or one-vs-all BCE, trained on a batch's own labels and a sample of the others.

    Its loss is an unbiased estimate, see :class:`baselines.sampled_softmax.SampledSoftmax` and
    :class:`baselines.sampled_bce.SampledBce`; :meth:`top_k` ranks all labels.

    >>> head = SampledSoftmaxHead(16, 1000, num_samples=50, sampler="uniform")
    >>> hidden, labels = torch.randn(8, 16), torch.arange(8)
    >>> head(hidden, labels).shape, head.top_k(hidden, 5)[1].shape
    (torch.Size([]), torch.Size([8, 5]))

    Args:
        hidden_dim: H.
        num_labels: L.
        loss: that is estimated, `softmax` or `bce`.
        label_counts: `(L,)` training points of each label, by which all samplers but `uniform` and
            `all` draw or weigh; biases start at their frequencies.
        num_points: training points that these are of; None: all have one label.
        seed: of initial weights and draws.
        sampler: see :func:`baselines.samplers.build_sampler`.
        num_samples: S, drawn anew for each batch.
        power: exponent of the `unigram` sampler.
        sparse: give row-sparse gradients, as `torch.nn.Embedding` does, for optimisers that take
            them (`torch.optim.SparseAdam`, those of `bench.nn.optimizers`).
        prior_start: start biases at the frequencies of `label_counts`.
        output_std: standard deviation of initial weights.
        start: distribution of initial weights and biases in place of that.

    Raises:
        SettingsError: a value or combination that is not what was expected.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_labels: int,
        *,
        loss: LossKind = "softmax",
        label_counts: Tensor | None = None,
        num_points: int | None = None,
        seed: int = 0,
        sampler: SamplerName = "unigram",
        num_samples: NumSamples = 1024,
        power: float = 0.75,
        sparse: bool = False,
        prior_start: bool = True,
        output_std: Size = 0.0,
        start: Start = OWN_START,
    ) -> None:
        check_values(SampledSoftmaxHead.__init__, locals())
        if label_counts is None and sampler not in ("uniform", "all"):
            raise SettingsError(
                f"label_counts is None and sampler {sampler!r}, which draws or weighs labels by "
                "their frequency; expected them, or sampler 'uniform'"
            )
        super().__init__(
            hidden_dim,
            num_labels,
            loss,
            label_counts=label_counts if prior_start else None,
            num_points=num_points,
            seed=seed,
            output_std=output_std,
            start=start,
        )
        counts = torch.zeros(num_labels) if label_counts is None else label_counts
        self.sampling = Sampling(
            sampler, counts, num_points, num_samples=num_samples, power=power, seed=seed
        )
        self.sparse = sparse

    def loss(self, hidden: Tensor, points: Labelled) -> Tensor:
        """Mean over the points of the estimated loss."""
        logits, rows, negatives = self.sampled_logits(hidden, points)
        estimate: Any = sampled_loss if self.loss_kind == "softmax" else sampled_bce_loss
        found: Tensor = estimate(logits, rows, points, negatives)
        return found

    def sampled_logits(self, hidden: Tensor, points: Labelled) -> tuple[Tensor, Tensor, Negatives]:
        """Logits `(N, U)` of the points' own and sampled labels, these labels, and the sample."""
        rows, negatives = self.sampling.draw(points)
        weight, bias = (
            row_lookup(parameter, rows, dense_gradient=not self.sparse)
            for parameter in (self.weight, self.bias)
        )
        # Corrections of the sample are added to logits: bfloat16 would round them to steps of 0.03.
        return torch.addmm(bias, hidden, weight.t()).float(), rows, negatives
