"""MACH's worlds split over the devices of a Lightning trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, distributed

from bench.data.loader import BatchLoader
from bench.mach.merge import Worlds, give_worlds, worlds_of
from bench.mach.module import Mach
from bench.nn.num_threads import keep_threads
from bench.settings import SettingsError


class WorldsStrategy(DDPStrategy):
    """A process for each device, each of which trains some of MACH's worlds on every batch.

    Nothing is sent while worlds train: no gradient has another world's in it, and they end with the
    weights that one device gives them, up to the rounding of products of fewer at once. Weights go
    to all devices where quality is validated, where a checkpoint is written, and at the end, from
    when on the model has all its worlds everywhere. Points that are validated are shared by the
    devices; the loss that is logged is of the first one's worlds.

    >>> trainer = L.Trainer(strategy=WorldsStrategy(), devices=2, accelerator="cpu")

    :func:`bench.recipe` gives it with `devices`. Options are those of Lightning's `DDPStrategy`;
    `start_method="spawn"` where a script cannot be started once more for each device.

    Raises:
        SettingsError: when training starts: the model is no MACH with encoders of its worlds' own,
            has fewer worlds than there are devices, gradients are clipped by a norm, which is of
            all worlds, or a training is to be resumed.
    """

    averages_gradients = False
    # Tables, numbers and seeds of all worlds, while the model has some of them.
    _whole: Worlds | None = None

    def setup(self, trainer: L.Trainer) -> None:
        """Leave the model this process's worlds, before there is an optimiser."""
        keep_threads()
        if trainer.state.fn == TrainerFn.FITTING:
            self._take_part(trainer)
        super().setup(trainer)

    def configure_ddp(self) -> None:
        """Nothing: no gradient is averaged."""

    def _take_part(self, trainer: L.Trainer) -> None:
        model = trainer.lightning_module
        if not isinstance(model, Mach) or model.is_shared or model.encoder_kind == "own":
            raise SettingsError(
                f"{type(model).__name__} has no worlds with encoders of their own to be split over "
                f"{self.world_size} devices; expected a MACH with share_encoder=False, or strategy "
                "'ddp'"
            )
        if model.head.num_worlds < self.world_size:
            raise SettingsError(
                f"num_worlds is {model.head.num_worlds}; expected at least one for each of "
                f"{self.world_size} devices"
            )
        if trainer.gradient_clip_val and trainer.gradient_clip_algorithm != "value":
            raise SettingsError(
                f"gradient_clip_val is {trainer.gradient_clip_val}, of the norm of all worlds' "
                "gradients, which no device has; expected gradient_clip_algorithm='value'"
            )
        if trainer.ckpt_path:
            raise SettingsError(
                f"ckpt_path is {str(trainer.ckpt_path)!r}; expected None: optimizers of several "
                "devices are in no checkpoint"
            )
        every = worlds_of(model)
        give_worlds(model, every.part(*self._places(self.global_rank, len(every.ids))))
        tables = {n: each for n, each in every.tensors.items() if n in model.tables}
        self._whole = Worlds(every.ids, every.seeds, tables, every.dims)

    def _places(self, rank: int, num_worlds: int) -> tuple[int, int]:
        """The worlds of a process: from which to before which."""
        return num_worlds * rank // self.world_size, num_worlds * (rank + 1) // self.world_size

    def process_dataloader(self, dataloader: object) -> object:
        """Every batch of training is every process's."""
        if isinstance(dataloader, BatchLoader):
            dataloader.share_no_batches()
        return dataloader

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        """So that loaders of torch give each process all points."""
        return {"num_replicas": 1, "rank": 0}

    @contextmanager
    def joined(self) -> Iterator[None]:
        """The model has all worlds, in every process; each has to call this."""
        if self._whole is None:
            yield
            return
        model = cast(Mach, self.lightning_module)
        own = worlds_of(model)
        give_worlds(model, self._gathered(own))
        try:
            yield
        finally:
            give_worlds(model, own)

    def _gathered(self, own: Worlds) -> Worlds:
        """All processes' worlds: tables are kept, weights are sent."""
        whole = cast(Worlds, self._whole)
        num_worlds = len(whole.ids)
        tensors = dict(whole.tensors)
        for name in [name for name in own.tensors if name not in tensors]:
            dim, mine = own.dims[name], own.tensors[name].contiguous()
            parts = []
            for rank in range(self.world_size):
                start, stop = self._places(rank, num_worlds)
                shape = list(mine.shape)
                shape[dim] = shape[dim] // len(own.ids) * (stop - start)
                part = mine if rank == self.global_rank else mine.new_empty(shape)
                distributed.broadcast(part, src=rank)
                parts.append(part)
            tensors[name] = torch.cat(parts, dim=dim)
        return Worlds(whole.ids, whole.seeds, tensors, own.dims)

    def sum_of_worlds(self, loss: Tensor) -> Tensor:
        """A loss of this process's worlds → of all."""
        return loss if self._whole is None else self.reduce(loss.clone(), reduce_op="sum")

    def on_train_end(self) -> None:
        """The model has all worlds again."""
        if self._whole is not None:
            model = cast(Mach, self.lightning_module)
            give_worlds(model, self._gathered(worlds_of(model)))
            self._whole = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: Any | None = None
    ) -> None:
        """A checkpoint of all worlds, which has no optimisers."""
        model = cast(L.LightningModule, self.lightning_module)
        with self.joined():
            if "optimizer_states" in checkpoint:
                checkpoint["optimizer_states"] = []
            checkpoint["state_dict"] = model.state_dict()
            checkpoint[model.CHECKPOINT_HYPER_PARAMS_KEY] = dict(model.hparams)
            model.on_save_checkpoint(checkpoint)
            super().save_checkpoint(checkpoint, filepath, storage_options)
