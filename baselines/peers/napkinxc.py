"""Probabilistic label trees, hierarchical softmax and one-versus-rest by napkinXC."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from baselines.peers.peer import Peer, PeerOptions, import_library, refuse_many_labels
from baselines.peers.text import row_values
from bench.data.csr import Csr, Dataset, Int64s
from bench.settings import SettingsError


@dataclass(frozen=True, kw_only=True)
class NapkinXcOptions(PeerOptions):
    """Options of :class:`NapkinXc`.

    Attributes:
        model: `plt` (probabilistic label tree), `hsm` (hierarchical softmax; of several labels it
            learns from each, weighted by 1/their number) or `ovr` (one-versus-rest).
        num_trees: of the ensemble; `ovr` has none.
        binary_loss: of a node's classifiers: `log` or `l2` (squared hinge).
        linear_c: weight of that loss against the norm of the weights.
        linear_eps: how near to its optimum a classifier is to come.
        weight_threshold: smaller weights are dropped after training.
        arity: children of an inner node.
        max_leaves: labels below which a node is split no more.
    """

    model: Literal["plt", "hsm", "ovr"] = "plt"
    num_trees: int = 1
    binary_loss: Literal["log", "l2"] = "log"
    linear_c: float = 10.0
    linear_eps: float = 0.1
    weight_threshold: float = 0.1
    arity: int = 2
    max_leaves: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("num_trees", 1), ("arity", 2), ("max_leaves", 1)):
            self.require_at_least(name, least)
        for name in ("linear_c", "weight_threshold"):
            self.require_at_least(name, 0)
        self.require_above("linear_eps", 0)
        if self.model == "ovr" and self.num_trees != 1:
            raise SettingsError(f"option num_trees is {self.num_trees}; model 'ovr' has no trees")


class NapkinXc(Peer):
    """A model of napkinXC, trained from and asked by sparse matrices of SciPy.

    The model is written while it is trained, which its training time so includes. With one thread
    two trials are the same to the bit; its threads share one stream of random numbers, so that with
    more they are not. A query is a call with a matrix of any number of rows; probabilities are left
    out of the answer, as only the order is used.

    Source: Jasinska et al. 2016 (PLT), Jasinska-Kobus et al. 2020 (napkinXC).
    """

    package = "napkinxc"
    options_class = NapkinXcOptions
    options: NapkinXcOptions

    _model: Any
    _model_folder: Path
    _features: Any
    _labels: Any
    _is_multilabel: bool
    _is_loaded: bool
    _k: int

    def read(self, dataset: Dataset) -> None:
        """Make both matrices of the training split.

        Raises:
            SettingsError: more labels than one-versus-rest is meant for.
        """
        if self.options.model == "ovr":
            refuse_many_labels(dataset)
        self._features = _to_scipy(dataset.train_features)
        self._labels = _to_scipy(dataset.train_labels)
        self._is_multilabel = dataset.task == "multilabel"

    def train(self) -> None:
        """Train into an empty folder: what lies there would stay part of the model."""
        folder = self.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        self.restore(folder)
        self._model.fit(self._features, self._labels)

    def saved(self) -> Path:
        """The folder that training wrote."""
        return self._model_folder

    def restore(self, folder: Path) -> None:
        """A model of that folder, not loaded yet."""
        models = import_library("napkinxc.models")
        options = self.options
        arguments: dict[str, Any] = {
            "threads": self.num_threads,
            "seed": self.seed,
            "loss": options.binary_loss,
            "liblinear_c": options.linear_c,
            "liblinear_eps": options.linear_eps,
            "weights_threshold": options.weight_threshold,
        }
        if options.model == "ovr":
            build = models.BR if self._is_multilabel else models.OVR
        else:
            build = models.PLT if options.model == "plt" else models.HSM
            arguments |= {
                "ensemble": options.num_trees,
                "arity": options.arity,
                "max_leaves": options.max_leaves,
            }
        if options.model == "hsm":
            arguments["pick_one_label_weighting"] = self._is_multilabel
        self._model = build(str(folder), **arguments)
        self._model_folder = folder
        self._is_loaded = False

    def prepare_inference(self, k: int) -> None:
        """Load the model, once: one-versus-rest loaded again after `unload` answers zeros."""
        self._k = k
        if not self._is_loaded:
            self._model.load()
            self._is_loaded = True

    def queries(self, features: Csr) -> Any:
        """The points as a matrix."""
        return _to_scipy(features)

    def top_k(self, queries: Any) -> Int64s:
        """One call for all points."""
        found = self._model.predict(queries, top_k=self._k)
        if all(len(labels) == self._k for labels in found):
            return np.array(found, dtype=np.int64).reshape(len(found), self._k)
        best = np.full((len(found), self._k), -1, dtype=np.int64)
        for index, labels in enumerate(found):
            best[index, : len(labels)] = labels
        return best


def _to_scipy(rows: Csr) -> Any:
    """Rows as a `scipy.sparse.csr_matrix`, which napkinXC depends on and we do not."""
    sparse = import_library("scipy.sparse")
    ids, offsets = np.array(rows.ids), np.array(rows.offsets)
    return sparse.csr_matrix(
        (row_values(rows), ids, offsets), shape=(rows.num_rows, rows.num_columns)
    )
