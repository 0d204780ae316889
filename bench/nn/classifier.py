"""The LightningModule that every method shares; a method fills in two functions.

`training_loss(batch)` and `top_k(batch, k)`, or its two halves `encode` and `rank`, are a method's
own. Sparse encoder, optimiser and evaluation are here, so that a difference in memory, time or
accuracy is the output layer's. What a checkpoint holds is in `bench.nn.checkpoint`.
"""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.metrics.torchmetric import RankingMetrics
from bench.nn.checkpoint import Restorable
from bench.nn.layers import OWN_START, Encoder, OwnEncoder, Start, StartKind
from bench.nn.losses import LossKind, prior_bias
from bench.nn.num_threads import keep_threads
from bench.nn.optimizers import average_rows, build_optimizer, clip_gradients
from bench.nn.options import Count, Positive, Share, Size, check_values, is_of, keywords, words
from bench.nn.rng import Stream
from bench.settings import ModelSpec, Optimizer, SettingsError, TrainSpec, derive_seed

Task = Literal["multiclass", "multilabel"]
Reduction = Literal["sum", "mean"]
EvaluationBatches = Iterable[Batch]
# Weights, moments and hash functions are kept and compared in 32 bits.
_PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# Given by a trial's other settings, not by a method's options.
_SET_BY_TRIAL = frozenset(
    {
        "encoder",
        "hidden_dims",
        "learning_rate",
        "optimizer",
        "adam_epsilon",
        "seed",
        "ks",
    }
)


@dataclass(frozen=True)
class DataFacts:
    """What a method may know of the data before training.

    Attributes:
        num_features: D.
        num_labels: L.
        task: `multiclass` (exactly one label a point) or `multilabel`.
        label_counts: `(L,)` int64, training points of each label.
        num_train_points: N.
        label_fingerprint: digest of the labels' names in order, by which a checkpoint is refused
            where its labels are others; None where it is not known, and nothing is compared.
    """

    num_features: int
    num_labels: int
    task: Task
    label_counts: Tensor
    num_train_points: int
    label_fingerprint: str | None = None


