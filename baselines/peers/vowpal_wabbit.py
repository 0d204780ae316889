"""One-against-all, recall tree, LOMTree and probabilistic label tree by Vowpal Wabbit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from baselines.peers.peer import Peer, PeerOptions, import_library
from baselines.peers.text import feature_texts, label_texts
from bench.data.csr import Csr, Dataset, Int64s
from bench.settings import SettingsError

# Of a weight: itself, its adaptive rate and its feature's scale, in slots of a power of two.
_BYTES_PER_WEIGHT = 16
# All features stand in one namespace, whose letter the recall tree crosses with its own: `\x88`
# is the namespace that it puts the nodes of a point's path into.
_NAMESPACE = "b"
_PATH_NAMESPACE = r"\x88"
# Options that belong to some reductions only.
_ONLY_OF = MappingProxyType(
    {
        "max_candidates": "recall_tree",
        "max_depth": "recall_tree",
        "node_only": "recall_tree",
        "path_features": "recall_tree",
        "num_negatives": "oaa",
    }
)


@dataclass(frozen=True, kw_only=True)
class VowpalWabbitOptions(PeerOptions):
    """Options of :class:`VowpalWabbit`.

    The loss, the rate and the recall tree's flags are by default those of Vowpal Wabbit's own runs
    on ODP and ImageNet, which the MACH paper's horizontal lines go back to; these had 30 or 31 bits
    and, at ODP, `max_candidates=400, max_depth=5`.

    Attributes:
        reduction: `oaa` (one-against-all), `recall_tree`, `log_multi` (LOMTree) or `plt`.
        bits: 2^bits weights are hashed into, for all labels or nodes together.
        passes: over the training data.
        initial_rate: of learning.
        steps: `adaptive`, a feature's own, normalised, as the library has them by default, or
            `plain` stochastic gradient descent.
        binary_loss: of every binary decision; `plt` knows `logistic` alone.
        max_candidates: labels that a leaf of the recall tree compares; None: the library's choice.
        max_depth: of the recall tree; None: log₂ L.
        node_only: let a leaf see its own node alone, not the path to it.
        path_features: cross the nodes with all features, so that each leaf has weights of its own.
        num_negatives: other labels that a point is a negative of; None: all.
    """

    reduction: Literal["oaa", "recall_tree", "log_multi", "plt"] = "plt"
    bits: int = 24
    passes: int = 1
    initial_rate: float = 1.0
    steps: Literal["adaptive", "plain"] = "adaptive"
    binary_loss: Literal["logistic", "hinge", "squared"] = "logistic"
    max_candidates: int | None = None
    max_depth: int | None = None
    node_only: bool = True
    path_features: bool = True
    num_negatives: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("bits", "passes", "max_candidates", "max_depth", "num_negatives"):
            self.require_at_least(name, 1)
        if self.bits > 40:
            raise SettingsError(f"option bits is {self.bits}; expected at most 40")
        self.require_above("initial_rate", 0)
        if self.reduction == "plt" and self.binary_loss != "logistic":
            raise SettingsError(
                f"option binary_loss is {self.binary_loss!r}; reduction 'plt' is 'logistic'"
            )
        for name, reduction in _ONLY_OF.items():
            if reduction != self.reduction and getattr(self, name) != _default(name):
                raise SettingsError(
                    f"option {name} belongs to reduction {reduction!r}, not {self.reduction!r}"
                )


def _default(name: str) -> Any:
    return getattr(VowpalWabbitOptions, name)


class VowpalWabbit(Peer):
    """A reduction of Vowpal Wabbit to binary linear classifiers, trained one point after another.

    It learns from a text file, in an order drawn from the seed, and its training time includes the
    parsing of it (by a thread of its own) and the writing of the model. Two trials are the same to
    the bit. `recall_tree` and `log_multi` name one label and no ranking. A query is a call with a
    parsed point; `oaa` hands over the scores of all L labels, which we sort.

    The table of weights is allocated in full: 2^bits × 16 bytes, whatever it holds. The model on
    disk has the weights that are not 0.

    Source: Beygelzimer et al. 2009 (filter trees), Choromanska and Langford 2015 (LOMTree),
    Daumé et al. 2017 (recall tree), Jasinska et al. 2016 (PLT).
    """

    package = "vowpalwabbit"
    options_class = VowpalWabbitOptions
    options: VowpalWabbitOptions

    _model_folder: Path
    _workspace: Any = None
    _num_labels: int
    _k: int

    @property
    def max_ranked(self) -> int | None:
        """One where a tree leads to a single label."""
        return None if self.options.reduction in ("oaa", "plt") else 1

    @property
    def num_epochs(self) -> int | None:
        """Passes."""
        return self.options.passes

    def least_bytes(self) -> int | None:
        """Bytes of the table of weights."""
        return _BYTES_PER_WEIGHT << self.options.bits

    def read(self, dataset: Dataset) -> None:
        """Write the training file, shuffled.

        Raises:
            SettingsError: points of several labels for a reduction that learns one.
        """
        is_plt = self.options.reduction == "plt"
        if dataset.task == "multilabel" and not is_plt:
            raise SettingsError(
                f"option reduction is {self.options.reduction!r} but points have several labels; "
                "expected 'plt'"
            )
        self._num_labels = dataset.num_labels
        order = np.random.default_rng(self.seed).permutation(dataset.train_features.num_rows)
        # Reductions to one label count from 1, the label tree from 0.
        labels = label_texts(dataset.train_labels.rows(order), 0 if is_plt else 1)
        features = feature_texts(dataset.train_features.rows(order))
        with self._train_path.open("w") as file:
            rows = zip(labels, features, strict=True)
            file.writelines(f"{label} |{_NAMESPACE} {text}\n" for label, text in rows)

    def train(self) -> None:
        """Train a new model and write it down."""
        self._model_folder = self.folder / "model"
        self._model_folder.mkdir(exist_ok=True)
        arguments = [*self._arguments(), "-d", str(self._train_path), "-f", str(self._model_path)]
        if self.options.passes > 1:
            passes = str(self.options.passes)
            cache = str(self.folder / "train.cache")
            arguments += ["--passes", passes, "--cache_file", cache, "-k", "--holdout_off"]
        self._open(arguments).finish()

    def saved(self) -> Path:
        """The folder of the file that training wrote."""
        return self._model_folder

    def restore(self, folder: Path) -> None:
        """Read that file from now on."""
        self._model_folder = folder

    def prepare_inference(self, k: int) -> None:
        """Load the model."""
        self._k = k
        arguments = ["-t", "-i", str(self._model_path)]
        if self.options.reduction == "plt":
            # The file does not say which loss it was trained with.
            arguments += ["--loss_function", "logistic", "--top_k", str(k)]
        elif self.options.reduction == "oaa" and k > 1:
            arguments += ["--scores"]
        self._workspace = self._open(arguments)

    def queries(self, features: Csr) -> list[Any]:
        """A parsed point each."""
        texts = feature_texts(features)
        return [self._workspace.parse(f" |{_NAMESPACE} {text}") for text in texts]

    def top_k(self, queries: list[Any]) -> Int64s:
        """One call a point."""
        best = np.full((len(queries), self._k), -1, dtype=np.int64)
        predict, is_plt = self._workspace.predict, self.options.reduction == "plt"
        for index, query in enumerate(queries):
            found = predict(query)
            if is_plt:
                best[index, : len(found)] = found
            elif self._k > 1:
                best[index] = _largest(found, self._k)
            else:
                best[index] = found - 1
        return best

    def release(self, queries: list[Any]) -> None:
        """Hand the points back to the library's pool."""
        for query in queries:
            self._workspace.finish_example(query)

    def finish_inference(self) -> None:
        """Close the model."""
        self._workspace.finish()
        self._workspace = None

    def _arguments(self) -> list[str]:
        options = self.options
        arguments = [f"--{options.reduction}", str(self._num_labels)]
        arguments += ["-b", str(options.bits), "-l", str(options.initial_rate)]
        arguments += ["--loss_function", options.binary_loss, "--random_seed", str(self.seed)]
        arguments += ["--sgd"] if options.steps == "plain" else []
        if options.reduction == "recall_tree":
            arguments += ["--node_only"] if options.node_only else []
            arguments += ["-q", _PATH_NAMESPACE + _NAMESPACE] if options.path_features else []
        for flag, value in (
            ("--max_candidates", options.max_candidates),
            ("--max_depth", options.max_depth),
            ("--oaa_subsample", options.num_negatives),
        ):
            arguments += [] if value is None else [flag, str(value)]
        return arguments

    def _open(self, arguments: list[str]) -> Any:
        return import_library(self.package).Workspace(arg_list=[*arguments, "--quiet"])

    @property
    def _train_path(self) -> Path:
        return self.folder / "train.vw"

    @property
    def _model_path(self) -> Path:
        return self._model_folder / "model.vw"


def _largest(scores: list[float], k: int) -> Int64s:
    """Indices of the k largest scores, largest first, ties by smaller index."""
    values = -np.array(scores)
    if k < values.size:
        bound = np.partition(values, k - 1)[k - 1]
        indices = np.flatnonzero(values <= bound)
        return indices[np.argsort(values[indices], kind="stable")][:k]
    return np.argsort(values, kind="stable")
