import numpy as np
import pytest
import torch
from torch import nn

from bench.nn.optimizers import Adam, RowAdam, build_optimizer, update_rows


def _sparse(rows, values, shape):
    return torch.sparse_coo_tensor(
        torch.tensor([rows]), values, shape, is_coalesced=True, check_invariants=True
    )


@pytest.mark.parametrize(
    ("kind", "rows_of"),
    [
        (torch.optim.Adam, lambda step: [0, 1, 2, 3]),
        (torch.optim.SparseAdam, lambda step: sorted([step % 4, (step + 2) % 4])),
    ],
)
def test_row_adam_equals_dense_adam_on_all_rows_and_sparse_adam_on_some(kind, rows_of):
    torch.manual_seed(0)
    ours_p, theirs_p = (nn.Parameter(torch.full((4, 3), 0.5)) for _ in range(2))
    ours, theirs = RowAdam([ours_p], lr=0.1), kind([theirs_p], lr=0.1)
    for step in range(6):
        rows = rows_of(step)
        ours_p.grad = _sparse(rows, torch.randn(len(rows), 3), (4, 3))
        theirs_p.grad = ours_p.grad.to_dense() if kind is torch.optim.Adam else ours_p.grad.clone()
        ours.step()
        theirs.step()
        torch.testing.assert_close(ours_p.data, theirs_p.data)


def test_row_adam_leaves_untouched_rows_and_their_moments_alone():
    parameter = nn.Parameter(torch.ones(4, 2))
    optimizer = RowAdam([parameter], lr=0.1)
    parameter.grad = _sparse([2], torch.ones(1, 2), (4, 2))
    optimizer.step()
    assert parameter.data[[0, 1, 3]].eq(1).all()
    assert parameter.data[2].lt(1).all()
    assert optimizer.state[parameter]["exp_avg"][[0, 1, 3]].eq(0).all()


def test_kernel_and_readable_update_agree():
    torch.manual_seed(2)
    tensors = [torch.rand(5, 4) for _ in range(3)]
    copies = [tensor.clone() for tensor in tensors]
    rows, grads = torch.tensor([0, 3]), torch.randn(2, 4)
    settings = {"betas": (0.9, 0.999), "eps": 1e-8, "step_size": 0.1, "inverse_root": 1.3}
    settings["kept"] = 0.8
    from bench.nn.optimizers import _update_rows_cpu

    update_rows(*tensors, rows, grads, **settings)
    _update_rows_cpu(*copies, rows, grads, **settings)
    for found, wanted in zip(copies, tensors, strict=True):
        torch.testing.assert_close(found, wanted)


def test_repeated_rows_of_a_gradient_are_summed_first():
    ours, theirs = (nn.Parameter(torch.ones(3, 1)) for _ in range(2))
    twice = torch.sparse_coo_tensor(
        torch.tensor([[2, 0, 2]]), torch.ones(3, 1), (3, 1), check_invariants=True
    )
    ours.grad, theirs.grad = twice, twice.to_dense()
    RowAdam([ours], lr=0.1).step()
    torch.optim.Adam([theirs], lr=0.1).step()
    torch.testing.assert_close(ours.data, theirs.data)


def test_dense_and_row_gradients_in_one_optimizer():
    rows, dense = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(2))
    optimizer = RowAdam([rows, dense], lr=0.1)
    rows.grad, dense.grad = _sparse([1], torch.ones(1, 2), (3, 2)), torch.ones(2)
    optimizer.step()
    torch.testing.assert_close(rows.data[1], dense.data)
    assert rows.grad.is_sparse  # gradients are handed back as they came


def test_unknown_optimizer_is_refused_by_name():
    with pytest.raises(ValueError, match="'sgd'"):
        build_optimizer("sgd", [nn.Parameter(torch.ones(1))], learning_rate=0.1, epsilon=1e-8)


@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("shape", [(100, 5), (100,), (7, 2, 3)])
def test_adam_on_some_rows_is_to_the_bit_torchs_own_on_dense_gradients(
    shape, weight_decay, monkeypatch
):
    monkeypatch.setattr("bench.nn.optimizers._SPREAD_FLOATS", {"cpu": 200})  # several buffers
    torch.manual_seed(3)
    start = torch.randn(shape)
    ours_p, theirs_p = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.05, "eps": 1e-6, "weight_decay": weight_decay}
    ours = Adam([ours_p], **settings)
    theirs = torch.optim.AdamW([theirs_p], fused=True, **settings)
    for _ in range(6):
        rows = torch.randperm(shape[0])[: int(0.3 * shape[0])].sort().values.tolist()
        values = torch.randn(len(rows), *shape[1:])
        ours_p.grad = _sparse(rows, values, shape)
        theirs_p.grad = ours_p.grad.to_dense()
        ours.step()
        theirs.step()
        assert torch.equal(ours_p, theirs_p)
    for name in ("exp_avg", "exp_avg_sq", "step"):
        assert torch.equal(ours.state[ours_p][name], theirs.state[theirs_p][name])


def test_row_adam_decays_the_rows_that_have_a_gradient():
    ours, theirs = nn.Parameter(torch.ones(4, 2)), nn.Parameter(torch.ones(1, 2))
    settings = {"lr": 0.1, "weight_decay": 0.5}
    optimizers = [RowAdam([ours], **settings), torch.optim.AdamW([theirs], **settings)]
    for _ in range(3):
        ours.grad = _sparse([2], torch.ones(1, 2), (4, 2))
        theirs.grad = torch.ones(1, 2)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.data[2:3], theirs.data)
    assert ours.data[[0, 1, 3]].eq(1).all()


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("epsilon", [1e-8, 1.0])
def test_adam_of_tensorflow_follows_its_published_formula(epsilon, is_sparse):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3))
    parameter = nn.Parameter(torch.tensor(weight))
    optimizer = build_optimizer("tf_adam", [parameter], learning_rate=0.01, epsilon=epsilon)
    mean, square = np.zeros_like(weight), np.zeros_like(weight)
    for step in range(1, 8):
        # As small as a mean over 10⁷ entries makes them: √v is below ε for some.
        grad = rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-10, -5, size=(4, 3))
        if is_sparse:
            grad[[0, step % 3 + 1]] = 0
            rows = [row for row in range(4) if grad[row].any()]
            parameter.grad = _sparse(rows, torch.tensor(grad[rows]), (4, 3))
        else:
            parameter.grad = torch.tensor(grad)
        optimizer.step()
        rate = 0.01 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        mean = 0.9 * mean + 0.1 * grad
        square = 0.999 * square + 0.001 * grad**2
        weight = weight - rate * mean / (np.sqrt(square) + epsilon)
        np.testing.assert_allclose(parameter.detach().numpy(), weight, rtol=1e-9, atol=0)


def test_where_epsilon_is_added_matters_while_gradients_are_as_small_as_it_is():
    ends = []
    for name in ("adam", "tf_adam"):
        parameter = nn.Parameter(torch.zeros(1))
        optimizer = build_optimizer(name, [parameter], learning_rate=1.0, epsilon=1e-8)
        parameter.grad = torch.tensor([1e-8])
        optimizer.step()
        ends.append(-parameter.item())
    # Of √v̂ = 1e-8: a half against 1 / (1 + 1 / √0.001).
    assert ends == pytest.approx([0.5, 1 / (1 + 1000**0.5)], rel=1e-4)
