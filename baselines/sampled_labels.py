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
    """A sampler of negatives; on the meta device there is none.

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
        if torch.get_default_device().type != "meta":
            num_points = int(label_counts.sum()) if num_points is None else num_points
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
