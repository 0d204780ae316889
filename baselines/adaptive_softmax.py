"""Adaptive softmax: frequent labels at full width, rare ones in clusters that few points reach."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines.arithmetic import cluster_ends, points_per_chunk
from bench.data.batch import Batch
from bench.nn.checkpoint import SelfDescribing
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.layers import draw_output
from bench.nn.losses import Positives, chunked_loss, spans
from bench.nn.options import Above, AtLeast, Below, Size, check_values
from bench.nn.ranking import (
    check_k,
    compile_top_k,
    exact_top_k,
    shares_of_product,
    top_k_of_product,
)
from bench.settings import SettingsError, derive_seed

# Logits of a tail that exist together in a ranking, in floats: a query's best labels are found
# fastest while the processor's own cache holds them. A GPU has no such limit.
_RANKED_FLOATS = {"cpu": 1 << 18}


class AdaptiveSoftmax(SelfDescribing, ExtremeClassifier):
    """Softmax over the frequent labels and one column for each tail, a cluster of rarer ones.

    The probability of a label of tail t is that of the tail times that of a softmax within it, on
    hidden vectors projected to H / `div_value`^t. A training step computes a tail for those points
    alone that have a label in it, and a query for those alone whose best k labels it may hold.

    Labels go to the head and the tails by falling training frequency, equal ones by id. With
    T tails, the first t of them and the head hold the share `head_share`^(1 − t/T) of the labels:
    each makes what is covered larger by the same factor, so that under Zipf's law all tails are
    reached equally often. Without tails this is the full softmax. Of multi-label data the loss is
    the mean over a point's labels, as of the full softmax.

    Args:
        facts: sizes and label frequencies of the training data.
        num_tails: T.
        head_share: of the labels, those of the head. By default what Baevski & Auli 2019 took for
            the 267,744 words of WikiText-103: 20,000. They end their first tail at 22 % of the
            words, this rule at 27.
        div_value: by how much each tail is narrower than the one before; 4 in the same source.
        output_std: standard deviation of the initial weights of head and tails. Projections start
            at one that keeps a hidden vector's length.
        **shared: see :class:`ExtremeClassifier`.

    Raises:
        SettingsError: a linear encoder (there is no hidden vector to project), fewer labels than
            head and tails, or an option out of range.

    Source: Grave et al. 2017.
    """

    tables = (*ExtremeClassifier.tables, "labels", "places")
    tables_need_counts = True

    def __init__(
        self,
        facts: DataFacts,
        *,
        num_tails: Annotated[int, AtLeast(0)] = 2,
        head_share: Annotated[float, Above(0), Below(1)] = 0.075,
        div_value: Annotated[float, AtLeast(1)] = 4.0,
        output_std: Size = 0.0,
        **shared: Any,
    ) -> None:
        check_values(AdaptiveSoftmax.__init__, locals())
        self.refuse_together(shared)
        super().__init__(facts, **shared)
        self.cluster_ends = cluster_ends(self.num_labels, num_tails, head_share)
        self.encoder = self.build_encoder((self.seed,), None)
        width = self.hidden_dims[-1]
        self.num_head_labels = self.cluster_ends[0]
        self.output, self.output_bias = self._layer(
            self.num_head_labels + num_tails, width, self.seed, output_std
        )
        self.projections, self.tails, self.tail_biases = (nn.ParameterList() for _ in range(3))
        for tail, cluster in enumerate(self._clusters()[1:], start=1):
            narrow = max(int(width / div_value**tail), 1)
            seed = derive_seed("projection", self.seed, tail)
            projection, _ = self._layer(narrow, width, seed, 1 / math.sqrt(narrow))
            seed = derive_seed("tail", self.seed, tail)
            weight, bias = self._layer(cluster.stop - cluster.start, narrow, seed, output_std)
            self.projections.append(projection)
            self.tails.append(weight)
            self.tail_biases.append(bias)
        self._number_labels(facts.label_counts)
        self._reach: Tensor | None = None

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """A linear encoder."""
        super().refuse_together(settings)
        if settings.get("encoder") == "linear":
            raise SettingsError("adaptive softmax projects hidden vectors; encoder is 'linear'")

    def _clusters(self) -> list[slice]:
        """Places of the labels of the head and of each tail."""
        starts = [0, *self.cluster_ends[:-1]]
        return [slice(*ends) for ends in zip(starts, self.cluster_ends, strict=True)]

    def _layer(
        self, rows: int, width: int, seed: int, std: float
    ) -> tuple[nn.Parameter, nn.Parameter]:
        weight, bias = torch.zeros(rows, width), torch.zeros(rows)
        draw_output(weight, bias, seed, std, self.start, width)
        return nn.Parameter(weight), nn.Parameter(bias)

    def _number_labels(self, label_counts: Tensor) -> None:
        """Give each label its place, and head and tails the training frequencies as biases.

        The labels of a cluster stand in the order of their ids: equal scores go by smaller label.
        """
        labels = torch.empty(self.num_labels, dtype=torch.int64)
        places = torch.empty_like(labels)
        self.register_buffer("labels", labels, persistent=False)
        self.register_buffer("places", places, persistent=False)
        self.labels: Tensor
        self.places: Tensor
        if labels.is_meta:
            return
        counts = label_counts.cpu()
        order = torch.argsort(counts, descending=True, stable=True)
        for cluster in self._clusters():
            labels[cluster] = order[cluster].sort().values
        places[labels] = torch.arange(self.num_labels)
        head, *tails = (counts[labels[cluster]] for cluster in self._clusters())
        columns = torch.cat([head, torch.tensor([int(tail.sum()) for tail in tails])])
        for bias, own in zip([self.output_bias, *self.tail_biases], [columns, *tails], strict=True):
            self.start_from_prior(bias.unsqueeze(0), own.unsqueeze(0), "softmax")

    def fill_tables(self) -> None:
        """The labels by place, and their places."""
        self._number_labels(self.facts.label_counts)

    def identity(self) -> Mapping[str, object]:
        """Which label each weight is of."""
        digest = hashlib.sha256(self.labels.cpu().numpy().tobytes()).hexdigest()[:16]
        return {**super().identity(), "cluster_ends": list(self.cluster_ends), "labels": digest}

    def encode(self, batch: Batch) -> Tensor:
        """Hidden vectors `(N, H)`."""
        hidden: Tensor = self.encoder(batch)
        return hidden[0]

    # Training ---------------------------------------------------------------------------------

    def training_loss(self, batch: Batch) -> Tensor:
        """Mean over points of the mean over their labels of −log p."""
        self._reach = None
        hidden, point_ids = self.encode(batch), batch.label_point_ids
        counts = batch.label_offsets.diff()
        shares = None if bool((counts > 0).all()) else (counts > 0).float()
        has_one_each = shares is None and batch.label_ids.numel() == batch.num_points
        weights = (1 / counts.float())[point_ids]
        places = self.places[batch.label_ids]
        columns = places.clone()
        for tail, cluster in enumerate(self._clusters()[1:]):
            columns[places >= cluster.start] = self.num_head_labels + tail
        head = Positives(columns[None], point_ids, weights[None], batch.label_offsets, shares)
        loss = _loss(hidden, self.output, self.output_bias, head)
        for tail, start in enumerate(self.cluster_ends[:-1]):
            own = (columns == self.num_head_labels + tail).nonzero().squeeze(1)
            entries = places[own] - start, point_ids[own], weights[own]
            points, positives = _of_tail(*entries, has_one_each=has_one_each)
            projected = F.linear(hidden.index_select(0, points), self.projections[tail])
            value = _loss(projected, self.tails[tail], self.tail_biases[tail], positives)
            loss = loss + value * (points.numel() / batch.num_points)
        return loss

    # Prediction -------------------------------------------------------------------------------

    @torch.no_grad()
    def prepare_inference(self, k: int) -> None:
        """Compile the kernels of ranking, and bound the tails' logits.

        A tail may be passed over where its labels' scores are numbers for certain: NaN is refused
        wherever it stands.
        """
        compile_top_k()
        if self.projections:
            bounds = [
                projection.norm() * torch.linalg.vector_norm(weight, dim=1).amax()
                + bias.abs().amax()
                for projection, weight, bias in zip(
                    self.projections, self.tails, self.tail_biases, strict=True
                )
            ]
            self._reach = torch.stack(bounds)

    @torch.no_grad()
    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Largest logits and their labels, each `(N, k)`, best first; ties by smaller label.

        They are those of :meth:`logits`. A tail whose own logit is below the k-th best so far can
        hold none of them, since its labels share its probability.
        """
        check_k(k, self.num_labels)
        size = self.num_head_labels
        weight, bias = self.output, self.output_bias
        scores, columns = top_k_of_product(hidden, weight[:size], bias[:size], min(k, size))
        best = scores, self.labels[columns]
        of_tails = F.linear(hidden, weight[size:], bias[size:])
        is_bounded = self._bounded(hidden)
        for tail in range(len(self.tails)):
            # The tail's logit may be NaN, and then it is not below.
            is_passed = is_bounded[:, tail] & (of_tails[:, tail] < best[0][:, -1])
            if best[0].shape[1] < k:
                is_passed = torch.zeros_like(is_passed)
            points = (~is_passed).nonzero().squeeze(1)
            if points.numel() == hidden.shape[0]:
                found = self._best_of_tail(tail, hidden, of_tails, k)
                best = _best_of_both(best, found, k)
            elif points.numel():
                found = self._best_of_tail(tail, hidden[points], of_tails[points], k)
                some = _best_of_both((best[0][points], best[1][points]), found, k)
                for every, own in zip(best, some, strict=True):
                    every[points] = own
        return best

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """Shares of the softmax over head and tails: a label's logit has its share of its tail."""
        return shares_of_product(self.encode(batch), self.output, self.output_bias, scores)

    def _bounded(self, hidden: Tensor) -> Tensor:
        """`(N, T)`: of which tails all logits are numbers for certain."""
        if self._reach is None:
            return hidden.new_zeros(hidden.shape[0], len(self.tails), dtype=torch.bool)
        norms = torch.linalg.vector_norm(hidden, dim=1, keepdim=True)
        largest: Tensor = (norms + 1) * self._reach
        return largest.isfinite()

    def _best_of_tail(
        self, tail: int, hidden: Tensor, of_tails: Tensor, k: int
    ) -> tuple[Tensor, Tensor]:
        """Scores and labels, each `(N, min(k, C))`, of the best labels of a tail."""
        start, size = self.cluster_ends[tail], self.tails[tail].shape[0]
        chunk = points_per_chunk(size, hidden.device.type, _RANKED_FLOATS)
        parts = [
            exact_top_k(self._tail_logits(tail, hidden[span], of_tails[span]), min(k, size))
            for span in spans(max(hidden.shape[0], 1), chunk)
        ]
        scores, columns = (torch.cat(part) for part in zip(*parts, strict=True))
        return scores, self.labels[start + columns]

    def _tail_logits(self, tail: int, hidden: Tensor, of_tails: Tensor) -> Tensor:
        """Logits `(N, C)` of a tail's labels: none above the tail's own, `of_tails[:, tail]`."""
        projected = F.linear(hidden, self.projections[tail])
        logits = F.linear(projected, self.tails[tail], self.tail_biases[tail])
        torch.log_softmax(logits, dim=1, out=logits)
        return logits.add_(of_tails[:, tail : tail + 1])

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Logits `(N, L)` of all labels, whose softmax is the model's probabilities."""
        hidden = self.encode(batch)
        head = F.linear(hidden, self.output, self.output_bias)
        head, of_tails = head.tensor_split([self.num_head_labels], dim=1)
        tails = [self._tail_logits(i, hidden, of_tails) for i in range(len(self.tails))]
        return torch.cat([head, *tails], dim=1)[:, self.places]

    def decode_bytes(self) -> int:
        """Bytes of the table of labels."""
        return self.labels.numel() * self.labels.element_size()


