"""Random numbers of one purpose, on whatever device they are needed, whose state can be kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Generator:
    """A seeded generator that is made on the device of its first use.

    A copy, or one that resumes from a state, goes on where the original stood.

    Args:
        seed: of the draws; on another device they start anew.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._generator: torch.Generator | None = None

    def on(self, device: torch.device) -> torch.Generator:
        """The generator, on this device."""
        if self._generator is None or self._generator.device != device:
            self._generator = torch.Generator(device).manual_seed(self.seed)
        return self._generator

    @property
    def state(self) -> Tensor | None:
        """`(bytes,)` uint8 on the CPU; None: nothing was drawn."""
        return None if self._generator is None else self._generator.get_state()

    def resume(self, state: Tensor | None, device: torch.device) -> None:
        """Go on from a :attr:`state`; torch refuses one of another type of device."""
        self._generator = None
        if state is not None:
            self.on(device).set_state(state.cpu())

    def __getstate__(self) -> tuple[int, Tensor | None, torch.device | None]:
        """What a copy is made of: torch's generators cannot be copied."""
        device = None if self._generator is None else self._generator.device
        return self.seed, self.state, device

    def __setstate__(self, kept: tuple[int, Tensor | None, Any]) -> None:
        self.seed, state, device = kept
        self.resume(state, device)
