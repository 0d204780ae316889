"""Parabel and its relatives by omikuji: forests of balanced label trees with linear nodes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from baselines.peers.peer import Peer, PeerOptions, import_library
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


@dataclass(frozen=True, kw_only=True)
class OmikujiOptions(PeerOptions):
    """Options of :class:`Omikuji`.

    Attributes:
        preset: `parabel`, `wide` (every five layers of Parabel's trees made one) or `bonsai`.
        num_trees: of the forest.
        binary_loss: of a node's classifiers: `hinge` (squared) or `log`.
        linear_c: weight of that loss against the norm of the weights.
        weight_threshold: smaller weights are dropped after training.
        beam_size: nodes of a layer that inference follows.
    """

    preset: Literal["parabel", "wide", "bonsai"] = "parabel"
    num_trees: int = 3
    binary_loss: Literal["hinge", "log"] = "hinge"
    linear_c: float = 1.0
    weight_threshold: float = 0.1
    beam_size: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_trees", "beam_size"):
            self.require_at_least(name, 1)
        for name in ("linear_c", "weight_threshold"):
            self.require_at_least(name, 0)


class Omikuji(Peer):
    """Forest of label trees, trained by omikuji from a text file in the repository's format.

    Training time includes the library's reading of that file (0.02 of 1.4 s at `bibtex-159`), not
    our writing it. It draws its clusters from the system's entropy and takes no seed: two trainings
    differ. A query is one call with a list of (feature, value), which the binding sorts, checks and
    copies number by number.

    Source: Prabhu et al. 2018 (Parabel), Khandagale et al. 2020 (Bonsai).
    """

    package = "omikuji"
    options_class = OmikujiOptions
    options: OmikujiOptions

    _model: Any
    _k: int

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
        settings.n_trees = options.num_trees
        settings.linear_c = options.linear_c
        settings.linear_weight_threshold = options.weight_threshold
        loss = omikuji.LossType.HINGE if options.binary_loss == "hinge" else omikuji.LossType.LOG
        settings.linear_loss_type = loss.value
        for name, value in _PRESETS[options.preset].items():
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
            found = self._model.predict(row, self.options.beam_size, self._k)
            best[index, : len(found)] = [label for label, _ in found]
        return best

    @property
    def _train_path(self) -> Any:
        return self.folder / "train.txt"
