"""How many threads compute: as many as torch is set to, in torch and in our kernels."""

from __future__ import annotations

import numba
import torch


def keep_threads() -> None:
    """Start numba's threads now, at most as many as torch's, and leave torch its own number.

    Both count in the same OpenMP runtime: numba's first kernel would give torch as many threads as
    the machine has, whatever `OMP_NUM_THREADS` or `torch.set_num_threads` set.
    """
    num_threads = torch.get_num_threads()
    num_started = numba.get_num_threads()  # starts them
    if num_started > num_threads:
        numba.set_num_threads(num_threads)
    if torch.get_num_threads() != num_threads:
        torch.set_num_threads(num_threads)
