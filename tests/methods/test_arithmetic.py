"""Arithmetic of sizes against models that are built: parameters, gradients, tables, operations."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from batches import facts, perturb, random_batch

from bench.experiments.training import build_model, predicted_memory
from bench.mach.arithmetic import KERNEL_BYTES
from bench.methods.arithmetic import (
    DataSizes,
    Product,
    Speeds,
    Step,
    parts_of,
    predict_memory,
    predict_step,
    problem_of,
)
from bench.methods.card import TRAINING_ENTRY, Card
from bench.methods.cards import cards
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.settings import DataSpec, ModelSpec, SettingsError, TrainSpec, Trial

# So many features and labels that a batch's are nearly all different.
D, L, N = 100_000, 50_000, 64
WORLDS = {"num_buckets": 7, "num_worlds": 4}
HASHED = {"num_hashed_features": 30_000}
LINEAR = {"encoder": "linear"}
LEAN = {"update": "row_adagrad", "weight_type": "bfloat16"}
ROOT = Path(__file__).parents[2]

CASES = [
    ("mach", WORLDS),
    ("mach", WORLDS | {"share_encoder": True}),
    ("mach", WORLDS | {"share_encoder": True, "encoder": "linear"}),
    ("mach", WORLDS | HASHED),
    ("mach", WORLDS | HASHED | {"encoder": "linear"}),
    ("mach", WORLDS | {"num_hashed_features": 20}),
    ("mach", WORLDS | {"num_buckets": 300, "hidden_dims": (6, 5, 4), "worlds_per_step": 2}),
    ("mach", WORLDS | LEAN | {"share_encoder": True}),
    ("mach", WORLDS | {"update": "sgd", "decode_method": "pruned"}),
    ("full_softmax", {}),
    ("full_softmax", LINEAR),
    ("full_softmax", {"hidden_dims": (6, 5), "chunk_size": 3}),
    ("full_softmax", LEAN),
    ("full_softmax", {"update": "sgd"}),
    ("sampled_softmax", {"num_samples": 200, "sampler": "uniform"}),
    ("sampled_softmax", {"sampler": "in_batch"}),
    ("sampled_softmax", {"num_samples": 200, "sampler": "mixed", "hidden_dims": (6, 5)}),
    ("sampled_bce", {"num_samples": 200, "sampler": "uniform"}),
    ("adaptive_softmax", {}),
    ("adaptive_softmax", {"num_tails": 0}),
    ("adaptive_softmax", {"num_tails": 3, "div_value": 2.0, "head_share": 0.2}),
    ("two_tower", {"num_samples": 200, "sampler": "uniform"}),
    ("two_tower", {"similarity": "dot", "sampler": "all"}),
    ("frequency", {}),
    ("centroid", {}),
    ("neighbours", {}),
]


def trial_of(method: str, settings, **train) -> Trial:
    options = dict(settings)
    shape = {
        "encoder": options.pop("encoder", "mlp"),
        "hidden_dims": options.pop("hidden_dims", (6,)),
    }
    spec = ModelSpec(method=method, **shape, options=options)
    data = DataSpec(source="planted", name="planted")
    return Trial(data=data, model=spec, train=TrainSpec(batch_size=N, **train))


def known(task: str = "multilabel", num_features: int = D, num_labels: int = L):
    """A batch, and what is known of data that consists of it."""
    batch = random_batch(N, num_features, num_labels, task)
    counts = torch.bincount(batch.label_ids, minlength=num_labels)
    described = facts(num_features, num_labels, task, num_train_points=N)
    data = dataclasses.replace(described, label_counts=counts)
    sizes = DataSizes(
        num_features=num_features,
        num_labels=num_labels,
        task=task,
        num_train_points=N,
        entries_per_point=batch.feature_ids.numel() / N,
        labels_per_point=batch.label_ids.numel() / N,
        label_counts=counts,
    )
    return batch, data, sizes


def test_every_method_of_ours_has_a_case():
    ours = {card.name for card in cards() if card.entry == TRAINING_ENTRY}
    assert {method for method, _ in CASES} == ours
    assert {card.name for card in cards() if card.arithmetic} == ours


@pytest.mark.parametrize(("method", "settings"), CASES)
@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_parameters_are_those_of_the_built_model(method, settings, task):
    _, data, sizes = known(task, 300, 120)
    trial = trial_of(method, settings)
    model = build_model(trial, data)
    parts = parts_of(problem_of(trial, sizes))
    counted = {each.name: (each.shape, each.item_bytes, each.is_trained) for each in parts.weights}
    assert counted == {
        name: (tuple(p.shape), p.element_size(), p.requires_grad)
        for name, p in model.named_parameters()
    }
    memory = predict_memory(trial, sizes)
    assert memory.parameters == sum(p.numel() * p.element_size() for p in model.parameters())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert memory.moments == 2 * sum(p.numel() * p.element_size() for p in trained)
    sparse = {each.name for each in parts.weights if each.rows is not None and each.is_trained}
    assert sparse == set(model.row_sparse if trained else ())


@pytest.mark.parametrize(
    ("method", "settings"), [case for case in CASES if case != ("full_softmax", LINEAR)]
)
def test_predicted_gradients_are_those_of_a_step(method, settings):
    batch, data, sizes = known("multiclass" if settings.get("num_tails") == 0 else "multilabel")
    trial = trial_of(method, settings)
    model = build_model(trial, data)
    if model.is_closed_form:
        pytest.skip("computed, not trained by steps")
    perturb(model)
    model.training_loss(batch).backward()
    found = 0
    for parameter in model.parameters():
        if parameter.grad is not None:
            grad = parameter.grad
            held = grad._values() if grad.is_sparse else grad
            found += held.numel() * held.element_size()
    # A bound, and a tight one: what two points share counts once in the gradient.
    predicted = predict_memory(trial, sizes).gradients
    assert found <= predicted <= 1.03 * found


@pytest.mark.parametrize(
    ("method", "settings"), [case for case in CASES if case[0] in ("mach", "adaptive_softmax")]
)
def test_tables_are_the_buffers_of_the_built_model(method, settings):
    _, data, sizes = known("multilabel", 300, 120)
    trial = trial_of(method, settings)
    model = build_model(trial, data)
    held = sum(b.numel() * b.element_size() for b in model.buffers() if b.numel() > 1)
    if method == "mach":
        table = model.head.table.numel() * model.head.table.element_size()
        held += KERNEL_BYTES + model.decode_bytes() - table
    assert predict_memory(trial, sizes).tables == held


def test_a_kept_best_is_another_copy_and_a_gpu_holds_neither_data_nor_process():
    _, _, sizes = known()
    trial = trial_of("full_softmax", {})
    plain = predict_memory(trial, sizes)
    kept = predict_memory(trial_of("full_softmax", {}, keep_best=True), sizes)
    assert kept.total - plain.total == plain.parameters
    device = predict_memory(trial, sizes, accelerator="gpu")
    assert (device.data, device.process) == (0, 0)
    assert plain.data == round(N * (8 * sizes.entries_per_point + 4 * sizes.labels_per_point + 24))
    assert plain.to_record()["predicted_bytes"] == plain.total
    assert plain.total > plain.parameters + plain.gradients + plain.moments + plain.activations


def test_worlds_in_one_step_and_lean_updates_bound_what_a_step_holds():
    _, _, sizes = known()
    settings = {"num_buckets": 2_000, "num_worlds": 16, "share_encoder": True}
    every, one, lean = (
        predict_memory(trial_of("mach", settings | more), sizes).activations
        for more in ({"loss": "softmax"}, {"loss": "softmax", "worlds_per_step": 1}, LEAN)
    )
    assert one < every
    assert every - one <= 2 * 4 * (1 << 21)  # a tile, and the worlds' gradients beside it
    assert lean < every


class Own(ExtremeClassifier):
    """A method of a user's own, whose card says nothing of its sizes."""

    def __init__(self, facts: DataFacts, **shared) -> None:
        super().__init__(facts, **shared)
        self.encoder = self.build_encoder((self.seed,), self.num_labels)


