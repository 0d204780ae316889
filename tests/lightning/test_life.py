"""What a user of Lightning does with our models beside `fit`: it works, or is refused by name."""

from __future__ import annotations

import copy
import csv
import dataclasses
import enum
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import two_processes
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from planted import BATCH_SIZE, METHODS, STEPS, WIDTH, build, facts, mach, planted, trainer
from torch import Tensor, nn

from baselines.sampled_softmax import SampledSoftmax
from baselines.trivial import ClassFrequency, NearestCentroid
from bench.cli.commands import main
from bench.data.loader import BatchLoader
from bench.data.module import ExtremeDataModule
from bench.experiments.training import prepare
from bench.mach.merge import merge_worlds
from bench.mach.module import Mach
from bench.measure.experiment import Context
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.optimizers import Adam, RowAdam, TfAdam
from bench.nn.ranking import UnrankableError
from bench.runner.child import TRIAL_ENVIRONMENT
from bench.settings import SettingsError
from bench.store import provenance
from bench.studies.study import load_study

_REPOSITORY = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*Couldn't infer the batch indices.*"),
    pytest.mark.filterwarnings("ignore:.*`fit_loop.setup_data.*"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture
def data(folder: Path) -> ExtremeDataModule:
    return planted(folder)


@pytest.fixture(scope="module")
def known(folder: Path) -> DataFacts:
    return facts(folder)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def same_answers(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return all(torch.equal(found, wanted) for found, wanted in zip(one, other, strict=True))


# Stages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_model_is_validated_trained_tested_asked_and_called_in_any_order(name, data, known):
    model = build(name, known)
    trained = trainer(max_epochs=8)
    before = trained.validate(model, datamodule=data, verbose=False)[0]
    trained.fit(model, datamodule=data)
    after = trained.validate(model, datamodule=data, verbose=False)[0]
    assert after["val_P_at_1"] > before["val_P_at_1"]
    tested = trained.test(model, datamodule=data, verbose=False)[0]
    scores, labels = trained.predict(model, datamodule=data)[0]
    assert scores.shape == labels.shape == (90, 5)
    batch = next(iter(data.predict_dataloader()))
    found = (labels[:, 0] == batch.label_ids).double().mean()
    assert float(found) == pytest.approx(tested["test_P_at_1"])
    with torch.no_grad():
        assert same_answers(model(batch), (scores, labels))
        assert same_answers(model.top_k(batch, 5), (scores, labels))


def test_callbacks_and_loggers_find_our_metrics_and_settings(data, known, tmp_path):
    model = mach(known, hash_seed=3)
    best = ModelCheckpoint(
        tmp_path, monitor="val_P_at_1", mode="max", filename="{epoch}-{val_P_at_1:.3f}"
    )
    stop = EarlyStopping("val_P_at_1", mode="max", patience=1)
    logger = CSVLogger(tmp_path, name="", version="")
    trained = trainer(
        max_epochs=30,
        callbacks=[best, stop],
        enable_checkpointing=True,
        logger=logger,
        log_every_n_steps=1,
    )
    trained.fit(model, datamodule=data)
    assert trained.current_epoch < 30
    tested = trained.test(model, datamodule=data, ckpt_path="best", verbose=False)[0]
    assert Path(best.best_model_path).parent == tmp_path
    assert all(re.fullmatch(r"\w+", name) for name in trained.callback_metrics)
    loaded = Mach.load_from_checkpoint(best.best_model_path)
    assert trainer().test(loaded, datamodule=data, verbose=False)[0] == tested
    assert "hash_seed: 3" in (tmp_path / "hparams.yaml").read_text()


def test_metrics_leave_out_what_lies_beyond_the_last_label(known):
    few = dataclasses.replace(known, num_labels=4, label_counts=torch.ones(4, dtype=torch.int64))
    assert build("full_softmax", few).ks == (1, 3)
    with pytest.raises(ValueError, match=r"ks are \(5,\); expected one of at most L = 4"):
        build("full_softmax", few, ks=(5,))


class Network(nn.Module):
    """A user's encoder: embeddings, normalisation, dropout by torch's own generator."""

    def __init__(self, num_worlds: int | None = None) -> None:
        super().__init__()
        self.embedding = nn.Embedding(120, WIDTH)
        self.normalise = nn.BatchNorm1d(WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.num_worlds = num_worlds

    def forward(self, batch: Any) -> Tensor:
        bags = nn.functional.embedding_bag(
            batch.feature_ids, self.embedding.weight, batch.feature_offsets[:-1], mode="mean"
        )
        hidden = self.dropout(self.normalise(bags))
        return hidden if self.num_worlds is None else hidden.expand(self.num_worlds, -1, -1)


@pytest.mark.parametrize(
    ("name", "num_worlds", "options"),
    [
        ("mach", None, {"share_encoder": True}),
        ("mach", 4, {}),
        ("full_softmax", None, {}),
        ("sampled_softmax", None, {}),
        ("adaptive_softmax", None, {}),
        ("two_tower", None, {}),
    ],
)
def test_an_encoder_may_be_the_users_own(name, num_worlds, options, data, known, tmp_path):
    torch.manual_seed(0)
    model = build(name, known, encoder=Network(num_worlds), **options)
    start = copy.deepcopy(model.encoder.module.embedding.weight)
    trained = trainer()
    trained.fit(model, datamodule=data)
    assert not torch.equal(start, model.encoder.module.embedding.weight)
    trained.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(ValueError, match=r"encoder is 'mlp', in the checkpoint 'own'"):
        type(model).load_from_checkpoint(tmp_path / "own.ckpt")
    loaded = type(model).load_from_checkpoint(tmp_path / "own.ckpt", encoder=Network(num_worlds))
    assert same_weights(model, loaded)


@dataclasses.dataclass(frozen=True)
class Tokens:
    """A user's batch: dense vectors, and labels as in ours."""

    vectors: Tensor
    label_offsets: Tensor
    label_ids: Tensor

    @property
    def num_points(self) -> int:
        return self.vectors.shape[0]

    @property
    def label_point_ids(self) -> Tensor:
        return torch.repeat_interleave(self.label_offsets.diff())

    def to(self, device: torch.device, non_blocking: bool = False) -> Tokens:
        return Tokens(*(getattr(self, f.name).to(device) for f in dataclasses.fields(self)))


class Vectors(nn.Linear):
    def forward(self, batch: Any) -> Tensor:
        return super().forward(batch.vectors)


@pytest.mark.parametrize("name", METHODS)
def test_an_own_encoder_takes_any_batch_with_labels(name, known):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 40, (128,), generator=generator)
    parts = [
        Tokens(nn.functional.one_hot(part, 40).float(), torch.arange(33), part)
        for part in labels.split(32)
    ]
    batches = torch.utils.data.DataLoader(parts, batch_size=None)
    # A tail of four or one dimensions cannot tell so many labels apart.
    own = {"mach": {"share_encoder": True}, "adaptive_softmax": {"div_value": 1.0}}
    options = own.get(name, {})
    torch.manual_seed(1)
    model = build(name, known, encoder=Vectors(40, WIDTH), **options)
    trained = trainer(max_epochs=60, limit_val_batches=0)
    trained.fit(model, train_dataloaders=batches)
    found = trainer().validate(model, dataloaders=batches, verbose=False)[0]
    assert found["val_P_at_1"] > 0.9


def test_an_own_encoder_of_another_shape_is_refused_with_both(data, known):
    for model in (
        build("full_softmax", known, encoder=Network(), hidden_dims=(12,)),
        mach(known, encoder=Network()),
    ):
        with pytest.raises(ValueError, match=r"shape \(51, 16\); expected .*hidden_dims"):
            trainer().validate(model, datamodule=data, verbose=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "MLP"}, "encoder is 'MLP'; expected 'linear', 'mlp' or a Module"),
        ({"encoder": Network(), "hidden_dims": ()}, "'own' but hidden_dims is empty"),
        ({"encoder": Network(), "num_hashed_features": 9}, "num_hashed_features"),
    ],
)
def test_an_impossible_encoder_is_refused_by_name(options, message, known):
    with pytest.raises(ValueError, match=message):
        mach(known, **options)


# Precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels_per_point", [1, 3])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mach", {}),
        ("mach", {"hidden_dims": (12, WIDTH), "share_encoder": True}),
        ("full_softmax", {}),
        ("sampled_softmax", {"hidden_dims": (12, WIDTH)}),
        ("adaptive_softmax", {}),
        ("two_tower", {}),
    ],
)
def test_bfloat16_trains_as_32_bits_do(name, options, labels_per_point, folder):
    data = planted(folder, labels_per_point=labels_per_point)
    known = facts(folder, labels_per_point=labels_per_point)
    start = build(name, known, output_std=0.1, **options)
    exact, rounded = (_gradients(start, data, is_rounded) for is_rounded in (False, True))
    for parameter, grad in exact.items():
        apart = (rounded[parameter] - grad).norm() / grad.norm()
        assert 0 <= float(apart) < 0.02, parameter
    assert any(not torch.equal(rounded[parameter], grad) for parameter, grad in exact.items())
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        model = copy.deepcopy(start)
        trained = trainer(max_epochs=1, limit_val_batches=0, precision=precision)
        trained.fit(model, datamodule=data)
        assert all(p.dtype == torch.float32 for p in model.parameters())
        losses[precision] = _loss(model, data)
        scores, _ = trained.predict(model, datamodule=data)[0]
        assert scores.dtype == torch.float32
    assert losses["bf16-mixed"] == pytest.approx(losses["32-true"], rel=0.03)


