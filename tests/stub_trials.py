"""Stand-in for `bench.trial`: trials that behave as their options say, without any model."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from bench.measure.memory import PredictedOutOfMemory
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.study import Study


def build_trial(behaviour="done", *, replicate=0, timeout_seconds=60.0, method="stub", **options):
    return Trial(
        data=DataSpec(source="planted", name="nothing"),
        model=ModelSpec(
            method=method, encoder="linear", options={"behaviour": behaviour, **options}
        ),
        train=TrainSpec(trial_timeout_seconds=timeout_seconds),
        replicate=replicate,
    )


def build_study(trials, name="stub"):
    return Study(name=name, claim="Stubs end.", trials=lambda profile: trials, smoke=lambda: trials)


def execute(trial, *, data_dir, cache_dir, accelerator, emit):
    emit({"event": "phase", "phase": "train"})
    options = trial.model.options
    sys.stdout.write(f"working in {cache_dir}\n")
    BEHAVIOURS[options["behaviour"]](options, emit)
    emit({"event": "step", "epoch": 1.0, "loss": float("nan"), "fraction": 1.0})
    emit({"event": "phase", "phase": "evaluate"})
    return {
        "test": {"P@1": 0.5, "P@3": float("nan")},
        "clock": {"train_seconds": 0.25},
        "data": {"pid": os.getpid(), "loaded_torch": "torch" in sys.modules},
    }


def done(options, emit):
    time.sleep(options.get("seconds", 0.0))


def hang(options, emit):
    emit({"event": "partial", "memory": {"parameter_bytes": 123}})
    Path(options["pid_file"]).write_text(str(os.getpid()))
    time.sleep(600)


def hang_deaf(options, emit):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def exhaust(options, emit):
    bytearray(1 << 45)


def exhaust_by_words(options, emit):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")


def get_killed(options, emit):
    os.kill(os.getpid(), signal.SIGKILL)


def crash(options, emit):
    os.abort()


def leave(options, emit):
    os._exit(3)


def predict(options, emit):
    raise PredictedOutOfMemory(2000, 1000, {"parameter_bytes": 500})


def fail(options, emit):
    raise ValueError("no file '/somewhere/of/mine/points.txt' here")


def fail_until_file(options, emit):
    if not Path(options["file"]).exists():
        raise ValueError("not yet")


def return_rubbish(options, emit):
    emit({"event": "partial", "nonsense": {}})


BEHAVIOURS = {
    behaviour.__name__: behaviour
    for behaviour in (
        done,
        hang,
        hang_deaf,
        exhaust,
        exhaust_by_words,
        get_killed,
        crash,
        leave,
        predict,
        fail,
        fail_until_file,
        return_rubbish,
    )
}


def main():
    """Run ten quick trials, as a process that a test can kill: RESULTS CACHE."""
    from bench.runner import RunOptions, run_study

    results, cache = map(Path, sys.argv[1:])
    trials = [build_trial(seconds=0.05, replicate=i) for i in range(10)]
    options = RunOptions(
        data_dir=cache, results_dir=results, cache_dir=cache, entry="stub_trials:execute"
    )
    run_study(build_study(trials), options, digest=lambda trial: "d")


if __name__ == "__main__":
    main()
