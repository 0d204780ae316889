"""A trial of worlds one after another in its own process: train, merge, find labels; or times."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from bench.experiments.scale.batches import Points, load_points
from bench.experiments.scale.sequential_worlds import Plan, WorldTrainer
from bench.experiments.trainer import TimedTraining, train_by_steps
from bench.experiments.training import (
    STANDSTILL_RATE,
    build_model,
    drain_of,
    refuse_what_cannot_fit,
    resolved_options,
    settle,
)
from bench.mach import decode, estimators
from bench.mach.arithmetic import alone
from bench.mach.hashing import UniversalHash, build_hash
from bench.mach.module import Mach
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Context
from bench.measure.memory import HostPeak, host_current_bytes, reset_device_peaks
from bench.measure.memory import device_peak_bytes as device_peaks
from bench.measure.phases import BATCH_SIZE, NUM_BATCHES, Repetition
from bench.methods.arithmetic import predict_memory
from bench.nn.optimizers import warm_up_row_adam
from bench.settings import SettingsError, Trial, derive_seed

#: Queries that a decode is timed with together, and how many such batches there are.
DECODE_BATCH = 64
_DECODE_BATCHES = 4
_SINGLE_QUERIES = 40
# Bucket logits of a test batch, in floats.
_LOGIT_FLOATS = 1 << 25
_EVERY_R = 8


@dataclass(frozen=True)
class Labels:
    """From bucket logits to labels, by what the plan keeps of the hash.

    Attributes:
        table: `(R, L)` buckets; None: the hash is recomputed.
        hashes: of the R worlds, where they are recomputed.
        loss: of the worlds.
        estimator: over worlds.
        method: of the decode.
    """

    table: Tensor | None
    hashes: UniversalHash | None
    loss: Any
    estimator: str
    method: str

    @classmethod
    def of(cls, model: Mach, how: str) -> Labels:
        """Of a model's hash; what is not needed is not kept."""
        is_kept = how != "recompute"
        head = model.head
        hashes = head.hashes if isinstance(head.hashes, UniversalHash) else None
        return cls(
            head.table if is_kept else None,
            None if is_kept else hashes,
            head.loss_kind,
            head.estimator,
            how if is_kept else "dense",
        )

    def prepare(self, num_buckets: int, k: int) -> None:
        """Compile, and build the index if the method has one."""
        reduction = estimators.reduction(self.estimator)
        if self.table is not None:
            decode.prepare(self.table, num_buckets, k, reduction=reduction, method=self.method)

    def top_k(self, logits: Tensor, k: int, num_worlds: int | None = None) -> Tensor:
        """`(N, k)` exact best labels from `(N, R, B)` logits, of the first worlds alone if asked.

        Of a part of the worlds they are found by a scan: an index is of all.
        """
        method = self.method
        table: Tensor | UniversalHash | None = self.table
        if num_worlds is not None and num_worlds < logits.shape[1]:
            logits, method = logits[:, :num_worlds], "dense"
            if self.table is not None:
                table = self.table[:num_worlds]
        if self.hashes is not None:
            table = self.hashes.subset(self.hashes.worlds[: logits.shape[1]])
        assert table is not None
        scores = estimators.bucket_scores(logits, self.loss, self.estimator)
        reduction = estimators.reduction(self.estimator)
        return decode.top_k(scores, table, k, reduction=reduction, method=method)[1]