def test_a_users_own_method_is_counted_by_its_parameters(monkeypatch):
    from bench.methods import cards as registry

    monkeypatch.setattr(registry, "_registered", [])
    own = Card(name="own", version=1, label="Own", group="", target=f"{__name__}:Own")
    registry.register(own)
    _, data, sizes = known()
    trial = trial_of("own", LINEAR)
    memory = predicted_memory(trial, sizes, data, "cpu")
    assert memory.parameters == 4 * (D * L + L)
    assert memory.gradients == 4 * L * (int(N * sizes.entries_per_point) + 1)
    assert memory.activations == 4 * N * 2 * L
    with pytest.raises(SettingsError, match="bytes of method 'own' are asked for"):
        predict_memory(trial, sizes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_worlds": 2}, "num_buckets is None"),
        (WORLDS | {"worlds_per_step": "auto"}, "worlds_per_step is 'auto'"),
    ],
)
def test_a_mach_that_says_too_little_is_refused(options, said):
    _, _, sizes = known()
    with pytest.raises(SettingsError, match=said):
        predict_memory(trial_of("mach", options), sizes)


def test_worlds_in_turn_are_trained_in_the_memory_of_one():
    _, _, sizes = known()
    one = predict_memory(trial_of("mach", WORLDS | {"num_worlds": 1}), sizes)
    turn = predict_memory(trial_of("mach", WORLDS | {"worlds_in_turn": True}), sizes).to_record()
    assert turn["world_bytes"] == one.parameters
    assert turn["parameter_bytes"] == 4 * one.parameters
    assert turn["all_at_once_bytes"] == 4 * one.total
    assert turn["training_bytes"] == one.total + 8 * L
    assert turn["decode_bytes"] == 4 * L
    alone = predict_memory(trial_of("mach_in_turn", WORLDS | {"decode": "auto"}), sizes)
    assert alone.to_record()["decode_bytes"] == 4 * L + 4 * L * 5 + 8 * 4 * 8


