"""What a method sees of the data: one batch of sparse points and their labels, as tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """`N` points in CSR form. Frozen, but its tensors are not copied.

    Attributes:
        feature_offsets: `(N + 1,)` int64; point i owns entries `offsets[i]:offsets[i + 1]`.
        feature_ids: `(nnz,)` int64 in [0, D), ascending within a point.
        feature_values: `(nnz,)` float32.
        label_offsets: `(N + 1,)` int64.
        label_ids: `(M,)` int64 in [0, L), ascending within a point; of test points also ids of L
            or more, for labels that no training file has. Multiclass data has exactly one label a
            point, so that `label_ids` is the target vector.
        label_weights: `(M,)` float32, positive, what each entry of `label_ids` weighs in weighted
            metrics; None where the data has no such weights.
    """

    feature_offsets: Tensor
    feature_ids: Tensor
    feature_values: Tensor
    label_offsets: Tensor
    label_ids: Tensor
    label_weights: Tensor | None = None

    @property
    def num_points(self) -> int:
        """Points in the batch, N."""
        return self.feature_offsets.numel() - 1

    @property
    def label_point_ids(self) -> Tensor:
        """`(M,)` int64: which point each entry of `label_ids` belongs to."""
        counts = self.label_offsets.diff()
        return torch.repeat_interleave(counts, output_size=self.label_ids.numel())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """The same batch on another device; Lightning calls this."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> Self:
        """A batch of the same class; an own encoder's may have further fields."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        mapped = {name: function(part) for name, part in parts.items() if part is not None}
        return replace(self, **mapped)
