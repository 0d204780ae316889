"""Lightning's part of a trial: training by steps, and steps that are timed."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import lightning as L
import torch

from bench.data.batch import Batch
from bench.experiments.checkpoints import Checkpoints
from bench.experiments.recipe import set_learning_rate, trainer_arguments
from bench.measure.phases import Repetition
from bench.nn.classifier import ExtremeClassifier

# A repetition trains at least so long before its clock runs; the first one of a process longer.
_WARM_UP_SECONDS = (0.8, 0.2)
_WARM_UP_STEPS = (4, 2)
# Then about this long is timed, in this many windows; at least three of them.
_TIMED_SECONDS = 0.6
_NUM_WINDOWS = 6
_MIN_WINDOWS = 3


class TimedTraining(L.Callback):
    """Trains on through all repetitions, timing windows of steps in each; then times inference.

    The device is drained at window edges, not per step.

    Args:
        repetitions: of the row; pulling the next one waits for it.
        learning_rate: what the steps are taken with.
        synchronize: drains the device.
        infer: times inference in a repetition.
        parts: steps that are one step of the model: of worlds in turn, one for each world.
    """

    def __init__(
        self,
        repetitions: Iterator[Repetition],
        *,
        learning_rate: float,
        synchronize: Callable[[], None],
        infer: Callable[[Repetition], None],
        parts: int = 1,
    ) -> None:
        self._parts = parts
        self._repetitions = repetitions
        self._learning_rate = learning_rate
        self._synchronize = synchronize
        self._infer = infer
        self._repetition: Repetition | None = None
        self._stack = ExitStack()
        self._seconds: list[float] | None = None
        self._num_repetitions = self._steps = self._window = 0
        self._began = self._edge = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Wait for the first repetition."""
        self._begin(trainer)

    def _begin(self, trainer: L.Trainer) -> None:
        self._repetition = next(self._repetitions, None)
        if self._repetition is None:
            trainer.should_stop = True
            return
        self._steps, self._seconds = 0, None
        self._began = time.perf_counter()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate."""
        set_learning_rate(trainer, self._learning_rate)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Warm up, then time windows of steps, then inference; go on to the next repetition."""
        if self._repetition is None:
            return
        self._steps += 1
        if self._seconds is None:
            self._warm_up(self._repetition)
            return
        if self._steps % self._window:
            return
        self._synchronize()
        now = time.perf_counter()
        self._seconds.append(now - self._edge)
        self._edge = now
        if len(self._seconds) >= _MIN_WINDOWS and sum(self._seconds) >= _TIMED_SECONDS:
            self._stack.close()
            was_training = pl_module.training
            pl_module.eval()
            with torch.inference_mode():
                self._infer(self._repetition)
            pl_module.train(was_training)
            self._num_repetitions += 1
            self._begin(trainer)

    def _warm_up(self, repetition: Repetition) -> None:
        index = min(self._num_repetitions, 1)
        if self._steps < _WARM_UP_STEPS[index]:
            return
        self._synchronize()
        taken = time.perf_counter() - self._began
        if taken < _WARM_UP_SECONDS[index]:
            return
        # From the last steps alone one would know better, but the device is drained only here.
        seconds = self._parts * taken / self._steps
        units = max(1, round(_TIMED_SECONDS / _NUM_WINDOWS / seconds))
        self._window = units * self._parts
        self._seconds = self._stack.enter_context(repetition.timed("train", units=units))
        self._steps = 0
        self._edge = time.perf_counter()


def train_by_steps(
    model: ExtremeClassifier,
    batches: Iterable[Batch],
    *callbacks: L.Callback,
    device: torch.device,
    precision: str,
    max_steps: int = -1,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Train a model on batches, over and over; callbacks set the learning rate and look on.

    Args:
        model: on the device; it is there afterwards, too.
        batches: a data loader.
        callbacks: those above, if any.
        device: where it computes.
        precision: Lightning's flag.
        max_steps: length; −1: a callback ends it.
        checkpoints: from which a broken-off training goes on, and which keep this one.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    model.train()
    model.logs_loss = False  # nobody reads it there, and its log takes time of every step
    with warnings.catch_warnings():
        # Batches are cut in the main process by slicing; workers would only copy them around.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Quality is measured by the callback, on its own grid.
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        trainer = L.Trainer(
            **trainer_arguments(
                *callbacks,
                *([] if checkpoints is None else [checkpoints]),
                is_gpu=device.type == "cuda",
                precision=precision,
                max_steps=max_steps,
            ),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            plugins=None if checkpoints is None else checkpoints.store,
        )
        found = None if checkpoints is None else checkpoints.store.find()
        trainer.fit(model, train_dataloaders=batches, ckpt_path=found)
    model.zero_grad(set_to_none=True)
    model.to(device)  # Lightning hands a model back on the CPU after training
