"""One trial inside its own process, in four steps: prepare, fit, score, measure.

`run` is a quality trial: the first three steps, which settings alone decide. `time` is a row's
part in rounds of timing: the first step, and then `measure` in each repetition.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import lightning as L
import torch

from bench.data.batch import Batch
from bench.data.module import ExtremeDataModule
from bench.experiments.checkpoints import Checkpoints, Store
from bench.experiments.recipe import (
    SteppedTraining,
    Validation,
    data_arguments,
    evaluate,
    model_arguments,
    on_device,
    planned_steps,
    ranking_metrics,
    refuse_what_is_not_finite,
    settle_process,
)
from bench.experiments.trainer import TimedTraining, train_by_steps
from bench.experiments.weights import keep_weights, restore_weights, weights_key
from bench.mach.arithmetic import alone
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Accelerator, Context
from bench.measure.memory import (
    HostPeak,
    available_device_bytes,
    available_memory_bytes,
    device_peak_bytes,
    host_current_bytes,
    refuse_beyond,
    reset_device_peaks,
)
from bench.measure.phases import BATCH_SIZE, LATENCY_QUERIES, NUM_BATCHES, Repetition
from bench.methods.arithmetic import DataSizes, Memory, Parts, Weights, parts_of, problem_of
from bench.methods.card import TRAINING
from bench.methods.cards import card, check_options, current_versions, method_class
from bench.nn.classifier import DataFacts, ExtremeClassifier
from bench.nn.optimizers import warm_up_row_adam
from bench.nn.options import keywords
from bench.settings import ModelSpec, TrainSpec, Trial

if TYPE_CHECKING:
    from bench.experiments.scale.sequential_worlds import WorldTrainer

# Steps on finished weights leave them as they are; the arithmetic is that of any rate.
STANDSTILL_RATE = 1e-30


@dataclass(frozen=True)
class Prepared:
    """Data and model of a trial, ready to train.

    Attributes:
        trial: what is run.
        context: of the trial.
        data: set up.
        model: untrained, on its device, its kernels compiled; of worlds in turn there is none yet,
            but its shapes (`meta`).
        device: where it computes.
        watch: of training.
        host_peak: of the process.
        memory: bytes known so far: predicted parts, and the process before the model was built.
    """

    trial: Trial
    context: Context
    data: ExtremeDataModule
    model: ExtremeClassifier
    device: torch.device
    watch: Stopwatch
    host_peak: HostPeak
    memory: dict[str, int | None]

    @property
    def keeps_weights(self) -> bool:
        """Whether the trained weights stay in the cache: the first replicate's are timed."""
        context = self.context
        return not context.validation_only and (self.trial.replicate == 0 or context.keep_models)

    def synchronize(self) -> None:
        """Drain the device."""
        drain_of(self.device)()

    def test_batches(self, batch_size: int | None = None) -> Iterator[Batch]:
        """Test points on the device."""
        return on_device(self.device, self.data.test_dataloader(batch_size=batch_size))


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Run a quality trial; weights that are timed, or asked for, are kept in the cache.

    Where the context says `validation_only`, no test point is scored and no weights are kept.
    """
    context.require_validation(trial)
    ready = prepare(trial, context)
    reset_device_peaks()
    ready.host_peak.begin_phase()
    if context.worlds is not None:
        return world_trainer(ready).some_worlds(*context.worlds)
    if is_in_turn(trial):
        ready, training, worlds = fit_in_turn(ready)
    else:
        training, worlds = fit(ready), {}
        ready.memory["host_train_peak_bytes"] = ready.host_peak.phase_bytes()
    allocated, reserved = device_peak_bytes()
    test, analysis = (None, {}) if context.validation_only else score(ready)
    if ready.keeps_weights and not ready.model.is_closed_form:
        context.phase("keep weights")
        keep_weights(ready.model, context.cache_dir, _weights_key(ready))
    return {
        "data": ready.data.facts,
        "memory": ready.memory
        | {
            "host_peak_bytes": ready.host_peak.total_bytes(),
            "device_allocated_peak_bytes": allocated,
            "device_reserved_peak_bytes": reserved,
            "decode_bytes": ready.model.decode_bytes(),
        },
        "clock": {"train_seconds": ready.watch.seconds, **worlds},
        "training": training,
        "test": test,
        "worlds": analysis.get("worlds"),
        "estimators": analysis.get("estimators"),
        "resolved": {
            **resolved_options(trial.model, trial.train),
            **ready.model.facts_of_inference(),
        },
    }


def time(trial: Trial, context: Context, repetitions: Iterator[Repetition]) -> dict[str, Any]:
    """Time a step, and inference on the weights that the finished quality trial ended with.

    Where the cache does not have them, those of an untrained model do.
    """
    ready = prepare(trial, context)
    if is_in_turn(trial):
        ready = replace(ready, model=build_model(trial, ready.model.facts).to(ready.device))
    model = ready.model
    weights = None
    if not model.is_closed_form:
        is_trained = restore_weights(model, context.cache_dir, _weights_key(ready))
        weights = "trained" if is_trained else "started"
    measure(ready, repetitions, is_trained=weights == "trained")
    return {
        "weights": weights,
        "fingerprint": ready.data.facts.get("fingerprint"),
        "inference": model.facts_of_inference(),
    }


def prepare(trial: Trial, context: Context) -> Prepared:
    """Data, and an untrained model with everything compiled that training and inference use."""
    device = settle(trial, context)
    watch, host_peak = Stopwatch(drain_of(device)), HostPeak()
    check_options(trial.model)
    context.phase("data")
    data = load_data(trial, context)
    context.phase("build")
    facts = data_facts(data)
    baseline_bytes = host_current_bytes()
    sizes = replace(DataSizes.of_facts(data.facts), label_counts=facts.label_counts)
    predicted = predicted_memory(trial, sizes, facts, context.accelerator)
    memory = alone(predicted, context.worlds).to_record()
    memory["host_baseline_bytes"] = baseline_bytes
    # What is known now is recorded even if the trial does not reach its end.
    context.partial(data=data.facts, memory=memory)
    refuse_what_cannot_fit(memory, device)
    if is_in_turn(trial):
        with torch.device("meta"):
            model = build_model(trial, facts)
        warm_up_row_adam(device)
        return Prepared(trial, context, data, model, device, watch, host_peak, memory)
    model = build_model(trial, facts).to(device)
    if not model.is_closed_form:
        # On the first start of an environment this takes some 15 seconds.
        context.phase("compile")
        model.prepare_inference(_most_labels(trial, data))
        warm_up_row_adam(device)
    return Prepared(trial, context, data, model, device, watch, host_peak, memory)


def settle(trial: Trial, context: Context) -> torch.device:
    """Bring the process into the state that a trial computes in; its device."""
    device = torch.device("cuda" if context.accelerator == "gpu" else "cpu")
    if trial.train.precision == "16-mixed" and device.type == "cpu":
        # Lightning would compute in bfloat16, and the record say otherwise.
        raise ValueError("precision is '16-mixed' on a CPU; expected 'bf16-mixed' or '32-true'")
    settle_process(trial.replicate)
    return device


def drain_of(device: torch.device) -> Callable[[], None]:
    """What waits for a device's queued work; nothing on a CPU."""
    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def load_data(trial: Trial, context: Context) -> ExtremeDataModule:
    """The data module of a trial, set up."""
    data = ExtremeDataModule(
        trial.data,
        data_dir=context.data_dir,
        cache_dir=context.cache_dir,
        **data_arguments(trial.train, trial.replicate),
    )
    data.setup()
    return data


