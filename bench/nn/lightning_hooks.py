"""What Lightning asks of every method: its optimiser, steps, processes and evaluation.

No method overrides any of it; what one fills in is in `bench.nn.classifier`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor

from bench.data.batch import Batch
from bench.metrics.torchmetric import RankingMetrics
from bench.nn.checkpoint import Restorable
from bench.nn.optimizers import average_rows, build_optimizer, clip_gradients
from bench.nn.rng import Generator
from bench.settings import SettingsError, derive_seed

# Weights, moments and hash functions are kept and compared in 32 bits.
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class LightningHooks(Restorable):
    """The base of :class:`bench.nn.classifier.ExtremeClassifier`, which sets the attributes."""

    #: True for methods that are computed from the data rather than trained by steps.
    is_closed_form = False
    #: Whether weights are updated while the loss is computed, where no other process is heard.
    updates_in_loss = False
    #: Whether training logs its loss; a training that is timed or recorded looks at it itself.
    logs_loss = True
    #: Buffers that settings alone determine: no process need send them to another.
    tables: ClassVar[tuple[str, ...]] = ("encoder.feature_table",)
    #: Parameters whose last row, `[..., -1, :]`, is a bias.
    with_bias_row: ClassVar[tuple[str, ...]] = ()

    encoder_kind: str
    feature_dropout: float
    seed: int
    ks: tuple[int, ...]
    optimizer_name: str
    learning_rate: float
    adam_epsilon: float
    weight_decay: float
    _dropout: Generator
    _metrics: RankingMetrics | None
    _loss: Tensor | None  # of the current step

    def training_loss(self, batch: Batch) -> Tensor:
        """See :class:`bench.nn.classifier.ExtremeClassifier`, and so the next two."""
        raise NotImplementedError

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Scores and labels."""
        raise NotImplementedError

    def prepare_inference(self, k: int) -> None:
        """Make ready what prediction needs."""

    # Optimiser ----------------------------------------------------------------------------------

    @property
    def has_dense_gradients(self) -> bool:
        """Whether sparse layers must give dense gradients, as an optimiser of one's own needs."""
        is_ours = type(self).configure_optimizers is LightningHooks.configure_optimizers
        return self.optimizer_name != "row_adam" and not is_ours

    @property
    def row_sparse(self) -> tuple[str, ...]:
        """Names of the parameters whose gradients are row-sparse."""
        raise NotImplementedError

    def optimizer_settings(self) -> Mapping[str, object]:
        """Kind, rate, ε and decay."""
        return {
            "optimizer": self.optimizer_name,
            "learning_rate": self.learning_rate,
            "adam_epsilon": self.adam_epsilon,
            "weight_decay": self.weight_decay,
        }

    @property
    def rate_factor(self) -> float:
        """Share of the peak rate that a schedule has set; 1 without a trainer."""
        trainer = self._trainer
        if trainer is None or not trainer.optimizers:
            return 1.0
        return float(trainer.optimizers[0].param_groups[0]["lr"]) / self.learning_rate

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser that the settings name, over all parameters."""
        return build_optimizer(
            self.optimizer_name,
            self._parameter_groups() if self.weight_decay else self.parameters(),
            learning_rate=self.learning_rate,
            epsilon=self.adam_epsilon,
            weight_decay=self.weight_decay,
        )

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """What decays, what does but for its last rows, and what does not."""
        decays: dict[str, Any] = {"params": []}
        all_but_last: dict[str, Any] = {"params": [], "has_bias_row": True}
        stays: dict[str, Any] = {"params": [], "weight_decay": 0.0}
        for name, parameter in self.named_parameters():
            if name in self.with_bias_row:
                group = all_but_last
            else:  # a vector is a bias or a norm's scale
                group = stays if "bias" in name or parameter.dim() < 2 else decays
            group["params"].append(parameter)
        return [group for group in (decays, all_but_last, stays) if group["params"]]

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step, after which its gradients are gone.

        The losses make gradients in their forward pass, before Lightning would drop the last ones:
        those of a wide output layer would stand in memory twice.

        Raises:
            SettingsError: the optimiser is the user's own and does not take row-sparse gradients.
        """
        try:
            optimizer.step(closure=optimizer_closure)
        except RuntimeError as error:
            grads = (parameter.grad for parameter in self.parameters())
            if "sparse" not in str(error) or not any(g is not None and g.is_sparse for g in grads):
                raise
            raise SettingsError(
                f"optimizer is {self.optimizer_name!r}, whose gradients are row-sparse, and the "
                "optimizer in use takes dense ones; expected optimizer='adam' with one of your own"
            ) from error
        optimizer.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip as the trainer's `gradient_clip_val` says, row-sparse gradients too."""
        if gradient_clip_val:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            by_norm = gradient_clip_algorithm != "value"
            clip_gradients(parameters, float(gradient_clip_val), by_norm=by_norm)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Average row-sparse gradients over processes; all others PyTorch has averaged."""
        if _averages_gradients(self.trainer):
            for name in self.row_sparse:
                parameter = self.get_parameter(name)
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = average_rows(parameter.grad)

    # Training -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Refuse what a trainer would do wrong or fail at later, before anything runs.

        Raises:
            ValueError: a trainer's option, its value and what is expected instead.
        """
        trainer = self.trainer
        if trainer.precision not in _PRECISIONS:
            raise ValueError(
                f"precision is {trainer.precision!r}; expected one of {', '.join(_PRECISIONS)}: "
                "weights, moments and kernels have 32 bits"
            )
        if not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy):
            raise ValueError(
                f"strategy is {type(trainer.strategy).__name__}; expected one device or 'ddp'"
            )
        self.refuse_other_data(getattr(trainer, "datamodule", None))
        if stage == "fit" and self.is_closed_form:
            raise ValueError(
                f"{type(self).__name__} is not trained by steps; expected "
                "model.fit_closed_form(data.train_dataloader())"
            )
        if self.updates_in_loss and _averages_gradients(trainer):
            raise ValueError(
                "strategy is DDPStrategy and the output layer is updated within its loss, where no "
                "process sees the others' gradients; expected one device or update='optimizer'"
            )
        if stage == "fit" and trainer.gradient_clip_val and trainer.precision == "16-mixed":
            raise ValueError(
                f"gradient_clip_val is {trainer.gradient_clip_val} and precision '16-mixed', whose "
                "scaled gradients are unscaled inside of the optimizer; expected 'bf16-mixed'"
            )
        if isinstance(trainer.strategy, DDPStrategy):
            if self.feature_dropout and trainer.global_rank and _averages_gradients(trainer):
                seed = derive_seed("feature dropout", self.seed, trainer.global_rank)
                self._dropout = Generator(seed)
            # Row-sparse gradients are averaged above: their rows differ from process to process.
            names = (*self.row_sparse, *self.tables)
            # PyTorch calls a parameter of the outermost module by its name in some places, and with
            # a dot before it in others.
            both = [*names, *(f".{name}" for name in names)]
            self._ddp_params_and_buffers_to_ignore = both

    def on_train_start(self) -> None:
        """Refuse data of other sizes, which only its loader knows; then go on where it stood."""
        self.refuse_other_data(*_listed(self.trainer.train_dataloader))
        super().on_train_start()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, for Lightning; `feature_dropout` acts here, on training alone.

        It is logged as `train_loss`, the last step's and on its device: nothing waits for it.
        """
        if self.feature_dropout:
            values = batch.feature_values
            keep = 1.0 - self.feature_dropout
            generator = self._dropout.on(values.device)
            kept = torch.empty_like(values).bernoulli_(keep, generator=generator)
            batch = dataclasses.replace(batch, feature_values=values * kept / keep)
        loss = self.training_loss(batch)
        if self.logs_loss:
            self._loss = loss.detach()
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        """Log the loss as :meth:`training_step` gave it: unscaled, outside of what compiles."""
        if self._loss is not None:
            self.log("train_loss", self._loss, on_step=True, on_epoch=False, batch_size=1)
            self._loss = None

    def generators(self) -> dict[str, Generator]:
        """The generator of feature dropout."""
        return {"feature dropout": self._dropout}

    def refuse_other_data(self, *sources: object) -> None:
        """Refuse labels and features that are numbered or named otherwise than this model's.

        Args:
            *sources: data modules or loaders; what they do not say is taken as it is.

        Raises:
            SettingsError: the size, or the digest of the labels' names, that differs.
        """
        names = ["num_labels", "num_features", "label_fingerprint"]
        if self.encoder_kind == "own":
            names.remove("num_features")
        for source in sources:
            for name in names:
                mine, theirs = getattr(self.facts, name), getattr(source, name, None)
                if mine is not None and theirs is not None and theirs != mine:
                    raise SettingsError(
                        f"{name} of the data is {theirs}, of the model {mine}; expected the data "
                        "that it was made for, in which a number means the same label and feature"
                    )

    # Evaluation ---------------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Compile and lay out before the first batch, and count from nothing.

        Metrics are made anew: tensors of `validate`, made in inference mode, could not be changed
        in the validation of a `fit`.
        """
        trainer = self.trainer
        self.refuse_other_data(*_listed(trainer.val_dataloaders))
        self.refuse_other_data(*_listed(trainer.test_dataloaders))
        self.prepare_inference(max(self.ks))
        self._metrics = RankingMetrics(ks=self.ks, task=self.facts.task).to(self.device)

    def on_test_start(self) -> None:
        """As :meth:`on_validation_start`."""
        self.on_validation_start()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Rank the labels of a batch and add it to the metrics."""
        if self._metrics is not None and batch.num_points:
            self._metrics.update(self.top_k(batch, max(self.ks))[1], batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As :meth:`validation_step`."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log `val_P_at_1` and the others."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log `test_P_at_1` and the others."""
        self._log_metrics("test")

    def _log_metrics(self, prefix: str) -> None:
        if self._metrics is not None:
            found = self._metrics.compute()
            named = {f"{prefix}_{logged_name(name)}": value for name, value in found.items()}
            # Every process has the sums of all; with `sync_dist` Lightning asks for nothing.
            self.log_dict(named, sync_dist=self.trainer.world_size > 1)
            self._metrics = None

    def on_predict_start(self) -> None:
        """Compile and lay out before the first batch."""
        self.refuse_other_data(*_listed(self.trainer.predict_dataloaders))
        self.prepare_inference(max(self.ks))

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`."""
        return self(batch)  # type: ignore[no-any-return]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores and labels, each `(N, k)`, of the best labels of a batch's points, best first.

        k is the largest of `ks`; :meth:`top_k` takes any other. Not the scores of all labels: they
        are N × L, and some methods never have them.
        """
        return self.top_k(batch, max(self.ks))


def _averages_gradients(trainer: L.Trainer) -> bool:
    """Whether processes share every batch, and average their gradients of it."""
    strategy = trainer.strategy
    return isinstance(strategy, DDPStrategy) and getattr(strategy, "averages_gradients", True)


def logged_name(metric: str) -> str:
    """A metric's name as Lightning logs it: one that trackers, files and formats all take.

    >>> logged_name("P@1"), logged_name("R@5 head")
    ('P_at_1', 'R_at_5_head')
    """
    return re.sub(r"\W", "_", metric.replace("@", "_at_"))


def _listed(loaders: Any) -> Iterable[object]:
    """A trainer's loaders: none, one, several, or what combines them."""
    loaders = getattr(loaders, "iterables", loaders)
    if isinstance(loaders, Mapping):
        return loaders.values()
    return loaders if isinstance(loaders, list | tuple) else [loaders]
