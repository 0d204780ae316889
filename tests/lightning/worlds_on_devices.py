"""Trains MACH's worlds in processes of their own; what a user's script for `devices=n` is.

    python worlds_on_devices.py FOLDER DEVICES

The first process leaves what it ends with in the folder.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import mach, planted

import bench

#: Three worlds on two devices: own encoders with dropout, hashed features of several labels a
#: point, layers updated within their loss.
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "dropout": ({"num_worlds": 3, "feature_dropout": 0.2}, 1),
    "hashed": ({"num_worlds": 4, "num_hashed_features": 30, "hidden_dims": (8, 8)}, 3),
    "lean": ({"num_worlds": 3, "update": "row_adagrad"}, 1),
}


def train(folder: Path, name: str, devices: int) -> dict[str, Any]:
    """Weights, curve and metrics of a case; a checkpoint is written in the middle."""
    options, labels_per_point = CASES[name]
    spec = bench.TrainSpec(
        batch_size=64, num_steps=16, learning_rate=0.05, keep_best=True, num_validations=4
    )
    plan = bench.recipe(spec, accelerator="cpu", devices=devices)
    data = planted(folder, labels_per_point=labels_per_point, **plan.data_arguments)
    settings = {"hidden_dims": (16,)} | options | dict(plan.model_arguments)
    model = mach(bench.data_facts(data), **settings)
    arguments = dict(plan.trainer_arguments)
    middle = ModelCheckpoint(
        folder / f"{name}-{devices}", filename="middle", every_n_train_steps=7, monitor=None
    )
    arguments["callbacks"] = [*arguments["callbacks"], middle]
    trainer = L.Trainer(
        **arguments, logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(model, datamodule=data)
    trainer.save_checkpoint(folder / f"{name}-{devices}" / "end.ckpt")
    metrics = trainer.test(model, datamodule=data, verbose=False)[0]
    return {
        "weights": model.state_dict(),
        "training": plan.training.to_record(),
        "metrics": metrics,
        "is_first": trainer.is_global_zero,
    }


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder, devices = Path(sys.argv[1]), int(sys.argv[2])
    found = {name: train(folder, name, devices) for name in CASES}
    if all(each.pop("is_first") for each in found.values()):
        torch.save(found, folder / f"{devices}.pt")