def fit(ready: Prepared) -> dict[str, Any]:
    """Train the model; the record's `training` block."""
    ready.context.phase("train")
    model, data = ready.model, ready.data
    validate = Validation(data, ready.device)
    if model.is_closed_form:
        with ready.watch.running():
            model.fit_closed_form(data.train_dataloader())
        curve = []
        if ready.trial.has_validation:
            curve = [{"step": 0, "epoch": 1.0, "loss": None, "metrics": validate(model)}]
        num_points = data.dataset.train_features.num_rows
        return {"num_steps": 0, "num_epochs": 1.0, "points_seen": num_points, "curve": curve}

    train = ready.trial.train
    callback = SteppedTraining(train, validate=validate, watch=ready.watch, emit=ready.context.emit)
    kept_bytes = sum(ready.memory[f"{part}_bytes"] or 0 for part in ("parameter", "optimizer"))
    store = Store(ready.trial, ready.context, str(data.facts["fingerprint"]))
    checkpoints = Checkpoints(store, kept_bytes, ready.watch)
    num_steps = planned_steps(train, len(data.train_dataloader()))
    _train(ready, callback, max_steps=num_steps, checkpoints=checkpoints)
    refuse_what_is_not_finite(model)
    return callback.to_record()


def is_in_turn(trial: Trial) -> bool:
    """Whether a trial's worlds are trained one after another."""
    return bool(trial.model.options.get("worlds_in_turn"))