def _gradients(
    model: ExtremeClassifier, data: ExtremeDataModule, is_rounded: bool
) -> dict[str, Tensor]:
    copied = copy.deepcopy(model)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=is_rounded):
        loss = copied.training_loss(next(iter(data.test_dataloader())))
    loss.backward()
    return {name: p.grad.to_dense() for name, p in copied.named_parameters()}


@torch.no_grad()
def _loss(model: ExtremeClassifier, data: ExtremeDataModule) -> float:
    copied = copy.deepcopy(model)
    return float(copied.training_loss(next(iter(data.test_dataloader()))))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_weights_of_another_precision_are_refused_by_name(precision, data, known):
    with pytest.raises(ValueError, match=f"precision is '{precision}'; expected one of 32-true"):
        trainer(precision=precision).fit(mach(known), datamodule=data)


_STUDY = """
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.studies.study import Study

TRIAL = Trial(
    data=DataSpec(source="planted", name="planted"),
    model=ModelSpec(method="full_softmax"),
    train=TrainSpec(precision="16-mixed"),
)
STUDY = Study(name="half", claim="Half.", trials=lambda profile: [TRIAL], smoke=lambda: [TRIAL])
"""


def test_a_trial_in_float16_is_refused_on_a_cpu_rather_than_run_in_bfloat16(tmp_path, capsys):
    study = tmp_path / "half.py"
    study.write_text(_STUDY)
    (trial,) = load_study(str(study)).trials("cpu")
    with pytest.raises(ValueError, match="'16-mixed' on a CPU; expected 'bf16-mixed'"):
        prepare(trial, Context(data_dir=tmp_path, cache_dir=tmp_path))
    assert main(["run", str(study), "--results", str(tmp_path / "results")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "precision is '16-mixed' and the profile 'cpu'" in told[0]


# Gradients ------------------------------------------------------------------------------------


class WithDenseGradients(SampledSoftmax):
    """What an optimiser of one's own gets."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_row_sparse_gradients_are_clipped_as_dense_ones_are(algorithm, data, known, monkeypatch):
    clipped: list[dict[str, Tensor]] = []
    clip = ExtremeClassifier.configure_gradient_clipping

    def watched(model: ExtremeClassifier, *arguments: Any, **options: Any) -> None:
        clip(model, *arguments, **options)
        named = model.named_parameters()
        clipped.append({name: p.grad.to_dense().clone() for name, p in named})

    monkeypatch.setattr(ExtremeClassifier, "configure_gradient_clipping", watched)
    options = {"num_samples": 20, "hidden_dims": (WIDTH,), "output_std": 0.1}
    for kind in (SampledSoftmax, WithDenseGradients):
        model = kind(known, optimizer="adam", **options)
        trainer(
            max_steps=1,
            limit_val_batches=0,
            accumulate_grad_batches=2,  # a row may then stand twice in a row-sparse gradient
            gradient_clip_val=0.01,
            gradient_clip_algorithm=algorithm,
        ).fit(model, datamodule=data)
    rows, dense = clipped
    total = torch.cat([grad.flatten() for grad in rows.values()])
    largest = total.norm() if algorithm == "norm" else total.abs().max()
    assert float(largest) == pytest.approx(0.01, rel=1e-3)
    for name, grad in rows.items():
        torch.testing.assert_close(grad, dense[name])


@pytest.mark.parametrize(
    ("kind", "is_sparse"), [(RowAdam, True), (Adam, True), (TfAdam, True), (TfAdam, False)]
)
@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_a_step_is_neither_made_nor_counted_where_a_gradient_is_not_finite(kind, is_sparse, bad):
    scaled, plain = ([nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(2))] for _ in "ab")
    optimizers = [kind(parameters, lr=0.1, eps=0.1) for parameters in (scaled, plain)]
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step, value in enumerate((bad, 0.5, 0.25)):
        _give_gradients(scaled, value, is_sparse, scaler.scale(torch.ones(())))
        scaler.step(optimizers[0])
        scaler.update()
        if step == 0:
            assert all(parameter.eq(1).all() for parameter in scaled)
        else:
            _give_gradients(plain, value, is_sparse)
            optimizers[1].step()
    for one, other in zip(scaled, plain, strict=True):
        torch.testing.assert_close(one, other)
        pairs = zip(optimizers, (one, other), strict=True)
        moments = (optimizer.state[p]["exp_avg"] for optimizer, p in pairs)
        torch.testing.assert_close(*moments)


def _give_gradients(parameters, value, is_sparse, scale=1.0):
    rows = torch.full((2, 3), 0.5)
    rows[0, 0] = value
    sparse = torch.sparse_coo_tensor(
        torch.tensor([[0, 2]]), rows, (4, 3), is_coalesced=True, check_invariants=True
    )
    parameters[0].grad = scale * (sparse if is_sparse else sparse.to_dense())
    parameters[1].grad = scale * torch.full((2,), 0.5)


# Checkpoints ----------------------------------------------------------------------------------


class SaveAt(L.Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize(
    ("name", "options", "step", "order"),
    [
        ("mach", {"feature_dropout": 0.3}, 2 * STEPS, "points"),
        ("mach", {"feature_dropout": 0.3}, STEPS + 3, "batches"),
        ("sampled_softmax", {"feature_dropout": 0.2}, 2 * STEPS, "batches"),
        ("sampled_softmax", {}, STEPS - 2, "points"),
        ("sampled_softmax", {"sampler": "mixed"}, STEPS + 3, "points"),
        ("adaptive_softmax", {"feature_dropout": 0.2}, STEPS + 3, "points"),
        ("full_softmax", {"optimizer": "tf_adam"}, STEPS + 1, "points"),
        ("full_softmax", {"encoder": Network()}, STEPS + 3, "points"),
        ("two_tower", {"sampler": "unigram", "num_samples": 9}, STEPS + 2, "points"),
    ],
)
def test_a_resumed_fit_ends_with_the_weights_of_an_uninterrupted_one(
    name, options, step, order, folder, known, tmp_path
):
    start = build(name, known, **options)
    whole, resumed = copy.deepcopy(start), copy.deepcopy(start)
    torch.manual_seed(1)
    trained = trainer(max_epochs=3, callbacks=[SaveAt(step, tmp_path / "on_the_way.ckpt")])
    trained.fit(whole, datamodule=planted(folder, order=order))
    assert trained.global_step == 3 * STEPS
    torch.manual_seed(2)
    again = trainer(max_epochs=3)
    again.fit(
        resumed, datamodule=planted(folder, order=order), ckpt_path=tmp_path / "on_the_way.ckpt"
    )
    assert again.global_step == 3 * STEPS
    assert same_weights(whole, resumed)
    assert not same_weights(whole, start)


def test_a_fit_resumed_after_its_end_goes_on_as_one_twice_as_long(folder, known, tmp_path):
    whole, parts, reloaded = mach(known), mach(known), mach(known)
    trainer(max_epochs=3).fit(whole, datamodule=planted(folder))
    # Loaders made anew for each pass give it the order of its own.
    again = trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1)
    again.fit(reloaded, datamodule=planted(folder))
    assert same_weights(whole, reloaded)
    first = trainer(max_epochs=2)
    first.fit(parts, datamodule=planted(folder))
    first.save_checkpoint(tmp_path / "end.ckpt")
    resumed = mach(known)
    trainer(max_epochs=3).fit(resumed, datamodule=planted(folder), ckpt_path=tmp_path / "end.ckpt")
    assert same_weights(whole, resumed)
    # Nothing but the file is needed, and nothing in it is a pickled class.
    loaded = Mach.load_from_checkpoint(tmp_path / "end.ckpt")
    batch = next(iter(planted(folder).test_dataloader()))
    assert same_answers(loaded.top_k(batch, 5), parts.top_k(batch, 5))
    assert loaded.hparams == parts.hparams
    torch.load(tmp_path / "end.ckpt", weights_only=True)


class StopAt(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == self.step


@pytest.mark.filterwarnings("ignore:.*callbacks used to create the checkpoint.*")
@pytest.mark.parametrize("name", ["mach", "sampled_softmax"])
@pytest.mark.parametrize("step", [3, STEPS + 5, 2 * STEPS])
@pytest.mark.parametrize("ending", ["max_steps", "should_stop", "kept by a callback"])
def test_a_fit_stopped_inside_a_pass_is_resumed_with_what_was_left_of_it(
    name, step, ending, folder, known, tmp_path
):
    whole, stopped, resumed = (build(name, known, feature_dropout=0.2) for _ in range(3))
    length = {"max_epochs": 4, "limit_val_batches": 0}
    trainer(**length).fit(whole, datamodule=planted(folder))
    path = tmp_path / "stopped.ckpt"
    if ending == "kept by a callback":
        kept = ModelCheckpoint(tmp_path, "stopped", save_on_train_epoch_end=True)
        more = {"callbacks": [kept], "enable_checkpointing": True, "max_steps": step}
    elif ending == "should_stop":
        more = {"callbacks": [StopAt(step)]}
    else:
        more = {"max_steps": step}
    trained = trainer(**length, **more)
    trained.fit(stopped, datamodule=planted(folder))
    assert trained.global_step == step
    if not path.exists():
        trained.save_checkpoint(path)
    again = trainer(**length)
    again.fit(resumed, datamodule=planted(folder), ckpt_path=path)
    assert again.global_step == 4 * STEPS
    assert same_weights(whole, resumed)


def test_the_middle_of_a_pass_is_resumed_with_the_same_batches_or_not_at_all(
    folder, known, tmp_path
):
    path = tmp_path / "middle.ckpt"
    trainer(max_steps=4, callbacks=[SaveAt(3, path)]).fit(mach(known), datamodule=planted(folder))
    other = planted(folder, batch_size=BATCH_SIZE // 2)
    with pytest.raises(ValueError, match=r"'batch_size': 64.*expected the same in the middle"):
        trainer().fit(mach(known), datamodule=other, ckpt_path=path)


@pytest.fixture(scope="module")
def checkpoint(folder: Path, known: DataFacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "mach.ckpt"
    trained = trainer(max_steps=2, limit_val_batches=0)
    trained.fit(mach(known, hash_seed=0), datamodule=planted(folder))
    trained.save_checkpoint(path)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hash_seed": 5}, "hash seed is 5, in the checkpoint 0; expected the same"),
        ({"hash_family": "universal"}, "hash family is 'universal', in the checkpoint 'balanced'"),
        ({"first_world": 1}, r"hash worlds is \[1, 2, 3, 4\]"),
        ({"num_buckets": 8}, "num_buckets is 8, in the checkpoint 16"),
        ({"loss": "bce"}, "loss is 'bce', in the checkpoint 'softmax'"),
    ],
)
def test_weights_of_another_model_are_refused_by_name(changes, message, checkpoint, data, known):
    with pytest.raises(ValueError, match=message):
        Mach.load_from_checkpoint(checkpoint, **changes)
    other = mach(known, **({"hash_seed": 0} | changes))
    with pytest.raises(ValueError, match=message):
        trainer().validate(other, datamodule=data, ckpt_path=checkpoint, verbose=False)


def test_facts_of_other_data_are_refused_by_name(checkpoint, folder, known):
    counts = dataclasses.replace(known, label_counts=known.label_counts.flip(0))
    with pytest.raises(ValueError, match="label_counts of the data differ"):
        Mach.load_from_checkpoint(checkpoint, facts=counts)
    points = dataclasses.replace(known, num_train_points=7)
    with pytest.raises(ValueError, match="num_train_points is 7, in the checkpoint 450"):
        Mach.load_from_checkpoint(checkpoint, facts=points)
    other = planted(folder)
    other.dataset.facts["fingerprint"] = "another"
    with pytest.raises(ValueError, match="fingerprint is another"):
        trainer().fit(mach(known, hash_seed=0), datamodule=other, ckpt_path=checkpoint)
    # Any data may be scored.
    trainer().validate(
        mach(known, hash_seed=0), datamodule=other, ckpt_path=checkpoint, verbose=False
    )


def test_a_setting_that_leaves_weights_their_meaning_may_be_changed(checkpoint, data):
    loaded = Mach.load_from_checkpoint(checkpoint, estimator="mean", learning_rate=0.5)
    assert (loaded.head.estimator, loaded.learning_rate) == ("mean", 0.5)


def test_a_checkpoint_of_another_method_is_refused_by_name(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="is of Mach; expected NearestCentroid"):
        NearestCentroid.load_from_checkpoint(checkpoint)
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="no model of this suite"):
        Mach.load_from_checkpoint(tmp_path / "foreign.ckpt")


class Mine(Mach):
    """A user's subclass that decides for itself."""

    def __init__(self, facts: DataFacts, *, width: int, **shared: Any) -> None:
        super().__init__(facts, num_buckets=16, num_worlds=2, hidden_dims=(width,), **shared)


@pytest.mark.parametrize("kind", [Mine, ClassFrequency, NearestCentroid])
def test_what_a_class_decides_or_computes_comes_back_too(kind, data, known, tmp_path):
    model = kind(known, width=12) if kind is Mine else kind(known)
    if model.is_closed_form:
        model.fit_closed_form(data.train_dataloader())
    trained = trainer(max_steps=2)
    trained.validate(model, datamodule=data, verbose=False)
    trained.save_checkpoint(tmp_path / "kind.ckpt")
    loaded = kind.load_from_checkpoint(tmp_path / "kind.ckpt")
    batch = next(iter(data.test_dataloader()))
    assert same_answers(loaded.top_k(batch, 5), model.top_k(batch, 5))


def test_a_closed_form_is_not_trained_by_steps(data, known):
    with pytest.raises(ValueError, match=r"NearestCentroid .*expected model.fit_closed_form"):
        trainer().fit(NearestCentroid(known), datamodule=data)


def test_merged_worlds_are_kept_if_settings_can_name_them(data, known, tmp_path):
    parts = [mach(known, num_worlds=2, first_world=first) for first in (0, 2, 5)]
    scored = trainer()
    merged = merge_worlds(parts[:2])
    scored.validate(merged, datamodule=data, verbose=False)
    scored.save_checkpoint(tmp_path / "merged.ckpt")
    assert same_weights(Mach.load_from_checkpoint(tmp_path / "merged.ckpt"), merged)
    scored = trainer()
    scored.validate(merge_worlds(parts), datamodule=data, verbose=False)
    with pytest.raises(ValueError, match=r"worlds are \(0, 1, 2, 3, 5, 6\).* without gaps"):
        scored.save_checkpoint(tmp_path / "gaps.ckpt")


def test_a_copy_of_a_model_in_training_goes_on_with_the_same_samples(data, known):
    model = build("sampled_softmax", known)
    batch = next(iter(data.train_dataloader()))
    model.training_loss(batch)
    copied = copy.deepcopy(model)
    assert torch.equal(model.training_loss(batch), copied.training_loss(batch))


class Loss(enum.StrEnum):
    SOFTMAX = "softmax"


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": np.float64(0.01), "num_buckets": np.int64(8)},
        {"loss": np.str_("softmax"), "share_encoder": np.bool_(True), "seed": np.int32(4)},
        {"hidden_dims": (np.int64(WIDTH),), "ks": [np.int16(1)], "output_std": np.float32(0.5)},
        {"names": Path("names.txt"), "loss": Loss.SOFTMAX},
    ],
)
def test_settings_are_plain_in_a_checkpoint(changes, data, known, tmp_path):
    """NumPy's numbers, paths and words of an enumeration."""
    known = dataclasses.replace(known, num_labels=np.int64(known.num_labels))
    model = Labelled(known, **changes)
    trained = trainer(max_epochs=1)
    trained.fit(model, datamodule=data)
    trained.save_checkpoint(tmp_path / "plain.ckpt")
    torch.load(tmp_path / "plain.ckpt", weights_only=True)
    loaded = Labelled.load_from_checkpoint(tmp_path / "plain.ckpt")
    assert same_weights(model, loaded)
    for name, value in changes.items():
        found = loaded.hparams[name]
        assert found == (str(value) if isinstance(value, Path) else value)
        assert not isinstance(found, np.generic | Path | enum.Enum)
    again = Labelled(known, **loaded.hparams)
    trainer(max_epochs=2).fit(again, datamodule=data, ckpt_path=tmp_path / "plain.ckpt")


