"""Methods without any model, for tests: what their processes do stands in their options."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep

from bench.measure.memory import PredictedOutOfMemory
from bench.methods.card import TRAINED, Card, Dimension, Kind
from bench.methods.cards import register
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial
from bench.store.record import append_line
from bench.studies.study import Study
from bench.studies.tuning import Tuning

# A stub's data is what its source's name says, and it is of the version in a test's hands.
KIND = Kind(name="training", sources="stub_trials", prepares_data=False)
SOURCE = {"version": 1, "fingerprint": "f"}


def source_version(spec):
    return SOURCE["version"]


def data_fingerprint(spec, data_dir, cache_dir):
    return SOURCE["fingerprint"]


def stub_card(name, version=1, **changes):
    return Card(
        name=name,
        version=version,
        label=name,
        group="stub",
        entry="stub_trials",
        **changes,
    )


register(stub_card("stub"))
register(stub_card("other"))
# What tuning finds of these: quality depends on settings, see `quality_of`.
register(stub_card("steep", search=(*TRAINED, Dimension("size", (4, 8), above=(16,)))))
register(stub_card("flat", search=(*TRAINED, Dimension("words", ("a", "b")))))
register(stub_card("closed", search=(Dimension("size", (1, 2, 4), above=(8,)),)))
TUNABLE = ("steep", "flat", "closed")


def quality_of(trial):
    """Validation quality of a tunable stub: of a steep one, best beyond what is tried at first."""
    if trial.model.method == "steep":
        return 0.9 - 0.1 * abs(math.log2(trial.train.learning_rate / 0.16))
    return 0.5


def tunable_study(name="stub", seconds=0.0, **rule):
    """A study of which `bench tune` can make tries, each of 20 seconds in stubs' steps."""
    data = DataSpec(
        source="planted",
        name="planted",
        options={
            "num_train_points": 400,
            "num_test_points": 50,
            "num_features": 100,
            "num_labels": 20,
        },
        num_validation_points=100,
    )
    steep = build_trial(method="steep", seconds=seconds, train={"budget_seconds": 20.0})
    trials = [dataclasses.replace(steep, data=data)]
    tuning = Tuning(**{"tries": 5, "reserve": 2, "methods": TUNABLE, **rule})
    return build_study(trials, name, tuning=tuning)


def build_trial(behaviour="done", *, replicate=0, method="stub", train=None, **options):
    return Trial(
        data=DataSpec(source="planted", name="nothing"),
        model=ModelSpec(
            method=method, encoder="linear", options={"behaviour": behaviour, **options}
        ),
        train=TrainSpec(**({"trial_timeout_seconds": 60.0} | (train or {}))),
        replicate=replicate,
    )


def build_study(trials, name="stub", **changes):
    grid = {"trials": lambda profile: trials, "smoke": lambda: trials, "kind": KIND}
    return Study(name=name, claim="Stubs end.", **(grid | changes))


def run(trial, context):
    context.phase("train")
    options, emit = {"behaviour": "done", **trial.model.options}, context.emit
    sys.stdout.write(f"working in {context.cache_dir}\n")
    BEHAVIOURS[options["behaviour"]](options, emit)
    draw = random.Random(trial.replicate)
    curve = [{"step": i, "loss": draw.random()} for i in range(3)]
    if trial.model.method in TUNABLE:
        shares = (0.5, 1.0, 0.8)
        curve = [
            {"step": i, "metrics": {"P@1": x * quality_of(trial)}} for i, x in enumerate(shares)
        ]
    emit({"event": "step", "epoch": 1.0, "loss": float("nan"), "fraction": 1.0})
    context.phase("evaluate")
    return {
        "test": None if context.validation_only else {"P@1": 0.5, "P@3": float("nan")},
        "training": {"num_steps": trial.train.num_steps, "curve": curve},
        "resolved": {"pid": os.getpid()},
        "clock": {"train_seconds": 0.25, "wall_seconds": 0.0},
        "data": {"fingerprint": SOURCE["fingerprint"], "loaded_torch": "torch" in sys.modules},
    }


