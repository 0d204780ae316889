"""How a study trains: steps, schedule, order, precision, and which weights are kept.

A trial's process and a `Trainer` of one's own are given the same by :func:`recipe`, and so end with
the same weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from bench.data.batch import Batch
from bench.data.module import ExtremeDataModule
from bench.measure.clock import Stopwatch
from bench.measure.environment import warn_of_environment
from bench.measure.experiment import Emit
from bench.metrics.torchmetric import RankingMetrics, metrics_of_data
from bench.nn.classifier import ExtremeClassifier
from bench.nn.lightning_hooks import logged_name
from bench.nn.num_threads import keep_threads
from bench.nn.ranking import UnrankableError
from bench.settings import TrainSpec, derive_seed

EVENT_SECONDS = 0.5
#: Metrics of a model's validation split, by name.
Validate = Callable[[Any], Mapping[str, float]]


@dataclass(frozen=True)
class Recipe:
    """What a study's training is made of; see :func:`recipe`.

    Attributes:
        trainer_arguments: of `lightning.Trainer`; what else it takes (loggers, checkpoints, bars)
            changes no weight.
        data_arguments: of :class:`bench.ExtremeDataModule`: batches and their order.
        model_arguments: of our classifiers: optimiser and seed.
        training: the callback that trains; its `to_record()` has the validation curve.
    """

    trainer_arguments: Mapping[str, Any]
    data_arguments: Mapping[str, Any]
    model_arguments: Mapping[str, Any]
    training: SteppedTraining


def recipe(
    train: TrainSpec,
    *,
    replicate: int = 0,
    validate: Validate | None = None,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    devices: int = 1,
) -> Recipe:
    """The training of a study's rows, for a `Trainer` of one's own: the same to the bit.

    To be called before the model is made: it also settles the process (torch's seed, as many
    threads in our kernels as in torch, no denormal numbers). What no call can set any more, huge
    pages and sleeping threads, is :func:`bench.set_environment`'s, and missed by a warning.

    >>> spec = TrainSpec(num_epochs=3, learning_rate=0.01, keep_best=True)
    >>> sorted(recipe(spec).data_arguments)
    ['batch_size', 'drop_last', 'order', 'seed']

    Args:
        train: as in a study; with a length in steps or epochs.
        replicate: of which all seeds are.
        validate: takes the model, gives metrics by name, of which `P@1` decides with `keep_best`;
            None: the study's own, where `trainer.fit` is given a model and a datamodule of bench.
        accelerator: `cpu`, `gpu`, or the GPU if there is one.
        devices: GPUs, or processes of a CPU, over which MACH's worlds are split
            (:class:`bench.WorldsStrategy`); a script is started once for each.

    Raises:
        ValueError: the length is a budget in seconds, or there are no devices.
    """
    if devices < 1:
        raise ValueError(f"devices is {devices}; expected at least 1")
    planned_steps(train, 1)
    warn_of_environment()
    settle_process(replicate)
    training = SteppedTraining(train, validate=validate)
    is_gpu = torch.cuda.is_available() if accelerator == "auto" else accelerator == "gpu"
    of_trainer = trainer_arguments(
        training, is_gpu=is_gpu, precision=train.precision, max_steps=train.num_steps or -1
    )
    if devices > 1:
        from bench.mach.devices import WorldsStrategy

        of_trainer |= {"devices": devices, "strategy": WorldsStrategy()}
    return Recipe(
        of_trainer,
        data_arguments(train, replicate),
        model_arguments(train, replicate),
        training,
    )


def settle_process(replicate: int) -> None:
    """Bring the process into the state that a trial computes in."""
    keep_threads()
    # Late in training, probabilities far below 1e-38 must not slow matrix products down.
    torch.set_flush_denormal(True)
    torch.manual_seed(derive_seed("torch", replicate))


def trainer_arguments(
    *callbacks: L.Callback, is_gpu: bool, precision: str, max_steps: int = -1
) -> dict[str, Any]:
    """Of a trainer on one device, which `max_steps` or a callback ends."""
    return {
        "accelerator": "gpu" if is_gpu else "cpu",
        "devices": 1,
        "max_epochs": -1,
        "max_steps": max_steps,
        "precision": precision,
        "num_sanity_val_steps": 0,
        # Quality is measured by a callback, on its own grid.
        "limit_val_batches": 0,
        "callbacks": list(callbacks),
    }


def data_arguments(train: TrainSpec, replicate: int) -> dict[str, Any]:
    """Batches of a data module, and their order."""
    return {
        "batch_size": train.batch_size,
        "seed": derive_seed("data order", replicate),
        "order": train.order,
        "drop_last": train.drop_last,
    }


def model_arguments(train: TrainSpec, replicate: int) -> dict[str, Any]:
    """Optimiser and seed of a classifier."""
    return {
        "learning_rate": train.learning_rate,
        "optimizer": train.optimizer,
        "adam_epsilon": train.adam_epsilon,
        "weight_decay": train.weight_decay,
        "seed": derive_seed("model", replicate),
    }


class SteppedTraining(L.Callback):
    """Trains a number of steps that settings and data decide; no clock decides anything.

    The learning rate follows the share of steps that is done, and quality is measured at equal
    shares, while the watch stands still. With `keep_best` the model ends with the weights that were
    best there.

    Args:
        spec: length, schedule and number of validations.
        validate: metrics of a model's validation split; None: of the trainer's data module, if it
            and the model are of the suite, otherwise there are none.
        watch: counts the seconds of training.
        emit: takes progress events.

    Raises:
        ValueError: when training starts: a pass without a length, or nothing to find the best by.
    """

    num_steps: int

    def __init__(
        self,
        spec: TrainSpec,
        *,
        validate: Validate | None = None,
        watch: Stopwatch | None = None,
        emit: Emit = lambda event: None,
    ) -> None:
        self._spec = spec
        self._validate = validate
        self._watch = watch or Stopwatch(lambda: None)
        self._emit = emit
        self._done = 0
        self._points_seen = 0
        self._steps_per_epoch = 1
        self._curve: list[dict[str, Any]] = []
        self._loss_sum: Tensor | None = None
        self._loss_steps = 0
        self._last_event = 0.0
        self._quality: float | None = None
        self._best: _Best | None = None
        self._to_validate: set[int] = set()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the steps that there will be, and start the watch."""
        batches = trainer.num_training_batches
        if isinstance(batches, float) and self._spec.num_steps is None:
            raise ValueError("a pass over the data has no length; expected num_steps")
        self._steps_per_epoch = max(int(batches) if math.isfinite(batches) else 1, 1)
        self.num_steps = planned_steps(self._spec, self._steps_per_epoch)
        count = max(self._spec.num_validations, 1)
        self._to_validate = {round(part * self.num_steps / count) for part in range(1, count + 1)}
        data = getattr(trainer, "datamodule", None)
        is_ours = isinstance(pl_module, ExtremeClassifier)
        if self._validate is None and is_ours and isinstance(data, ExtremeDataModule):
            self._validate = Validation(data, pl_module.device)
        if self._validate is None and self._spec.keep_best:
            raise ValueError(
                "keep_best is True and nothing is validated; expected validate=, or a model and a "
                "datamodule of bench"
            )
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
        self._points_seen += getattr(batch, "num_points", 0)
        loss = outputs["loss"].detach()
        self._loss_sum = loss if self._loss_sum is None else self._loss_sum + loss
        self._loss_steps += 1
        if self._done in self._to_validate:
            self._measure_quality(pl_module)
            if self._spec.keep_best:
                self._keep_best(pl_module)
        if self._done >= self.num_steps:
            trainer.should_stop = True
        now = time.monotonic()
        if now - self._last_event >= EVENT_SECONDS:
            self._last_event = now
            self._report(float(loss))

    def _measure_quality(self, model: L.LightningModule) -> None:
        # Of worlds on several devices (`bench.mach.devices`), each has a part.
        strategy = model.trainer.strategy
        add_up, joined = (getattr(strategy, name, None) for name in ("sum_of_worlds", "joined"))
        mean_loss = None
        if self._loss_sum is not None:
            loss_sum = add_up(self._loss_sum) if add_up else self._loss_sum
            mean_loss = float(loss_sum) / self._loss_steps
        if mean_loss is not None and not math.isfinite(mean_loss):
            raise FloatingPointError(
                f"the training loss is {mean_loss} after {self._done} steps; "
                "expected a finite number (a smaller learning rate?)"
            )
        metrics: dict[str, float] = {}
        if self._spec.num_validations and self._validate is not None:
            with self._watch.paused(), joined() if joined else nullcontext():
                metrics = dict(self._validate(model))
                named = {f"val_{logged_name(name)}": value for name, value in metrics.items()}
                model.log_dict(named, batch_size=1)
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

    def _restore_best(self, model: L.LightningModule) -> None:
        if self._best is None:
            return
        weights, self._best = self._best.weights, replace(self._best, weights={})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights.pop(name))

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
        """Stop the watch; the end of all steps gives the model its best weights, if kept."""
        self._watch.stop()
        if self._done >= self.num_steps:
            self._restore_best(pl_module)

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


