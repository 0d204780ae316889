import pytest
import torch
from batches import random_batch

from bench.layers import Encoder, SparseLinear, row_lookup


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
    encoder = Encoder(
        15,
        widths,
        copy_seeds=(1, 2),
        first_layer_std=1.0,
        num_hashed_features=5,
        feature_table=table,
    )
    output = encoder(batch)
    assert output.shape == (2, 6, widths[-1])
    for copy in range(2):
        dense = torch.zeros(6, 5)
        for point in range(6):
            for entry in range(
                int(batch.feature_offsets[point]), int(batch.feature_offsets[point + 1])
            ):
                hashed = table[copy, batch.feature_ids[entry]]
                dense[point, hashed] += batch.feature_values[entry]  # collisions add
        hidden = torch.relu(dense @ encoder.first.weight[copy * 5 : (copy + 1) * 5])
        for weight in encoder.weights:
            hidden = torch.relu(hidden @ weight[copy])
        torch.testing.assert_close(output[copy], hidden)
