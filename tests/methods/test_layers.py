import pytest
import torch
from batches import random_batch
from torch import nn

from bench.nn.layers import Encoder, SparseLinear, Start, row_lookup


@pytest.mark.parametrize("dense_gradient", [True, False])
def test_sparse_linear_equals_a_dense_matrix_product(dense_gradient):
    batch = random_batch(6, 15, 9, "multiclass")
    layer = SparseLinear(15, 4, dense_gradient=dense_gradient)
    torch.nn.init.normal_(layer.weight)
    dense = torch.zeros(6, 15)
    for point in range(6):
        span = slice(int(batch.feature_offsets[point]), int(batch.feature_offsets[point + 1]))
        dense[point, batch.feature_ids[span]] = batch.feature_values[span]
    weight = layer.weight.detach().clone().requires_grad_()
    mix = torch.randn(6, 4)
    reference = dense @ weight
    (reference * mix).sum().backward()
    output = layer(batch.feature_ids, batch.feature_offsets, batch.feature_values)
    (output * mix).sum().backward()
    torch.testing.assert_close(output, reference)
    assert layer.weight.grad.is_sparse is not dense_gradient
    found = layer.weight.grad if dense_gradient else layer.weight.grad.to_dense()
    torch.testing.assert_close(found, weight.grad)


def test_row_sparse_gradient_holds_each_touched_row_once():
    batch = random_batch(6, 15, 9, "multiclass")
    layer = SparseLinear(15, 4)
    layer(batch.feature_ids, batch.feature_offsets, batch.feature_values).sum().backward()
    assert layer.weight.grad._indices()[0].tolist() == batch.feature_ids.unique().tolist()


def test_row_lookup_gives_gradients_to_its_rows_alone():
    weight = torch.randn(8, 3, requires_grad=True)
    rows = torch.tensor([1, 5])
    row_lookup(weight, rows).pow(2).sum().backward()
    expected = torch.zeros(8, 3)
    expected[rows] = 2 * weight.detach()[rows]
    torch.testing.assert_close(weight.grad.to_dense(), expected)


@pytest.mark.parametrize("widths", [(4,), (4, 3)])
def test_hashed_features_equal_features_hashed_beforehand(widths):
    batch = random_batch(6, 15, 9, "multiclass")
    table = torch.randint(5, (2, 15), generator=torch.Generator().manual_seed(0))
    hashed = {"num_hashed_features": 5, "feature_table": table}
    encoder = Encoder(15, widths, copy_seeds=(1, 2), first_layer_std=1.0, **hashed)
    output = encoder(batch)
    assert output.shape == (2, 6, widths[-1])
    for copy in range(2):
        dense = torch.zeros(6, 5)
        points = torch.repeat_interleave(batch.feature_offsets.diff())
        for point, feature, value in zip(
            points, batch.feature_ids, batch.feature_values, strict=True
        ):
            dense[point, table[copy, feature]] += value  # collisions add
        hidden = torch.relu(dense @ encoder.first.weight[copy * 5 : (copy + 1) * 5])
        for weight in encoder.weights:
            hidden = torch.relu(hidden @ weight[copy])
        torch.testing.assert_close(output[copy], hidden)


@pytest.mark.parametrize("num_hashed_features", [None, 400])
def test_truncated_normal_start_has_the_moments_of_one_in_weights_and_biases(num_hashed_features):
    table = None
    if num_hashed_features:
        table = torch.randint(num_hashed_features, (2, 500), generator=torch.Generator())
    encoder = Encoder(
        500,
        (400, 300),
        copy_seeds=(1, 2),
        first_layer_std=0.1,
        num_hashed_features=num_hashed_features,
        feature_table=table,
        start=Start("truncated_normal", std=0.05),
    )
    assert len(dict(encoder.named_parameters())) == 4
    for name, value in encoder.named_parameters():
        assert value.abs().max() <= 0.1, name  # two σ
        assert value.abs().max() > 0.095, name
        # Of a normal cut at two σ: σ·√(1 − 4φ(2) / (2Φ(2) − 1)) = 0.8796 σ.
        assert value.std().item() == pytest.approx(0.8796 * 0.05, rel=0.06), name
        assert value.mean().item() == pytest.approx(0.0, abs=0.006), name


def test_fan_in_start_is_as_wide_as_that_of_a_linear_layer_of_torch():
    start = Start("fan_in_uniform", has_biases=False)
    encoder = Encoder(400, (100, 2000), copy_seeds=(1,), first_layer_std=0.1, start=start)
    for weight, num_inputs in ((encoder.first.weight, 400), (encoder.weights[0], 100)):
        reference = nn.Linear(num_inputs, 2000).weight
        assert weight.abs().max().item() == pytest.approx(num_inputs**-0.5, rel=1e-3)
        assert weight.std().item() == pytest.approx(reference.std().item(), rel=0.02)
    assert encoder.first_bias.eq(0).all()
    assert encoder.biases[0].eq(0).all()


@pytest.mark.parametrize("settings", [{"kind": "xavier"}, {"std": 0.0}])
def test_impossible_start_is_refused_by_name(settings):
    with pytest.raises(ValueError, match=r"xavier|start_std is 0"):
        Start(**settings)
