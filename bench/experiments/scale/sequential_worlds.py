"""Worlds of MACH, trained one after another: in memory stands one, those done lie in the cache.

A world is a model of its own and never sees another. It is trained to its end or not at all: what a
killed run leaves behind are the worlds that it finished, and the next run goes on from there.
"""

from __future__ import annotations

import dataclasses
import gc
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch

from bench.data.batch import Batch
from bench.data.cache import Entry, load_or_build, read
from bench.experiments.recipe import SteppedTraining, refuse_what_is_not_finite
from bench.experiments.trainer import train_by_steps
from bench.experiments.training import build_model
from bench.experiments.weights import arrays_of, give_arrays, weights_key
from bench.mach.arithmetic import INDEXED
from bench.mach.card import worlds_of
from bench.mach.merge import merge_worlds
from bench.mach.module import Mach
from bench.measure.clock import Stopwatch
from bench.measure.experiment import Context
from bench.measure.memory import HostPeak, device_peak_bytes
from bench.methods.card import TRAINING
from bench.methods.cards import check_options, current_versions
from bench.nn.classifier import DataFacts
from bench.settings import SettingsError, Trial

DECODES = ("auto", "dense", "recompute")


@dataclass(frozen=True)
class Plan:
    """A trial of worlds that are trained one after another.

    Attributes:
        trial: its settings.
        whole: a MACH of all its worlds.
        num_worlds: R.
        num_trained: worlds that are trained; fewer than R where only costs are wanted.
        decode: how labels are found: `auto` keeps an index, `dense` the hash table, `recompute`
            neither.
    """

    trial: Trial
    whole: Trial
    num_worlds: int
    num_trained: int
    decode: str

    @classmethod
    def of(cls, trial: Trial) -> Self:
        """From the settings of a row with `worlds_in_turn`, or of one of the largest sizes."""
        options = dict(trial.model.options)
        if options.pop("worlds_in_turn", False):
            is_indexed = options.get("decode_method") in INDEXED or "filter_buckets" in options
            num = cast(int, options["num_worlds"])
            return cls(trial, _of_mach(trial, options), num, num, "auto" if is_indexed else "dense")
        decode = options.pop("decode", "dense")
        num_worlds = options.pop("num_worlds", None)
        num_trained = options.pop("trained_worlds", None)
        if decode not in DECODES:
            raise SettingsError(f"decode is {decode!r}; expected one of {', '.join(DECODES)}")
        if not isinstance(num_worlds, int) or num_worlds < 1:
            raise SettingsError(f"num_worlds is {num_worlds!r}; expected at least 1")
        num_trained = num_worlds if num_trained is None else num_trained
        if not isinstance(num_trained, int) or not 1 <= num_trained <= num_worlds:
            raise SettingsError(f"trained_worlds is {num_trained!r}; expected 1 to {num_worlds}")
        for name in ("share_encoder", "first_world", "decode_method"):
            if name in options:
                raise SettingsError(f"{name} is set; worlds that stand alone leave no choice")
        if decode == "recompute" and options.get("hash_family") != "universal":
            raise SettingsError("decode is 'recompute'; expected hash_family 'universal' with it")
        options["num_worlds"] = num_worlds
        plan = cls(trial, _of_mach(trial, options), num_worlds, num_trained, str(decode))
        check_options(plan.whole.model)
        return plan

    @property
    def is_complete(self) -> bool:
        """Whether all worlds are trained, so that labels can be found."""
        return self.num_trained == self.num_worlds

    @property
    def numbers(self) -> range:
        """Of the worlds that are trained."""
        first = int(cast(int, self.whole.model.options.get("first_world", 0)))
        return range(first, first + self.num_trained)

    def world(self, number: int) -> Trial:
        """The trial of one world: the same in every plan that has it."""
        model = worlds_of(self.whole.model, number, number + 1)
        return dataclasses.replace(self.whole, model=model)

    def key(self, number: int, fingerprint: str) -> str:
        """Cache key of a world's weights, for one version of code and data."""
        trial = self.world(number)
        return weights_key(trial.trial_id, current_versions(trial, TRAINING), fingerprint)


def _of_mach(trial: Trial, options: Mapping[str, Any]) -> Trial:
    """A MACH of these options, of which there is no best before its end."""
    model = dataclasses.replace(trial.model, method="mach", options=options)
    train = dataclasses.replace(trial.train, keep_best=False)
    return dataclasses.replace(trial, model=model, train=train)


