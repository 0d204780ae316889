"""What a network ends in: from hidden vectors and labels to a loss, and to the best labels.

A head is a module like any of torch's: it holds the output layer and its loss, and knows nothing of
encoders, batches and trainers. The suite's own classifiers are an encoder and one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.nn.losses import LossKind, prior_bias
from bench.settings import SettingsError

#: `(N,)` labels, one a point; or `(M,)` in the order of points, with offsets; or a list a point.
Labels = Tensor | Sequence[Sequence[int] | Tensor]


class Labelled(Protocol):
    """N points with labels, as a :class:`bench.data.batch.Batch` has them."""

    @property
    def num_points(self) -> int:
        """N."""
        ...

    @property
    def label_ids(self) -> Tensor:
        """`(M,)` int64 in [0, L)."""
        ...

    @property
    def label_offsets(self) -> Tensor:
        """`(N + 1,)` int64; point i owns entries `offsets[i]:offsets[i + 1]`."""
        ...

    @property
    def label_point_ids(self) -> Tensor:
        """`(M,)` int64: which point each entry of `label_ids` belongs to."""
        ...


@dataclass(frozen=True)
class LabelRows:
    """Labels without anything else of their points; see :class:`Labelled`."""

    label_ids: Tensor
    label_offsets: Tensor
    label_point_ids: Tensor

    @property
    def num_points(self) -> int:
        """N."""
        return self.label_offsets.numel() - 1


class OutputHead(nn.Module):
    """Output layer and loss over L labels; what is left to a subclass is :meth:`loss` and `rank`.

    Attributes:
        width: H, of the vectors that it takes.
        num_labels: L.
        loss_kind: `softmax` or `bce`.
        weight_dtype: what the layer's weights are kept in.
    """

    width: int
    num_labels: int
    loss_kind: LossKind
    weight_dtype: torch.dtype = torch.float32

    @property
    def num_stacked(self) -> int:
        """Layers that may have hidden vectors of their own, stacked."""
        return 1

    def forward(self, hidden: Tensor, labels: Labels, offsets: Tensor | None = None) -> Tensor:
        """Mean loss of N points; differentiable once, as its gradients are made with it.

        Args:
            hidden: `(N, H)`; of MACH also `(R, N, H)`, where each world has vectors of its own.
            labels: `(N,)` integers, one label a point. Of points with any number of labels: a list
                of them for each point, or all of them `(M,)`, point after point, with `offsets`.
            offsets: `(N + 1,)` integers; point i has `labels[offsets[i]:offsets[i + 1]]`.

        Returns:
            Scalar. A point without labels adds nothing to a softmax; BCE takes all labels for
            absent. A label that a point has twice counts once.

        Raises:
            ValueError: shapes that disagree, or a label that is not in 0 … L − 1.
        """
        is_stacked = hidden.dim() == 3 and hidden.shape[0] in (1, self.num_stacked)
        if not (hidden.dim() == 2 or is_stacked) or hidden.shape[-1] != self.width:
            stacked = f"(N, {self.width})"
            if self.num_stacked > 1:
                stacked += f" or ({self.num_stacked}, N, {self.width})"
            raise ValueError(f"hidden vectors have shape {tuple(hidden.shape)}; expected {stacked}")
        for name, parameter in self.named_parameters():
            if parameter.dtype not in (torch.float32, self.weight_dtype):
                raise ValueError(
                    f"{name} is {parameter.dtype}; expected {self.weight_dtype}: a head is trained "
                    "in 32 bits, under autocast (precision 'bf16-mixed') if the network is not"
                )
        rows = label_rows(labels, offsets, hidden.shape[-2], self.num_labels, hidden.device)
        return self.loss(hidden, rows)

    @torch.no_grad()
    def top_k(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The best labels of each point, in 32 bits whatever the precision of training.

        Args:
            hidden: as of :meth:`forward`.
            k: labels wanted, 1 to L.

        Returns:
            Scores `(N, k)` and labels `(N, k)` int64, best first; ties by smaller label.
        """
        return ranked(self, hidden, k)

    @torch.no_grad()
    def start_from_prior(self, label_counts: Tensor | None, num_points: int | None) -> None:
        """Set the biases to the training frequencies of the columns; nothing without counts.

        Args:
            label_counts: `(L,)` training points of each label.
            num_points: training points; None: all have one label.

        Raises:
            SettingsError: counts of other labels, or BCE without the number of points.
        """
        biases = self.biases()
        if label_counts is None or biases is None:
            return
        if label_counts.shape != (self.num_labels,):
            raise SettingsError(
                f"label_counts has shape {tuple(label_counts.shape)}; expected ({self.num_labels},)"
            )
        if num_points is None and self.loss_kind == "bce":
            raise SettingsError("num_points is None and loss 'bce'; expected it with label_counts")
        if not biases.is_meta:
            counts = self.column_counts(label_counts)
            biases.copy_(prior_bias(counts, num_points or int(label_counts.sum()), self.loss_kind))

    def biases(self) -> Tensor | None:
        """`(G, C)` view of the biases of G layers of C columns; None without a layer."""
        raise NotImplementedError

    def column_counts(self, label_counts: Tensor) -> Tensor:
        """`(G, C)` int64 training points of each column, from those of each label."""
        raise NotImplementedError

    def loss(self, hidden: Tensor, points: Labelled) -> Tensor:
        """:meth:`forward` of labels that are known to be right, as a batch of ours has them."""
        raise NotImplementedError

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """:meth:`top_k` of float32."""
        raise NotImplementedError

    def probabilities(self, hidden: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Probabilities `(N, k)` of labels that :meth:`top_k` found, in its order.

        Args:
            hidden: as of :meth:`forward`.
            scores: `(N, k)`, as it gave them.
            labels: `(N, k)` int64, likewise.
        """
        raise NotImplementedError

    def prepare_inference(self, k: int) -> None:
        """Compile and lay out beforehand what :meth:`top_k` needs; it does so itself otherwise."""


def label_rows(
    labels: Labels,
    offsets: Tensor | None,
    num_points: int,
    num_labels: int,
    device: torch.device,
) -> LabelRows:
    """Anyone's labels as a batch of ours has them: ascending and distinct within a point.

    Raises:
        ValueError: see :meth:`OutputHead.forward`.
    """
    if not isinstance(labels, Tensor):
        if offsets is not None:
            raise ValueError("labels are lists and offsets are given; expected one of both")
        parts = [torch.as_tensor(each, dtype=torch.int64).flatten() for each in labels]
        offsets = F.pad(torch.tensor([part.numel() for part in parts]).cumsum(0), (1, 0))
        labels = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)
    if labels.dim() != 1 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; expected integers (N,), or "
            "lists of them, or (M,) with offsets (N + 1,)"
        )
    if labels.numel():
        least, most = (int(edge) for edge in torch.aminmax(labels))
        if least < 0 or most >= num_labels:
            wrong = least if least < 0 else most
            raise ValueError(f"a label is {wrong}; expected 0 to L - 1 = {num_labels - 1}")
    labels = labels.to(device).long()
    if offsets is None:
        if labels.numel() != num_points:
            raise ValueError(f"{labels.numel()} labels of {num_points} points; expected one each")
        ids = torch.arange(num_points + 1, device=device)
        return LabelRows(labels, ids, ids[:-1])
    offsets = offsets.to(device).long()
    counts = offsets.diff()
    is_whole = offsets.shape == (num_points + 1,) and int(offsets[-1]) == labels.numel()
    if not is_whole or int(offsets[0]) != 0 or bool((counts < 0).any()):
        raise ValueError(
            f"offsets have shape {tuple(offsets.shape)} and {labels.numel()} labels; expected "
            f"({num_points + 1},) ascending from 0 to {labels.numel()}"
        )
    point_ids = torch.repeat_interleave(counts, output_size=labels.numel())
    keys = torch.unique(point_ids * num_labels + labels)
    point_ids = keys // num_labels
    counts = torch.bincount(point_ids, minlength=num_points)
    return LabelRows(keys % num_labels, F.pad(counts.cumsum(0), (1, 0)), point_ids)


def ranked(model: Any, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """`model.rank` in 32 bits: many labels have equal bfloat16 scores."""
    if not torch.is_autocast_enabled(hidden.device.type):
        return _ranked(model, hidden, k)
    with torch.autocast(hidden.device.type, enabled=False):
        return _ranked(model, hidden.float(), k)


def _ranked(model: Any, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A ranking is kernels of ours over arrays: where a model is compiled, there is no graph."""
    found: tuple[Tensor, Tensor] = model.rank(hidden, k)
    return found


if not TYPE_CHECKING:
    _ranked = torch.compiler.disable(_ranked)
