import dataclasses

import pytest
import torch
import torch.nn.functional as F
from batches import random_batch

from bench.nn import losses, tiles
from bench.nn.losses import build_positives, chunked_loss, fused_loss_of_logits, loss_of_logits

N, H, C, G = 7, 5, 11, 3
# With it, the first point of a multi-label batch has no labels.
NO_LABELS_SEED = 17


def _setup(task, kind, seed=0):
    batch = random_batch(N, 20, 40, task, seed)
    table = torch.randint(C, (G, 40), generator=torch.Generator().manual_seed(seed))
    columns = table[:, batch.label_ids]
    positives = build_positives(columns, batch.label_offsets, batch.label_point_ids, C, kind)
    dense = torch.zeros(G, N, C)
    for entry, point in enumerate(batch.label_point_ids.tolist()):
        for layer in range(G):
            dense[layer, point, columns[layer, entry]] = 1.0
    return positives, dense


def _dense_loss(logits, dense, kind):
    if kind == "bce":
        return F.binary_cross_entropy_with_logits(logits, dense, reduction="sum") / N
    target = dense / dense.sum(dim=2, keepdim=True).clamp(min=1.0)
    return -(target * F.log_softmax(logits, dim=2)).sum() / N


@pytest.mark.parametrize("kind", ["softmax", "bce"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_sparse_targets_give_the_loss_and_gradient_of_dense_ored_targets(task, kind):
    positives, dense = _setup(task, kind)
    logits = torch.randn(G, N, C, dtype=torch.float64, requires_grad=True)
    reference = _dense_loss(logits, dense.double(), kind)
    (expected,) = torch.autograd.grad(reference, logits)
    for loss in (loss_of_logits, fused_loss_of_logits):
        value = loss(logits.clone(), positives, kind)
        (grad,) = torch.autograd.grad(value, logits)
        torch.testing.assert_close(value.double(), reference.detach(), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(grad, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["softmax", "bce"])
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize(("points", "layers"), [(None, None), (2, None), (None, 1), (3, 2)])
def test_chunked_loss_equals_the_plain_one_in_value_and_gradient(
    task, kind, is_shared, points, layers
):
    positives, _ = _setup(task, kind, seed=3)
    generator = torch.Generator().manual_seed(1)
    make = lambda *shape: torch.randn(*shape, dtype=torch.float64, generator=generator)  # noqa: E731
    inputs = [make(1 if is_shared else G, N, H), make(G, H, C)]
    for tensor in inputs:
        tensor.requires_grad_()
    hidden, weight = inputs
    plain = loss_of_logits(torch.bmm(hidden.expand(G, -1, -1), weight), positives, kind)
    expected = torch.autograd.grad(plain, inputs)
    chunks = {"points_per_chunk": points, "layers_per_chunk": layers}
    value = chunked_loss(hidden, weight.mT, positives, kind, **chunks)
    torch.testing.assert_close(value, plain.detach(), rtol=1e-6, atol=1e-7)
    for found, wanted in zip(torch.autograd.grad(3 * value, inputs), expected, strict=True):
        torch.testing.assert_close(found, 3 * wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("points", [None, 2])
def test_a_points_weights_need_not_add_up_to_one(points):
    positives, _ = _setup("multilabel", "softmax", seed=NO_LABELS_SEED)
    scale = torch.rand(N, generator=torch.Generator().manual_seed(3))
    weights = positives.weights * scale[positives.point_ids]
    shares = scale * positives.has_labels
    partial = dataclasses.replace(positives, weights=weights, shares=shares)
    generator = torch.Generator().manual_seed(1)
    inputs = [
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((G, N, H), (G, C, H))
    ]
    hidden, weight = inputs
    logits = torch.bmm(hidden, weight.mT)
    plain = loss_of_logits(logits, partial, "softmax")  # by autograd, of the weights alone
    expected = torch.autograd.grad(plain, inputs, retain_graph=True)
    for value in (
        chunked_loss(hidden, weight, partial, "softmax", points_per_chunk=points),
        fused_loss_of_logits(logits.clone(), partial, "softmax"),
    ):
        torch.testing.assert_close(value, plain.detach(), rtol=1e-6, atol=1e-7)
        found = torch.autograd.grad(value, inputs, retain_graph=True)
        for own, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(own, wanted, rtol=1e-6, atol=1e-6)


def test_two_labels_in_one_bucket_count_once():
    offsets, points = torch.tensor([0, 2]), torch.tensor([0, 0])
    positives = build_positives(torch.tensor([[4, 4]]), offsets, points, C, "bce")
    assert positives.weights.sum() == 1.0
    assert positives.columns[positives.weights > 0].tolist() == [4]


def test_chunk_below_one_is_refused():
    positives, _ = _setup("multiclass", "softmax")
    inputs = (torch.zeros(G, N, H), torch.zeros(G, C, H))
    with pytest.raises(ValueError, match="chunk of 0"):
        chunked_loss(*inputs, positives, "softmax", points_per_chunk=0)


def test_softmax_loss_is_exact_where_a_probability_underflows():
    offsets, points = torch.tensor([0, 1, 2]), torch.tensor([0, 1])
    positives = build_positives(torch.tensor([[0, 1]]), offsets, points, C, "softmax")
    logits = torch.zeros(1, 2, C)
    logits[0, 0, 3] = 500.0
    expected = loss_of_logits(logits, positives, "softmax")
    torch.testing.assert_close(fused_loss_of_logits(logits, positives, "softmax"), expected)
    assert expected > 200


@pytest.mark.parametrize("kind", ["softmax", "bce"])
@pytest.mark.parametrize(("points", "layers"), [(None, None), (2, None), (3, 1)])
def test_bias_points_without_labels_and_small_tiles_change_no_gradient(
    kind, points, layers, monkeypatch
):
    # One layer a tile, whose rows are padded (softmax), or four of its columns (BCE).
    monkeypatch.setattr(tiles, "TILE_FLOATS", {"cpu": 4 * N})
    positives, dense = _setup("multilabel", kind, seed=NO_LABELS_SEED)
    assert positives.has_labels is not None
    generator = torch.Generator().manual_seed(2)
    inputs = [
        torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((G, N, H), (G, C, H), (G, C))
    ]
    hidden, weight, bias = inputs
    logits = torch.baddbmm(bias.unsqueeze(1), hidden, weight.mT)
    plain = _dense_loss(logits, dense.double(), kind)
    expected = torch.autograd.grad(plain, inputs)
    chunks = {"points_per_chunk": points, "layers_per_chunk": layers}
    value = chunked_loss(hidden, weight, positives, kind, bias=bias, **chunks)
    torch.testing.assert_close(value, plain.detach(), rtol=1e-6, atol=1e-7)
    for found, wanted in zip(torch.autograd.grad(value, inputs), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", ["softmax", "bce"])
def test_the_gradient_made_in_forward_is_the_one_that_is_stored(kind):
    positives, _ = _setup("multilabel", kind)
    weight = torch.randn(G, C, H, requires_grad=True)
    value = chunked_loss(torch.randn(G, N, H, requires_grad=True), weight, positives, kind)
    made = value.grad_fn.gradients[1].data_ptr()
    value.backward()
    assert weight.grad.data_ptr() == made


def test_a_second_backward_is_refused_not_wrong():
    positives, _ = _setup("multiclass", "softmax")
    weight = torch.randn(G, C, H, requires_grad=True)
    value = chunked_loss(torch.randn(G, N, H), weight, positives, "softmax")
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        value.backward()


def test_softmax_chunks_are_aligned_and_bce_tiles_are_bounded():
    softmax = tiles.tiling(1, 256, 83_071, "softmax", points_per_chunk=64)
    assert (softmax.points, softmax.columns, softmax.width) == (64, 83_071, 83_072)
    bce = tiles.tiling(1, 256, 83_071, "bce")
    assert bce.points == 256
    assert bce.floats <= tiles.TILE_FLOATS["cpu"] < 256 * 83_071
    worlds = tiles.tiling(32, 256, 2_000, "softmax")
    assert 1 < worlds.layers < 32
    assert worlds.floats <= tiles.TILE_FLOATS["cpu"]


@pytest.mark.parametrize("kind", ["softmax", "bce"])
def test_prior_biases_are_log_shares_and_log_odds_whatever_is_computed_at_once(kind, monkeypatch):
    counts = torch.randint(0, 90, (3, 100), generator=torch.Generator().manual_seed(4))
    at_once = losses.prior_bias(counts, 2000, kind)
    smoothed = counts.double() + 0.5
    if kind == "softmax":
        expected = (smoothed / smoothed.sum(-1, keepdim=True)).log()
    else:
        expected = (smoothed / (2001 - smoothed)).log()
    torch.testing.assert_close(at_once, expected.float())
    monkeypatch.setattr(losses, "_PRIOR_COLUMNS", 7)
    assert torch.equal(losses.prior_bias(counts, 2000, kind), at_once)
