"""What an experiment is: a module that a method's card names, with `run` and `time`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.measure.phases import Repetition
from bench.settings import SettingsError, Trial

#: What trials compute on.
Accelerator = Literal["cpu", "gpu"]
#: Takes an event of a trial: a JSON object that says in `event` what it is.
Emit = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where and on what a trial runs, and who hears how far it is.

    Attributes:
        data_dir: where data sources find their files.
        cache_dir: for prepared data, weights and, in `logs/`, what trials print.
        accelerator: what is computed on.
        keep_models: keep the weights of every replicate, not of the first alone.
        emit: takes events.
        validation_only: score the validation split and no test point, as settings are chosen by it:
            a trial's record then has no `test` block, and none of its weights are kept.
        memory_bytes: the most that a trial on a CPU may take, where it shares the machine; None:
            what is free.
        worlds: (a, b): of worlds that are trained one after another, train those from a to b − 1
            alone and leave them in the cache, where the trial finds them on its next run; score
            nothing. None: the whole trial.
    """

    data_dir: Path
    cache_dir: Path
    accelerator: Accelerator = "cpu"
    keep_models: bool = False
    emit: Emit = lambda event: None
    validation_only: bool = False
    memory_bytes: int | None = None
    worlds: tuple[int, int] | None = None

    def require_cpu(self) -> None:
        """Refuse another accelerator.

        Raises:
            SettingsError: it is another.
        """
        if self.accelerator != "cpu":
            raise SettingsError(f"accelerator is {self.accelerator!r}; expected 'cpu'")

    def require_validation(self, trial: Trial) -> None:
        """Refuse a trial that nothing would be scored of.

        Raises:
            SettingsError: the validation split alone is to be scored, and the trial has none.
        """
        if self.validation_only and not trial.has_validation:
            raise SettingsError(
                "validation_only is True but num_validation_points is "
                f"{trial.data.num_validation_points} and num_validations "
                f"{trial.train.num_validations}; expected both above 0"
            )

    @property
    def checkpoints_dir(self) -> Path:
        """Where trainings are kept in their middle."""
        return self.cache_dir / "checkpoints"

    def forget_checkpoints(self, trial: Trial) -> None:
        """Take away what was kept of a trial's training, whose record is written."""
        for path in self.checkpoints_dir.glob(f"*{trial.trial_id}-*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)

    def phase(self, name: str) -> None:
        """Say what the trial is at from now on."""
        self.emit({"event": "phase", "phase": name})

    def partial(self, **blocks: Any) -> None:
        """Hand in blocks of the record that stay should the trial not reach its end."""
        self.emit({"event": "partial", **blocks})


class Experiment(Protocol):
    """Measures the trials of one or more methods, each in a process of its own."""

    def run(self, trial: Trial, context: Context) -> Mapping[str, Any]:
        """Blocks of the trial's record: what settings alone decide, and the bytes it took.

        Raises:
            PredictedOutOfMemory: by arithmetic it does not fit. What else is raised is an error.
        """
        ...

    def time(
        self, trial: Trial, context: Context, repetitions: Iterator[Repetition]
    ) -> Mapping[str, Any]:
        """Take the times of a row, once in each repetition; what its row holds beside them.

        Pulling the next repetition waits for it, while other rows are timed.
        """
        ...