class Labelled(Mach):
    def __init__(self, facts: DataFacts, *, names: str | Path = "", **shared: Any) -> None:
        sizes = {"num_buckets": 16, "num_worlds": 2, "hidden_dims": (WIDTH,)}
        super().__init__(facts, **(sizes | shared))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 0.5}, "learning_rate is 0.5, in the checkpoint 0.02; expected the same"),
        ({"adam_epsilon": 1e-3}, "adam_epsilon is 0.001, in the checkpoint 1e-05"),
        ({"optimizer": "adam"}, "optimizer is 'adam', in the checkpoint 'row_adam'"),
        ({"weight_decay": 0.1}, "weight_decay is 0.1, in the checkpoint 0.0"),
    ],
)
def test_training_goes_on_at_the_checkpoints_rate_or_not_at_all(
    changes, message, checkpoint, data, known
):
    other = mach(known, hash_seed=0, **changes)
    with pytest.raises(ValueError, match=message) as refused:
        trainer().fit(other, datamodule=data, ckpt_path=checkpoint)
    assert f"Mach.load_from_checkpoint(path, {next(iter(changes))}=" in str(refused.value)
    trainer().validate(other, datamodule=data, ckpt_path=checkpoint, verbose=False)
    loaded = Mach.load_from_checkpoint(checkpoint, **changes)
    trained = trainer(max_steps=1)
    trained.fit(loaded, datamodule=data)
    if "learning_rate" in changes:
        assert trained.optimizers[0].param_groups[0]["lr"] == 0.5


