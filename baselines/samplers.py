"""Negative samplers: label ids, each with the weight that makes the partition sum unbiased.

A sampler draws S labels with replacement, so that label j is expected S·q_j times, and returns the
*distinct* labels with `log(times drawn) − log(S·q_j)`. Then Σ_j w_j exp(z_j) over the drawn labels
has the expectation Σ_j exp(z_j) over all labels: this is the logQ correction, with repeats merged
so that no logit is computed twice.

Source: Bengio & Senécal 2008 (importance sampling of the partition function); Jean et al. 2015;
negatives of the batch and uniform ones together: Yang et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from bench.nn.rng import Generator
from bench.settings import SettingsError, derive_seed


@dataclass(frozen=True)
class Negatives:
    """Distinct sampled labels.

    Attributes:
        labels: `(U,)` int64, ascending.
        log_weights: `(U,)` float32, log of times drawn over expected count.
    """

    labels: Tensor
    log_weights: Tensor


class Sampler(Protocol):
    """Draws the negatives of a batch."""

    @property
    def generator(self) -> Generator | None:
        """Of the draws; None: nothing is drawn."""
        ...

    def sample(self, batch_labels: Tensor, num_points: int) -> Negatives:
        """Negatives for a batch whose (non-distinct) labels are `batch_labels` `(M,)`."""
        ...


def _merge(draws: Tensor, log_expected_count: Tensor) -> Negatives:
    labels, times = torch.unique(draws, return_counts=True)
    return Negatives(labels, times.float().log() - log_expected_count[labels])


class DistributionSampler:
    """Draws from fixed probabilities over labels.

    Args:
        probabilities: `(L,)` ≥ 0, normalised here in float64.
        num_samples: S.
        seed: of the draws.

    Raises:
        ValueError: a probability is negative or none is positive, or S < 1.
    """

    def __init__(self, probabilities: Tensor, num_samples: int, seed: int) -> None:
        _check_samples(num_samples)
        weights = probabilities.double()
        if bool((weights < 0).any()) or not float(weights.sum()) > 0:
            raise ValueError("sampling probabilities must be ≥ 0 with a positive sum")
        weights = weights / weights.sum()
        self.num_samples = num_samples
        self.cumulative = weights.cumsum(0)
        self.cumulative[-1] = 1.0
        self.log_expected_count = (weights * num_samples).log().float()
        self.generator: Generator = Generator(derive_seed("negatives", seed))

    def sample(self, batch_labels: Tensor, num_points: int) -> Negatives:
        """S draws, repeats merged; the batch does not matter."""
        device = batch_labels.device
        self.cumulative = self.cumulative.to(device)
        self.log_expected_count = self.log_expected_count.to(device)
        uniform = torch.rand(
            self.num_samples,
            dtype=torch.float64,
            device=device,
            generator=self.generator.on(device),
        )
        draws = torch.searchsorted(self.cumulative, uniform, right=True)
        return _merge(draws, self.log_expected_count)


class AllLabels:
    """Every label once: sampled softmax with it is full softmax."""

    generator = None

    def __init__(self, num_labels: int) -> None:
        self.num_labels = num_labels

    def sample(self, batch_labels: Tensor, num_points: int) -> Negatives:
        """All labels, each with weight one."""
        labels = torch.arange(self.num_labels, device=batch_labels.device)
        return Negatives(labels, torch.zeros(self.num_labels, device=batch_labels.device))


class InBatchSampler:
    """The labels of the batch's other points, weighted by their frequency in training.

    A point's own labels are masked by the loss. Any other label j can come from the N − 1 other
    points of the batch alone, which are drawn from the T − 1 other training points without
    replacement: it is expected (N − 1)·n_j / (T − 1) times, with n_j its training points.

    Args:
        label_counts: `(L,)` training points of each label.
        num_train_points: training points.
    """

    generator: Generator | None = None

    def __init__(self, label_counts: Tensor, num_train_points: int) -> None:
        # Every label of a batch occurs in training, so that no count here is 0.
        others = max(num_train_points - 1, 1)
        self.log_share = (label_counts.double().clamp(min=1) / others).log()

    def sample(self, batch_labels: Tensor, num_points: int) -> Negatives:
        """The batch's own labels, repeats merged."""
        labels, times = torch.unique(batch_labels, return_counts=True)
        # Of one point alone all labels are its own, and none counts.
        log_expected = self.log_seen(labels, max(num_points - 1, 1)).float()
        return Negatives(labels, times.float().log() - log_expected)

    def log_seen(self, labels: Tensor, num_others: int) -> Tensor:
        """`(U,)` float64: log of how often some other points of a batch are expected to have it."""
        self.log_share = self.log_share.to(labels.device)
        return self.log_share[labels] + torch.tensor(float(num_others)).log()


