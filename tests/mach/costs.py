"""Unit costs of decoding, as a calibration on two cores gives them."""

import torch

from bench.mach.decode import auto
from bench.mach.decode.auto import Costs

TYPICAL = Costs(
    table_sizes=(512, 4096, 5120, 32_768, 320_000),
    tile_gather=(1.6e-9, 1.6e-9, 1.6e-9, 2e-9, 6e-9),
    bucket_counts=(32, 256, 320, 2048, 20_000),
    single_gather=(1e-10, 1.3e-10, 4e-10, 4e-10, 6e-10),
    pack=5e-10,
    single_pack=3e-10,
    select=1e-10,
    row_bytes=(1 << 20, 1 << 24),
    visit=(1.2e-9, 2.4e-9),
    meet=(3e-9, 6e-9),
    bucket=4e-7,
)


def use_costs(chosen: Costs | None) -> None:
    """Put costs in force, and forget what searches have come to; None: fit anew at the next use."""
    auto._known_costs.clear()
    auto._choosers.clear()
    if chosen is not None:
        auto._known_costs[torch.get_num_threads()] = chosen