def test_a_checkpoint_from_before_weights_said_what_they_mean_is_read(checkpoint, tmp_path):
    kept = torch.load(checkpoint, weights_only=True)
    del kept["state_dict"]["_extra_state"]
    torch.save(kept, tmp_path / "old.ckpt")
    loaded = Mach.load_from_checkpoint(tmp_path / "old.ckpt")
    assert same_weights(loaded, Mach.load_from_checkpoint(checkpoint))


@pytest.mark.filterwarnings("ignore")  # of dynamo's own code
@pytest.mark.parametrize("options", [{}, {"filter_buckets": 3}, {"decode_method": "pruned"}])
def test_a_compiled_model_trains_and_ranks_as_it_is(options, data, known):
    plain, compiled = mach(known, **options), mach(known, **options)
    found = []
    for model in (plain, torch.compile(compiled, backend="eager")):
        trained = trainer(max_epochs=1)
        trained.fit(model, datamodule=data)
        tested = trained.test(model, datamodule=data, verbose=False)[0]
        found.append((tested, trained.predict(model, datamodule=data)[0]))
    assert same_weights(plain, compiled)
    (tested, asked), (tested_compiled, asked_compiled) = found
    assert tested == tested_compiled
    assert all(torch.equal(*pair) for pair in zip(asked, asked_compiled, strict=True))


