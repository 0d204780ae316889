"""`python -m bench` with two small studies of its own: stubs, and trials that train."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1])]

from stub_trials import build_study, build_trial  # noqa: E402

from bench.methods.card import TRAINING  # noqa: E402
from bench.settings import DataSpec, ModelSpec, TrainSpec, Trial  # noqa: E402
from bench.studies.study import Study  # noqa: E402
from tests.data.rows import planted  # noqa: E402


def stubs() -> Study:
    """Trials that end at once or soon, one of them out of memory, one with a child."""
    trials = [build_trial(seconds=0.2 * number, replicate=number) for number in range(3)]
    trials.append(build_trial("predict"))
    # The child's number stands in the folder that a campaign runs in.
    trials.append(build_trial("have_a_child", then="done", child_pid_file="child"))
    return build_study(trials, name="stubs")


def trained() -> Study:
    """A trivial baseline, and full softmax by torch, on planted points."""
    data = DataSpec(
        source="planted",
        name="planted",
        options=planted(400, 60, 300, 40),
        num_validation_points=20,
    )
    train = TrainSpec(num_steps=4, batch_size=32)
    models = (
        ModelSpec(method="frequency", encoder="linear"),
        ModelSpec(method="full_softmax", encoder="linear"),
    )
    trials = [Trial(data=data, model=model, train=train) for model in models]
    return build_study(trials, name="trained", kind=TRAINING)


STUDIES = {"stubs": stubs, "trained": trained}


def main() -> int:
    """Run a command of the suite."""
    module = ModuleType("studies_of_soak")
    module.STUDIES = STUDIES  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    from bench.cli.commands import main as bench
    from bench.studies import study

    study.MODULES = (module.__name__,)

    return bench()


if __name__ == "__main__":
    sys.exit(main())
