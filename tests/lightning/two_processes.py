"""Trains in two processes that share every batch; what a user's script for `strategy="ddp"` is.

    python two_processes.py FOLDER

The first process leaves weights, metrics and a checkpoint of each model in the folder, to be
compared with a training in one process.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from planted import BATCH_SIZE, build, planted, trainer

#: Tables of int16, row-sparse gradients of one and of three parameters, and dense ones, clipped.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "mach": ("mach", {"num_buckets": 300}, {}),
    "sampled_softmax": ("sampled_softmax", {}, {"gradient_clip_val": 0.05}),
    "dense": ("mach", {"optimizer": "adam", "feature_dropout": 0.2}, {"max_epochs": 1}),
}


def runs(folder: Path, num_processes: int, **options: Any) -> Iterator[tuple[str, Any]]:
    """Train and validate every case; the whole batch is the same whatever the processes."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    data = planted(folder, batch_size=BATCH_SIZE // num_processes)
    for name, (method, settings, training) in CASES.items():
        model = build(method, facts_of(data), **settings)
        fitted = trainer(devices=num_processes, **(options | training))
        fitted.fit(model, datamodule=data)
        fitted.save_checkpoint(folder / f"{name}-{num_processes}.ckpt")
        metrics = fitted.validate(model, datamodule=data, verbose=False)[0]
        found = {"weights": model.state_dict(), "metrics": metrics, "steps": fitted.global_step}
        if fitted.is_global_zero:
            yield name, found


def facts_of(data: Any) -> Any:
    from bench.experiments.training import data_facts

    return data_facts(data)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    if found := dict(runs(folder, 2, strategy="ddp")):
        torch.save(found, folder / "two.pt")