def world_trainer(ready: Prepared) -> WorldTrainer:
    """What trains the worlds of a trial one after another."""
    from bench.experiments.scale import sequential_worlds as in_turn  # which builds on this

    return in_turn.WorldTrainer(
        plan=in_turn.Plan.of(ready.trial),
        train=ready.data.train_dataloader(),
        facts=ready.model.facts,
        fingerprint=str(ready.data.facts["fingerprint"]),
        device=ready.device,
        context=ready.context,
        watch=ready.watch,
        host_peak=ready.host_peak,
    )


def fit_in_turn(ready: Prepared) -> tuple[Prepared, dict[str, Any], dict[str, Any]]:
    """Train the worlds that are not in the cache yet, and merge all.

    Returns:
        What is ready with its model, trained; the record's `training` block; seconds of the worlds.
    """
    trainer = world_trainer(ready)
    worlds = trainer.all_worlds()
    peaks = [world["host_peak_bytes"] for world in worlds]
    ready.memory["host_train_peak_bytes"] = None if None in peaks else max(peaks)
    ready.context.phase("merge")
    ready = replace(ready, model=trainer.merged().to(ready.device))
    if not ready.keeps_weights:
        trainer.forget()
    validate = Validation(ready.data, ready.device)
    steps = {name: worlds[0][name] for name in ("num_steps", "num_epochs", "points_seen")}
    end = {
        "step": steps["num_steps"],
        "epoch": steps["num_epochs"],
        "loss": sum(world["loss"] for world in worlds),
        "metrics": validate(ready.model) if ready.trial.has_validation else {},
    }
    losses = [{"world": world["world"], "loss": world["loss"]} for world in worlds]
    seconds = {"world_seconds": [world["seconds"] for world in worlds]}
    return ready, {**steps, "curve": [end], "worlds": losses}, seconds


def score(ready: Prepared) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics of the test split, and what a method's own analysis finds there.

    The host's peak in evaluation, without the analysis, joins `ready.memory`.
    """
    ready.context.phase("evaluate")
    model, metrics = ready.model, ranking_metrics(ready.data, ready.device)
    model.eval()
    model.prepare_inference(_most_labels(ready.trial, ready.data))
    ready.host_peak.begin_phase()
    test = evaluate(model, ready.test_batches(), metrics)
    ready.memory["host_evaluation_peak_bytes"] = ready.host_peak.phase_bytes()
    ready.context.phase("analyse")
    with torch.inference_mode():
        analysis = dict(model.analyse(ready.test_batches(), metrics))
    return test, analysis


def measure(ready: Prepared, repetitions: Iterator[Repetition], *, is_trained: bool) -> None:
    """Time steps and inference, or a closed form's fit and inference, in each repetition."""
    model, data = ready.model, ready.data
    if model.is_closed_form:
        for repetition in repetitions:
            with repetition.timed("fit", units=1) as seconds:
                start = perf_counter()
                model.fit_closed_form(data.train_dataloader())
                ready.synchronize()
                seconds.append(perf_counter() - start)
            with torch.inference_mode():
                _time_inference(ready, repetition)
        return
    trained, worlds = model, 1
    if is_in_turn(ready.trial):
        plan = world_trainer(ready).plan
        worlds = len(plan.numbers)
        trained = build_model(plan.world(plan.numbers[0]), model.facts).to(ready.device)
    callback = TimedTraining(
        repetitions,
        parts=worlds,
        learning_rate=STANDSTILL_RATE if is_trained else ready.trial.train.learning_rate,
        synchronize=ready.synchronize,
        infer=lambda repetition: _time_inference(ready, repetition),
    )
    _train(replace(ready, model=trained), callback, max_steps=-1)


def data_facts(data: ExtremeDataModule) -> DataFacts:
    """What a method may know of the data before training."""
    return DataFacts(
        num_features=data.num_features,
        num_labels=data.num_labels,
        task=data.task,
        label_counts=data.label_counts,
        num_train_points=data.dataset.train_features.num_rows,
        label_fingerprint=data.label_fingerprint,
    )


