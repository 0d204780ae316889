import dataclasses
import itertools
import math

import pytest
import torch
from batches import facts, perturb, random_batch

from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_losses import sampled_bce_loss, sampled_loss
from baselines.sampled_softmax import SampledSoftmax
from baselines.samplers import (
    DistributionSampler,
    InBatchSampler,
    MixedSampler,
    Negatives,
    build_sampler,
    log_uniform_probabilities,
)

COUNTS = torch.tensor([5, 40, 0, 12, 3, 20, 1, 1])


def _build(name: str, num_samples: int = 64, seed: int = 0):
    return build_sampler(name, COUNTS, 82, num_samples=num_samples, power=0.75, seed=seed)


def _expected_shares(name: str) -> torch.Tensor:
    if name == "uniform":
        return torch.full((8,), 1 / 8, dtype=torch.float64)
    if name == "unigram":
        weights = (COUNTS.double() + 1) ** 0.75
        return weights / weights.sum()
    ranks = {1: 0, 5: 1, 3: 2, 0: 3, 4: 4, 6: 5, 7: 6, 2: 7}  # by falling count, ties by id
    return torch.tensor([math.log((ranks[i] + 2) / (ranks[i] + 1)) / math.log(9) for i in range(8)])


@pytest.mark.parametrize("name", ["uniform", "log_uniform", "unigram"])
def test_draws_follow_their_distribution_by_chi_square(name):
    num_draws, per_call = 40_000, 400
    sampler = _build(name, per_call)
    observed = torch.zeros(8, dtype=torch.float64)
    for _ in range(num_draws // per_call):
        negatives = sampler.sample(torch.zeros(1, dtype=torch.int64), 1)
        times = torch.exp(negatives.log_weights + sampler.log_expected_count[negatives.labels])
        observed[negatives.labels] += times.double().round()
    assert observed.sum() == num_draws
    expected = _expected_shares(name) * num_draws
    statistic = float(((observed - expected) ** 2 / expected).sum())
    assert statistic < 24.3  # 99.9 % point of chi-square with 7 degrees of freedom


def test_log_uniform_probabilities_sum_to_one():
    assert float(log_uniform_probabilities(COUNTS).sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("name", ["uniform", "log_uniform", "unigram"])
def test_corrected_partition_sum_and_its_gradient_are_unbiased(name):
    logits = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    sampler = _build(name, num_samples=4)
    total, squares = torch.zeros(8, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
    rounds = 6000
    for _ in range(rounds):
        negatives = sampler.sample(torch.zeros(1, dtype=torch.int64), 1)
        # d/dz of the estimated partition sum: one entry a drawn label.
        part = torch.exp(logits[negatives.labels] + negatives.log_weights.double())
        gradient = torch.zeros(8, dtype=torch.float64)
        gradient[negatives.labels] = part
        total += gradient
        squares += gradient**2
    mean = total / rounds
    error = ((squares / rounds - mean**2) / rounds).sqrt()
    assert bool(((mean - logits.exp()).abs() < 4.5 * error).all())


def test_in_batch_weights_are_times_seen_over_times_expected_of_the_other_points():
    labels = torch.tensor([1, 1, 3, 0])
    negatives = _build("in_batch").sample(labels, 4)
    assert negatives.labels.tolist() == [0, 1, 3]
    expected = torch.tensor([1 / (3 * 5 / 81), 2 / (3 * 40 / 81), 1 / (3 * 12 / 81)])
    torch.testing.assert_close(negatives.log_weights.exp(), expected)


@pytest.mark.parametrize("size", [2, 3])
def test_in_batch_sums_over_the_other_points_are_exact_over_all_batches(size):
    # Every batch that a point of label 0 can be in, from 6 training points with one label each.
    points = torch.tensor([0, 0, 1, 1, 1, 2])
    counts = torch.bincount(points)
    sampler = build_sampler("in_batch", counts, 6, num_samples=0, power=1.0, seed=0)
    sums = torch.zeros(3, dtype=torch.float64)
    batches = list(itertools.combinations(range(1, 6), size - 1))
    for others in batches:
        negatives = sampler.sample(points[[0, *others]], size)
        sums[negatives.labels] += negatives.log_weights.double().exp()
    # Each other label has in the mean the weight 1 that it has in the whole partition sum.
    assert (sums[1:] / len(batches)).tolist() == pytest.approx([1.0, 1.0])


def _batches_and_draws(points: torch.Tensor, size: int, num_samples: int, num_labels: int):
    """Every batch that point 0 can be in, with every outcome of the uniform draws."""
    others = itertools.combinations(range(1, points.numel()), size - 1)
    draws = itertools.product(range(num_labels), repeat=num_samples)
    for batch, drawn in itertools.product(others, list(draws)):
        yield points[[0, *batch]], torch.tensor(drawn, dtype=torch.int64)


@pytest.mark.parametrize(("size", "num_samples"), [(1, 2), (2, 1), (3, 2)])
def test_mixed_sums_and_their_gradient_are_exact_over_all_batches_and_draws(
    size, num_samples, monkeypatch
):
    # Labels 3 and 4 have no training point: uniform draws alone show them. Point 0 has label 0.
    points, num_labels = torch.tensor([0, 0, 1, 1, 1, 2]), 5
    counts = torch.bincount(points, minlength=num_labels)
    sampler = MixedSampler(counts, points.numel(), num_samples, seed=0)
    logits = torch.randn(num_labels, dtype=torch.float64, generator=torch.manual_seed(4))
    gradient, cases = torch.zeros(num_labels, dtype=torch.float64), 0
    for labels, drawn in _batches_and_draws(points, size, num_samples, num_labels):
        monkeypatch.setattr(sampler, "draw", lambda device, drawn=drawn: drawn)
        negatives = sampler.sample(labels, size)
        part = (logits[negatives.labels] + negatives.log_weights.double()).exp()
        gradient[negatives.labels] += part
        cases += 1
    # d/dz of the partition sum over the labels that are not the point's own.
    assert (gradient[1:] / cases).tolist() == pytest.approx(logits[1:].exp().tolist(), rel=1e-6)


@pytest.mark.parametrize("size", [2, 3])
def test_sampled_bce_of_mixed_negatives_has_the_gradient_of_one_vs_all(size, monkeypatch):
    points, num_labels, num_samples = torch.tensor([0, 0, 1, 1, 2]), 4, 2
    counts = torch.bincount(points, minlength=num_labels)
    sampler = MixedSampler(counts, points.numel(), num_samples, seed=0)
    logits = torch.randn(num_labels, dtype=torch.float64, generator=torch.manual_seed(4))
    total, cases = torch.zeros(num_labels, dtype=torch.float64), 0
    batch = random_batch(1, 20, num_labels, "multiclass")
    batch = dataclasses.replace(batch, label_ids=torch.tensor([0]))
    for labels, drawn in _batches_and_draws(points, size, num_samples, num_labels):
        monkeypatch.setattr(sampler, "draw", lambda device, drawn=drawn: drawn)
        negatives = sampler.sample(labels, size)
        rows = torch.unique(torch.cat([labels, negatives.labels]))
        own = logits[None, rows].requires_grad_()
        sampled_bce_loss(own, rows, batch, negatives).backward()
        total[rows] += own.grad[0]
        cases += 1
    expected = torch.sigmoid(logits) - torch.tensor([1.0, 0, 0, 0])
    assert (total / cases).tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_mixed_negatives_without_draws_are_those_of_the_batch():
    labels = torch.tensor([1, 1, 3, 0, 5])
    expected = InBatchSampler(COUNTS, 82).sample(labels, 5)
    found = MixedSampler(COUNTS, 82, 0, seed=0).sample(labels, 5)
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.log_weights, expected.log_weights)


def test_of_a_batch_of_one_point_mixed_negatives_are_uniform_ones():
    sampler = _build("mixed", num_samples=4000)
    negatives = sampler.sample(torch.tensor([2]), 1)
    uniform = _build("uniform", num_samples=4000)
    times = (negatives.log_weights + uniform.log_expected_count[negatives.labels]).exp()
    assert times.round().sum() == 4001  # the point's own label once more, which the loss masks
    torch.testing.assert_close(times, times.round())


@pytest.mark.parametrize("method", [SampledSoftmax, SampledBce])
@pytest.mark.parametrize("sampler", ["in_batch", "mixed"])
def test_a_batch_of_one_point_has_no_others_to_be_told_from(method, sampler):
    model = method(facts(20, 30, "multiclass"), sampler=sampler, hidden_dims=(4,))
    perturb(model)
    loss = model.training_loss(random_batch(1, 20, 30, "multiclass"))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad.to_dense()).all() for p in model.parameters())