@dataclass(frozen=True, kw_only=True)
class WorldTrainer:
    """Where and on what worlds are trained.

    Attributes:
        plan: the trial.
        train: batches of a pass, of which it knows the number.
        facts: sizes and label counts.
        fingerprint: of the data.
        device: where it computes.
        context: of the trial; finished worlds lie in `worlds/` below its cache.
        watch: of the training in this process.
        host_peak: of the process.
    """

    plan: Plan
    train: Iterable[Batch]
    facts: DataFacts
    fingerprint: str
    device: torch.device
    context: Context
    watch: Stopwatch
    host_peak: HostPeak

    def all_worlds(self) -> list[Mapping[str, Any]]:
        """Train the plan's worlds that are not in the cache yet; what is known of each."""
        self.context.phase("train")
        return [self._world(number) for number in self.plan.numbers]

    def some_worlds(self, first: int, stop: int) -> dict[str, Any]:
        """Train worlds `first` to `stop` − 1, and leave them in the cache; blocks of a record."""
        self.context.phase("train")
        worlds = [self._world(number) for number in range(first, stop)]
        allocated, reserved = device_peak_bytes()
        return {
            "memory": {
                "host_peak_bytes": self.host_peak.total_bytes(),
                "device_allocated_peak_bytes": allocated,
                "device_reserved_peak_bytes": reserved,
            },
            "clock": {
                "train_seconds": self.watch.seconds,
                "world_seconds": [world["seconds"] for world in worlds],
            },
        }

    def _world(self, number: int) -> Mapping[str, Any]:
        if self.plan.is_complete:
            folder = self._folder(number)
            entry = load_or_build(folder.parent, folder.name, lambda: self._train(number))
            facts = dict(entry.meta)
            self.context.emit({"event": "world", "world": number, "key": folder.name})
        else:  # a sample for its costs, which nobody will ask for again
            facts = dict(self._train(number).meta)
        # Trainer, model and optimiser refer to each other: the next world would stand beside them.
        gc.collect()
        return facts

    def _folder(self, number: int) -> Path:
        """Where a trained world lies in the cache."""
        return self.context.cache_dir / "worlds" / self.plan.key(number, self.fingerprint)

    def _train(self, number: int) -> Entry:
        """Train one world from its start to its end."""
        self.host_peak.begin_phase()
        before = self.watch.seconds
        trial = self.plan.world(number)
        model = build_model(trial, self.facts).to(self.device)
        callback = SteppedTraining(
            trial.train,
            watch=self.watch,
            emit=lambda event: self.context.emit(self._of_all(event, number, before)),
        )
        train_by_steps(
            model,
            self.train,
            callback,
            device=self.device,
            precision=trial.train.precision,
        )
        refuse_what_is_not_finite(model)
        record = callback.to_record()
        facts = {
            "world": number,
            "seconds": self.watch.seconds - before,
            "num_steps": record["num_steps"],
            "num_epochs": record["num_epochs"],
            "points_seen": record["points_seen"],
            "loss": record["curve"][-1]["loss"],
            "weight_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
            "host_peak_bytes": self.host_peak.phase_bytes(),
        }
        return Entry(arrays_of(model) if self.plan.is_complete else {}, facts)

    def _of_all(self, event: Mapping[str, Any], number: int, before: float) -> Mapping[str, Any]:
        """Progress of one world as that of all; `before` are seconds of those done in this run."""
        share, total = event["fraction"], self.plan.num_trained
        done = number - self.plan.numbers[0] + share
        left = (self.watch.seconds - before) / share * (total - done)
        return {**event, "fraction": done / total, "seconds_left": left}

    def has_all(self) -> bool:
        """Whether all worlds lie in the cache."""
        return all(read(self._folder(number)) is not None for number in self.plan.numbers)

    def merged(self) -> Mach:
        """One model of all worlds in the cache; its table is empty where hashes are recomputed."""
        plan, table, models = self.plan, None, []
        for place, number in enumerate(plan.numbers):
            model = self._restored(number)
            if plan.decode != "recompute":
                if table is None:
                    table = model.head.table.new_empty(plan.num_worlds, model.num_labels)
                table[place] = model.head.table[0]
            # The merge would have all tables twice.
            model.head.table = model.head.table[:, :0].clone()
            models.append(model)
        merged = merge_worlds(models)
        if table is not None:
            merged.head.table = table
        return merged

    def _restored(self, number: int) -> Mach:
        entry = read(self._folder(number))
        if entry is None:
            raise FileNotFoundError(f"world {number} is not in the cache; expected it trained")
        model = cast(Mach, build_model(self.plan.world(number), self.facts))
        give_arrays(model, entry.arrays)
        return model

    def forget(self) -> None:
        """Take the worlds out of the cache."""
        for number in self.plan.numbers:
            shutil.rmtree(self._folder(number), ignore_errors=True)
