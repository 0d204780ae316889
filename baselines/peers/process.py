"""A peer's trial, and its part in rounds of timing, inside their own process.

A peer trains from the same prepared data as our methods and is scored by the same metrics. torch,
which only these need, is imported after training and prediction, so that host peaks are the
peer's. All three libraries work inside this process: `VmHWM` is all that they take.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np

from baselines.peers.peer import Peer, PeerOptions, import_library, read_options
from bench.data.csr import Csr, Dataset, Int64s
from bench.data.prepared import load_dataset
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Context
from bench.measure.memory import HostPeak, available_memory_bytes, host_current_bytes, refuse_beyond
from bench.measure.phases import BATCH_SIZE, LATENCY_QUERIES, NUM_BATCHES, Repetition
from bench.methods.cards import method_class
from bench.settings import Trial, derive_seed
from bench.store.files import scratch_folder

_log = logging.getLogger(__name__)

TIMED_K = 5
# A training that took longer is not repeated in later repetitions.
_LONG_FIT_SECONDS = 20.0
# Points in a library's own form, and in memory, at a time.
_BLOCK_ROWS = 2048


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Run a peer's quality trial; its record's parts, as `bench.experiments.training` has them.

    `parameter_bytes` are those of the model's files. The one point of the curve is the validation
    value by which a row is chosen; where the context says `validation_only`, no test point is
    ranked. A peer computes on the CPU, whatever the accelerator; of the settings of training, only
    whether there is a validation matters.
    """
    context.require_validation(trial)
    kind, options = _chosen(trial)
    watch, host_peak = Stopwatch(), HostPeak()
    with scratch_folder(context.cache_dir / "peers") as folder:
        context.phase("data")
        dataset = load_dataset(trial.data, context.data_dir, context.cache_dir)
        context.phase("build")
        peer = _built(kind, options, trial, folder)
        memory: dict[str, int | None] = {
            "predicted_bytes": peer.least_bytes(),
            "decode_bytes": 0,
            "host_baseline_bytes": host_current_bytes(),
        }
        context.partial(data=dataset.facts, memory=memory)
        refuse_beyond(available_memory_bytes(), memory)
        peer.read(dataset)
        context.phase("train")
        host_peak.begin_phase()
        with watch.running():
            peer.train()
        memory["host_train_peak_bytes"] = host_peak.phase_bytes()
        memory["parameter_bytes"] = peer.model_bytes()
        context.phase("evaluate")
        k = _most_labels(peer, dataset, max(trial.data.ks))
        host_peak.begin_phase()
        peer.prepare_inference(k)
        validation = ranked(peer, dataset.validation_features, k) if trial.has_validation else None
        test = None if context.validation_only else ranked(peer, dataset.test_features, k)
        peer.finish_inference()
        memory["host_evaluation_peak_bytes"] = host_peak.phase_bytes()
        memory["host_peak_bytes"] = host_peak.total_bytes()
    passes = peer.num_epochs
    curve = []
    if validation is not None:
        metrics = metrics_of(trial, dataset, dataset.validation_labels, validation)
        curve = [{"step": 0, "epoch": passes, "loss": None, "metrics": metrics}]
    return {
        "data": dataset.facts,
        "memory": memory,
        "clock": {"train_seconds": watch.seconds},
        "training": {
            "num_steps": 0,
            "num_epochs": passes,
            "points_seen": (passes or 1) * dataset.train_features.num_rows,
            "curve": curve,
        },
        "test": None if test is None else metrics_of(trial, dataset, dataset.test_labels, test),
        "resolved": peer.resolved(),
    }


def time(trial: Trial, context: Context, repetitions: Iterator[Repetition]) -> dict[str, Any]:
    """Time a training, single queries and batches of them.

    Phases are `fit` (in the first round only, if it takes longer than 20 s: a process that is
    started again to spare memory finds the model in the cache), and `latency` and `throughput` as
    our methods have them, the points being in the library's own form beforehand.
    """
    kind, options = _chosen(trial)
    with scratch_folder(context.cache_dir / "peers") as folder:
        context.phase("data")
        dataset = load_dataset(trial.data, context.data_dir, context.cache_dir)
        context.phase("build")
        peer = _built(kind, options, trial, folder)
        refuse_beyond(available_memory_bytes(), {"predicted_bytes": peer.least_bytes()})
        peer.read(dataset)
        k = _most_labels(peer, dataset, TIMED_K)
        # Of the session that is under way: its first round replaces it.
        kept = context.cache_dir / "peers" / f"{trial.trial_id}.model"
        is_trained = False
        for repetition in repetitions:
            if repetition.round_number == 0:
                shutil.rmtree(kept, ignore_errors=True)
            elif not is_trained and kept.is_dir():
                peer.restore(kept)
                is_trained = True
            if not is_trained:
                with repetition.timed("fit", units=1) as seconds:
                    start = perf_counter()
                    peer.train()
                    seconds.append(perf_counter() - start)
                is_trained = seconds[0] > _LONG_FIT_SECONDS
                if is_trained:
                    _keep(peer, kept)
            _time_inference(repetition, peer, dataset.test_features, k)
    return {
        "weights": "trained",
        "fingerprint": dataset.facts.get("fingerprint"),
        "inference": {"k": k},
    }