def _of_tail(
    columns: Tensor, point_ids: Tensor, weights: Tensor, *, has_one_each: bool
) -> tuple[Tensor, Positives]:
    """Points `(n,)` that have a label in a tail, and what they have there.

    Of a tail that no point has a label in, it is one point that counts nothing: every optimiser is
    to find a gradient of its weights, if one of zeros.

    Args:
        columns: `(m,)`, of the labels in the tail.
        point_ids: `(m,)`, ascending.
        weights: `(m,)`.
        has_one_each: all points have one label.
    """
    points, rows, sizes = torch.unique_consecutive(
        point_ids, return_inverse=True, return_counts=True
    )
    shares = None
    if not points.numel():
        points, sizes, shares = points.new_zeros(1), sizes.new_zeros(1), weights.new_zeros(1)
    elif not has_one_each:
        shares = weights.new_zeros(points.numel()).index_add_(0, rows, weights)
    offsets = F.pad(sizes.cumsum(0), (1, 0))
    return points, Positives(columns[None], rows, weights[None], offsets, shares)


def _loss(hidden: Tensor, weight: Tensor, bias: Tensor, positives: Positives) -> Tensor:
    points = points_per_chunk(weight.shape[0], hidden.device.type)
    return chunked_loss(
        hidden[None],
        weight[None],
        positives,
        "softmax",
        bias=bias[None],
        points_per_chunk=points,
    )


def _best_of_both(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], k: int
) -> tuple[Tensor, Tensor]:
    """The k best of two lists of scores and labels, or all where they are fewer."""
    scores, labels = (torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))
    labels, order = labels.sort(dim=1)  # equal scores go by smaller label
    scores, columns = exact_top_k(scores.gather(1, order), min(k, labels.shape[1]))
    return scores, labels.gather(1, columns)
