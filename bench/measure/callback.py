"""Training along a budget: the clock, the learning rate, quality on the way, progress."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from torch import Tensor

from bench.measure.clock import Clocks, WindowSampler
from bench.settings import TrainSpec

EVENT_SECONDS = 0.5
MAX_WINDOWS = 64


class BudgetedTraining(L.Callback):
    """Ends training when its steps or its seconds are used up, whichever comes first.

    Progress in [0, 1] is the larger of the two shares. The learning rate follows progress, and
    quality is measured at equal steps of progress with the training clock paused, so that every
    method gets the same seconds of training whatever its evaluation costs.

    Args:
        spec: budget, schedule and number of validations.
        clocks: the trial's clocks; this callback runs `train`.
        synchronize: drains the device.
        validate: metrics of the validation split.
        emit: takes progress events.
    """

    def __init__(
        self,
        spec: TrainSpec,
        *,
        clocks: Clocks,
        synchronize: Callable[[], None],
        validate: Callable[[], Mapping[str, float]],
        emit: Callable[[dict[str, Any]], None],
    ) -> None:
        self._spec = spec
        self._clock = clocks["train"]
        self._synchronize = synchronize
        self._validate = validate
        self._emit = emit
        self._num_steps = 0
        self._points_seen = 0
        self._total_steps = 1
        self._steps_per_epoch = 1
        self._curve: list[dict[str, Any]] = []
        self._loss_sum: Tensor | None = None
        self._loss_steps = 0
        self._last_event = 0.0
        self._next_validation = 1
        self._windows: WindowSampler | None = None
        self._quality: float | None = None

    def plan_steps(self, steps_per_epoch: int) -> int:
        """Steps of the whole budget, if seconds do not end it first."""
        self._steps_per_epoch = max(steps_per_epoch, 1)
        self._total_steps = max(1, math.ceil(self._spec.max_epochs * self._steps_per_epoch))
        # A few dozen samples whatever the length; the first tenth of a short run is warm-up.
        warmup = min(10, self._total_steps // 10)
        window = max(1, min(50, (self._total_steps - warmup) // 16))
        self._windows = WindowSampler(
            self._clock, warmup_steps=warmup, window_steps=window, synchronize=self._synchronize
        )
        return self._total_steps

    @property
    def progress(self) -> float:
        """Share of the budget that is used up, in [0, 1]."""
        share = self._num_steps / self._total_steps
        if self._spec.max_train_seconds is not None:
            share = max(share, self._clock.seconds / self._spec.max_train_seconds)
        return min(share, 1.0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock."""
        self._clock.start()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the learning rate of this step."""
        rate = self._spec.learning_rate
        if self._spec.schedule == "linear_decay":
            rate *= 1.0 - self.progress
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count the step; measure quality and stop where the budget says so."""
        self._num_steps += 1
        self._points_seen += batch.num_points
        loss = outputs["loss"].detach()
        self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        self._loss_steps += 1
        if self._windows is not None and len(self._windows.window_seconds) < MAX_WINDOWS:
            self._windows.step()
        progress = self.progress
        validations = self._spec.num_validations
        if progress >= 1.0 or (validations and progress >= self._next_validation / validations):
            with self._clock.paused():
                self._measure_quality(pl_module, progress)
        if progress >= 1.0:
            trainer.should_stop = True
        now = time.monotonic()
        if now - self._last_event >= EVENT_SECONDS:
            self._last_event = now
            self._report(progress, float(loss))

    def _measure_quality(self, pl_module: L.LightningModule, progress: float) -> None:
        validations = self._spec.num_validations
        mean_loss = float(self._loss_sum) / self._loss_steps if self._loss_sum is not None else None
        if mean_loss is not None and not math.isfinite(mean_loss):
            raise FloatingPointError(
                f"the training loss is {mean_loss} after {self._num_steps} steps; "
                "expected a finite number (a smaller learning rate?)"
            )
        metrics = dict(self._validate()) if validations else {}
        self._quality = metrics.get("P@1")
        self._curve.append(
            {
                "train_seconds": self._clock.seconds,
                "step": self._num_steps,
                "epoch": self._num_steps / self._steps_per_epoch,
                "loss": mean_loss,
                "metrics": metrics,
            }
        )
        self._loss_sum, self._loss_steps = None, 0
        if validations:
            self._next_validation = math.floor(progress * validations + 1e-9) + 1

    def _report(self, progress: float, loss: float) -> None:
        seconds = self._clock.seconds
        left = seconds * (1.0 - progress) / progress if progress > 0 else None
        self._emit(
            {
                "event": "step",
                "epoch": self._num_steps / self._steps_per_epoch,
                "loss": loss,
                "quality": self._quality,
                "quality_name": "P@1",
                "fraction": progress,
                "seconds_left": left,
            }
        )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop the clock."""
        self._clock.stop()

    def to_record(self) -> dict[str, Any]:
        """The record's `training` block."""
        windows = self._windows
        return {
            "num_steps": self._num_steps,
            "num_epochs": self._num_steps / self._steps_per_epoch,
            "points_seen": self._points_seen,
            "step_seconds": list(windows.window_seconds) if windows else None,
            "window_steps": windows.window_steps if windows else None,
            "warmup_steps": windows.warmup_steps if windows else None,
            "curve": self._curve,
        }
