"""An exported model in memory, which predicts the labels of raw points."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.csr import Csr
from bench.data.loader import to_batch
from bench.data.source import DataError
from bench.data.sources import SOURCES
from bench.export import Format
from bench.export.features import FeatureMap, Points
from bench.export.folder import (
    LABELS,
    META,
    WEIGHTS,
    ModelError,
    read_lines,
    read_meta,
    read_tensors,
)
from bench.export.state import built, give_state, identity_of, label_counts, versions_today
from bench.measure.processors import num_cores
from bench.methods.cards import is_older
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.num_threads import keep_threads
from bench.nn.ranking import UnrankableError
from bench.settings import DataSpec

Label = str | int

_log = logging.getLogger(__name__)
# Kernels use all threads that they are given: two models at once would only be in each other's way,
# and numba's simplest threads end the process then.
_TURN = threading.Lock()


class Predictor:
    """Best labels of texts or sparse rows, by a model that `bench export` wrote.

    Any threads may call one predictor; it computes in a thread of its own, for one call at a time,
    and leaves the settings of torch as they are. Weights are mapped from the folder, which must
    stay as it is meanwhile; another model may be put in its place. A process that is forked loads
    its own.

    Attributes:
        about: what `model.json` says: method, settings, hash functions, data, record, provenance.
        num_labels: L.
        num_features: D.
    """

    @classmethod
    def load(
        cls, folder: str | Path, *, threads: int | None = None, verify: bool = True
    ) -> Predictor:
        """The model of a folder.

        Args:
            folder: of `bench export` or :func:`bench.export_model`.
            threads: that compute; None: as many as torch has, and there are processors for.
            verify: compare the digest of every file, which takes some 0.15 s for 100 MB.

        Raises:
            bench.export.folder.ModelError: the folder is torn, changed, of another format, or of a
                method that is not registered here.
        """
        if threads is not None and (isinstance(threads, bool) or threads < 1):
            raise ModelError(f"threads is {threads!r}; expected None or a number from 1")
        path = Path(folder)
        meta = read_meta(path, verify=verify)
        num_threads = torch.get_num_threads()
        thread = ThreadPoolExecutor(1, "predictor", initializer=_settle, initargs=(threads,))
        try:
            model = thread.submit(model_of, path, meta).result()
        finally:
            # What a thread sets is what threads begin with that are started later.
            torch.set_num_threads(num_threads)
        return cls(path, meta, model, thread)

    def __init__(
        self,
        folder: Path,
        meta: Mapping[str, Any],
        model: ExtremeClassifier,
        thread: ThreadPoolExecutor,
    ) -> None:
        self.about = meta
        self.num_labels = model.num_labels
        self.num_features = model.num_features
        self._model = model
        self._thread = thread
        self._features = FeatureMap.of_folder(folder, _spec(meta), model.num_features)
        self._labels = _labels_of(folder, meta)
        self._prepared: set[int] = set()
        self._process = os.getpid()

    def top_k(
        self,
        points: Points,
        k: int = 5,
        *,
        probabilities: bool = False,
        batch_size: int = 256,
    ) -> tuple[list[list[Label]], npt.NDArray[np.float32]]:
        """The k best labels of each point, best first, and their scores.

        Args:
            points: a list of texts, where the model was trained on texts; a list of rows
                `{feature: value}`; SciPy's CSR or :class:`bench.data.csr.Csr`. Values are raw, as
                in the training files; features are numbered from 0.
            k: 1 to L.
            probabilities: in place of scores, where the method has some.
            batch_size: points that are computed together.

        Returns:
            Names, or ids where labels have none, `N` lists of k; scores `(N, k)` float32.

        Raises:
            bench.data.source.DataError: a point is not what it must be.
            bench.export.folder.ModelError: texts, for a model of rows; a k or size out of range.
            bench.settings.SettingsError: the method has no probabilities.
        """
        self._check(k, batch_size)
        raw = self._features.raw(points)
        rows = self._features.weighted(raw, lambda row: f"row {row}")
        names: list[list[Label]] = []
        scores = np.empty((rows.num_rows, k), dtype=np.float32)
        for start in range(0, rows.num_rows, batch_size):
            some = rows.slice(start, start + batch_size)
            where = f"rows {start} to {start + some.num_rows - 1}"
            labels, scores[start : start + batch_size] = self._found(some, k, probabilities, where)
            names += labels
        return names, scores

    def predict(
        self,
        path: str | Path,
        k: int = 5,
        *,
        format: Format | None = None,
        probabilities: bool = False,
        batch_size: int = 256,
    ) -> Iterator[tuple[int, list[Label], npt.NDArray[np.float32]]]:
        """Of each point of a file, in its order: its line, its k best labels, and `(k,)` scores.

        The file is read as it is asked for. Labels that it has are left aside.

        Args:
            path: the file; `-` is standard input.
            k: 1 to L.
            format: of the file, a value of `bench.export.features.FORMATS`; None goes by its name.
            probabilities: as in :meth:`top_k`.
            batch_size: as in :meth:`top_k`.

        Raises:
            bench.data.source.DataError: file, line, value and what was expected.
        """
        self._check(k, batch_size)
        for lines, rows in self._features.read(Path(path), format, batch_size):
            where = f"{path}, lines {lines[0]} to {lines[-1]}"
            names, scores = self._found(rows, k, probabilities, where)
            yield from zip(lines, names, scores, strict=True)

    def _check(self, k: int, batch_size: int) -> None:
        if os.getpid() != self._process:
            raise ModelError(
                "the process was forked after the model was loaded, and has not the thread that "
                "computes; expected Predictor.load in each process"
            )
        if not 1 <= k <= self.num_labels:
            raise ModelError(f"k is {k}; expected 1 to L = {self.num_labels}")
        if batch_size < 1:
            raise ModelError(f"batch_size is {batch_size}; expected 1 or more")

    def _found(
        self, rows: Csr, k: int, probabilities: bool, where: str
    ) -> tuple[list[list[Label]], npt.NDArray[np.float32]]:
        try:
            scores, labels = self._thread.submit(self._compute, rows, k, probabilities).result()
        except UnrankableError as error:
            raise DataError(f"{where}: {error}; or values too large for this model") from error
        return [list(map(self._labels, row)) for row in labels.tolist()], scores.numpy()

    @torch.inference_mode()
    def _compute(self, rows: Csr, k: int, probabilities: bool) -> tuple[Tensor, Tensor]:
        none = np.zeros(rows.num_rows + 1, dtype=np.int64)
        batch = to_batch(rows, Csr(none, np.zeros(0, np.int32), None, self.num_labels))
        with _TURN:
            if k not in self._prepared:
                self._model.prepare_inference(k)
                self._prepared.add(k)
            scores, labels = self._model.top_k(batch, k)
            if probabilities:
                scores = self._model.probabilities(batch, scores, labels)
        return scores, labels


def _settle(threads: int | None) -> None:
    """Compute in this thread as a trial's process does."""
    torch.set_num_threads(threads or min(torch.get_num_threads(), num_cores()))
    keep_threads()
    torch.set_flush_denormal(True)


