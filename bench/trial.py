"""One trial inside its own process: data, model, training, evaluation, measurements."""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch

from bench.classifier import DataFacts, ExtremeClassifier
from bench.data.batch import Batch
from bench.data.module import ExtremeDataModule
from bench.measure.callback import BudgetedTraining
from bench.measure.clock import Clocks
from bench.measure.memory import (
    HostPeak,
    PredictedOutOfMemory,
    available_device_bytes,
    available_memory_bytes,
    device_peak_bytes,
    host_current_bytes,
    reset_device_peaks,
)
from bench.methods import check_options, method_class, resolved_options
from bench.metrics.modular import RankingMetrics
from bench.metrics.propensity import PROPENSITY
from bench.optimizers import warm_up_row_adam
from bench.settings import Trial, derive_seed

Emit = Callable[[dict[str, Any]], None]

LATENCY_QUERIES = 100
THROUGHPUT_BATCH_SIZE = 256
THROUGHPUT_BATCHES = 12


def execute(
    trial: Trial, *, data_dir: Path, cache_dir: Path, accelerator: str, emit: Emit
) -> dict[str, Any]:
    """Run a trial and return the parts of its record that come from inside the process.

    Args:
        trial: what to run.
        data_dir: where data sets lie.
        cache_dir: where prepared data is kept.
        accelerator: `cpu` or `gpu`.
        emit: takes progress events.

    Raises:
        PredictedOutOfMemory: by arithmetic the trial does not fit; nothing was trained.
        ValueError: data or settings that cannot be run.
    """
    device = torch.device("cuda" if accelerator == "gpu" else "cpu")
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    # Late in training, probabilities far below 1e-38 must not slow matrix products down.
    torch.set_flush_denormal(True)
    clocks = Clocks(synchronize)
    host_peak = HostPeak()
    with clocks.measure("setup"):
        check_options(trial.model)
        emit({"event": "phase", "phase": "data"})
        data = ExtremeDataModule(
            trial.data,
            batch_size=trial.train.batch_size,
            data_dir=data_dir,
            cache_dir=cache_dir,
            seed=derive_seed("data order", trial.replicate),
        )
        data.setup()
        emit({"event": "phase", "phase": "build"})
        facts = data_facts(data)
        baseline_bytes = host_current_bytes()
        features = data.dataset.train_features
        entries_per_point = features.ids.size / max(features.num_rows, 1)
        memory = predicted_memory(trial, facts, entries_per_point)
        # What is known now is recorded even if the trial does not reach its end.
        emit({"event": "partial", "data": data.facts, "memory": memory})
        _refuse_what_cannot_fit(memory, device, baseline_bytes or 0)
        model = build_model(trial, facts).to(device)
        _warm_kernels(model, data, device)
    reset_device_peaks()
    host_peak.begin_phase()

    metrics = _metrics(trial, facts)
    training: dict[str, Any]
    emit({"event": "phase", "phase": "train"})
    if model.is_closed_form:
        with clocks.measure("train"):
            model.fit_closed_form(data.train_dataloader())
        training = {"num_steps": 0, "num_epochs": 1.0, "points_seen": facts.num_train_points}
        training |= {"step_seconds": None, "window_steps": None, "warmup_steps": None, "curve": []}
    else:
        callback = BudgetedTraining(
            trial.train,
            clocks=clocks,
            synchronize=synchronize,
            validate=lambda: _evaluate(model, _on(device, data.val_dataloader()), metrics),
            emit=emit,
        )
        _fit(model, data, trial, accelerator, callback)
        training = callback.to_record()
    train_peak = host_peak.phase_bytes()
    allocated, reserved = device_peak_bytes()
    model.zero_grad(set_to_none=True)
    model.to(device)  # Lightning hands a model back on the CPU after training

    emit({"event": "phase", "phase": "evaluate"})
    model.decode_timer = lambda: clocks.measure("decode")
    with clocks.measure("evaluation"):
        test = _evaluate(model, _on(device, data.test_dataloader()), metrics)
    model.decode_timer = nullcontext
    emit({"event": "phase", "phase": "decode"})
    with torch.inference_mode():
        analysis = dict(model.analyse(_on(device, data.test_dataloader()), metrics))
        inference = _inference(model, data, device, synchronize)
    return {
        "data": data.facts,
        "memory": memory
        | {
            "host_baseline_bytes": baseline_bytes,
            "host_train_peak_bytes": train_peak,
            "host_peak_bytes": host_peak.total_bytes(),
            "device_allocated_peak_bytes": allocated,
            "device_reserved_peak_bytes": reserved,
            "decode_bytes": model.decode_bytes(),
        },
        "clock": clocks.to_record(),
        "training": training,
        "test": test,
        "worlds": analysis.get("worlds"),
        "estimators": analysis.get("estimators"),
        "inference": inference,
        "resolved": resolved_options(trial.model, trial.train),
    }


def data_facts(data: ExtremeDataModule) -> DataFacts:
    """What a method may know of the data before training."""
    return DataFacts(
        num_features=data.num_features,
        num_labels=data.num_labels,
        task=data.task,
        label_counts=data.label_counts,
        num_train_points=data.dataset.train_features.num_rows,
    )