# Data of other sizes --------------------------------------------------------------------------


def test_data_of_other_sizes_are_refused_whatever_is_done_with_them(folder, data, known):
    spec = dataclasses.replace(data.spec, options={**data.spec.options, "num_labels": 39})
    fewer = ExtremeDataModule(spec, batch_size=64, data_dir=folder, cache_dir=folder)
    fewer.setup()
    model = mach(known)
    told = "num_labels of the data is 39, of the model 40; expected the data that it was made for"
    for use, split in (("fit", "train"), ("validate", "val"), ("test", "test"), ("predict",) * 2):
        loader = getattr(fewer, f"{split}_dataloader")()
        for given in ({"datamodule": fewer}, {"dataloaders": loader}):
            if use == "fit" and "dataloaders" in given:
                given = {"train_dataloaders": loader}
            with pytest.raises(SettingsError, match=told):
                getattr(trainer(), use)(model, **given)
    features = dataclasses.replace(known, num_features=119)
    with pytest.raises(SettingsError, match="num_features of the data is 120, of the model 119"):
        trainer().test(build("full_softmax", features), datamodule=data, verbose=False)
    trainer(max_steps=1).fit(build("full_softmax", features, encoder=Network()), datamodule=data)


@pytest.mark.parametrize("name", METHODS)
def test_weights_of_nan_are_not_scored(name, data, known):
    model = build(name, known)
    for parameter in model.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(UnrankableError, match=r"is NaN|is nan"):
        trainer().test(model, datamodule=data, verbose=False)