def _spec(meta: Mapping[str, Any]) -> DataSpec:
    return DataSpec(**meta["data"])


def model_of(folder: Path, meta: Mapping[str, Any]) -> ExtremeClassifier:
    """The model with its weights mapped and its hash tables made."""
    state = read_tensors(folder / WEIGHTS)
    counts = label_counts(state, meta["facts"]["num_labels"])
    facts = DataFacts(**meta["facts"], label_counts=counts)
    model = built(meta["method"], meta["settings"], facts)
    if meta["identity"] != identity_of(model):
        raise ModelError(
            f"{folder / META}: losses, layers or hash functions are others than this version makes "
            "of the settings; expected the version that exported the model"
        )
    give_state(model, state, folder / WEIGHTS)
    spec = _spec(meta)
    if spec.source in SOURCES:  # not one of a user's own
        today = versions_today(spec, meta["method"], meta["settings"])
        if is_older(meta["versions"], today):
            _log.warning(
                "%s was exported with versions %s, and this code has %s: points or labels may be "
                "found otherwise than then", folder, meta["versions"], today,
            )  # fmt: skip
    return model


def _labels_of(folder: Path, meta: Mapping[str, Any]) -> Callable[[int], Label]:
    """What a label is called."""
    first: int | None = meta["labels"]["first"]
    if not (folder / LABELS).is_file():
        return lambda label: label + (first or 0)
    lines: Sequence[Label] = read_lines(folder / LABELS)
    return (lines if first is None else list(map(int, lines))).__getitem__