def test_an_adaptive_softmax_knows_how_many_points_reach_its_tails():
    _, _, sizes = known()
    assert sizes.share_of_ranks(0, L) == pytest.approx(sizes.labels_per_point)
    counts = np.arange(5)
    by_counts = DataSizes(
        num_features=1,
        num_labels=5,
        task="multiclass",
        num_train_points=10,
        entries_per_point=1.0,
        label_counts=counts,
    )
    assert by_counts.share_of_ranks(1, 3) == (3 + 2) / 10
    by_law = DataSizes(
        num_features=1, num_labels=5, task="multiclass", num_train_points=10, entries_per_point=1.0
    )
    assert by_law.share_of_ranks(0, 5) == 1.0
    assert by_law.share_of_ranks(0, 1) > by_law.share_of_ranks(1, 2) > 0


@pytest.mark.parametrize(
    ("method", "settings", "passes"),
    [
        ("full_softmax", {}, 3),
        ("full_softmax", {"update": "sgd", "loss": "softmax"}, 4),
        ("full_softmax", {"update": "sgd", "loss": "bce"}, 3),
        ("mach", WORLDS | {"hidden_dims": (6, 5)}, 3),
    ],
)
def test_flops_of_a_step_are_those_of_its_products(method, settings, passes):
    _, _, sizes = known()
    step = predict_step(trial_of(method, settings), sizes)
    columns = {"full_softmax": L, "mach": 7}[method]
    times, width = {"full_softmax": (1, 6), "mach": (4, 5)}[method]
    inner = 4 * 6 * N * 6 * 5 if method == "mach" else 0
    assert step.flops == inner + 2 * passes * times * N * width * columns


def test_moved_bytes_are_of_rows_where_only_these_are_updated():
    _, _, sizes = known()
    entries = int(N * sizes.entries_per_point)
    dense = 6 + L * 6 + L
    moved = {
        optimizer: predict_step(
            trial_of("full_softmax", {}, optimizer=optimizer), sizes
        ).moved_bytes
        for optimizer in ("row_adam", "adam")
    }
    assert moved["row_adam"] == 4 * (9 * entries * 6 + 7 * dense)
    assert moved["adam"] == 4 * (3 * entries * 6 + 6 * D * 6 + 7 * dense)


def test_seconds_are_a_limit_and_expected_only_by_a_measured_factor():
    step = Step((Product(1, 10, 10, 10),), 3_000)
    limit = 6_000 / 1e6 + 3_000 / 1e5
    assert step.limit_seconds(Speeds(flops=1e6, bytes=1e5)) == pytest.approx(limit)
    assert step.expected_seconds(Speeds(flops=1e6, bytes=1e5)) is None
    assert step.expected_seconds(Speeds(flops=1e6, bytes=1e5, factor=1.5)) == 1.5 * limit


def test_measured_steps_take_what_is_expected_of_their_machine():
    results = json.loads((ROOT / "results/benchmarks/step_limits.json").read_text())["results"]
    speeds = Speeds.of_benchmark(results)
    assert speeds.factor is not None
    assert 1 < speeds.factor < 2.5
    for found in results:
        limit = found["flops"] / speeds.flops + found["bytes"] / speeds.bytes
        assert 0.5 < min(found["steps"]) / (speeds.factor * limit) < 2, found["row"]


def test_bytes_are_told_without_torch():
    code = (
        "import sys; from bench import DataSizes, Trial, DataSpec, TrainSpec, mlp, predict_memory\n"
        "data = DataSpec(source='planted', name='planted')\n"
        "trial = Trial(data=data, model=mlp('mach', 8, num_buckets=9, num_worlds=2),\n"
        "              train=TrainSpec())\n"
        "sizes = DataSizes(num_features=5, num_labels=30, task='multiclass',\n"
        "                  num_train_points=9, entries_per_point=2.0)\n"
        "print(predict_memory(trial, sizes).parameters)\n"
        "assert not {'torch', 'numba', 'lightning'} & set(sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert int(answer.stdout) == 4 * (5 * 16 + 16 + 2 * 9 * 9)
