import dataclasses

import pytest
import torch
import torch.nn.functional as F
from batches import facts, gradients, perturb, random_batch

from baselines.two_tower import TwoTower
from bench.nn.optimizers import build_optimizer
from bench.nn.ranking import UnrankableError

D, L, H = 20, 30, 6


def _towers(**options) -> TwoTower:
    return TwoTower(facts(D, L, "multilabel"), hidden_dims=(H,), **options)


def test_ranking_is_by_cosine_over_temperature():
    towers = _towers(temperature=0.2)
    perturb(towers)
    batch = random_batch(8, D, L, "multilabel")
    queries = towers.encoder(batch)[0]
    cosines = F.cosine_similarity(queries[:, None], towers.output[None], dim=2) / 0.2
    expected, labels = cosines.detach().sort(dim=1, descending=True)
    towers.prepare_inference(5)
    scores, found = towers.top_k(batch, 5)
    assert torch.equal(found, labels[:, :5])
    torch.testing.assert_close(scores, expected[:, :5])


def test_loss_is_that_of_cosines_written_out():
    towers = _towers(temperature=0.5, sampler="all")
    perturb(towers)
    batch = random_batch(8, D, L, "multilabel")
    queries = towers.encoder(batch)[0]
    logits = F.cosine_similarity(queries[:, None], towers.output[None], dim=2) / 0.5
    losses = []
    for point in range(8):
        own = batch.label_ids[batch.label_point_ids == point]
        if own.numel():
            losses.append(torch.logsumexp(logits[point], 0) - logits[point, own].mean())
    reference = torch.stack(losses).sum() / 8
    expected = torch.autograd.grad(reference, list(towers.parameters()))
    loss = towers.training_loss(batch)
    loss.backward()
    torch.testing.assert_close(loss, reference)
    for found, wanted in zip(gradients(towers).values(), expected, strict=True):
        torch.testing.assert_close(found, wanted.to_dense() if wanted.is_sparse else wanted)


def test_length_of_a_label_vector_says_nothing_to_a_cosine():
    towers = _towers()
    batch = random_batch(8, D, L, "multilabel")
    before = towers.top_k(batch, L)[1]
    with torch.no_grad():
        towers.output.mul_(torch.arange(1.0, L + 1).unsqueeze(1))
    assert torch.equal(towers.top_k(batch, L)[1], before)


def test_training_on_after_prediction_is_seen_by_the_next_prediction():
    towers = _towers(seed=2)
    batch = random_batch(8, D, L, "multilabel")
    towers.prepare_inference(5)
    before, _ = towers.top_k(batch, 5)
    optimizer = build_optimizer("row_adam", towers.parameters(), learning_rate=0.5, epsilon=1e-8)
    towers.training_loss(batch).backward()
    optimizer.step()
    after, labels = towers.top_k(batch, 5)
    assert not torch.equal(before, after)
    towers.prepare_inference(5)
    again = towers.top_k(batch, 5)
    assert torch.equal(again[1], labels)
    torch.testing.assert_close(again[0], after)


def test_a_point_without_features_has_finite_gradients():
    towers = _towers(sampler="all")
    batch = random_batch(3, D, L, "multilabel")
    empty = dataclasses.replace(batch, feature_values=torch.zeros_like(batch.feature_values))
    towers.training_loss(empty).backward()
    for name, grad in gradients(towers).items():
        assert torch.isfinite(grad).all(), name
        assert grad.abs().max() < 1e5, name


def test_vectors_too_long_for_a_float_have_no_score():
    towers = _towers()
    with torch.no_grad():
        towers.output[3] = 1e30
    with pytest.raises(UnrankableError, match="a label's score is NaN"):
        towers.top_k(random_batch(3, D, L, "multilabel"), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "linear"}, "expected 'mlp'"),
        ({"output_std": 0.0}, "expected above 0 for a cosine"),
    ],
)
def test_impossible_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        _towers(**options)


def test_decode_bytes_are_those_of_what_inference_keeps_beside_the_parameters():
    assert _towers().decode_bytes() == 4 * (L * H + L)
    assert _towers(similarity="dot").decode_bytes() == 4 * L
