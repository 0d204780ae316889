"""The lean output layer is SGD on the plain loss, in less memory."""

import itertools

import lightning
import numpy as np
import pytest
import torch

from baselines.full_softmax import FullSoftmax
from bench.data.batch import Batch
from bench.mach.merge import merge_worlds
from bench.mach.module import Mach
from bench.nn.classifier import DataFacts
from bench.nn.lean import LeanUpdate, round_stochastically
from bench.nn.losses import build_positives, loss_of_logits
from bench.settings import SettingsError

N, C, H, D = 7, 23, 5, 40


def _problem(num_layers, kind, *, is_multilabel, is_shared=False, seed=0):
    generator = torch.Generator().manual_seed(seed)
    counts = torch.ones(N, dtype=torch.int64)
    if is_multilabel:
        counts = torch.randint(0, 4, (N,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    point_ids = torch.repeat_interleave(torch.arange(N), counts)
    columns = torch.randint(C, (num_layers, len(point_ids)), generator=generator)
    positives = build_positives(columns, offsets, point_ids, C, kind)
    hidden = torch.randn(1 if is_shared else num_layers, N, H, generator=generator)
    weight = torch.randn(num_layers, C, H, generator=generator)
    bias = torch.randn(num_layers, C, generator=generator)
    return positives, hidden, weight, bias


class _Layer:
    """Weights, and what updates them."""

    def __init__(self, weight, bias, *, weight_type=torch.float32, seed=0, **options):
        self.weight, self.bias = weight.clone().to(weight_type), bias.clone()
        seeds = range(seed, seed + len(weight))
        self.update = LeanUpdate(seeds, weight.shape[1], **options)

    def loss(self, hidden, positives, kind, **settings):
        return self.update.loss(hidden, self.weight, self.bias, positives, kind, **settings)


def _plain(hidden, weight, bias, positives, kind, scale=1.0):
    """Loss and gradients of the ordinary layer."""
    inputs = [t.clone().requires_grad_() for t in (hidden, weight, bias)]
    logits = inputs[0].expand(len(weight), -1, -1) @ inputs[1].mT + inputs[2].unsqueeze(1)
    loss = loss_of_logits(logits, positives, kind) * scale
    return loss, torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize(
    ("kind", "is_multilabel", "num_layers", "is_shared", "columns"),
    [
        (kind, is_multilabel, num_layers, is_shared, columns)
        for (kind, is_multilabel), (num_layers, is_shared), columns in itertools.product(
            [("softmax", False), ("softmax", True), ("bce", True)],
            [(1, False), (3, False), (3, True)],
            [None, 1, 10],
        )
    ],
)
def test_a_step_is_one_of_sgd_on_the_plain_loss(
    kind, is_multilabel, num_layers, is_shared, columns
):
    problem = _problem(num_layers, kind, is_multilabel=is_multilabel, is_shared=is_shared)
    positives, hidden, weight, bias = problem
    loss, grads = _plain(hidden, weight, bias, positives, kind, scale=0.5)
    layer = _Layer(weight, bias, columns_per_chunk=columns)
    mine = hidden.clone().requires_grad_()
    value = layer.loss(mine, positives, kind, rate=0.3, scale=0.5)
    value.backward()
    torch.testing.assert_close(value, loss, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.grad, grads[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.weight, weight - 0.3 * grads[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layer.bias, bias - 0.3 * grads[2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.05])
@pytest.mark.parametrize("columns", [None, 10])
def test_row_adagrad_keeps_the_mean_square_of_each_row(columns, scale):
    positives, hidden, weight, bias = _problem(1, "softmax", is_multilabel=False)
    layer = _Layer(weight, bias, rule="row_adagrad", columns_per_chunk=columns)
    squares = torch.zeros(1, C)
    for _ in range(3):
        _, grads = _plain(hidden, weight, bias, positives, "softmax", scale)
        squares += (grads[1].square().sum(dim=2) + grads[2].square()) / (H + 1)
        factor = 0.1 / (squares.sqrt() + 1e-6)
        weight, bias = weight - factor.unsqueeze(2) * grads[1], bias - factor * grads[2]
        mine = hidden.clone().requires_grad_()
        layer.loss(mine, positives, "softmax", rate=0.1, epsilon=1e-6, scale=scale).backward()
    torch.testing.assert_close(layer.weight, weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer.bias, bias, rtol=1e-4, atol=1e-5)


def test_without_gradients_nothing_is_updated():
    positives, hidden, weight, bias = _problem(1, "bce", is_multilabel=True)
    layer = _Layer(weight, bias)
    with torch.no_grad():
        value = layer.loss(hidden, positives, "bce", rate=1.0)
    torch.testing.assert_close(value, _plain(hidden, weight, bias, positives, "bce")[0])
    assert torch.equal(layer.weight, weight)
    assert torch.equal(layer.bias, bias)


def test_an_update_cannot_be_had_twice():
    positives, hidden, weight, bias = _problem(1, "bce", is_multilabel=True)
    value = _Layer(weight, bias).loss(hidden.requires_grad_(), positives, "bce", rate=1.0)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="differentiable once"):
        value.backward()


def test_rounding_goes_to_a_neighbour_and_keeps_the_mean():
    values = torch.full((200_000,), 1.0 + 0.3 * 2**-7)
    out = torch.empty(values.shape, dtype=torch.bfloat16)
    round_stochastically(values, out, 1, 2, 3)
    assert set(out.unique().tolist()) == {1.0, 1.0 + 2**-7}
    share = float((out.float() > 1).float().mean())
    assert abs(share - 0.3) < 5 * (0.3 * 0.7 / len(values)) ** 0.5
    special = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0, -2.5])
    kept = torch.empty(5, dtype=torch.bfloat16)
    round_stochastically(special, kept, 1, 2, 3)
    np.testing.assert_array_equal(kept.float().numpy(), special.numpy())


def test_draws_depend_on_step_and_place_alone():
    values = torch.linspace(-3, 3, 1001)
    at_once, other = (torch.empty(1001, dtype=torch.bfloat16) for _ in range(2))
    round_stochastically(values, at_once, 1, 2, 0)
    for start, stop in [(0, 400), (400, 1001)]:
        round_stochastically(values[start:stop], other[start:stop], 1, 2, start)
    assert torch.equal(at_once, other)
    round_stochastically(values, other, 1, 3, 0)
    assert not torch.equal(at_once, other)


def test_torchs_operations_as_on_a_gpu_round_as_the_kernel_does():
    from bench.nn import lean

    special = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.0])
    values = torch.cat([torch.linspace(-3, 3, 1000), special])
    for seed in (0, 1, 12345):
        mixed = (seed * 0x9E3779B97F4A7C15 + 7 * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        by_kernel, by_torch = (torch.empty(1004, dtype=torch.bfloat16) for _ in range(2))
        round_stochastically(values, by_kernel, seed, 7, 40)
        lean._round_by_torch(values, by_torch, mixed, 40)
        assert torch.equal(by_kernel.view(torch.int16), by_torch.view(torch.int16))


def test_bfloat16_weights_follow_float32_ones_in_the_mean():
    """Updates a hundredth of a weight's last digit are not lost."""
    positives, hidden, weight, bias = _problem(1, "softmax", is_multilabel=False)
    weight, bias = weight.bfloat16().float(), bias
    exact = _Layer(weight, bias)
    rounded = [_Layer(weight, bias, weight_type=torch.bfloat16, seed=seed) for seed in range(40)]
    for layer in (exact, *rounded):
        for _ in range(20):
            layer.loss(hidden.clone().requires_grad_(), positives, "softmax", rate=2e-3)
    moved = (exact.weight - weight).flatten()
    mean = torch.stack([(layer.weight.float() - weight).flatten() for layer in rounded]).mean(0)
    slope = float((mean * moved).sum() / moved.square().sum())
    assert abs(slope - 1) < 0.2
    nearest = weight.bfloat16().float()
    assert torch.equal(nearest, weight)


@pytest.mark.parametrize("weight_type", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(weight_type):
    positives, hidden, weight, bias = _problem(2, "bce", is_multilabel=True)
    found = []
    before = torch.get_num_threads()
    for num_threads in (1, 2):
        torch.set_num_threads(num_threads)
        layer = _Layer(weight, bias, weight_type=weight_type)
        for _ in range(3):
            layer.loss(hidden.clone().requires_grad_(), positives, "bce", rate=0.1)
        found.append(layer.weight.clone())
    torch.set_num_threads(before)
    assert torch.equal(*found)


def test_weights_in_another_order_are_refused():
    positives, hidden, weight, bias = _problem(1, "bce", is_multilabel=True)
    turned = weight.mT.contiguous().mT
    with pytest.raises(ValueError, match="expected contiguous"):
        LeanUpdate([0], C).loss(hidden, turned, bias, positives, "bce", rate=0.1)


def test_a_chunk_below_one_is_refused():
    with pytest.raises(ValueError, match="columns_per_chunk is 0"):
        LeanUpdate([0], 2, columns_per_chunk=0)


def _model(**options):
    facts = DataFacts(
        num_features=D, num_labels=C, task="multiclass",
        label_counts=torch.ones(C, dtype=torch.int64), num_train_points=N,
    )  # fmt: skip
    return FullSoftmax(facts, hidden_dims=(H,), output_std=0.3, learning_rate=0.1, **options)


def _batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Batch(
        feature_offsets=torch.arange(0, 3 * N + 1, 3),
        feature_ids=torch.randint(D, (3 * N,), generator=generator),
        feature_values=torch.rand(3 * N, generator=generator),
        label_offsets=torch.arange(N + 1),
        label_ids=torch.randint(C, (N,), generator=generator),
    )


def test_a_full_softmax_trains_its_output_layer_by_sgd():
    plain, lean = _model(optimizer="adam"), _model(optimizer="adam", update="sgd")
    trained = {name for name, p in lean.named_parameters() if p.requires_grad}
    assert trained == {"encoder.first.weight", "encoder.first_bias"}
    before = plain.head.weight.detach().clone()
    for model in (plain, lean):
        model.training_loss(_batch()).backward()
    torch.testing.assert_close(lean.head.weight.data, before - 0.1 * plain.head.weight.grad)
    for name, parameter in lean.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, plain.get_parameter(name).grad)


def test_labels_of_narrow_weights_are_those_of_their_float32_values():
    narrow = _model(update="sgd", weight_type="bfloat16")
    wide = _model()
    wide.head.weight.data.copy_(narrow.head.weight.float())
    for batch in (_batch(), _batch(1)):
        for found, expected in zip(narrow.top_k(batch, 4), wide.top_k(batch, 4), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight_type": "bfloat16"}, "weight_type is 'bfloat16' and update 'optimizer'"),
        ({"output_rate": 0.1}, "output_rate is 0.1 and update 'optimizer'"),
        ({"update": "sgd", "encoder": "linear"}, "update is 'sgd' and encoder 'linear'"),
        ({"update": "adam"}, "update"),
    ],
)
def test_what_an_update_is_not_for_is_refused(options, text):
    with pytest.raises(SettingsError, match=text):
        _model(**options)


