"""The class that every method extends; a method is its layers, a loss and a ranking.

`training_loss(batch)`, `encode(batch)` and `rank(hidden, k)` are a method's own. Sparse encoder,
optimiser and evaluation are shared, so that a difference in memory, time or accuracy is the output
layer's. What a trainer asks is in `bench.nn.lightning_hooks`, what a checkpoint holds in
`bench.nn.checkpoint`.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from bench.data.batch import Batch
from bench.metrics.torchmetric import RankingMetrics
from bench.nn.head import ranked
from bench.nn.layers import Encoder, OwnEncoder, Start, StartKind
from bench.nn.lightning_hooks import LightningHooks
from bench.nn.losses import LossKind, prior_bias
from bench.nn.num_threads import keep_threads
from bench.nn.options import Count, Positive, Share, Size, check_options, check_values, keywords
from bench.nn.rng import Generator
from bench.settings import ModelSpec, Optimizer, SettingsError, TrainSpec, derive_seed

Task = Literal["multiclass", "multilabel"]
EvaluationBatches = Iterable[Batch]
# Given by a trial's other settings, not by a method's options.
_SET_BY_TRIAL = frozenset(
    {
        "encoder",
        "hidden_dims",
        "learning_rate",
        "optimizer",
        "adam_epsilon",
        "weight_decay",
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


class ExtremeClassifier(LightningHooks):
    """Sparse points to ranked labels.

    Args:
        facts: sizes and label frequencies of the training data.
        encoder: `linear` (features straight to the output layer), `mlp`, or a module of the user's
            own: from a batch to hidden vectors `(N, H)`, initialised as it is given. Its batches
            are whatever it takes, if they have a :class:`Batch`'s `num_points`, `label_ids`,
            `label_offsets` and `label_point_ids`.
        hidden_dims: hidden widths of an `mlp`; the last is H, also of an own encoder.
        learning_rate: peak learning rate; tuning found 0.02 for all methods on 380,000 points of
            20,000 classes, 0.00125 to 0.005 on 4,380 of 159 (`results/tuned`).
        optimizer: `adam`, `row_adam` (which tuning chose for all), `tf_adam`, see
            `bench.nn.optimizers`.
        adam_epsilon: ε of Adam; tuning found 1e-8 to 1e-4, of a full softmax on many classes 1e-5.
        weight_decay: of weights, not of biases, as in AdamW; a step takes this times the rate.
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

    facts_type = DataFacts
    #: Parameters beside the encoder's first layer whose gradients are row-sparse.
    sparse_outputs: ClassVar[tuple[str, ...]] = ()
    #: Whether tables that prediction needs depend on the training frequencies of labels.
    tables_need_counts: ClassVar[bool] = False

    def __init__(
        self,
        facts: DataFacts,
        *,
        encoder: Literal["linear", "mlp"] | nn.Module = "mlp",
        hidden_dims: tuple[Count, ...] = (128,),
        learning_rate: Size = 5e-3,
        optimizer: Optimizer = "row_adam",
        adam_epsilon: Size = 1e-5,
        weight_decay: Size = 0.0,
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
        self._num_train_points = facts.num_train_points
        self.num_features = facts.num_features
        self.num_labels = facts.num_labels
        self.task: Task = facts.task
        self.hidden_dims = as_tuple(hidden_dims) if self.encoder_kind != "linear" else ()
        self.learning_rate = learning_rate
        self.optimizer_name = optimizer
        self.adam_epsilon = adam_epsilon
        self.weight_decay = weight_decay
        self.first_layer_std = first_layer_std
        self.feature_dropout = feature_dropout
        self.prior_start = prior_start
        self.start = Start(start, start_std, start_biases)
        self.seed = seed
        self._dropout = Generator(derive_seed("feature dropout", seed))
        self.ks = tuple(k for k in as_tuple(ks) if k <= facts.num_labels)
        if not self.ks:
            raise ValueError(f"ks are {ks}; expected one of at most L = {facts.num_labels}")
        self._metrics: RankingMetrics | None = None
        self._loss: Tensor | None = None

    @classmethod
    def check_spec(cls, model: ModelSpec, train: TrainSpec | None = None) -> None:
        """Refuse settings that this class cannot be built with, without building anything.

        Raises:
            SettingsError: an unknown option, a missing one, or a value or combination that the
                class does not take.
        """
        known = keywords(cls, ExtremeClassifier)
        taken = {name: known[name] for name in sorted(set(known) - _SET_BY_TRIAL)}
        check_options(model.method, model.options, taken)
        settings = {name: default for name, (default, _) in known.items()}
        settings |= dict(model.options) | {"encoder": model.encoder}
        if model.hidden_dims:
            settings["hidden_dims"] = model.hidden_dims
        if train is not None:
            settings |= {"optimizer": train.optimizer, "keep_best": train.keep_best}
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

    # What a method fills in: three functions --------------------------------------------------

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

    # What it may add --------------------------------------------------------------------------

    def top_k(self, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
        """:meth:`rank` of :meth:`encode`: scores and labels `(N, k)` of the batch's points.

        In 32 bits whatever the precision of training: many labels have equal bfloat16 scores.
        """
        return ranked(self, self.encode(batch), k)

    def prepare_inference(self, k: int) -> None:
        """Make ready what prediction needs and training does not, off every clock.

        Layouts of weights, indexes, compiled kernels; called again after further training.
        :meth:`top_k` is right without it, and slower.
        """

    def fill_tables(self) -> None:
        """Compute what is no weight, in a model that was built on the meta device."""

    def probabilities(self, batch: Batch, scores: Tensor, labels: Tensor) -> Tensor:
        """Probabilities `(N, k)` of labels that :meth:`top_k` found, in its order.

        Args:
            batch: the points.
            scores: `(N, k)`, as it gave them.
            labels: `(N, k)` int64, likewise.

        Raises:
            SettingsError: the method has scores alone.
        """
        raise SettingsError(
            f"probabilities are asked of {type(self).__name__}, which gives scores alone; expected "
            "probabilities=False"
        )

    def identity(self) -> Mapping[str, object]:
        """What gives weights their meaning: plain values that a checkpoint must share."""
        return {"encoder": self.encoder_kind, "hidden_dims": list(self.hidden_dims)}

    def facts_of_inference(self) -> Mapping[str, Any]:
        """What a record says of how this model predicts, beside its options."""
        return {}

    def fit_closed_form(self, batches: Iterable[Batch]) -> None:
        """Compute the model from one pass over the training data (closed-form methods only)."""
        raise NotImplementedError

    def analyse(self, batches: EvaluationBatches, metrics: RankingMetrics) -> Mapping[str, Any]:
        """Further sections of the record (`worlds`, `estimators`), by methods that have them."""
        return {}

    def decode_bytes(self) -> int:
        """Bytes of what prediction needs beside the parameters (hash tables, inverted lists)."""
        return 0

    @property
    def row_sparse(self) -> tuple[str, ...]:
        """Names of the parameters whose gradients are row-sparse."""
        if self.has_dense_gradients:
            return ()
        is_sparse = isinstance(getattr(self, "encoder", None), Encoder)
        return (*(("encoder.first.weight",) if is_sparse else ()), *self.sparse_outputs)

    # What it may call -------------------------------------------------------------------------

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

    def start_from_prior(self, biases: Tensor | None, counts: Tensor, kind: LossKind) -> None:
        """Set the biases of the output layer to the training frequencies of its columns.

        Args:
            biases: `(G, C)` view of them; None: a linear model's, which are its encoder's.
            counts: `(G, C)` training points of each column of each layer.
            kind: the loss that the layer is trained with.
        """
        if biases is None:
            biases = cast(Encoder, self.encoder).first_bias.squeeze(1)
        if self.prior_start and biases.device.type != "meta":
            with torch.no_grad():
                biases.copy_(prior_bias(counts, self._num_train_points, kind))


def as_tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    """Widths or cut-offs, of which one may stand alone."""
    if isinstance(value, numbers.Integral):
        return (int(value),)
    return tuple(cast(Sequence[int], value))
