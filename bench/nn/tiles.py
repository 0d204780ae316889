"""How logits are cut into tiles, on which both what computes them and what counts bytes agree.

Never imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LossKind = Literal["softmax", "bce"]

# Floats of a tile. On a CPU a few layers' logits, or some labels' of a layer, stay in its cache; a
# GPU wants large products instead.
TILE_FLOATS = {"cpu": 1 << 21}
TILE_FLOATS_ELSEWHERE = 1 << 26
# Rows of a product begin where the processor loads them in one go: 83,072 columns are multiplied in
# three quarters of the time of 83,071.
_ALIGNED_FLOATS = 16


@dataclass(frozen=True)
class Tiling:
    """How the logits of G layers, N points and C columns are cut.

    Attributes:
        layers: layers in a tile.
        points: points in a tile.
        columns: columns in a tile.
        width: floats from one row of a tile to the next.
    """

    layers: int
    points: int
    columns: int
    width: int

    @property
    def floats(self) -> int:
        """Floats of a tile."""
        return self.layers * self.points * self.width


def tiling(
    num_layers: int,
    num_points: int,
    num_columns: int,
    kind: LossKind,
    *,
    points_per_chunk: int | None = None,
    layers_per_chunk: int | None = None,
    device: str = "cpu",
) -> Tiling:
    """The tiles that :func:`bench.nn.losses.chunked_loss` takes.

    Args:
        num_layers: G.
        num_points: N.
        num_columns: C.
        kind: the loss.
        points_per_chunk: see :func:`bench.nn.losses.chunked_loss`.
        layers_per_chunk: see :func:`bench.nn.losses.chunked_loss`.
        device: type of the device.
    """
    limit = TILE_FLOATS.get(device, TILE_FLOATS_ELSEWHERE)
    points = num_points
    if kind == "softmax":
        points = min(points_per_chunk or num_points, num_points)
    per_layer = max(points * num_columns, 1)
    layers = min(max(limit // per_layer, 1), layers_per_chunk or num_layers, num_layers)
    columns = num_columns
    if kind == "bce" and layers == 1:
        columns = min(max(limit // max(points, 1), 1), num_columns)
    width = columns
    if kind == "softmax" and layers == 1:
        width = -(-columns // _ALIGNED_FLOATS) * _ALIGNED_FLOATS
    return Tiling(layers, points, columns, width)


# Floats of a lean layer's chunk: they stay in a processor's cache; a GPU wants large products.
_CHUNK_FLOATS = {"cpu": 1 << 19}
_CHUNK_FLOATS_ELSEWHERE = 1 << 26


def lean_columns(num_points: int, num_columns: int, device: str = "cpu") -> int:
    """Columns of a lean layer whose logits exist together for N points."""
    limit = _CHUNK_FLOATS.get(device, _CHUNK_FLOATS_ELSEWHERE)
    return min(max(limit // max(num_points, 1), 1), num_columns)


def lean_bytes(
    num_points: int, num_columns: int, width: int, *, copies: int, device: str = "cpu"
) -> int:
    """Bytes of such a chunk: its logits, their copy for the loss, and copies of its weights.

    Of weights in bfloat16 there is one in float32, and for `row_adagrad` their gradient.
    """
    columns = lean_columns(num_points, num_columns, device)
    return 4 * columns * (2 * num_points + copies * width)


# Floats of scores that exist together in a ranking: some labels' of all points, so that the weight
# is read once and they are ranked while a processor's cache holds them.
_RANKED_FLOATS = {"cpu": 1 << 21}
_RANKED_FLOATS_ELSEWHERE = 1 << 27
_LEAST_LABELS = 1024


def ranked_columns(num_points: int, device: str = "cpu") -> int:
    """Labels whose scores of N points exist together while the best are found."""
    limit = _RANKED_FLOATS.get(device, _RANKED_FLOATS_ELSEWHERE)
    return max(limit // max(num_points, 1), _LEAST_LABELS)
