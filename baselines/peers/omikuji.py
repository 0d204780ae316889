"""Forests of label trees by omikuji, Parabel and its relatives; and one-versus-rest, one leaf."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from baselines.peers.peer import Peer, PeerOptions, import_library, refuse_many_labels
from baselines.peers.text import feature_texts, label_texts, row_values
from bench.data.csr import Csr, Dataset, Int64s

Row = list[tuple[int, float]]

# Beside the library's defaults, which are Parabel's: two balanced clusters a node. Bonsai's trees
# are shallow and wide, and their clusters as uneven as k-means leaves them.
_PRESETS = MappingProxyType(
    {
        "parabel": {},
        "wide": {"collapse_every_n_layers": 5},
        "bonsai": {"cluster_k": 100, "max_depth": 3, "cluster_balanced": False},
    }
)
# A node of fewer labels is not split.
_MORE_THAN_LABELS = 1 << 31
# Option → the library's name.
_OF_TREES = MappingProxyType(
    {"branching": "cluster_k", "max_depth": "max_depth", "max_leaves": "min_branch_size"}
)


@dataclass(frozen=True, kw_only=True)
class OneVsRestOptions(PeerOptions):
    """Options of :class:`OneVsRest`.

    Attributes:
        binary_loss: of a label's, or node's, classifiers: `hinge` (squared) or `log`.
        linear_c: weight of that loss against the norm of the weights.
        linear_eps: how near to its optimum a classifier is to come.
        weight_threshold: smaller weights are dropped after training.
    """

    binary_loss: Literal["hinge", "log"] = "hinge"
    linear_c: float = 1.0
    linear_eps: float = 0.1
    weight_threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("linear_c", "weight_threshold"):
            self.require_at_least(name, 0)
        self.require_above("linear_eps", 0)


@dataclass(frozen=True, kw_only=True)
class OmikujiOptions(OneVsRestOptions):
    """Options of :class:`Omikuji`, beside those of its classifiers.

    Attributes:
        preset: `parabel`, `wide` (every five layers of Parabel's trees made one) or `bonsai`.
        num_trees: of the forest.
        branching: clusters that a node is split into; None: the preset's, 2 or Bonsai's 100.
        max_depth: of a tree; None: the preset's, 20 or Bonsai's 3.
        max_leaves: labels below which a node is split no more.
        beam_size: nodes of a layer that inference follows, and labels that one tree ranks.
    """

    preset: Literal["parabel", "wide", "bonsai"] = "parabel"
    num_trees: int = 3
    branching: int | None = None
    max_depth: int | None = None
    max_leaves: int = 100
    beam_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {"num_trees": 1, "branching": 2, "max_depth": 1, "max_leaves": 1, "beam_size": 1}
        for name, least in sizes.items():
            self.require_at_least(name, least)


class _Forest(Peer):
    """What omikuji trains from a text file in the repository's format.

    Training time includes the library's reading of that file (0.02 of 1.4 s at `bibtex-159`), not
    our writing it. It draws from the system's entropy and takes no seed: two trainings differ. A
    query is one call with a list of (feature, value), which the binding sorts, checks and copies
    number by number.
    """

    package = "omikuji"
    options: OneVsRestOptions

    _model: Any
    _k: int

    @property
    def _beam_size(self) -> int:
        return self._k

    @abstractmethod
    def _trees(self) -> dict[str, Any]:
        """Settings of the trees, by the library's names."""

    def read(self, dataset: Dataset) -> None:
        """Write the training file."""
        features, labels = dataset.train_features, dataset.train_labels
        rows = zip(label_texts(labels, 0), feature_texts(features), strict=True)
        with self._train_path.open("w") as file:
            file.write(f"{features.num_rows} {features.num_columns} {labels.num_columns}\n")
            # No space after the labels where there are no features: it would be read as one.
            file.writelines(f"{label} {text}\n" if text else f"{label}\n" for label, text in rows)

    def train(self) -> None:
        """Train a forest."""
        omikuji = import_library(self.package)
        options = self.options
        settings = omikuji.Model.default_hyper_param()
        settings.linear_c = options.linear_c
        settings.linear_eps = options.linear_eps
        settings.linear_weight_threshold = options.weight_threshold
        loss = omikuji.LossType.HINGE if options.binary_loss == "hinge" else omikuji.LossType.LOG
        settings.linear_loss_type = loss.value
        for name, value in self._trees().items():
            setattr(settings, name, value)
        self._model = omikuji.Model.train_on_data(str(self._train_path), settings, self.num_threads)

    def saved(self) -> Path:
        """A folder that it is written to now, into no other: there it would only be added."""
        folder = self.folder / "model"
        shutil.rmtree(folder, ignore_errors=True)
        self._model.save(str(folder))
        return folder

    def restore(self, folder: Path) -> None:
        """Load that folder's."""
        self._model = import_library(self.package).Model.load(str(folder))

    def prepare_inference(self, k: int) -> None:
        """Give inference its threads."""
        self._k = k
        self._model.init_prediction_thread_pool(self.num_threads)

    def queries(self, features: Csr) -> list[Row]:
        """Pairs (feature, value) of each point."""
        pairs = list(zip(features.ids.tolist(), row_values(features).tolist(), strict=True))
        return [pairs[begin:end] for begin, end in pairwise(features.offsets.tolist())]

    def top_k(self, queries: list[Row]) -> Int64s:
        """One call a point."""
        best = np.full((len(queries), self._k), -1, dtype=np.int64)
        for index, row in enumerate(queries):
            found = self._model.predict(row, self._beam_size, self._k)
            best[index, : len(found)] = [label for label, _ in found]
        return best

    @property
    def _train_path(self) -> Any:
        return self.folder / "train.txt"


class Omikuji(_Forest):
    """Parabel, Bonsai-like and other forests: label trees with a linear classifier at each child.

    Source: Prabhu et al. 2018 (Parabel), Khandagale et al. 2020 (Bonsai).
    """

    options_class = OmikujiOptions
    options: OmikujiOptions

    @property
    def _beam_size(self) -> int:
        return self.options.beam_size

    def _trees(self) -> dict[str, Any]:
        given = {theirs: getattr(self.options, name) for name, theirs in _OF_TREES.items()}
        given = {name: value for name, value in given.items() if value is not None}
        return {"n_trees": self.options.num_trees, **_PRESETS[self.options.preset], **given}


class OneVsRest(_Forest):
    """A linear classifier for each label, squared hinge or logistic: a tree that is one leaf.

    At Bibtex it gives what napkinXC's gives with the same loss and C (P@1 63.5 and 63.4), in half
    the time.

    Source: Babbar and Schölkopf 2017 (DiSMEC).
    """

    options_class = OneVsRestOptions

    def read(self, dataset: Dataset) -> None:
        """Write the training file.

        Raises:
            SettingsError: more labels than one-versus-rest is meant for.
        """
        refuse_many_labels(dataset)
        super().read(dataset)

    def _trees(self) -> dict[str, Any]:
        return {"n_trees": 1, "min_branch_size": _MORE_THAN_LABELS}
