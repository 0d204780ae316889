"""Bytes and seconds of a training by arithmetic from settings and sizes: nothing is built.

What a method is made of, its card's `arithmetic` says: weights by their shapes, what a step and an
evaluation hold beside them, and matrix products. Never imports torch.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from bench.methods.card import LOSS_OF_TASK, Card
from bench.methods.cards import card, cards
from bench.settings import ModelSpec, SettingsError, TrainSpec, Trial

Accelerator = Literal["cpu", "gpu"]

#: Points of an evaluation's batch (`bench.data.module.ExtremeDataModule`).
EVALUATION_POINTS = 256
#: What libraries take once training has begun: compiled kernels, buffers of matrix products.
#: Measured: what is left of the peaks of 72 committed records of models below 10 MB, all but MACH's
#: (median; 24 to 31 MB).
PROCESS_BYTES = 27_000_000
# What glibc's heap keeps of freed arrays at most before it gives its top back: twice the largest
# size of an array that is mapped on its own (32 MiB; man 3 mallopt, M_MMAP_THRESHOLD).
_HEAP_BYTES = 64 << 20
# Of an entry of a batch: its id and value, and what sorts the batch by features for the gradient.
_ENTRY_BYTES = 80


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSizes:
    """What arithmetic asks of the data.

    Attributes:
        num_features: D.
        num_labels: L.
        task: `multiclass` or `multilabel`.
        num_train_points: N.
        entries_per_point: features of a point, on average.
        labels_per_point: labels of a point, on average.
        label_counts: `(L,)` array, training points of each label; None: by Zipf's law.
        is_streamed: points are drawn as they are read, and never all in memory.
    """

    num_features: int
    num_labels: int
    task: str
    num_train_points: int
    entries_per_point: float
    labels_per_point: float = 1.0
    label_counts: Any = None
    is_streamed: bool = False

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self:
        """From a record's `data` block, or `ExtremeDataModule.facts`.

        Raises:
            KeyError: a size that is not there.
        """
        return cls(
            num_features=facts["num_features"],
            num_labels=facts["num_labels"],
            task=facts["task"],
            num_train_points=facts["num_train_points"],
            entries_per_point=facts["features_per_point"],
            labels_per_point=facts["labels_per_point"],
        )

    @property
    def num_bytes(self) -> int:
        """Training points in memory: offsets, ids and values of features, labels, an order."""
        if self.is_streamed:
            return 0
        of_point = 8 * self.entries_per_point + 4 * self.labels_per_point + 3 * 8
        return round(self.num_train_points * of_point)

    def share_of_ranks(self, start: int, stop: int) -> float:
        """Training points, of N, of the labels whose ranks by frequency are in a range."""
        if self.label_counts is None:
            return math.log((stop + 1) / (start + 1)) / math.log(self.num_labels + 1)
        ranked = np.sort(np.asarray(self.label_counts))[::-1]
        return float(ranked[start:stop].sum()) / max(self.num_train_points, 1)


@dataclass(frozen=True)
class Weights:
    """A parameter.

    Attributes:
        name: as in the model's `named_parameters`.
        shape: of it.
        rows: rows that a batch can touch, where its gradient is row-sparse; None: it is dense.
        item_bytes: of a number.
        is_trained: by an optimiser, not while the loss is computed.
    """

    name: str
    shape: tuple[int, ...]
    rows: int | None = None
    item_bytes: int = 4
    is_trained: bool = True

    @property
    def size(self) -> int:
        """Numbers."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Bytes."""
        return self.size * self.item_bytes

    @property
    def gradient_size(self) -> int:
        """Numbers of the gradient."""
        if not self.is_trained:
            return 0
        rows = self.shape[0]
        return self.size // rows * min(rows if self.rows is None else self.rows, rows)


