"""What methods share that train on a batch's own labels and a sample of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from baselines.samplers import SAMPLERS, Negatives, Sampler, build_sampler, check_sampler
from bench.data.batch import Batch
from bench.nn.classifier import ExtremeClassifier
from bench.nn.head import Labelled
from bench.nn.options import AtLeast, OneOf
from bench.nn.rng import Generator

SamplerName = Annotated[str, OneOf(SAMPLERS)]
#: S; 0 where nothing is drawn.
NumSamples = Annotated[int, AtLeast(0)]


class Sampling:
    """A sampler of negatives, and how many labels a step can touch.

    On the meta device there is no sampler, but its size.

    Args:
        sampler: its name, see `baselines.samplers`.
        label_counts: `(L,)` training points of each label.
        num_points: training points; None: all have one label.
        num_samples: S, of samplers that draw.
        power: of the label frequencies, of a unigram sampler.
        seed: of the draws.

    Raises:
        SettingsError: an unknown sampler, or no samples.
    """

    sampler: Sampler

    def __init__(
        self,
        sampler: str,
        label_counts: Tensor,
        num_points: int | None,
        *,
        num_samples: int,
        power: float,
        seed: int,
    ) -> None:
        check_sampler(sampler, num_samples)
        self.num_labels = label_counts.numel()
        #: Labels that a batch's sample adds to its own.
        self.num_samples = {"in_batch": 0, "all": self.num_labels}.get(sampler, num_samples)
        num_entries = 0 if label_counts.is_meta else int(label_counts.sum())
        num_points = num_entries if num_points is None else num_points
        self._labels_per_point = num_entries / max(num_points, 1)
        if torch.get_default_device().type != "meta":
            self.sampler = build_sampler(
                sampler,
                label_counts,
                num_points,
                num_samples=num_samples,
                power=power,
                seed=seed,
            )

    def draw(self, points: Labelled) -> tuple[Tensor, Negatives]:
        """A batch's own and sampled labels, `(U,)` ascending, and the sample."""
        negatives = self.sampler.sample(points.label_ids, points.num_points)
        return torch.unique(torch.cat([points.label_ids, negatives.labels])), negatives

    def touched_labels(self, batch_size: int) -> int:
        """Labels, own and sampled, that a step can touch."""
        return min(int(self.num_samples + batch_size * self._labels_per_point), self.num_labels)


class SampledLabels(ExtremeClassifier):
    """A classifier that trains on samples of labels."""

    sampling: Sampling

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """No samples for a sampler that draws."""
        super().refuse_together(settings)
        if "sampler" in settings:
            check_sampler(settings["sampler"], settings["num_samples"])

    def sample(self, batch: Batch) -> tuple[Tensor, Negatives]:
        """A batch's own and sampled labels, `(U,)` ascending, and the sample."""
        return self.sampling.draw(batch)

    def generators(self) -> dict[str, Generator]:
        """Feature dropout's, and that of the negatives if they are drawn."""
        own = self.sampling.sampler.generator
        return super().generators() | ({} if own is None else {"negatives": own})
