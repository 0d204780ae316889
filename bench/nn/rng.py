"""Random numbers of one purpose, on whatever device they are needed, whose place can be kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Stream:
    """A seeded generator that is made on the device of its first use.

    A copy, or one that :meth:`resume` is told the place of, goes on where the original stood.

    Args:
        seed: of the draws; on another device the stream starts anew.
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
    def place(self) -> Tensor | None:
        """Where the stream stands, `(bytes,)` uint8 on the CPU; None: nothing was drawn."""
        return None if self._generator is None else self._generator.get_state()

    def resume(self, place: Tensor | None, device: torch.device) -> None:
        """Go on from a :attr:`place`.

        Raises:
            RuntimeError: the place is of a generator on another type of device.
        """
        self._generator = None
        if place is not None:
            self.on(device).set_state(place.cpu())

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: torch's generators cannot be copied."""
        device = None if self._generator is None else self._generator.device
        return {"seed": self.seed, "place": self.place, "device": device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["seed"])  # type: ignore[misc]
        if state["device"] is not None:
            self.resume(state["place"], state["device"])
