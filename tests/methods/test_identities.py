"""The identities that make the methods comparable: each is a special case of another."""

import lightning
import pytest
import torch
from batches import facts, gradients, perturb, random_batch

from baselines.full_softmax import FullSoftmax
from baselines.sampled_bce import SampledBce
from baselines.sampled_softmax import SampledSoftmax
from baselines.two_tower import TwoTower
from bench.mach.module import Mach

D, L = 20, 30
TASKS = ["multiclass", "multilabel"]


def _stacked(full: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Parameters of a full softmax, or their gradients, as those of MACH with one world."""
    if "output" not in full:
        return full
    stacked = dict(full)
    bias = stacked.pop("output_bias")
    stacked["output"] = torch.cat([full["output"].t(), bias[None]]).unsqueeze(0)
    return stacked


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_mach_with_one_world_and_identity_hash_is_full_softmax(task, encoder, chunk_size):
    shared = {"encoder": encoder, "hidden_dims": (6,)}
    full = FullSoftmax(facts(D, L, task), chunk_size=chunk_size, **shared)
    mach = Mach(facts(D, L, task), num_buckets=L, num_worlds=1, hash_family="identity", **shared)
    perturb(full)
    own = {"_extra_state": mach.get_extra_state()}  # of the identity hash
    mach.load_state_dict(_stacked(full.state_dict()) | own)
    batch = random_batch(8, D, L, task)
    losses = [model.training_loss(batch) for model in (full, mach)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    for name, grad in _stacked(gradients(full)).items():
        torch.testing.assert_close(gradients(mach)[name], grad, msg=name)
    assert torch.equal(full.top_k(batch, 5)[1], mach.top_k(batch, 5)[1])


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("method", "loss"), [(SampledSoftmax, "softmax"), (SampledBce, "bce")])
def test_sampling_all_labels_is_the_full_loss(method, loss, task):
    full = FullSoftmax(facts(D, L, task), loss=loss, hidden_dims=(6,))
    sampled = method(facts(D, L, task), sampler="all", hidden_dims=(6,))
    assert torch.equal(sampled.head.bias, full.head.bias)  # both start at the prior
    perturb(full)
    sampled.load_state_dict(full.state_dict())
    batch = random_batch(8, D, L, task)
    losses = [model.training_loss(batch) for model in (full, sampled)]
    for value in losses:
        value.backward()
    torch.testing.assert_close(losses[0], losses[1])
    expected, found = gradients(full), gradients(sampled)
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, msg=name)
    for left, right in zip(full.top_k(batch, 5), sampled.top_k(batch, 5), strict=True):
        assert torch.equal(left, right)


def _train(model: torch.nn.Module, task: str, steps: int = 6) -> list[float]:
    optimizer = model.configure_optimizers()
    losses = []
    for step in range(steps):
        loss = model.training_loss(random_batch(8, D, L, task, seed=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("num_hashed_features", [None, 12])
@pytest.mark.parametrize("optimizer", ["adam", "row_adam"])
def test_stacked_training_equals_separate_trainings_world_by_world(
    task, encoder, num_hashed_features, optimizer
):
    settings = {
        "num_buckets": 7,
        "encoder": encoder,
        "hidden_dims": (6, 5),
        "num_hashed_features": num_hashed_features,
        "optimizer": optimizer,
        "learning_rate": 0.05,
        "seed": 3,
        "output_std": 0.1,
    }
    stacked = Mach(facts(D, L, task), num_worlds=3, worlds_per_step=2, **settings)
    _train(stacked, task)
    batch = random_batch(8, D, L, task, seed=99)
    together = stacked.bucket_logits(batch)
    for world in range(3):
        alone = Mach(facts(D, L, task), num_worlds=1, first_world=world, **settings)
        assert torch.equal(alone.head.table[0], stacked.head.table[world])
        _train(alone, task)
        torch.testing.assert_close(
            alone.bucket_logits(batch)[:, 0], together[:, world], rtol=1e-4, atol=1e-5
        )


def test_worlds_per_step_changes_nothing_but_memory():
    batch = random_batch(8, D, L, "multilabel")
    values = []
    for worlds_per_step in (None, 1, 2, 5):
        settings = {"num_buckets": 7, "num_worlds": 5, "hidden_dims": (6,), "output_std": 0.5}
        model = Mach(facts(D, L, "multilabel"), worlds_per_step=worlds_per_step, **settings)
        loss = model.training_loss(batch)
        loss.backward()
        values.append((loss.detach(), gradients(model)))
    for loss, grads in values[1:]:
        torch.testing.assert_close(loss, values[0][0])
        for name, grad in grads.items():
            torch.testing.assert_close(grad, values[0][1][name])


@pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*")
@pytest.mark.filterwarnings("ignore:.*does not have many workers.*")
@pytest.mark.parametrize("optimizer", ["adam", "row_adam"])
def test_lightning_gives_the_losses_of_a_plain_loop(optimizer):
    def build() -> Mach:
        settings = {"num_buckets": 7, "num_worlds": 3, "hidden_dims": (6,), "learning_rate": 0.05}
        return Mach(facts(D, L, "multiclass"), optimizer=optimizer, **settings)

    batches = [random_batch(8, D, L, "multiclass", seed=step) for step in range(8)]
    plain = _train(build(), "multiclass", steps=8)

    class Collect(lightning.Callback):
        def __init__(self):
            self.losses = []

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            self.losses.append(outputs["loss"].item())

    collect = Collect()
    off = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    length = {"max_epochs": 1, "limit_val_batches": 0, **dict.fromkeys(off, False)}
    trainer = lightning.Trainer(accelerator="cpu", callbacks=[collect], **length)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, shuffle=False)
    trainer.fit(build(), train_dataloaders=loader)
    assert collect.losses == pytest.approx(plain, abs=1e-5)
    assert plain[-1] < plain[0]


def _dense_mean_bce(logits: torch.Tensor, columns: torch.Tensor, batch) -> torch.Tensor:
    """Mean over points and columns, summed over layers, with targets written out."""
    targets = torch.zeros_like(logits)
    for entry, point in enumerate(batch.label_point_ids.tolist()):
        for layer in range(logits.shape[0]):
            targets[layer, point, columns[layer, entry]] = 1.0
    return sum(
        torch.nn.functional.binary_cross_entropy_with_logits(layer, target)
        for layer, target in zip(logits, targets, strict=True)
    )


@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("method", ["mach", "full_softmax"])
def test_mean_reduction_is_bce_over_batch_and_columns(method, encoder):
    batch = random_batch(8, D, L, "multilabel")
    found = []
    for reduction in ("sum", "mean"):
        settings = {"encoder": encoder, "hidden_dims": (6,), "loss_reduction": reduction}
        if method == "mach":
            sizes = {"num_buckets": 7, "num_worlds": 3}
            model = Mach(facts(D, L, "multilabel"), **sizes, **settings)
        else:
            model = FullSoftmax(facts(D, L, "multilabel"), **settings)
        perturb(model)
        loss = model.training_loss(batch)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
        if method == "mach":
            logits = model.bucket_logits(batch).transpose(0, 1)
            columns = model.head.table[:, batch.label_ids].long()
        else:
            logits, columns = model.logits(batch).detach()[None], batch.label_ids[None]
    (total, summed), (mean, averaged) = found
    torch.testing.assert_close(mean, _dense_mean_bce(logits, columns, batch))
    num_columns = 7 if method == "mach" else L
    torch.testing.assert_close(mean, total / num_columns)
    for name, grad in summed.items():
        torch.testing.assert_close(averaged[name], grad / num_columns, msg=name)


def test_mean_over_the_buckets_of_a_softmax_is_refused():
    with pytest.raises(ValueError, match="expected 'bce'"):
        Mach(facts(D, L, "multiclass"), num_buckets=7, num_worlds=2, loss_reduction="mean")
    with pytest.raises(ValueError, match="'median'"):
        FullSoftmax(facts(D, L, "multilabel"), loss_reduction="median")


@pytest.mark.parametrize("start", ["truncated_normal", "fan_in_uniform"])
@pytest.mark.parametrize("encoder", ["linear", "mlp"])
@pytest.mark.parametrize("num_hashed_features", [None, 12])
def test_start_of_a_world_is_what_it_is_alone(start, encoder, num_hashed_features):
    settings = {
        "num_buckets": 7,
        "encoder": encoder,
        "hidden_dims": (6, 5),
        "num_hashed_features": num_hashed_features,
        "start": start,
        "prior_start": False,
        "seed": 3,
    }
    stacked = Mach(facts(D, L, "multilabel"), num_worlds=3, **settings)
    assert all(parameter.ne(0).all() for parameter in stacked.parameters())
    batch = random_batch(8, D, L, "multilabel")
    together = stacked.bucket_logits(batch)
    for world in range(3):
        alone = Mach(facts(D, L, "multilabel"), num_worlds=1, first_world=world, **settings)
        torch.testing.assert_close(alone.bucket_logits(batch)[:, 0], together[:, world])


def test_biases_at_the_training_frequencies_stay_whatever_the_start():
    data = facts(D, L, "multilabel")
    own, drawn = (FullSoftmax(data, start=start) for start in ("own", "truncated_normal"))
    assert torch.equal(own.head.bias, drawn.head.bias)
    bare = FullSoftmax(data, start="truncated_normal", start_biases=False, prior_start=False)
    assert bare.head.bias.eq(0).all()
    assert bare.head.weight.ne(0).all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("rectify", [True, False])
def test_two_towers_with_all_negatives_are_a_softmax_without_biases(task, rectify):
    full = FullSoftmax(
        facts(D, L, task), loss="softmax", hidden_dims=(6,), prior_start=False, output_std=0.5
    )
    dots = {"similarity": "dot", "temperature": 1.0, "sampler": "all", "rectify": rectify}
    towers = TwoTower(facts(D, L, task), **dots, hidden_dims=(6,), seed=4)
    perturb(towers)
    full.encoder.activate_last = rectify
    vectors = {n: v for n, v in towers.state_dict().items() if n != "_extra_state"}
    full.load_state_dict(vectors | {"output_bias": torch.zeros(L)})
    batch = random_batch(8, D, L, task)
    losses = [model.training_loss(batch) for model in (full, towers)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[0], losses[1])
    expected = gradients(full)
    for name, grad in gradients(towers).items():
        torch.testing.assert_close(grad, expected[name], msg=name)
    for left, right in zip(full.top_k(batch, 5), towers.top_k(batch, 5), strict=True):
        assert torch.equal(left, right)