def _keep(peer: Peer, kept: Path) -> None:
    """Give a trained model's files a second name, all of them or none: else it is trained again.

    Nothing is copied, which would be gigabytes on their way to the disk while inference is timed.
    """
    links = peer.folder / "links"
    try:
        shutil.copytree(peer.saved(), links, copy_function=os.link)
        links.rename(kept)
    except OSError as error:
        _log.warning("the model is not kept for later rounds: %s", error)
        shutil.rmtree(links, ignore_errors=True)


def ranked(peer: Peer, features: Csr, k: int) -> Int64s:
    """`(N, k)` best labels of all points, block by block; the peer is ready for k of them."""
    blocks = [np.empty((0, k), dtype=np.int64)]
    for start in range(0, features.num_rows, _BLOCK_ROWS):
        queries = peer.queries(features.slice(start, start + _BLOCK_ROWS))
        blocks.append(peer.top_k(queries))
        peer.release(queries)
    return np.concatenate(blocks)


def metrics_of(trial: Trial, dataset: Dataset, labels: Csr, best: Int64s) -> dict[str, float]:
    """The metrics that our methods are scored by, of ranked labels; imports torch.

    Args:
        trial: its data's settings say which.
        dataset: whose training labels decide propensities and groups.
        labels: `(N, L)` relevant ones.
        best: `(N, K)`; cut-offs above K are left out. No points: no metrics.
    """
    if best.shape[0] == 0:
        return {}
    import torch

    from bench.data.loader import to_batch
    from bench.metrics.torchmetric import metrics_of_data

    metrics = metrics_of_data(trial.data, dataset, most=best.shape[1])
    for start in range(0, best.shape[0], _BLOCK_ROWS):
        block = labels.slice(start, start + _BLOCK_ROWS)
        ranked_block = torch.from_numpy(best[start : start + _BLOCK_ROWS])
        metrics.update(ranked_block, to_batch(_no_features(block.num_rows), block))
    return {name: float(value) for name, value in metrics.compute().items()}


def _no_features(num_rows: int) -> Csr:
    return Csr(np.zeros(num_rows + 1, dtype=np.int64), np.zeros(0, dtype=np.int32), None, 0)


def _chosen(trial: Trial) -> tuple[type[Peer], PeerOptions]:
    """A trial's peer and its options; its library is imported, no data read."""
    kind = cast(type[Peer], method_class(trial.model.method))
    options = read_options(kind, trial.model)
    import_library(kind.package)
    return kind, options


def _built(kind: type[Peer], options: PeerOptions, trial: Trial, folder: Path) -> Peer:
    folder.mkdir(exist_ok=True)
    return kind(options, folder=folder, seed=derive_seed("peer", trial.replicate) % (1 << 31))


def _most_labels(peer: Peer, dataset: Dataset, wanted: int) -> int:
    return min(wanted, dataset.num_labels, peer.max_ranked or wanted)


def _time_inference(repetition: Repetition, peer: Peer, features: Csr, k: int) -> None:
    """Raw seconds of single queries and of batches."""
    num_points = features.num_rows
    size = min(BATCH_SIZE, num_points)
    singles = ((i, i + 1) for i in range(min(LATENCY_QUERIES, num_points)))
    batches = ((i, i + size) for i in range(0, num_points - size + 1, size))
    peer.prepare_inference(k)
    for phase, units, parts in (
        ("latency", 1, singles),
        ("throughput", size, itertools.islice(batches, NUM_BATCHES)),
    ):
        inputs = [peer.queries(features.slice(*part)) for part in parts]
        repetition.time_calls(phase, peer.top_k, inputs, units=units)
        for queries in inputs:
            peer.release(queries)
    peer.finish_inference()