@dataclass(frozen=True)
class Product:
    """A layer's matrix products in a step: logits, and gradients of both factors.

    Attributes:
        times: layers alike.
        num_points: N.
        width: of the layer's inputs.
        num_columns: of its outputs.
        passes: products of this size; a lean softmax makes its logits twice.
    """

    times: int
    num_points: int
    width: int
    num_columns: int
    passes: int = 3

    @property
    def flops(self) -> int:
        """Additions and multiplications of all of them."""
        return 2 * self.passes * self.times * self.num_points * self.width * self.num_columns


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A training whose bytes and operations a method's `arithmetic` is asked for.

    Attributes:
        spec: of the model.
        train: of the training.
        sizes: of the data.
        options: of the method, with the card's defaults.
        accelerator: what it computes on.
    """

    spec: ModelSpec
    train: TrainSpec
    sizes: DataSizes
    options: Mapping[str, Any]
    accelerator: Accelerator = "cpu"

    @property
    def device(self) -> str:
        """As torch calls it."""
        return "cuda" if self.accelerator == "gpu" else "cpu"

    @property
    def is_linear(self) -> bool:
        """Whether features go straight to the output layer."""
        return self.spec.encoder == "linear"

    @property
    def num_points(self) -> int:
        """Points of a step."""
        return self.train.batch_size

    @property
    def width(self) -> int:
        """Of the last hidden layer."""
        return self.spec.hidden_dims[-1]

    @property
    def loss(self) -> Any:
        """`softmax` or `bce`."""
        return self.options.get("loss") or LOSS_OF_TASK[self.sizes.task]

    @property
    def is_lean(self) -> bool:
        """Whether the output layer is updated while the loss is computed."""
        return bool(self.options.get("update", "optimizer") != "optimizer")

    @property
    def output_item_bytes(self) -> int:
        """Of a weight of the output layer."""
        return 2 if self.options.get("weight_type") == "bfloat16" else 4

    @property
    def lean_copies(self) -> int:
        """Copies that a lean update makes of a chunk's weights."""
        return int(self.output_item_bytes != 4) + int(self.options["update"] == "row_adagrad")

    def encoder(
        self, *, copies: int = 1, outputs: int = 0, num_hashed: int | None = None
    ) -> tuple[Weights, ...]:
        """Parameters of the encoder: so many copies; `outputs` are a linear model's."""
        widths = self.spec.hidden_dims or (outputs,)
        rows, width = self.sizes.num_features, copies * widths[0]
        touched = self.num_entries(1 if num_hashed is None else copies)
        if num_hashed is not None:
            rows, width = copies * num_hashed, widths[0]
        found = [
            Weights("encoder.first.weight", (rows, width), rows=touched),
            Weights("encoder.first_bias", (copies, 1, widths[0])),
        ]
        for layer, pair in enumerate(itertools.pairwise(widths)):
            found.append(Weights(f"encoder.weights.{layer}", (copies, *pair)))
            found.append(Weights(f"encoder.biases.{layer}", (copies, 1, pair[1])))
        return tuple(found)

    def inner_products(self, copies: int = 1) -> tuple[Product, ...]:
        """Products of the encoder's layers after the first."""
        return tuple(
            Product(copies, self.num_points, *pair)
            for pair in itertools.pairwise(self.spec.hidden_dims)
        )

    def num_entries(self, copies: int = 1) -> int:
        """Features of a step's points, in as many copies as they are hashed."""
        return int(copies * self.num_points * self.sizes.entries_per_point)

    def batch_bytes(self, copies: int = 1) -> int:
        """Of a batch's entries and their sorting, in as many copies as features are hashed."""
        return _ENTRY_BYTES * self.num_entries(copies)

    def hidden_bytes(self, copies: int = 1) -> int:
        """Of hidden vectors in a step: each layer's, and three more of the last for its loss."""
        widths = self.spec.hidden_dims
        return 4 * copies * self.num_points * (sum(widths) + 3 * widths[-1])

    def evaluated_bytes(self, copies: int = 1, outputs: int = 0) -> int:
        """Of the vectors of an evaluation's batch: before and after bias and ReLU."""
        width = max(self.spec.hidden_dims, default=0)
        return 4 * EVALUATION_POINTS * copies * (3 * width + 2 * outputs)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of a training, by part.

    Attributes:
        parameters: weights.
        gradients: of row-sparse ones the rows that a batch can touch.
        moments: Adam's two, of every weight that it trains.
        activations: the most that a step holds beside these.
        evaluation: the most that a batch of an evaluation holds; gradients are gone by then.
        tables: what is no weight and stays.
        kept: the weights of the best validation.
        data: training points, which are mapped from the cache.
        process: what libraries take for themselves.
    """

    parameters: int
    gradients: int
    moments: int
    activations: int
    evaluation: int
    tables: int
    kept: int
    data: int
    process: int

    @property
    def total(self) -> int:
        """The most at once, above what the process had before the model was built.

        A step's arrays and an evaluation's follow each other; what the heap keeps of the ones
        stands beside the others.
        """
        stays = self.parameters + self.moments + self.tables + self.kept + self.data + self.process
        less, more = sorted((self.gradients + self.activations, self.evaluation))
        return stays + more + min(less, _HEAP_BYTES)

    def to_record(self) -> dict[str, int | None]:
        """As a record's `memory` block names it."""
        return {
            "parameter_bytes": self.parameters,
            "gradient_bytes": self.gradients,
            "optimizer_bytes": self.moments,
            "activation_bytes": self.activations,
            "predicted_bytes": self.total,
        }


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a method is made of.

    Attributes:
        weights: all parameters.
        step_bytes: the most that a step holds beside weights, gradients and moments.
        evaluation_bytes: the most that a batch of an evaluation does.
        table_bytes: of what is no weight and stays: hash tables, a sampler's arrays, kernels.
        products: of a step.
    """

    weights: tuple[Weights, ...]
    step_bytes: int
    evaluation_bytes: int
    table_bytes: int = 0
    products: tuple[Product, ...] = ()

    def memory(self, of: Problem) -> Memory:
        """Bytes of a training of these parts."""
        parameters = sum(each.num_bytes for each in self.weights)
        trained = sum(each.num_bytes for each in self.weights if each.is_trained)
        is_on_host = of.accelerator == "cpu"
        return Memory(
            parameters=parameters,
            gradients=4 * sum(each.gradient_size for each in self.weights),
            moments=2 * trained,
            activations=self.step_bytes,
            evaluation=self.evaluation_bytes,
            tables=self.table_bytes,
            kept=parameters if of.train.keep_best else 0,
            data=of.sizes.num_bytes if is_on_host else 0,
            process=PROCESS_BYTES if is_on_host else 0,
        )


def problem_of(trial: Trial, sizes: DataSizes, *, accelerator: Accelerator = "cpu") -> Problem:
    """What a method's arithmetic is asked about a trial."""
    defaults = {shown.name: shown.default for shown in _card(trial.model.method).options}
    return Problem(
        spec=trial.model,
        train=trial.train,
        sizes=sizes,
        options=defaults | dict(trial.model.options),
        accelerator=accelerator,
    )


