"""What methods share that train on a batch's own labels and a sample of the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from torch import Tensor

from baselines.samplers import SAMPLERS, Negatives, Sampler, build_sampler, check_sampler
from bench.data.batch import Batch
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.options import AtLeast, OneOf
from bench.nn.rng import Generator

SamplerName = Annotated[str, OneOf(SAMPLERS)]
#: S; 0 where nothing is drawn.
NumSamples = Annotated[int, AtLeast(0)]


class SampledLabels(ExtremeClassifier):
    """A sampler of negatives, its generator, and how many labels a step can touch."""

    sampler: Sampler

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """No samples for a sampler that draws."""
        super().refuse_together(settings)
        if "sampler" in settings:
            check_sampler(settings["sampler"], settings["num_samples"])

    def sample_by(self, sampler: str, facts: DataFacts, *, num_samples: int, power: float) -> None:
        """Set the sampler up; of a model on the meta device, its size alone.

        Args:
            sampler: its name, see `baselines.samplers`.
            facts: of the data.
            num_samples: S, of samplers that draw.
            power: of the label frequencies, of a unigram sampler.

        Raises:
            ValueError: an unknown sampler, or no samples.
        """
        check_sampler(sampler, num_samples)
        #: Labels that a batch's sample adds to its own.
        self.num_samples = {"in_batch": 0, "all": self.num_labels}.get(sampler, num_samples)
        self._labels_per_point = int(facts.label_counts.sum()) / max(facts.num_train_points, 1)
        if torch.get_default_device().type != "meta":
            self.sampler = build_sampler(
                sampler,
                facts.label_counts,
                facts.num_train_points,
                num_samples=num_samples,
                power=power,
                seed=self.seed,
            )

    def sample(self, batch: Batch) -> tuple[Tensor, Negatives]:
        """A batch's own and sampled labels, `(U,)` ascending, and the sample."""
        negatives = self.sampler.sample(batch.label_ids, batch.num_points)
        return torch.unique(torch.cat([batch.label_ids, negatives.labels])), negatives

    def touched_labels(self, batch_size: int) -> int:
        """Labels, own and sampled, that a step can touch."""
        return min(int(self.num_samples + batch_size * self._labels_per_point), self.num_labels)

    def generators(self) -> dict[str, Generator]:
        """Feature dropout's, and that of the negatives if they are drawn."""
        own = self.sampler.generator
        return super().generators() | ({} if own is None else {"negatives": own})