def build_model(trial: Trial, facts: DataFacts) -> ExtremeClassifier:
    """The untrained model of a trial's settings."""
    spec = trial.model
    model: ExtremeClassifier = method_class(spec.method)(
        facts,
        encoder=spec.encoder,
        hidden_dims=spec.hidden_dims,
        **model_arguments(trial.train, trial.replicate),
        **spec.options,
    )
    return model


def resolved_options(model: ModelSpec, train: TrainSpec) -> dict[str, Any]:
    """Every keyword that the method's class was built with, defaults included."""
    given = dict(model.options) | {
        "encoder": model.encoder,
        "hidden_dims": list(model.hidden_dims),
        "learning_rate": train.learning_rate,
        "optimizer": train.optimizer,
        "adam_epsilon": train.adam_epsilon,
        "weight_decay": train.weight_decay,
    }
    known = keywords(method_class(model.method), ExtremeClassifier)
    return {
        name: given.get(name, default)
        for name, (default, _) in sorted(known.items())
        if name not in ("seed", "ks")
    }


def predicted_memory(
    trial: Trial, sizes: DataSizes, facts: DataFacts, accelerator: Accelerator
) -> Memory:
    """Bytes of a training by arithmetic, see `bench.methods.arithmetic`; nothing is allocated.

    Of a user's own method whose card has no arithmetic, from the shapes of its parameters, and the
    logits of all labels and the hidden vectors, with gradients.
    """
    problem = problem_of(trial, sizes, accelerator=accelerator)
    if card(trial.model.method).arithmetic is not None:
        return parts_of(problem).memory(problem)
    with torch.device("meta"):
        model = build_model(trial, facts)
    rows = {name: problem.num_entries() for name in model.row_sparse if name.startswith("encoder.")}
    weights = tuple(
        Weights(name, tuple(p.shape), rows.get(name), p.element_size(), p.requires_grad)
        for name, p in model.named_parameters()
    )
    logits = 2 * (facts.num_labels + sum(trial.model.hidden_dims))
    parts = Parts(weights=weights, step_bytes=4 * problem.num_points * logits, evaluation_bytes=0)
    return parts.memory(problem)


def refuse_what_cannot_fit(memory: dict[str, int | None], device: torch.device) -> None:
    """Raise `PredictedOutOfMemory` where `predicted_bytes` exceed what the device can give."""
    is_gpu = device.type == "cuda"
    refuse_beyond(available_device_bytes() if is_gpu else available_memory_bytes(), memory)


def _train(
    ready: Prepared,
    callback: L.Callback,
    *,
    max_steps: int,
    checkpoints: Checkpoints | None = None,
) -> None:
    train_by_steps(
        ready.model,
        ready.data.train_dataloader(),
        callback,
        device=ready.device,
        precision=ready.trial.train.precision,
        max_steps=max_steps,
        checkpoints=checkpoints,
    )


def _most_labels(trial: Trial, data: ExtremeDataModule) -> int:
    return min(max(trial.data.ks), data.num_labels)


def _weights_key(ready: Prepared) -> str:
    versions = current_versions(ready.trial, TRAINING)
    return weights_key(ready.trial.trial_id, versions, str(ready.data.facts.get("fingerprint")))


def _time_inference(ready: Prepared, repetition: Repetition) -> None:
    """Raw seconds of single queries and of batches; a batch is on the device beforehand."""
    model = ready.model
    model.eval()
    k = min(5, ready.data.num_labels)
    model.prepare_inference(k)
    singles = list(itertools.islice(ready.test_batches(1), LATENCY_QUERIES))
    batches = list(itertools.islice(ready.test_batches(BATCH_SIZE), NUM_BATCHES))
    batches = [batch for batch in batches if batch.num_points == BATCH_SIZE] or batches[:1]
    units = batches[0].num_points

    def answer(batch: Batch) -> object:
        return model.top_k(batch, k)

    drain = ready.synchronize
    repetition.time_calls("latency", answer, singles, units=1, synchronize=drain)
    repetition.time_calls("throughput", answer, batches, units=units, synchronize=drain)
    if not model.is_closed_form:
        hidden = [model.encode(batch) for batch in batches]
        rank = functools.partial(model.rank, k=k)
        repetition.time_calls("decode", rank, hidden, units=units, synchronize=drain)