@pytest.mark.parametrize("update", ["sgd", "row_adagrad"])
def test_it_learns_within_a_trainer_and_its_rate_decays_with_the_encoders(update):
    model = _model(update=update, output_rate=1.0)
    batches = [_batch(seed) for seed in range(3)] * 30
    rates = []

    class Halve(lightning.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            trainer.optimizers[0].param_groups[0]["lr"] = 0.1 * (0.5 if batch_idx else 1.0)
            rates.append(module.rate_factor)

    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[Halve()],
        enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(batches, batch_size=None)
    trainer.fit(model, train_dataloaders=loader, val_dataloaders=loader)
    assert rates[:2] == pytest.approx([1.0, 0.5])
    hits = [model.top_k(b, 1)[1][:, 0] == b.label_ids for b in batches[:3]]
    assert float(torch.cat(hits).float().mean()) > 0.9


def test_several_processes_are_refused_before_anything_runs():
    trainer = lightning.Trainer(
        strategy="ddp", accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = _model(update="sgd")
    model.trainer = trainer
    with pytest.raises(ValueError, match="strategy is DDPStrategy and the output layer is updated"):
        model.setup("fit")
    plain = _model()
    plain.trainer = trainer
    plain.setup("fit")


# MACH -----------------------------------------------------------------------------------------

R, B = 3, 11


def _mach(*, is_multilabel=False, **options):
    facts = DataFacts(
        num_features=D, num_labels=C, task="multilabel" if is_multilabel else "multiclass",
        label_counts=torch.ones(C, dtype=torch.int64), num_train_points=N,
    )  # fmt: skip
    sizes = {"num_buckets": B, "num_worlds": R, "hidden_dims": (H,), "output_std": 0.3}
    return Mach(facts, **(sizes | {"learning_rate": 0.1} | options))


def _pair(**options):
    """A plain MACH and a lean one of the same weights."""
    update = {name: options.pop(name) for name in ("update", "output_rate")}
    plain, lean = _mach(**options), _mach(**options, **update)
    lean.head.weight.data.copy_(plain.head.weight.data[:, :-1].mT)
    assert torch.equal(lean.head.bias, plain.head.weight[:, -1])  # at the prior
    return plain, lean


@pytest.mark.parametrize("update", ["sgd", "row_adagrad"])
@pytest.mark.parametrize(
    "options",
    [
        {"share_encoder": share, "loss": loss, "loss_reduction": reduction}
        for share in (False, True)
        for loss, reduction in [("softmax", "sum"), ("bce", "sum"), ("bce", "mean")]
    ],
)
def test_the_worlds_of_a_mach_take_the_steps_of_the_plain_loss(options, update):
    plain, lean = _pair(update=update, output_rate=0.5, **options)
    assert {p.dtype for p in lean.parameters()} == {torch.float32}
    weight, bias = lean.head.weight.detach().clone(), lean.head.bias.detach().clone()
    squares = torch.zeros(R, B)
    for step in range(3):
        losses = [model.training_loss(_batch(step)) for model in (plain, lean)]
        torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
        for model, loss in zip((plain, lean), losses, strict=True):
            model.zero_grad()
            loss.backward()
        for name, parameter in lean.named_parameters():
            if parameter.requires_grad:
                mine, own = parameter.grad, plain.get_parameter(name).grad
                torch.testing.assert_close(mine.to_dense(), own.to_dense(), rtol=1e-5, atol=1e-6)
        of_weight, of_bias = plain.head.weight.grad[:, :-1].mT, plain.head.weight.grad[:, -1]
        factor = torch.full((R, B), 0.5)
        if update == "row_adagrad":
            squares += (of_weight.square().sum(2) + of_bias.square()) / (H + 1)
            factor /= squares.sqrt() + 1e-8
        weight = weight - factor.unsqueeze(2) * of_weight
        bias = bias - factor * of_bias
        torch.testing.assert_close(lean.head.weight.data, weight, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(lean.head.bias.data, bias, rtol=1e-5, atol=1e-5)
        plain.head.weight.data[:, :-1], plain.head.weight.data[:, -1] = weight.mT, bias
    for found, expected in zip(lean.top_k(_batch(), 4), plain.top_k(_batch(), 4), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("is_merged", [False, True])
@pytest.mark.parametrize("weight_type", ["float32", "bfloat16"])
def test_a_lean_world_is_trained_as_it_would_be_alone(weight_type, is_merged):
    options = {"update": "row_adagrad", "weight_type": weight_type, "output_rate": 0.5}
    together = _mach(**options)
    alone = [_mach(**options | {"num_worlds": 1, "first_world": world}) for world in range(R)]
    for model in (together, *alone):
        optimizer = model.configure_optimizers()
        for step in range(4):
            model.training_loss(_batch(step)).backward()
            optimizer.step()
            optimizer.zero_grad()
    if is_merged:  # and then trained on
        alone = [merge_worlds(alone)]
        for model in (together, *alone):
            model.training_loss(_batch(4))
    joined = torch.cat([model.head.weight.data for model in alone])
    assert joined.dtype == getattr(torch, weight_type)
    limit = 1e-5 if weight_type == "float32" else 2**-7
    torch.testing.assert_close(
        joined.float(), together.head.weight.data.float(), rtol=limit, atol=1e-5
    )
    same = (joined == together.head.weight.data).float().mean()
    assert weight_type == "float32" or float(same) > 0.99  # draws are a world's own
    squares = torch.cat([model.head.lean.squares for model in alone])
    torch.testing.assert_close(squares, together.head.lean.squares)


def test_a_lean_mach_has_neither_gradients_nor_moments_of_its_output():
    lean = _mach(num_buckets=500, update="sgd")
    assert lean.updates_in_loss
    trained = {name for name, p in lean.named_parameters() if p.requires_grad}
    assert trained == {"encoder.first.weight", "encoder.first_bias"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"weight_type": "bfloat16"}, "weight_type is 'bfloat16' and update 'optimizer'"),
        ({"output_rate": 0.1}, "output_rate is 0.1 and update 'optimizer'"),
        ({"update": "sgd", "encoder": "linear"}, "update is 'sgd' and encoder 'linear'"),
    ],
)
def test_a_mach_refuses_what_an_update_is_not_for(options, text):
    with pytest.raises(SettingsError, match=text):
        _mach(**options)