def test_accidental_hits_are_masked():
    # Every label is drawn many times; a point's own label must count once, not once more per draw.
    model = SampledSoftmax(
        facts(20, 8, "multiclass"), sampler="uniform", num_samples=4000, hidden_dims=(4,)
    )
    full = FullSoftmax(facts(20, 8, "multiclass"), hidden_dims=(4,))
    perturb(full)
    model.load_state_dict(full.state_dict())
    batch = random_batch(32, 20, 8, "multiclass")
    assert model.training_loss(batch).item() == pytest.approx(
        full.training_loss(batch).item(), rel=0.03
    )


@pytest.mark.parametrize("name", ["uniform", "log_uniform", "unigram"])
def test_sampled_bce_is_an_unbiased_estimate_of_one_vs_all(name):
    batch = random_batch(12, 20, 8, "multilabel")
    logits = torch.randn(12, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    targets = torch.zeros(12, 8, dtype=torch.float64)
    targets[batch.label_point_ids, batch.label_ids] = 1
    exact = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    sampler = _build(name, num_samples=4)
    found = []
    for _ in range(4000):
        negatives = sampler.sample(batch.label_ids, 12)
        rows = torch.unique(torch.cat([batch.label_ids, negatives.labels]))
        found.append(float(sampled_bce_loss(logits[:, rows], rows, batch, negatives)))
    estimates = torch.tensor(found, dtype=torch.float64)
    error = float(estimates.std()) / len(found) ** 0.5
    assert abs(float(estimates.mean()) - float(exact) / 12) < 4.5 * error


@pytest.mark.parametrize("method", [SampledSoftmax, SampledBce])
@pytest.mark.parametrize("name", ["uniform", "log_uniform", "unigram", "mixed", "in_batch"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_loss_is_finite_and_trains_every_parameter(method, name, task):
    model = method(facts(20, 30, task), sampler=name, num_samples=10, hidden_dims=(4,))
    perturb(model)
    loss = model.training_loss(random_batch(16, 20, 30, task))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_impossible_samplers_are_refused():
    with pytest.raises(ValueError, match="'zipf'"):
        _build("zipf")
    with pytest.raises(ValueError, match="num_samples is 0"):
        DistributionSampler(torch.ones(3), 0, seed=0)
    with pytest.raises(ValueError, match="positive sum"):
        DistributionSampler(torch.zeros(3), 1, seed=0)
    with pytest.raises(ValueError, match="hidden layer"):
        SampledSoftmax(facts(20, 30, "multiclass"), encoder="linear")


def test_sampled_loss_and_its_gradient_are_those_of_its_formula():
    """Point 0 has all of the sample for its own, and so nothing to be told from."""
    labels, offsets = torch.tensor([3, 5, 3, 7]), torch.tensor([0, 2, 3, 4])
    batch = dataclasses.replace(
        random_batch(3, 5, 9, "multilabel"), label_ids=labels, label_offsets=offsets
    )
    rows, sample = torch.tensor([3, 5, 7]), torch.tensor([3, 5])
    weights = torch.tensor([0.4, 1.5])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    mine, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    terms = []
    for point, own in enumerate([[3, 5], [3], [7]]):
        at = {label: plain[point, column] for column, label in enumerate(rows.tolist())}
        drawn = zip(sample.tolist(), weights, strict=True)
        total = sum(at[label].exp() for label in own)
        total = total + sum(w * at[label].exp() for label, w in drawn if label not in own)
        terms.append(total.log() - sum(at[label] for label in own) / len(own))
    expected = torch.stack(terms).mean()
    loss = sampled_loss(mine, rows, batch, Negatives(sample, weights.log()))
    expected.backward()
    loss.backward(retain_graph=True)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(mine.grad, plain.grad)
    with pytest.raises(RuntimeError, match="differentiable once"):
        loss.backward()