def build_model(trial: Trial, facts: DataFacts) -> ExtremeClassifier:
    """The untrained model of a trial's settings."""
    spec, train = trial.model, trial.train
    model: ExtremeClassifier = method_class(spec.method)(
        facts,
        encoder=spec.encoder,
        hidden_dims=spec.hidden_dims,
        learning_rate=train.learning_rate,
        optimizer=train.optimizer,
        adam_epsilon=train.adam_epsilon,
        seed=derive_seed("model", trial.replicate),
        **spec.options,
    )
    return model


def predicted_memory(
    trial: Trial, facts: DataFacts, entries_per_point: float
) -> dict[str, int | None]:
    """Bytes of a trial's parts by arithmetic from shapes; nothing is allocated.

    Gradients of sparse layers are bounded by the rows that one batch can touch. Optimiser state is
    Adam's two moments of every parameter.
    """
    with torch.device("meta"):
        model = build_model(trial, facts)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    counted = sum(p.numel() * p.element_size() for p in model.parameters())
    rows = model.sparse_rows(trial.train.batch_size, entries_per_point)
    if model.has_dense_gradients:
        rows = {}
    gradient_bytes = 0
    for name, parameter in parameters.items():
        touched = min(rows.get(name, parameter.shape[0]), parameter.shape[0])
        gradient_bytes += touched * (parameter.numel() // parameter.shape[0]) * 4
    optimizer_bytes = 2 * sum(p.numel() * p.element_size() for p in parameters.values())
    activation_bytes = model.activation_bytes(trial.train.batch_size, entries_per_point)
    return {
        "parameter_bytes": counted,
        "gradient_bytes": gradient_bytes,
        "optimizer_bytes": optimizer_bytes,
        "activation_bytes": activation_bytes,
        "predicted_bytes": counted + gradient_bytes + optimizer_bytes + activation_bytes,
    }


def _refuse_what_cannot_fit(
    memory: dict[str, int | None], device: torch.device, baseline_bytes: int
) -> None:
    predicted = memory["predicted_bytes"] or 0
    available = available_memory_bytes()
    if device.type == "cuda":
        available = available_device_bytes()
    if available is not None and predicted > available:
        raise PredictedOutOfMemory(predicted, available, memory)


def _metrics(trial: Trial, facts: DataFacts) -> RankingMetrics:
    kept = tuple(k for k in trial.data.ks if k <= facts.num_labels)
    scored = facts.task == "multilabel"
    return RankingMetrics(
        ks=kept,
        task=facts.task,
        label_counts=facts.label_counts,
        num_train_points=facts.num_train_points if scored else None,
        propensity=PROPENSITY[trial.data.propensity] if scored else None,
        extended=False,
    )


def _fit(
    model: ExtremeClassifier,
    data: ExtremeDataModule,
    trial: Trial,
    accelerator: str,
    callback: BudgetedTraining,
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Batches are cut in the main process by slicing; workers would only copy them around.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Quality is measured by the callback, on the budget's own grid.
        warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
        warnings.filterwarnings("ignore", message=".*Trying to infer the `batch_size`.*")
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=-1,
            max_steps=callback.plan_steps(len(data.train_dataloader())),
            precision=trial.train.precision,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            callbacks=[callback],
        )
        trainer.fit(model, train_dataloaders=data.train_dataloader())


def _on(device: torch.device, batches: Iterable[Batch]) -> Iterator[Batch]:
    return (batch.to(device) for batch in batches)


@torch.inference_mode()
def _evaluate(
    model: ExtremeClassifier, batches: Iterable[Batch], metrics: RankingMetrics
) -> dict[str, float]:
    was_training = model.training
    model.eval()
    metrics.reset()
    for batch in batches:
        metrics.update(model.top_k(batch, metrics.ks[-1])[1], batch)
    model.train(was_training)
    if int(metrics.num_points) == 0:
        return {}
    values = {name: float(value) for name, value in metrics.compute().items()}
    metrics.reset()
    return values


def _inference(
    model: ExtremeClassifier,
    data: ExtremeDataModule,
    device: torch.device,
    synchronize: Callable[[], None],
) -> dict[str, Any]:
    """Raw seconds of single queries, and of batches; the batch is on the device beforehand."""
    k = min(5, data.num_labels)
    model.eval()

    def timed(batch_size: int, count: int) -> list[float]:
        data.eval_batch_size = batch_size
        seconds = []
        for number, batch in enumerate(itertools.islice(data.test_dataloader(), count + 2)):
            moved = batch.to(device)
            if moved.num_points < batch_size:
                break
            synchronize()
            start = time.perf_counter()
            model.top_k(moved, k)
            synchronize()
            if number >= 2:  # the first two warm caches and allocators
                seconds.append(time.perf_counter() - start)
        return seconds

    return {
        "k": k,
        "latency_seconds": timed(1, LATENCY_QUERIES),
        "throughput_batch_size": THROUGHPUT_BATCH_SIZE,
        "throughput_seconds": timed(THROUGHPUT_BATCH_SIZE, THROUGHPUT_BATCHES),
        "num_points": data.dataset.test_features.num_rows,
    }


def _warm_kernels(model: ExtremeClassifier, data: ExtremeDataModule, device: torch.device) -> None:
    """Compile what is compiled on first use, outside of every clock but set-up's.

    A decode of one batch, and a step of a throw-away parameter: no weight changes.
    """
    if model.is_closed_form:
        return
    k = min(max(data.spec.ks), data.num_labels)
    for batch in itertools.islice(data.test_dataloader(), 1):
        with torch.inference_mode():
            model.top_k(batch.to(device), k)
    warm_up_row_adam(device)