# What a person calls --------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_the_training_loss_is_logged_and_changes_nothing(name, data, known, tmp_path):
    silent, logged = build(name, known), build(name, known)
    silent.logs_loss = False
    trainer().fit(silent, datamodule=data)
    kept = ModelCheckpoint(tmp_path, monitor="train_loss", save_on_train_epoch_end=True)
    logger = CSVLogger(tmp_path, name="", version="")
    trained = trainer(
        callbacks=[kept], enable_checkpointing=True, logger=logger, log_every_n_steps=1
    )
    trained.fit(logged, datamodule=data)
    assert same_weights(silent, logged)
    assert float(trained.callback_metrics["train_loss"]) == pytest.approx(float(kept.current_score))
    rows = list(csv.DictReader((tmp_path / "metrics.csv").read_text().splitlines()))
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert len(losses) == 2 * STEPS
    assert losses[-1] < losses[0]


class WithAdamW(Mach):
    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def test_an_optimizer_of_ones_own_that_takes_no_rows_is_told_how_to_be_fed(data, known):
    sizes = {"num_buckets": 16, "num_worlds": 2, "hidden_dims": (WIDTH,)}
    with pytest.raises(SettingsError, match="expected optimizer='adam' with one of your own"):
        trainer().fit(WithAdamW(known, **sizes), datamodule=data)
    trainer(max_steps=2).fit(WithAdamW(known, optimizer="adam", **sizes), datamodule=data)