class ExtremeClassifier(Restorable):
    """Sparse points to ranked labels.

    Args:
        facts: sizes and label frequencies of the training data.
        encoder: `linear` (features straight to the output layer), `mlp`, or a module of the user's
            own: from a batch to hidden vectors `(N, H)`, initialised as it is given. Its batches
            are whatever it takes, if they have a :class:`Batch`'s `num_points`, `label_ids`,
            `label_offsets` and `label_point_ids`.
        hidden_dims: hidden widths of an `mlp`; the last is H, also of an own encoder.
        learning_rate: peak learning rate.
        optimizer: `adam`, `row_adam` or `tf_adam`, see `bench.nn.optimizers`.
        adam_epsilon: ε of Adam.
        first_layer_std: standard deviation of the first layer's initial weights of an `mlp`.
        feature_dropout: share of feature entries left out in training, the rest scaled up; with
            few points a label it keeps a model from trusting single words.
        prior_start: start the output biases at the training frequencies, which spares BCE over many
            columns the steps in which it learns that labels are rare.
        start: distribution of all initial weights in place of the layers' own, see
            :class:`bench.nn.layers.Start`; biases at the training frequencies (`prior_start`) stay.
        start_std: σ of start `truncated_normal`.
        start_biases: draw biases, too; otherwise they start at 0.
        seed: seed of all initial weights.
        ks: cut-offs of the metrics that `validation_step` and `test_step` log; those above L are
            left out. `predict_step` gives as many labels as the largest.

    Raises:
        SettingsError: a value that is not what a keyword declares.
        ValueError: an encoder without the widths that it needs, or no k up to L.
    """

    #: True for methods that are computed from the data rather than trained by steps.
    is_closed_form = False
    #: Whether training logs its loss; a training that is timed or recorded looks at it itself.
    logs_loss = True
    #: Buffers that settings alone determine: no process need send them to another.
    tables: ClassVar[tuple[str, ...]] = ("encoder.feature_table",)
    facts_type = DataFacts

    def __init__(
        self,
        facts: DataFacts,
        *,
        encoder: Literal["linear", "mlp"] | nn.Module = "mlp",
        hidden_dims: tuple[Count, ...] = (128,),
        learning_rate: Size = 1e-3,
        optimizer: Optimizer = "row_adam",
        adam_epsilon: Size = 1e-8,
        first_layer_std: Size = 0.1,
        feature_dropout: Share = 0.0,
        prior_start: bool = True,
        start: StartKind = "own",
        start_std: Positive = 0.05,
        start_biases: bool = True,
        seed: int = 0,
        ks: tuple[Count, ...] = (1, 3, 5),
    ) -> None:
        check_values(ExtremeClassifier.__init__, locals())
        super().__init__()
        # A module is no setting: its weights are in a checkpoint, its code is not.
        self.keep_settings(ignore=["encoder"] if isinstance(encoder, nn.Module) else [])
        keep_threads()
        self.encoder_kind = "own" if isinstance(encoder, nn.Module) else encoder
        if self.encoder_kind != "linear" and not as_tuple(hidden_dims):
            raise ValueError(
                f"encoder is {self.encoder_kind!r} but hidden_dims is empty; expected one width or "
                "more"
            )
        self._own_encoder = [encoder] if isinstance(encoder, nn.Module) else []
        self.facts = facts
        self.encoder: Encoder | OwnEncoder
        self.output: nn.Parameter
        self._num_train_points = facts.num_train_points
        self.num_features = facts.num_features
        self.num_labels = facts.num_labels
        self.task: Task = facts.task
        self.hidden_dims = as_tuple(hidden_dims) if self.encoder_kind != "linear" else ()
        self.learning_rate = learning_rate
        self.optimizer_name = optimizer
        self.adam_epsilon = adam_epsilon
        self.first_layer_std = first_layer_std
        self.feature_dropout = feature_dropout
        self.prior_start = prior_start
        self.start = Start(start, start_std, start_biases)
        self.seed = seed
        self._dropout = Stream(derive_seed("feature dropout", seed))
        self.ks = tuple(k for k in as_tuple(ks) if k <= facts.num_labels)
        if not self.ks:
            raise ValueError(f"ks are {ks}; expected one of at most L = {facts.num_labels}")
        self._metrics: RankingMetrics | None = None
        self._loss: Tensor | None = None  # of the step that is on

    @classmethod
    def check_spec(cls, model: ModelSpec, train: TrainSpec | None = None) -> None:
        """Refuse settings that this class cannot be built with, without building anything.

        Raises:
            SettingsError: an unknown option, a missing one, or a value or combination that the
                class does not take.
        """
        known = keywords(cls, ExtremeClassifier)
        taken = sorted(set(known) - _SET_BY_TRIAL)
        unknown = sorted(set(model.options) - set(taken))
        missing = [n for n in taken if known[n][0] is inspect.Parameter.empty]
        missing = [name for name in missing if name not in model.options]
        if unknown or missing:
            raise SettingsError(
                f"options of method {model.method!r}: unknown {unknown}, missing {missing}; "
                f"it takes {taken}"
            )
        for name, value in model.options.items():
            if not is_of(value, known[name][1]):
                raise SettingsError(
                    f"option {name} of method {model.method!r} is {value!r}; "
                    f"expected {words(known[name][1])}"
                )
        settings = {name: default for name, (default, _) in known.items()}
        settings |= dict(model.options) | {"encoder": model.encoder}
        if model.hidden_dims:
            settings["hidden_dims"] = model.hidden_dims
        if train is not None:
            settings["optimizer"] = train.optimizer
        cls.refuse_together(settings)

    @classmethod
    def refuse_together(cls, settings: Mapping[str, Any]) -> None:
        """Refuse settings each of which could stand alone.

        A constructor calls it with its own settings, a dry run with those of a study.

        Args:
            settings: some or all keywords of the constructor.

        Raises:
            SettingsError: which of them, with their values.
        """

    # What a method fills in -------------------------------------------------------------------

    def training_loss(self, batch: Batch) -> Tensor:
        """Scalar loss of a batch; the mean over its points."""
        raise NotImplementedError

    def encode(self, batch: Batch) -> Tensor:
        """Hidden vectors of the batch's points, or the logits of a linear model."""
        hidden: Tensor = self.encoder(batch)
        return hidden

    def rank(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """From :meth:`encode`'s value to the best labels, product of the output layer included.

        Returns:
            Scores `(N, k)` and labels `(N, k)` int64, best first; ties by smaller label.
        """
        raise NotImplementedError

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """Scores `(N, k)` and labels `(N, k)` int64 of the batch's points, best first.

        In 32 bits whatever the precision of training: many labels have equal bfloat16 scores.
        """
        hidden = self.encode(batch)
        if not torch.is_autocast_enabled(hidden.device.type):
            return _ranked(self, hidden, k)
        with torch.autocast(hidden.device.type, enabled=False):
            return _ranked(self, hidden.float(), k)

    def prepare_inference(self, k: int) -> None:
        """Make ready what prediction needs and training does not, off every clock.

        Layouts of weights, indexes, compiled kernels; called again after further training.
        :meth:`top_k` is right without it, and slower.
        """

    def facts_of_inference(self) -> Mapping[str, Any]:
        """What a record says of how this model predicts, beside its options."""
        return {}

    def fit_closed_form(self, batches: Iterable[Batch]) -> None:
        """Compute the model from one pass over the training data (closed-form methods only)."""
        raise NotImplementedError

    def activation_bytes(self, batch_size: int, entries_per_point: float) -> int:
        """Bytes of the largest activations of a training step, by arithmetic from shapes."""
        raise NotImplementedError

    def sparse_rows(self, batch_size: int, entries_per_point: float) -> dict[str, int]:
        """Rows that a batch can touch, of each parameter whose gradient may be row-sparse.

        Where features are hashed, each copy of the encoder has rows of its own for them.
        """
        if not isinstance(self.encoder, Encoder):
            return {}
        copies = 1 if self.encoder.num_hashed_features is None else self.encoder.num_copies
        return {"encoder.first.weight": int(copies * batch_size * entries_per_point)}

    def analyse(self, batches: EvaluationBatches, metrics: RankingMetrics) -> Mapping[str, Any]:
        """Further sections of the record (`worlds`, `estimators`), by methods that have them."""
        return {}

    def decode_bytes(self) -> int:
        """Bytes of what prediction needs beside the parameters (hash tables, inverted lists)."""
        return 0

    # What all share ---------------------------------------------------------------------------

    @property
    def has_dense_gradients(self) -> bool:
        """Whether sparse layers must give dense gradients, which plain Adam needs."""
        return self.optimizer_name in ("adam", "tf_adam")

    def build_encoder(
        self,
        copy_seeds: tuple[int, ...],
        output_width: int | None,
        *,
        activate_last: bool = True,
        **options: Any,
    ) -> Encoder | OwnEncoder:
        """Stacked encoder; with `linear`, its one layer already gives `output_width` logits.

        Args:
            copy_seeds: one for each copy.
            output_width: of a linear model.
            activate_last: ReLU on the hidden vectors of an `mlp`.
            **options: see :class:`bench.nn.layers.Encoder`; an own encoder has none.
        """
        if self._own_encoder:
            if options:
                raise ValueError(f"{', '.join(options)} are of our encoders, not of an own one")
            return OwnEncoder(self._own_encoder.pop(), len(copy_seeds), self.hidden_dims[-1])
        if self.encoder_kind == "linear":
            if output_width is None:
                raise ValueError("a linear model needs the width of its output layer")
            widths: tuple[int, ...] = (output_width,)
            std = 0.0
        else:
            widths, std = self.hidden_dims, self.first_layer_std
        return Encoder(
            self.num_features,
            widths,
            copy_seeds=copy_seeds,
            first_layer_std=std,
            activate_last=activate_last and self.encoder_kind == "mlp",
            dense_gradient=self.has_dense_gradients,
            start=self.start,
            **options,
        )

    def start_from_prior(self, counts: Tensor, kind: LossKind) -> None:
        """Set the biases of the output layer to the training frequencies of its columns.

        Args:
            counts: `(G, C)` training points of each column of each layer.
            kind: the loss that the layer is trained with.
        """
        if isinstance(self.encoder, Encoder) and self.encoder_kind == "linear":
            start = self.encoder.first_bias.squeeze(1)
        else:
            start = self._output_biases()
        if not self.prior_start or start.device.type == "meta":
            return
        with torch.no_grad():
            start.copy_(prior_bias(counts, self._num_train_points, kind))

    def _output_biases(self) -> Tensor:
        """`(G, C)` view of the output layer's biases."""
        return self.output[:, -1, :]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """The optimiser that the settings name, over all parameters."""
        return build_optimizer(
            self.optimizer_name,
            self.parameters(),
            learning_rate=self.learning_rate,
            epsilon=self.adam_epsilon,
        )

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
        """
        try:
            optimizer.step(closure=optimizer_closure)
        except RuntimeError as error:
            self._tell_of(error)
            raise
        optimizer.zero_grad()

    def _tell_of(self, error: RuntimeError) -> None:
        """In our words what an optimiser of torch's says in its own.

        Raises:
            SettingsError: it does not take row-sparse gradients.
        """
        if "sparse" in str(error) and any(
            p.grad is not None and p.grad.is_sparse for p in self.parameters()
        ):
            raise SettingsError(
                f"optimizer is {self.optimizer_name!r}, whose gradients are row-sparse, and the "
                "optimizer in use takes dense ones; expected optimizer='adam' with one of your own"
            ) from error

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch, for Lightning; `feature_dropout` acts here, on training alone.

        It is logged as `train/loss`, the last step's and on its device: nothing waits for it.
        """
        loss = self.training_loss(self._without_some_features(batch))
        if self.logs_loss:
            self._loss = loss.detach()
        return loss

    def on_before_backward(self, loss: Tensor) -> None:
        """Log the loss as :meth:`training_step` gave it: unscaled, outside of what compiles."""
        if self._loss is not None:
            self.log("train/loss", self._loss, on_step=True, on_epoch=False, batch_size=1)
            self._loss = None

    def _without_some_features(self, batch: Batch) -> Batch:
        if self.feature_dropout == 0:
            return batch
        values = batch.feature_values
        keep = 1.0 - self.feature_dropout
        generator = self._dropout.on(values.device)
        kept = torch.empty_like(values).bernoulli_(keep, generator=generator)
        return dataclasses.replace(batch, feature_values=values * kept / keep)

    # What Lightning asks ----------------------------------------------------------------------

    def identity(self) -> Mapping[str, object]:
        """Method-independent part of what gives weights their meaning."""
        return {"encoder": self.encoder_kind, "hidden_dims": list(self.hidden_dims)}

    def optimizer_settings(self) -> Mapping[str, object]:
        """Kind, rate and ε."""
        return {
            "optimizer": self.optimizer_name,
            "learning_rate": self.learning_rate,
            "adam_epsilon": self.adam_epsilon,
        }

    def streams(self) -> dict[str, Stream]:
        """The stream of feature dropout."""
        return {"feature dropout": self._dropout}

    @property
    def row_sparse(self) -> tuple[str, ...]:
        """Names of the parameters whose gradients are row-sparse."""
        return () if self.has_dense_gradients else tuple(self.sparse_rows(1, 1.0))

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
        self._refuse_other_data(getattr(trainer, "datamodule", None))
        if stage == "fit" and self.is_closed_form:
            raise ValueError(
                f"{type(self).__name__} is not trained by steps; expected "
                "model.fit_closed_form(data.train_dataloader())"
            )
        if stage == "fit" and trainer.gradient_clip_val and trainer.precision == "16-mixed":
            raise ValueError(
                f"gradient_clip_val is {trainer.gradient_clip_val} and precision '16-mixed', whose "
                "scaled gradients are unscaled inside of the optimizer; expected 'bf16-mixed'"
            )
        if isinstance(trainer.strategy, DDPStrategy):
            if self.feature_dropout and trainer.global_rank:
                seed = derive_seed("feature dropout", self.seed, trainer.global_rank)
                self._dropout = Stream(seed)
            # Row-sparse gradients are averaged below: their rows differ from process to process.
            names = (*self.row_sparse, *self.tables)
            # PyTorch calls a parameter of the outermost module by its name in some places, and with
            # a dot before it in others.
            both = [*names, *(f".{name}" for name in names)]
            self._ddp_params_and_buffers_to_ignore = both

    def _refuse_other_data(self, source: object) -> None:
        """Refuse labels and features that are numbered or named otherwise than this model's.

        Args:
            source: a data module or loader; what it does not say is taken as it is.

        Raises:
            SettingsError: the size, or the digest of the labels' names, that differs.
        """
        names = ["num_labels", "num_features", "label_fingerprint"]
        if self.encoder_kind == "own":
            names.remove("num_features")
        for name in names:
            mine, theirs = getattr(self.facts, name), getattr(source, name, None)
            if mine is not None and theirs is not None and theirs != mine:
                raise SettingsError(
                    f"{name} of the data is {theirs}, of the model {mine}; expected the data that "
                    "it was made for, in which a number means the same label and feature"
                )

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Average row-sparse gradients over processes; all others PyTorch has averaged."""
        if self.trainer.world_size > 1:
            for name in self.row_sparse:
                parameter = self.get_parameter(name)
                if parameter.grad is not None and parameter.grad.is_sparse:
                    parameter.grad = average_rows(parameter.grad)

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

    def _evaluation_step(self, batch: Batch) -> None:
        if self._metrics is not None and batch.num_points:
            self._metrics.update(self.top_k(batch, max(self.ks))[1], batch)

    def _log_metrics(self, prefix: str) -> None:
        if self._metrics is not None:
            values = self._metrics.compute()
            # Every process has the sums of all; told so, Lightning asks for nothing.
            is_shared = self.trainer.world_size > 1
            named = {f"{prefix}/{name}": value for name, value in values.items()}
            self.log_dict(named, sync_dist=is_shared)
            self._metrics = None

    def _start_evaluation(self) -> None:
        """Compile and lay out before the first batch, and count from nothing.

        Metrics are made anew: tensors of `validate`, made in inference mode, could not be changed
        in the validation of a `fit`.
        """
        for loader in (
            *_listed(self.trainer.val_dataloaders),
            *_listed(self.trainer.test_dataloaders),
        ):
            self._refuse_other_data(loader)
        self.prepare_inference(max(self.ks))
        self._metrics = RankingMetrics(ks=self.ks, task=self.task).to(self.device)

    def on_validation_start(self) -> None:
        """Compile and lay out before the first batch."""
        self._start_evaluation()

    def on_test_start(self) -> None:
        """Compile and lay out before the first batch."""
        self._start_evaluation()

    def on_train_start(self) -> None:
        """Refuse data of other sizes, which only its loader tells of; then go on where it stood."""
        for loader in _listed(self.trainer.train_dataloader):
            self._refuse_other_data(loader)
        super().on_train_start()

    def on_predict_start(self) -> None:
        """Compile and lay out before the first batch."""
        for loader in _listed(self.trainer.predict_dataloaders):
            self._refuse_other_data(loader)
        self.prepare_inference(max(self.ks))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Rank the labels of a batch and add it to the metrics."""
        self._evaluation_step(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Rank the labels of a batch and add it to the metrics."""
        self._evaluation_step(batch)

    def on_validation_epoch_end(self) -> None:
        """Log `val/P@1` and the others."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log `test/P@1` and the others."""
        self._log_metrics("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`."""
        return self(batch)  # type: ignore[no-any-return]

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Scores and labels, each `(N, k)`, of the best labels of a batch's points, best first.

        k is the largest of `ks`; :meth:`top_k` takes any other. Not the scores of all labels: they
        are N × L, and some methods never have them.
        """
        return self.top_k(batch, max(self.ks))


def _ranked(model: ExtremeClassifier, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A ranking is kernels of ours over arrays: where a model is compiled, there is no graph."""
    return model.rank(hidden, k)


if not TYPE_CHECKING:
    _ranked = torch.compiler.disable(_ranked)


def _listed(loaders: Any) -> list[Any]:
    """A trainer's loaders: none, one, several, or what combines them."""
    loaders = getattr(loaders, "iterables", loaders)
    if isinstance(loaders, Mapping):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]


def as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    """Widths or cut-offs, of which one may stand alone."""
    if isinstance(value, numbers.Integral):
        return (int(value),)
    return tuple(cast(Sequence[int], value))


def loss_scale(reduction: Reduction, kind: LossKind, num_columns: int) -> float:
    """What turns a loss summed over columns into the reduction asked for.

    Raises:
        SettingsError: the mean over the columns of a softmax.
    """
    refuse_mean_of_softmax({"loss_reduction": reduction, "loss": kind})
    return 1.0 if reduction == "sum" else 1.0 / num_columns


def refuse_mean_of_softmax(settings: Mapping[str, Any]) -> None:
    """Refuse the mean over columns of a loss that is no sum over them; a loss of None is open yet.

    Raises:
        SettingsError: reduction and loss.
    """
    loss = settings.get("loss")
    if settings.get("loss_reduction") == "mean" and loss not in (None, "bce"):
        raise SettingsError(f"loss_reduction is 'mean' and the loss {loss!r}; expected 'bce'")


def output_weight(
    num_layers: int,
    hidden_dim: int,
    num_columns: int,
    seeds: tuple[int, ...],
    std: float,
    start: Start = OWN_START,
) -> nn.Parameter:
    """Initial `(G, H + 1, C)` weights, each layer from its own seed; the last row is the bias.

    They are normal of standard deviation `std` and biases 0, or as `start` says.

    Raises:
        ValueError: the number of seeds is not G.
    """
    if len(seeds) != num_layers:
        raise ValueError(f"{len(seeds)} seeds for {num_layers} output layers; expected as many")
    weight = torch.zeros(num_layers, hidden_dim + 1, num_columns)
    if (std > 0 or start.kind != "own") and weight.device.type != "meta":
        for layer, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(derive_seed("output", seed))
            kernel, bias = weight[layer, :hidden_dim], weight[layer, hidden_dim]
            if start.kind != "own":
                start.draw(kernel, bias, hidden_dim, generator)
            else:
                kernel.normal_(0.0, std, generator=generator)
    return nn.Parameter(weight)
