"""What of a process's environment the seconds of a training step hang on."""

from __future__ import annotations

import os
import sys
import warnings

from bench.errors import UserError

#: Read once, as torch and its threads are loaded.
ENVIRONMENT = {
    # Threads that wait at a barrier sleep rather than spin: with any other load on the machine,
    # spinning made small steps 7 times slower, and the measurement one of the neighbours.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Large tensors come in huge pages. A step's logits are freed and allocated anew each time, and
    # faulting them in by 4 KiB took up to half of a full-softmax step.
    "THP_MEM_ALLOC_ENABLE": "1",
}


def set_environment() -> None:
    """Have waiting threads sleep and large tensors lie in huge pages, as in the suite's trials.

    To be called before anything imports torch, which reads it then. Without it, steps of encoders
    of one's own for each world (B = 512, R = 8) took 85 ms instead of 39.

    Raises:
        UserError: torch is there already, and was loaded otherwise.
    """
    if "torch" in sys.modules and _missing():
        raise UserError(
            f"torch is imported already; expected bench.set_environment() before, or {_missing()} "
            "before the command"
        )
    os.environ.update(ENVIRONMENT)


def warn_of_environment() -> None:
    """Warn where steps will take longer than a trial's."""
    if _missing():
        warnings.warn(
            "training steps may take up to twice as long as in the suite's trials; expected "
            f"bench.set_environment() before torch is imported, or {_missing()} before the command",
            stacklevel=3,
        )


def _missing() -> str:
    parts = [
        f"{name}={value}" for name, value in ENVIRONMENT.items() if os.environ.get(name) != value
    ]
    return " ".join(parts)