def test_a_step_that_exceeds_32_bits_names_the_learning_rate(data, known):
    model = build("sampled_softmax", known, learning_rate=3e38)
    with pytest.raises(
        FloatingPointError, match=r"learning_rate is 3e\+38; its steps exceed 32 bits"
    ):
        trainer(max_steps=1).fit(model, datamodule=data)


# Processes and threads ------------------------------------------------------------------------


def test_two_processes_with_half_batches_end_near_one_with_whole_ones(tmp_path):
    environment = os.environ | TRIAL_ENVIRONMENT
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_REPOSITORY)}
    script = Path(two_processes.__file__)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, alone in two_processes.runs(tmp_path, 1):
        both = shared[name]
        assert both["steps"] == alone["steps"]
        if name == "dense":  # each process drops features of its own
            continue
        for parameter, value in alone["weights"].items():
            torch.testing.assert_close(both["weights"][parameter], value, rtol=0.02, atol=2e-3)
        assert both["metrics"] == pytest.approx(alone["metrics"], abs=0.021)
    # One process goes on with weights of two, and not with their training.
    Mach.load_from_checkpoint(tmp_path / "mach-2.ckpt")
    data = planted(tmp_path)
    model = mach(facts(tmp_path), num_buckets=300)
    with pytest.raises(ValueError, match="of 2 processes; expected as many to go on, not 1"):
        trainer(max_epochs=3).fit(model, datamodule=data, ckpt_path=tmp_path / "mach-2.ckpt")


@pytest.mark.parametrize("order", ["points", "batches", "file"])
@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_processes_share_every_batch(order, num_processes, data, monkeypatch):
    def points(is_exact: bool) -> Iterator[list[list[tuple[int, ...]]]]:
        for rank in range(num_processes):
            monkeypatch.setattr("bench.data.loader._processes", lambda r=rank: (r, num_processes))
            part = data.dataset
            loader = BatchLoader(
                part.train_features, part.train_labels, 32, order, 7, is_exact=is_exact
            )
            yield [
                [tuple(ids.tolist()) for ids in batch.feature_ids.split(_lengths(batch))]
                for batch in loader
            ]

    def _lengths(batch: Any) -> list[int]:
        return [int(length) for length in batch.feature_offsets.diff()]

    every = data.dataset.train_features.num_rows
    exact = list(points(True))
    assert len({len(batches) for batches in exact}) == 1
    assert sum(len(batch) for batches in exact for batch in batches) == every
    even = list(points(False))
    sizes = [[len(batch) for batch in batches] for batches in even]
    assert all(size == sizes[0] for size in sizes)
    assert sum(map(sum, sizes)) == -(-every // num_processes) * num_processes
    seen = {point for batches in even for batch in batches for point in batch}
    assert seen == {point for batches in exact for batch in batches for point in batch}


def test_a_strategy_that_would_cut_weights_is_refused_by_name(known):
    model = mach(known)
    model._trainer = SimpleNamespace(precision="32-true", strategy=FSDPStrategy())
    with pytest.raises(ValueError, match="strategy is FSDPStrategy; expected one device or 'ddp'"):
        model.setup("fit")


_THREADS = """
import torch
from bench.runner.worker import process_flags
before = torch.get_num_threads()
from planted import facts, mach, planted, trainer
from pathlib import Path
folder = Path("{folder}")
trainer(max_steps=1, limit_val_batches=1).fit(mach(facts(folder)), datamodule=planted(folder))
flags = process_flags()
print(before, torch.get_num_threads(), flags["num_threads"], flags["numba_threads"])
"""


def test_threads_stay_as_set_and_are_recorded_as_they_are(folder):
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "2",  # what numba takes by itself on two cores
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(_REPOSITORY)]),
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _THREADS.format(folder=folder)],
        env=environment,
        capture_output=True,
        text=True,
        cwd=_REPOSITORY,
        check=True,
    )
    assert done.stdout.split()[-4:] == ["1", "1", "1", "1"]


@pytest.mark.parametrize("command", ["run", "cost"])
def test_a_profile_without_its_gpu_is_one_sentence_at_the_start(
    command, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr(provenance, "accelerator_name", lambda: None)
    folders = ["--results", str(tmp_path / "r"), "--cache-dir", str(tmp_path / "c")]
    assert main([command, "quickstart", "--profile", "gpu", *folders]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "profile is 'gpu', but torch finds no CUDA device" in told[0]
    assert not any(path.is_file() for path in tmp_path.rglob("*"))
