"""A peer without a library: features vote for labels. It shows what is measured of any peer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from baselines.peers.peer import Peer, PeerOptions
from bench.methods.card import Card


@dataclass(frozen=True, kw_only=True)
class VotesOptions(PeerOptions):
    smoothing: float = 0.5
    ranks: bool = True
    bytes_needed: int | None = None


class Votes(Peer):
    package = "numpy"  # something that is installed, in its own process before torch
    options_class = VotesOptions
    options: VotesOptions
    trained: ClassVar[list[int]] = []  # labels of each training

    _dataset: Any
    _votes: Any
    _k: int

    @property
    def max_ranked(self):
        return None if self.options.ranks else 1

    def least_bytes(self):
        return self.options.bytes_needed

    def read(self, dataset):
        (self.folder / "train.json").write_text(json.dumps(dataset.train_labels.ids.tolist()))
        self._dataset = dataset

    def train(self):
        features, labels = self._dataset.train_features, self._dataset.train_labels
        votes = np.full((features.num_columns, labels.num_columns), self.options.smoothing)
        for point in range(features.num_rows):
            entries = slice(*features.offsets[point : point + 2])
            for label in labels.ids[slice(*labels.offsets[point : point + 2])]:
                votes[features.ids[entries], label] += features.values[entries]
        self._votes = np.log(votes / votes.sum(axis=1, keepdims=True))
        self.trained.append(labels.num_columns)

    def saved(self):
        folder = self.folder / "model"
        folder.mkdir(exist_ok=True)
        np.save(folder / "model.npy", self._votes)
        return folder

    def restore(self, folder):
        self._votes = np.load(folder / "model.npy")

    def prepare_inference(self, k):
        self._k = k

    def queries(self, features):
        rows = [slice(*features.offsets[i : i + 2]) for i in range(features.num_rows)]
        return [features.ids[row] for row in rows]

    def top_k(self, queries):
        scores = [self._votes[ids].sum(axis=0) for ids in queries]
        return np.argsort(-np.array(scores), axis=1, kind="stable")[:, : self._k]


CARD = Card(
    name="votes",
    version=1,
    label="Votes",
    group="votes",
    target="votes:Votes",
    entry="baselines.peers.process",
)
