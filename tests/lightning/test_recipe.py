"""A trainer of one's own trains as a trial does, by the arguments that both are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from baselines.heads import SoftmaxHead
from bench.data.module import ExtremeDataModule
from bench.errors import UserError
from bench.experiments.recipe import Recipe, recipe
from bench.experiments.training import data_facts, fit, prepare
from bench.measure.environment import ENVIRONMENT, set_environment
from bench.measure.experiment import Context
from bench.methods.cards import method_class
from bench.runner.child import TRIAL_ENVIRONMENT
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from tests.data import rows

_REPOSITORY = Path(__file__).parents[2]
_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`.*"),
    pytest.mark.filterwarnings("ignore:.*Couldn't infer the batch indices.*"),
    pytest.mark.filterwarnings("ignore:.*Trying to infer the `batch_size`.*"),
    pytest.mark.filterwarnings("ignore:.*`fit_loop.setup_data.*"),
]
DATA = DataSpec(
    source="planted",
    name="planted",
    options=rows.planted(501, 90, 120, 40),
    feature_weighting="tfidf",
    num_validation_points=51,
)


@pytest.fixture(autouse=True)
def _as_a_trial_has_it(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def spec(**changes: object) -> TrainSpec:
    shared = {"batch_size": 64, "learning_rate": 0.1, "num_validations": 6}
    return TrainSpec(**(shared | changes))


def by_hand(trial: Trial, folder: Path, **options: object) -> tuple[L.LightningModule, Recipe]:
    """What README tells to write."""
    found = recipe(trial.train, replicate=trial.replicate, accelerator="cpu")
    data = ExtremeDataModule(trial.data, data_dir=folder, cache_dir=folder, **found.data_arguments)
    data.setup()
    model = method_class(trial.model.method)(
        data_facts(data),
        hidden_dims=trial.model.hidden_dims,
        **trial.model.options,
        **found.model_arguments,
    )
    trainer = L.Trainer(**found.trainer_arguments, **_QUIET)
    trainer.fit(model, datamodule=data, **options)
    return model, found


@pytest.mark.parametrize(
    ("method", "options", "train"),
    [
        ("mach", {"num_buckets": 8, "num_worlds": 3}, {"num_epochs": 2.5, "keep_best": True}),
        ("sampled_softmax", {"num_samples": 9, "feature_dropout": 0.2}, {"num_steps": 20}),
        (
            "full_softmax",
            {"chunk_size": 16},
            {"num_epochs": 3, "order": "batches", "drop_last": True, "precision": "bf16-mixed"},
        ),
        (
            "full_softmax",
            {"update": "sgd", "output_rate": 0.5},
            {"num_epochs": 3, "schedule": "step_decay", "decay_epochs": (1, 2)},
        ),
    ],
)
def test_a_trainer_of_ones_own_ends_with_a_trials_weights(method, options, train, tmp_path):
    model = ModelSpec(method=method, hidden_dims=(16,), options=options)
    trial = Trial(data=DATA, model=model, train=spec(**train), replicate=1)
    ready = prepare(trial, Context(data_dir=tmp_path, cache_dir=tmp_path))
    record = fit(ready)
    assert len(record["curve"]) == 6
    mine, found = by_hand(trial, tmp_path)
    assert found.training.to_record() == record
    theirs = ready.model.state_dict()
    for name, value in mine.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    if trial.train.keep_best:
        best = max(point["metrics"]["P@1"] for point in record["curve"])
        first = next(p["step"] for p in record["curve"] if p["metrics"]["P@1"] == best)
        assert record["kept_step"] == first


class Stopped(L.Callback):
    def __init__(self, after: int) -> None:
        self.after = after

    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.global_step == self.after:
            trainer.should_stop = True


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path):
    model = ModelSpec(method="mach", hidden_dims=(16,), options={"num_buckets": 8, "num_worlds": 3})
    trial = Trial(data=DATA, model=model, train=spec(num_epochs=4, keep_best=True))
    whole, found = by_hand(trial, tmp_path)
    first = recipe(trial.train, accelerator="cpu")
    data = ExtremeDataModule(DATA, data_dir=tmp_path, cache_dir=tmp_path, **first.data_arguments)
    data.setup()
    sizes = {"hidden_dims": (16,), **model.options, **first.model_arguments}
    arguments = dict(first.trainer_arguments)
    arguments["callbacks"] = [*arguments["callbacks"], Stopped(13)]
    trainer = L.Trainer(**arguments, **_QUIET)
    trainer.fit(method_class("mach")(data_facts(data), **sizes), datamodule=data)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    again, resumed = by_hand(trial, tmp_path, ckpt_path=tmp_path / "part.ckpt")
    assert resumed.training.to_record() == found.training.to_record()
    for mine, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(mine, theirs)


class Own(L.LightningModule):
    """A stranger's module: pairs of tensors, an optimiser and validation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(40, 8)
        self.head = SoftmaxHead(8, 40, output_std=0.1)
        self.rates: list[float] = []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        self.rates.append(self.optimizers().param_groups[0]["lr"])
        return self.head(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1.0)


def _accuracy(model: Own) -> dict[str, float]:
    _, best = model.head.top_k(model.network(torch.eye(40)), 1)
    return {"P@1": float((best[:, 0] == torch.arange(40)).float().mean())}


def test_a_strangers_module_has_schedule_and_best_weights(tmp_path):
    labels = torch.arange(40).repeat(8)
    batches = torch.utils.data.DataLoader(list(zip(torch.eye(40)[labels], labels, strict=True)), 32)
    found = recipe(spec(num_epochs=3, keep_best=True), validate=_accuracy, accelerator="cpu")
    trainer, model = L.Trainer(**found.trainer_arguments, **_QUIET), Own()
    trainer.fit(model, batches)
    assert model.rates == pytest.approx([0.1 * (1 - step / 30) for step in range(30)])
    curve = found.training.to_record()["curve"]
    best = max(point["metrics"]["P@1"] for point in curve)
    assert _accuracy(model)["P@1"] == best > 0.5
    assert float(trainer.callback_metrics["val_P_at_1"]) == pytest.approx(
        curve[-1]["metrics"]["P@1"]
    )


def test_what_cannot_be_followed_is_said():
    with pytest.raises(ValueError, match=r"budget_seconds is 5.0; expected num_steps or"):
        recipe(TrainSpec(budget_seconds=5))
    found = recipe(spec(num_epochs=1, keep_best=True), accelerator="cpu")
    batches = [[torch.eye(40), torch.arange(40)]]
    with pytest.raises(ValueError, match="keep_best is True and nothing is validated"):
        L.Trainer(**found.trainer_arguments, **_QUIET).fit(Own(), batches)


def test_another_environment_is_told_before_steps_are_slow(monkeypatch):
    assert TRIAL_ENVIRONMENT.items() >= ENVIRONMENT.items()
    set_environment()
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with pytest.warns(UserWarning, match=r"or OMP_WAIT_POLICY=PASSIVE before the command"):
        recipe(spec(num_steps=1))
    with pytest.raises(UserError, match=r"torch is imported already; expected bench\.set_env"):
        set_environment()


def test_the_environment_is_set_before_torch_is_there():
    code = (
        "import os, bench; bench.set_environment(); import torch; bench.set_environment();"
        "print(os.environ['THP_MEM_ALLOC_ENABLE'], os.environ['OMP_WAIT_POLICY'])"
    )
    kept = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    told = subprocess.run(
        [sys.executable, "-c", code],
        env=kept | {"PYTHONPATH": str(_REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["1", "PASSIVE"]
