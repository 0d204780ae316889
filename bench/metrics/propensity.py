"""How much rarer a label looks than it is: inverse propensities from training frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

PROPENSITY: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"wikipedia": (0.5, 0.4), "amazon": (0.6, 2.6), "default": (0.55, 1.5)}
)
"""Published (a, b) by kind of data; `default` also covers AmazonCat-13K.

Source: Jain, Prabhu, Varma 2016, and the Extreme Classification Repository.
"""


def inverse_propensity(
    label_counts: Tensor, num_train_points: int, *, a: float, b: float
) -> Tensor:
    """Inverse propensity of each label, 1 + C · (n_l + b)^(−a) with C = (ln N − 1)(b + 1)^a.

    Args:
        label_counts: n_l, *training* points of each label, `(L,)`; 0 for labels never seen.
        num_train_points: N, training points (with and without labels).
        a: exponent, see `PROPENSITY`.
        b: offset, see `PROPENSITY`.

    Returns:
        `(L,)` float64, above 1, falling in n_l.

    Raises:
        ValueError: a count is negative or above N, N is below 3 (C would be negative), or a or b is
            not positive.

    Source: Jain, Prabhu, Varma 2016 (propensity-scored losses); agrees with pyxclib and napkinXC.

    >>> a, b = PROPENSITY["wikipedia"]
    >>> inverse_propensity(torch.tensor([0, 1, 100]), 1000, a=a, b=b)
    tensor([12.0524,  6.9078,  1.6976], dtype=torch.float64)
    """
    if num_train_points < 3:
        raise ValueError(f"num_train_points is {num_train_points}; expected at least 3")
    if not (a > 0 and b > 0):
        raise ValueError(f"propensity constants are a={a}, b={b}; expected both above 0")
    if label_counts.ndim != 1:
        raise ValueError(f"label_counts have shape {tuple(label_counts.shape)}; expected (L,)")
    counts = label_counts.to(torch.float64)
    if not bool(((counts >= 0) & (counts <= num_train_points)).all()):
        raise ValueError(
            f"label_counts span {counts.min().item():g} to {counts.max().item():g}; "
            f"expected 0 to num_train_points ({num_train_points})"
        )
    scale = (math.log(num_train_points) - 1.0) * (b + 1.0) ** a
    weights: Tensor = 1.0 + scale * (counts + b).pow(-a)
    return weights