class Validation:
    """Metrics of the validation split that the data's settings ask for, of a model as it stands."""

    def __init__(self, data: ExtremeDataModule, device: torch.device) -> None:
        self.data, self.device = data, device
        self.metrics = ranking_metrics(data, device)

    def __call__(self, model: ExtremeClassifier) -> dict[str, float]:
        """Empty where there are no points."""
        refuse_what_is_not_finite(model)
        return evaluate(model, on_device(self.device, self.data.val_dataloader()), self.metrics)


def ranking_metrics(data: ExtremeDataModule, device: torch.device) -> RankingMetrics:
    """Metrics that the data's settings ask for."""
    return metrics_of_data(data.spec, data.dataset, most=data.num_labels).to(device)


@torch.inference_mode()
def evaluate(
    model: ExtremeClassifier, batches: Iterable[Batch], metrics: RankingMetrics
) -> dict[str, float]:
    """Metrics of a model's best labels; empty where there are no points."""
    was_training = model.training
    model.eval()
    model.prepare_inference(metrics.ks[-1])
    metrics.reset()
    for batch in batches:
        scores, labels = model.top_k(batch, metrics.ks[-1])
        if bool(torch.isnan(scores).any()):
            raise UnrankableError.of_labels()
        metrics.update(labels, batch)
    model.train(was_training)
    if int(metrics.num_points) == 0:
        return {}
    values = {name: float(value) for name, value in metrics.compute().items()}
    metrics.reset()
    return values


def refuse_what_is_not_finite(model: ExtremeClassifier) -> None:
    """Raise `FloatingPointError` where a weight is no finite number."""
    for name, value in model.named_parameters():
        # `isfinite` would make copies of the weights, which are most of what some models need.
        if value.numel() and not all(map(torch.isfinite, torch.aminmax(value.detach()))):
            raise FloatingPointError(
                f"weights {name} hold numbers that are not finite (a smaller learning rate?)"
            )


def on_device(device: torch.device, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches on a device, one by one."""
    return (batch.to(device) for batch in batches)