def time(trial, context, repetitions):
    """Each repetition is written into a diary, which all rows share."""
    context.phase("build")
    behaviour, cache_dir = trial.model.options.get("behaviour"), context.cache_dir
    others = cache_dir.glob("*.timed")
    if behaviour == "exhaust_beside_others" and any(others):
        raise MemoryError("beside the others")
    note = cache_dir / f"{os.getpid()}.timed"
    note.touch()
    try:
        for repetition in repetitions:
            append_line(cache_dir / "diary", f"{repetition.round_number} {behaviour}")
            if behaviour == "fail_in_second_round" and repetition.round_number == 1:
                raise ValueError("no more")
            is_alone = list(cache_dir.glob("*.timed")) == [note]
            if behaviour == "exhaust_in_repetition_beside_others" and not is_alone:
                raise MemoryError("beside the others")
            if behaviour == "exhaust_always":
                bytearray(1 << 45)
            with repetition.timed("train", units=2) as seconds:
                seconds += [0.0] if behaviour == "time_nothing" else [0.5, 0.25, 1.0]
    finally:
        note.unlink()
    return {"weights": None, "fingerprint": "f", "status": "not its to say"}


def say_sizes(options, emit):
    sizes = {"num_train_points": 7, "num_test_points": 3, "num_features": 1200, "num_labels": 50}
    emit({"event": "partial", "data": sizes | {"num_trained_labels": 6, "task": "multiclass"}})


def done(options, emit):
    sleep(options.get("seconds", 0.0))


def hang(options, emit):
    emit({"event": "partial", "memory": {"parameter_bytes": 123}})
    Path(options["pid_file"]).write_text(str(os.getpid()))
    sleep(600)


def hang_deaf(options, emit):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleep(600)


def exhaust(options, emit):
    bytearray(1 << 45)


def take_bytes(options, emit):
    bytearray(options["bytes"])


def exhaust_torch(options, emit):
    import torch

    torch.empty(1 << 45)


def speak_of_memory(options, emit):
    raise RuntimeError(options["words"])


def abort_speaking_of_memory(options, emit):
    sys.stdout.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.abort()


def leave_by_exit(options, emit):
    sys.exit("no more")


class Unprintable(BaseException):
    def __str__(self):
        raise SystemExit(3)


def fail_unprintably(options, emit):
    raise Unprintable


def leave_speaking_of_memory(options, emit):
    sys.stdout.write("this trial never runs out of memory\n")
    os._exit(3)


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


def fail_by_surrogate(options, emit):
    raise ValueError("no file b\udcff")


def fail_until_file(options, emit):
    if not Path(options["file"]).exists():
        raise ValueError("not yet")


def return_rubbish(options, emit):
    emit({"event": "partial", "nonsense": {}})


def send_rubbish(options, emit):
    descriptor = int(sys.argv[sys.argv.index("--events-fd") + 1])
    os.write(descriptor, options["line"].encode() + b"\n")
    sleep(600)


def send_without_end(options, emit):
    descriptor = int(sys.argv[sys.argv.index("--events-fd") + 1])
    while True:
        os.write(descriptor, b"x" * (1 << 16))


def have_a_child(options, emit):
    """Leaves a process behind that holds all that it can inherit, as forked loaders do.

    It knows nothing of its parent.
    """
    child = subprocess.Popen(["sleep", "600"], close_fds=False)
    Path(options["child_pid_file"]).write_text(str(child.pid))
    BEHAVIOURS[options["then"]](options, emit)


BEHAVIOURS = {
    behaviour.__name__: behaviour
    for behaviour in (
        done,
        say_sizes,
        hang,
        hang_deaf,
        exhaust,
        take_bytes,
        exhaust_torch,
        speak_of_memory,
        abort_speaking_of_memory,
        leave_by_exit,
        fail_unprintably,
        leave_speaking_of_memory,
        get_killed,
        crash,
        leave,
        predict,
        fail,
        fail_by_surrogate,
        fail_until_file,
        return_rubbish,
        send_rubbish,
        send_without_end,
        have_a_child,
    )
}


def main():
    """Run trials, as a process that a test can kill: RESULTS CACHE TRIALS SECONDS."""
    import stub_trials  # this file, by the name under which trials' processes know it

    from bench.runner.plan import RunOptions
    from bench.runner.run import run_study

    results, cache = map(Path, sys.argv[1:3])
    num_trials, seconds = int(sys.argv[3]), float(sys.argv[4])
    trials = [stub_trials.build_trial(seconds=seconds, replicate=i) for i in range(num_trials)]
    options = RunOptions(data_dir=cache, results_dir=results, cache_dir=cache)
    run_study(stub_trials.build_study(trials), options)


if __name__ == "__main__":
    main()