class MixedSampler(InBatchSampler):
    """The labels of the batch's other points, and S labels drawn uniformly from all.

    The batch shows labels as often as training does; uniform draws also show those that hardly any
    batch has. A label's weight is the times that it came by either way over the times that both
    together are expected to bring it, (N − 1)·n_j / (T − 1) + S / L.

    Args:
        label_counts: `(L,)` training points of each label.
        num_train_points: training points, T.
        num_samples: S.
        seed: of the draws.

    Source: Yang et al. 2020 (mixed negative sampling).
    """

    def __init__(
        self, label_counts: Tensor, num_train_points: int, num_samples: int, seed: int
    ) -> None:
        super().__init__(label_counts, num_train_points)
        self.log_share[label_counts == 0] = -torch.inf  # which uniform draws alone can show
        self.num_samples = num_samples
        self.log_drawn = torch.tensor(num_samples / label_counts.numel()).log().double()
        self.generator: Generator = Generator(derive_seed("negatives", seed))

    def draw(self, device: torch.device) -> Tensor:
        """S labels, `(S,)` int64."""
        generator = self.generator.on(device)
        num_labels, size = self.log_share.numel(), (self.num_samples,)
        return torch.randint(num_labels, size, device=device, generator=generator)

    def sample(self, batch_labels: Tensor, num_points: int) -> Negatives:
        """The batch's own labels and S draws, repeats merged."""
        draws = torch.cat([batch_labels, self.draw(batch_labels.device)])
        labels, times = torch.unique(draws, return_counts=True)
        seen = self.log_seen(labels, num_points - 1)
        log_expected = torch.logaddexp(seen, self.log_drawn.to(seen.device)).float()
        return Negatives(labels, times.float().log() - log_expected)


def log_uniform_probabilities(label_counts: Tensor) -> Tensor:
    """`(L,)` float64: (log(i + 2) − log(i + 1)) / log(L + 1) for the label of frequency rank i."""
    num_labels = label_counts.numel()
    ranks = torch.empty(num_labels, dtype=torch.int64)
    ranks[torch.argsort(label_counts.cpu(), descending=True, stable=True)] = torch.arange(
        num_labels
    )
    position = ranks.double()
    edges = torch.log(torch.tensor(num_labels + 1.0, dtype=torch.float64))
    return (torch.log(position + 2) - torch.log(position + 1)) / edges


SAMPLERS = ("uniform", "log_uniform", "unigram", "mixed", "in_batch", "all")


def check_sampler(name: str, num_samples: int) -> None:
    """Refuse what :func:`build_sampler` would, without building anything.

    Raises:
        ValueError: unknown name, or S < 1 where it is used.
    """
    if name not in SAMPLERS:
        raise SettingsError(f"sampler is {name!r}; expected one of {', '.join(SAMPLERS)}")
    if name not in ("in_batch", "all"):
        _check_samples(num_samples)


def _check_samples(num_samples: int) -> None:
    if num_samples < 1:
        raise SettingsError(f"num_samples is {num_samples}; expected at least 1")


def build_sampler(
    name: str,
    label_counts: Tensor,
    num_train_points: int,
    *,
    num_samples: int,
    power: float,
    seed: int,
) -> Sampler:
    """Sampler by name.

    Args:
        name: `uniform`, `log_uniform` (Zipfian over frequency ranks), `unigram`
            (∝ (count + 1)^power: a label without training points can still be pushed down),
            `in_batch`, `mixed` (in-batch and uniform) or `all`.
        label_counts: `(L,)` training points of each label.
        num_train_points: training points.
        num_samples: S; not used by `in_batch` and `all`.
        power: exponent of `unigram`.
        seed: of the draws.

    Raises:
        ValueError: unknown name, or S < 1 where it is used.
    """
    check_sampler(name, num_samples)
    num_labels = label_counts.numel()
    if name == "uniform":
        return DistributionSampler(torch.ones(num_labels), num_samples, seed)
    if name == "log_uniform":
        return DistributionSampler(log_uniform_probabilities(label_counts), num_samples, seed)
    if name == "unigram":
        weights = (label_counts.double() + 1.0) ** power
        return DistributionSampler(weights, num_samples, seed)
    if name == "in_batch":
        return InBatchSampler(label_counts, num_train_points)
    if name == "mixed":
        return MixedSampler(label_counts, num_train_points, num_samples, seed)
    return AllLabels(num_labels)
