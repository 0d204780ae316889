"""Synthetic classification whose true posterior is known, at any N, D, L and sparsity.

The model: a class y is drawn from a Zipfian prior, p(y) ∝ (y + 1)^(−zipf_exponent). Each class owns
`signature_size` distinct features, drawn uniformly once. Each of a point's `features_per_point`
draws gives, with probability `signal`, one of the class's own features (uniformly), and otherwise a
feature f of the background, q(f) ∝ 1 / (f + 1). A feature's value is how often it was drawn. So

    log p(y | x) = const + log p(y) + Σ_f x_f · log(1 + [f ∈ S_y] · signal / (m (1 − signal) q(f)))

is linear in the raw counts: no method can beat its argmax on average, and a linear one can reach
it. Only classes that own one of the point's features, and the most probable class that owns none,
can be the argmax, so inverted lists find it exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from bench.data.csr import Csr, Int32s
from bench.data.sampling import count_rows, distinct_rows, inverse_cdf, inverted, stack_rows, zipf
from bench.data.source import MAX_ID, DataError, RawData, require_range
from bench.settings import derive_seed
from bench.store.kernels import njit

_BLOCK_DRAWS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class PlantedSource:
    """Sizes and difficulty of the synthetic data.

    Attributes:
        num_train_points: N.
        num_test_points: points to test on.
        num_features: D.
        num_labels: L.
        features_per_point: draws a point; repeats add up, so that a point has at most as many
            distinct features.
        signature_size: m, features that a class owns; m² ≤ D.
        signal: probability that a draw comes from the class's own features; in (0, 1).
        zipf_exponent: of the class prior; 0 is uniform.
        labels_per_point: 1 makes multiclass data with a known `bayes_accuracy`; more makes
            multi-label data, where each draw from a class picks one of the point's labels first
            and labels drawn twice count once.
        seed: of everything.
    """

    version: ClassVar[int] = 1

    num_train_points: int
    num_test_points: int
    num_features: int
    num_labels: int
    features_per_point: int = 20
    signature_size: int = 8
    signal: float = 0.25
    zipf_exponent: float = 1.0
    labels_per_point: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        sizes = ("num_train_points", "num_test_points", "num_features", "num_labels")
        counts = ("features_per_point", "signature_size", "labels_per_point")
        require_range(self, (*sizes, *counts), 1, MAX_ID)
        require_range(self, ("zipf_exponent",), 0, None)
        if self.signature_size**2 > self.num_features:
            raise DataError(
                f"option signature_size is {self.signature_size}; expected its square to be at "
                f"most num_features, {self.num_features}"
            )
        if not 0 < self.signal < 1:
            raise DataError(f"option signal is {self.signal}; expected between 0 and 1, both open")

    def identity(self, data_dir: Path, cache_dir: Path) -> Mapping[str, Any]:
        """Nothing: the options are all there is; see `bench.data.source.Source`."""
        return {}

    def build(self, data_dir: Path, scratch: Path | None = None) -> RawData:
        """Draw the points and find the best label of each test point; see `bench.data.source`."""
        signatures = self.signatures()
        train_x, train_y = self._points("train", self.num_train_points, signatures)
        test_x, test_y = self._points("test", self.num_test_points, signatures)
        hits = None
        if self.labels_per_point == 1:
            hits = self.best_labels(test_x, signatures) == test_y.ids
        return RawData(
            train_features=train_x,
            train_labels=train_y,
            test_features=test_x,
            test_labels=test_y,
            task="multiclass" if self.labels_per_point == 1 else "multilabel",
            bayes_hits=hits,
        )

    def label_prior(self) -> npt.NDArray[np.float64]:
        """`(L,)` float64: p(y)."""
        return zipf(self.num_labels, self.zipf_exponent)

    def background(self) -> npt.NDArray[np.float64]:
        """`(D,)` float64: q(f)."""
        return zipf(self.num_features, 1.0)

    def signatures(self) -> Int32s:
        """`(L, m)` int32: the features that each class owns, ascending and distinct."""
        generator = self._generator("signatures")

        def draw(num_rows: int) -> Int32s:
            shape = (num_rows, self.signature_size)
            return generator.integers(self.num_features, size=shape, dtype=np.int32)

        return np.sort(distinct_rows(draw, self.num_labels), axis=1)

    def best_labels(self, features: Csr, signatures: Int32s) -> Int32s:
        """`(N,)` int32: argmax of the true posterior, ties to the smaller label."""
        starts, owners = inverted(signatures, self.num_features)
        noise = self.signature_size * (1.0 - self.signal) * self.background()
        values = features.values
        best = np.empty(features.num_rows, dtype=np.int32)
        _best_labels(
            features.offsets,
            features.ids,
            np.ones(features.ids.size, dtype=np.float32) if values is None else values,
            starts,
            owners,
            np.log(self.label_prior()),
            np.log1p(self.signal / noise),
            best,
        )
        return best

    def _generator(self, purpose: str, *parts: int) -> np.random.Generator:
        return np.random.default_rng(derive_seed("planted", purpose, self.seed, *parts))

    def _points(self, split: str, num_points: int, signatures: Int32s) -> tuple[Csr, Csr]:
        prior = np.cumsum(self.label_prior())
        noise = np.cumsum(self.background())
        block = max(_BLOCK_DRAWS // max(self.features_per_point, self.labels_per_point), 1)
        features, labels = [], []
        for start in range(0, num_points, block):
            num = min(block, num_points - start)
            generator = self._generator(split, start)
            drawn = inverse_cdf(prior, generator.random((num, self.labels_per_point)))
            labels.append(count_rows(drawn))
            shape = (num, self.features_per_point)
            which = generator.integers(self.labels_per_point, size=shape)
            index = generator.integers(self.signature_size, size=shape)
            own = signatures[np.take_along_axis(drawn, which, axis=1), index]
            other = inverse_cdf(noise, generator.random(shape))
            features.append(count_rows(np.where(generator.random(shape) < self.signal, own, other)))
        label_rows = stack_rows(labels, self.num_labels)
        return (
            stack_rows(features, self.num_features),
            Csr(label_rows.offsets, label_rows.ids, None, self.num_labels),
        )


@njit(cache=True)
def _best_labels(offsets, ids, counts, starts, owners, log_prior, evidence, best):  # type: ignore[no-untyped-def]
    num_labels = log_prior.size
    gains = np.zeros(num_labels)
    is_touched = np.zeros(num_labels, dtype=np.bool_)
    touched = np.empty(num_labels, dtype=np.int32)
    for point in range(offsets.size - 1):
        num_touched = 0
        for entry in range(offsets[point], offsets[point + 1]):
            feature = ids[entry]
            for owner in range(starts[feature], starts[feature + 1]):
                label = owners[owner]
                if not is_touched[label]:
                    is_touched[label] = True
                    touched[num_touched] = label
                    num_touched += 1
                gains[label] += counts[entry] * evidence[feature]
        # The prior falls with the label, so the first class without evidence is its kind's best.
        winner = 0
        while winner < num_labels and is_touched[winner]:
            winner += 1
        score = log_prior[winner] if winner < num_labels else -np.inf
        for index in range(num_touched):
            label = touched[index]
            mine = log_prior[label] + gains[label]
            if mine > score or (mine == score and label < winner):
                winner, score = label, mine
            gains[label] = 0.0
            is_touched[label] = False
        best[point] = winner