def _card(method: str) -> Card:
    """That of a method, or of a way to train at the largest sizes."""
    ways = {each.name for each in cards("scale")} - {each.name for each in cards()}
    return card(method, "scale" if method in ways else "training")


def parts_of(problem: Problem) -> Parts:
    """What the model of a problem is made of.

    Raises:
        SettingsError: the method's card has no arithmetic.
    """
    count = _card(problem.spec.method).arithmetic
    if count is None:
        raise SettingsError(
            f"bytes of method {problem.spec.method!r} are asked for; expected one whose card has "
            "an arithmetic"
        )
    parts: Parts = count(problem)
    return parts


def predict_memory(trial: Trial, sizes: DataSizes, *, accelerator: Accelerator = "cpu") -> Memory:
    """Bytes of a training by arithmetic from shapes; nothing is allocated, no torch imported.

    Args:
        trial: settings; the length of the training does not matter.
        sizes: of the data, see :meth:`DataSizes.of_facts`.
        accelerator: whose memory is meant; a `gpu` holds neither data nor libraries.

    Returns:
        Parts and their `total`, in bytes. Peaks measured on CPUs are held against it in
        `tests/methods/test_predicted_memory.py`; of GPUs none is on record.

    Raises:
        SettingsError: the method is unknown, or its card has no arithmetic.
    """
    problem = problem_of(trial, sizes, accelerator=accelerator)
    return parts_of(problem).memory(problem)


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """How fast a machine is.

    Attributes:
        flops: additions and multiplications a second in a layer's matrix products.
        bytes: moved a second, read or written.
        factor: a measured step over its limit; None where none was measured.
    """

    flops: float
    bytes: float
    factor: float | None = None

    @classmethod
    def of_benchmark(cls, results: Iterable[Mapping[str, Any]]) -> Self:
        """Medians over the rows of `results/benchmarks/step_limits.json`."""
        rows = [
            (each, each["times"] * min(each["products"]), min(each["copies"])) for each in results
        ]
        return cls(
            flops=statistics.median(row["flops"] / products for row, products, _ in rows),
            bytes=statistics.median(row["bytes"] / copies for row, _, copies in rows),
            factor=statistics.median(
                min(row["steps"]) / (products + copies) for row, products, copies in rows
            ),
        )


@dataclass(frozen=True)
class Step:
    """Operations of a training step.

    Attributes:
        products: matrix products.
        moved_bytes: of weights, gradients and moments, each time that they are moved.
    """

    products: tuple[Product, ...]
    moved_bytes: int

    @classmethod
    def of(cls, parts: Parts, optimizer: str) -> Self:
        """Of a model of such parts.

        Moved are, of each weight, 7 floats of a dense gradient (Adam reads it, weight and moments
        and writes these three), and of a row that a batch touches 9, for a pass forward reads it
        and one backward writes its gradient. `adam` and `tf_adam` sweep over all rows all the same.
        Products write dense gradients themselves, and a lean update its weights.
        """
        floats = 0
        for each in parts.weights:
            if each.rows is None or not each.is_trained:
                floats += 7 * each.gradient_size
            elif optimizer == "row_adam":
                floats += 9 * each.gradient_size
            else:
                floats += 3 * each.gradient_size + 6 * each.size
        return cls(parts.products, 4 * floats)

    @property
    def flops(self) -> int:
        """Of all products."""
        return sum(each.flops for each in self.products)

    def limit_seconds(self, speeds: Speeds) -> float:
        """The least that it takes: what is in neither products nor moved weights takes longer."""
        return self.flops / speeds.flops + self.moved_bytes / speeds.bytes

    def expected_seconds(self, speeds: Speeds) -> float | None:
        """The limit times the machine's measured factor; None where there is only the limit."""
        return None if speeds.factor is None else speeds.factor * self.limit_seconds(speeds)


def predict_step(trial: Trial, sizes: DataSizes) -> Step:
    """Operations of a trial's training step, from which seconds follow by a machine's speeds.

    Args:
        trial: settings.
        sizes: of the data, see :meth:`DataSizes.of_facts`.

    Raises:
        SettingsError: the method is unknown, or its card has no arithmetic.
    """
    return Step.of(parts_of(problem_of(trial, sizes)), trial.train.optimizer)