def run(trial: Trial, context: Context) -> dict[str, Any]:
    """Train the worlds that are missing, merge all, and score labels with training points.

    Args:
        trial: its options are those of MACH, and `decode` and `trained_worlds`, see
            `bench.experiments.scale.sequential_worlds.Plan`.
        context: its cache keeps finished worlds.
    """
    if context.validation_only:
        raise SettingsError("validation_only is True; worlds one after another have no validation")
    trainer, points, memory = _open(trial, context)
    if context.worlds is not None:
        return trainer.some_worlds(*context.worlds)
    plan, device = trainer.plan, trainer.device
    worlds = trainer.all_worlds()
    allocated, reserved = device_peaks()
    test: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    if plan.is_complete:
        context.phase("merge")
        trainer.host_peak.begin_phase()
        model = trainer.merged().to(device)
        memory["host_merge_peak_bytes"] = trainer.host_peak.phase_bytes()
        trainer.host_peak.begin_phase()
        labels = Labels.of(model, plan.decode)
        context.phase("index")
        labels.prepare(model.head.num_buckets, max(trial.data.ks))
        context.phase("evaluate")
        with torch.inference_mode():
            rows = _score(model, labels, trainer, points)
        test = rows[-1]["metrics"] if rows else {}
        memory["host_decode_peak_bytes"] = trainer.host_peak.phase_bytes()
    peaks = [world["host_peak_bytes"] for world in worlds]
    return {
        "data": _facts_of(trainer, points),
        "memory": memory
        | {
            "host_train_peak_bytes": None if None in peaks else max(peaks),
            "world_bytes": worlds[0]["weight_bytes"],
            "host_world_peak_bytes": peaks,
            "host_peak_bytes": trainer.host_peak.total_bytes(),
            "device_allocated_peak_bytes": allocated,
            "device_reserved_peak_bytes": reserved,
        },
        # Of worlds that an earlier run has trained, too; the watch knows of this one alone.
        "clock": {
            "train_seconds": trainer.watch.seconds,
            "world_seconds": [world["seconds"] for world in worlds],
        },
        "training": {
            "num_steps": worlds[0]["num_steps"],
            "num_epochs": worlds[0]["num_epochs"],
            "points_seen": worlds[0]["points_seen"],
            "curve": [],
            "worlds": [{"world": w["world"], "loss": w["loss"]} for w in worlds],
        },
        "test": test,
        "worlds": rows,
        "resolved": resolved_options(plan.world(0).model, trial.train),
    }


def time(trial: Trial, context: Context, repetitions: Iterator[Repetition]) -> dict[str, Any]:
    """Time a step of one world, its bucket scores, and the decode of all worlds' scores.

    The phases are `train`; `world`, one world's bucket logits in batches; `decode` and
    `decode-alone`, from all worlds' bucket logits to the labels, in batches of 64 and one by one.
    Where all worlds are trained, their logits of test queries are decoded; else random ones, flat
    as those of untrained worlds.
    """
    trainer, points, _ = _open(trial, context)
    plan = trainer.plan
    context.phase("build")
    is_trained = plan.is_complete and trainer.has_all()
    k = min(max(trial.data.ks), points.described.num_labels)
    labels, logits = _decode_problem(trainer, points, is_trained)
    labels.prepare(logits.shape[2], k)
    world = cast(Mach, build_model(plan.world(0), trainer.facts).to(trainer.device))

    drain = drain_of(trainer.device)

    def infer(repetition: Repetition) -> None:
        batches = [
            batch.to(trainer.device)
            for batch in itertools.islice(points.test(BATCH_SIZE), NUM_BATCHES)
        ]
        calls = functools.partial(repetition.time_calls, synchronize=drain)
        if batches:
            calls("world", world.bucket_logits, batches, units=batches[0].num_points)
        find = functools.partial(labels.top_k, k=k)
        parts = list(torch.split(logits, DECODE_BATCH))
        calls("decode", find, parts, units=parts[0].shape[0])
        singles = list(torch.split(logits[:_SINGLE_QUERIES], 1))
        calls("decode-alone", find, singles, units=1)

    callback = TimedTraining(
        repetitions,
        learning_rate=STANDSTILL_RATE if is_trained else trial.train.learning_rate,
        synchronize=drain,
        infer=infer,
    )
    precision = trial.train.precision
    train_by_steps(
        world, points.train, callback, device=trainer.device, precision=precision, max_steps=-1
    )
    return {
        "weights": "trained" if is_trained else "started",
        "fingerprint": points.facts["fingerprint"],
        "inference": {"k": k},
    }


def _open(trial: Trial, context: Context) -> tuple[WorldTrainer, Points, dict[str, int | None]]:
    """Everything up to the first world, and the bytes known by then."""
    device = settle(trial, context)
    host_peak = HostPeak()
    plan = Plan.of(trial)
    context.phase("data")
    points = load_points(trial, context)
    predicted = predict_memory(trial, points.sizes, accelerator=context.accelerator)
    memory = alone(predicted, context.worlds).to_record()
    memory["host_baseline_bytes"] = host_current_bytes()
    context.partial(data=points.facts, memory=memory)
    refuse_what_cannot_fit(memory, device)
    facts = points.counted()
    warm_up_row_adam(device)
    reset_device_peaks()
    trainer = WorldTrainer(
        plan=plan,
        train=points.train,
        facts=facts,
        fingerprint=points.facts["fingerprint"],
        device=device,
        context=context,
        watch=Stopwatch(drain_of(device)),
        host_peak=host_peak,
    )
    return trainer, points, memory


