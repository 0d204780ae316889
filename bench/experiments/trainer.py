"""Lightning's part of a trial: training by steps, with quality on the way, or to be timed."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

import lightning as L
import torch
from torch import Tensor

from bench.data.batch import Batch
from bench.experiments.checkpoints import Checkpoints
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Emit
from bench.measure.phases import Repetition
from bench.nn.classifier import ExtremeClassifier
from bench.settings import TrainSpec

EVENT_SECONDS = 0.5


class SteppedTraining(L.Callback):
    """Trains a number of steps that is known beforehand; no clock decides anything.

    The learning rate follows the share of steps that is done, and quality is measured at equal
    shares, while the watch stands still.

    Args:
        spec: length, schedule and number of validations.
        steps_per_epoch: batches in a pass over the training data.
        watch: counts the seconds of training.
        validate: metrics of the validation split.
        emit: takes progress events.
    """

    def __init__(
        self,
        spec: TrainSpec,
        *,
        steps_per_epoch: int,
        watch: Stopwatch,
        validate: Callable[[], Mapping[str, float]],
        emit: Emit,
    ) -> None:
        self.num_steps = planned_steps(spec, steps_per_epoch)
        self._spec = spec
        self._watch = watch
        self._validate = validate
        self._emit = emit
        self._done = 0
        self._points_seen = 0
        self._steps_per_epoch = max(steps_per_epoch, 1)
        self._curve: list[dict[str, Any]] = []
        self._loss_sum: Tensor | None = None
        self._loss_steps = 0
        self._last_event = 0.0
        self._quality: float | None = None
        self._best: _Best | None = None
        count = max(spec.num_validations, 1)
        self._to_validate = {round(part * self.num_steps / count) for part in range(1, count + 1)}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the watch."""
        self._watch.start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate of this step."""
        rate = rate_at(self._spec, self._done, self.num_steps, self._steps_per_epoch)
        set_learning_rate(trainer, rate)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step, and measure quality where it is due."""
        self._done += 1
        self._points_seen += batch.num_points
        loss = outputs["loss"].detach()
        self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        self._loss_steps += 1
        if self._done in self._to_validate:
            self._measure_quality()
            if self._spec.keep_best:
                self._keep_best(pl_module)
        now = time.monotonic()
        if now - self._last_event >= EVENT_SECONDS:
            self._last_event = now
            self._report(float(loss))

    def _measure_quality(self) -> None:
        mean_loss = float(self._loss_sum) / self._loss_steps if self._loss_sum is not None else None
        if mean_loss is not None and not math.isfinite(mean_loss):
            raise FloatingPointError(
                f"the training loss is {mean_loss} after {self._done} steps; "
                "expected a finite number (a smaller learning rate?)"
            )
        metrics: dict[str, float] = {}
        if self._spec.num_validations:
            with self._watch.paused():
                metrics = dict(self._validate())
        self._quality = metrics.get("P@1")
        self._curve.append(
            {
                "step": self._done,
                "epoch": self._done / self._steps_per_epoch,
                "loss": mean_loss,
                "metrics": metrics,
            }
        )
        self._loss_sum, self._loss_steps = None, 0

    def _keep_best(self, model: L.LightningModule) -> None:
        quality = self._quality if self._quality is not None else -math.inf
        if self._best is None or quality > self._best.quality:
            # No copy lasts while the next is made.
            self._best = None
            weights = {name: p.detach().clone() for name, p in model.named_parameters()}
            self._best = _Best(self._done, quality, weights)

    def restore_best(self, model: L.LightningModule) -> None:
        """Give the model the weights of its best validation, if the spec asks for them."""
        if self._best is None:
            return
        weights, self._best = self._best.weights, replace(self._best, weights={})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights.pop(name))

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training goes on with, of plain values and tensors."""
        return {
            "done": self._done,
            "points_seen": self._points_seen,
            "curve": self._curve,
            "loss_sum": self._loss_sum,
            "loss_steps": self._loss_steps,
            "quality": self._quality,
            "best": None if self._best is None else vars(self._best),
            "seconds": self._watch.seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        state = dict(state_dict)
        self._watch.add(state.pop("seconds"))
        best = state.pop("best")
        self._best = None if best is None else _Best(**best)
        for name, value in state.items():
            setattr(self, f"_{name}", value)

    def _report(self, loss: float) -> None:
        share = self._done / self.num_steps
        self._emit(
            {
                "event": "step",
                "epoch": self._done / self._steps_per_epoch,
                "loss": loss,
                "quality": self._quality,
                "quality_name": "P@1",
                "fraction": share,
                "seconds_left": self._watch.seconds * (1.0 - share) / share,
            }
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the watch."""
        self._watch.stop()

    def to_record(self) -> dict[str, Any]:
        """The record's `training` block; `kept_step` where weights before the last were kept."""
        block = {
            "num_steps": self._done,
            "num_epochs": self._done / self._steps_per_epoch,
            "points_seen": self._points_seen,
            "curve": self._curve,
        }
        return block if self._best is None else {**block, "kept_step": self._best.step}


@dataclass(frozen=True)
class _Best:
    """The best validation so far: after which step, how good, and the weights."""

    step: int
    quality: float
    weights: dict[str, Tensor]


def rate_at(spec: TrainSpec, num_done: int, num_steps: int, steps_per_epoch: int) -> float:
    """Learning rate of the step after `num_done` of `num_steps`."""
    if spec.schedule == "linear_decay":
        return spec.learning_rate * (1.0 - num_done / num_steps)
    num_decays = sum(num_done >= epoch * steps_per_epoch for epoch in spec.decay_epochs)
    return spec.learning_rate * spec.decay_factor**num_decays


def planned_steps(spec: TrainSpec, steps_per_epoch: int) -> int:
    """Steps of a training."""
    if spec.num_steps is not None:
        return spec.num_steps
    if spec.num_epochs is None:
        raise ValueError(
            f"budget_seconds is {spec.budget_seconds}; expected num_steps or num_epochs: "
            "a trial trains by steps, and a budget is turned into steps before it"
        )
    return max(1, math.ceil(spec.num_epochs * steps_per_epoch))


def set_learning_rate(trainer: L.Trainer, rate: float) -> None:
    """Give every parameter group of the trainer's optimisers one rate."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate


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
    max_steps: int,
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
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=-1,
            max_steps=max_steps,
            precision=cast(Any, precision),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            callbacks=[*callbacks, *([] if checkpoints is None else [checkpoints])],
            plugins=None if checkpoints is None else checkpoints.store,
        )
        found = None if checkpoints is None else checkpoints.store.find()
        trainer.fit(model, train_dataloaders=batches, ckpt_path=found)
    model.zero_grad(set_to_none=True)
    model.to(device)  # Lightning hands a model back on the CPU after training