def _facts_of(trainer: WorldTrainer, points: Points) -> Mapping[str, Any]:
    seen = int((trainer.facts.label_counts > 0).sum())
    return {**points.facts, "num_labels_seen": seen}


def _batch_size(num_worlds: int, num_buckets: int) -> int:
    return max(1, min(BATCH_SIZE, _LOGIT_FLOATS // (num_worlds * num_buckets)))


def _score(
    model: Mach, labels: Labels, trainer: WorldTrainer, points: Points
) -> list[dict[str, Any]]:
    """Recall at each cut-off with the first 1, 2 … R worlds, of labels with training points.

    Worlds are independent: the first r are what a training with r would give. Recall is the share
    of the test points' labels that are found; of points with one label, that of the points.
    """
    plan, counts = trainer.plan, trainer.facts.label_counts
    ks = [k for k in plan.trial.data.ks if k <= model.num_labels]
    # However labels are found they are the same: the plainest way shows the smaller R, too.
    sizes = worlds_shown(plan.num_worlds) if plan.decode == "dense" else [plan.num_worlds]
    hits = torch.zeros(len(sizes), len(ks), dtype=torch.int64)
    num_seen = num_asked = 0
    for batch in points.test(_batch_size(plan.num_worlds, model.head.num_buckets)):
        # Ids of L or more are of labels that training has not.
        is_seen = (counts[batch.label_ids.clamp(max=counts.numel() - 1)] > 0) & (
            batch.label_ids < counts.numel()
        )
        wanted, asking = batch.label_ids[is_seen].unsqueeze(1), batch.label_point_ids[is_seen]
        asked, row_of = torch.unique(asking, return_inverse=True)
        logits = model.bucket_logits(batch.to(trainer.device))[asked.to(trainer.device)]
        num_asked += batch.label_ids.numel()
        num_seen += wanted.shape[0]
        for row, size in enumerate(sizes):
            found = labels.top_k(logits, min(max(plan.trial.data.ks), model.num_labels), size).cpu()
            is_hit = found[row_of] == wanted
            for index, k in enumerate(ks):
                hits[row, index] += int(is_hit[:, :k].sum())
    if num_seen == 0:
        return []
    return [
        {
            "num_worlds": size,
            "worlds": list(range(size)),
            "num_points": num_seen,
            "metrics": {f"R@{k}": int(hits[row, index]) / num_seen for index, k in enumerate(ks)}
            | {"seen in training": num_seen / num_asked},
        }
        for row, size in enumerate(sizes)
    ]


def worlds_shown(num_worlds: int) -> list[int]:
    """Every R up to 8, then powers of two, and R itself.

    >>> worlds_shown(3), worlds_shown(20)
    ([1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8, 16, 20])
    """
    small = range(1, min(num_worlds, _EVERY_R) + 1)
    return sorted({*small, *(r for r in (16, 32, 64) if r < num_worlds), num_worlds})


def _decode_problem(
    trainer: WorldTrainer, points: Points, is_trained: bool
) -> tuple[Labels, Tensor]:
    """What finds labels, and bucket logits to find them from."""
    plan, num = trainer.plan, _DECODE_BATCHES * DECODE_BATCH
    if is_trained:
        model = trainer.merged().to(trainer.device)
        with torch.inference_mode():
            size = _batch_size(plan.num_worlds, model.head.num_buckets)
            batches = itertools.islice(points.test(size), -(-num // size))
            parts = [model.bucket_logits(batch.to(trainer.device)) for batch in batches]
        return Labels.of(model, plan.decode), torch.cat(parts)[:num]
    world = cast(Mach, build_model(plan.world(0), trainer.facts))
    head = world.head
    hashes = head.hashes.to_dict()
    head.hashes = build_hash(
        hashes["family"], head.num_labels, head.num_buckets, plan.num_worlds, hashes["seed"]
    )
    if plan.decode != "recompute":
        head.table = head.hashes.table().to(trainer.device)
    generator = torch.Generator().manual_seed(derive_seed("flat logits", trainer.plan.num_worlds))
    logits = torch.randn(num, plan.num_worlds, head.num_buckets, generator=generator)
    return Labels.of(world, plan.decode), logits.to(trainer.device)
