"""Estimators: from R × B bucket logits to label scores; a choice of decode time.

Each maps bucket logits to bucket scores, reduces a label's R scores over worlds, and rescales the
result. The decode works on the first and second step only: the last is monotone.

| estimator   | bucket score    | reduction | label score                                       |
|-------------|-----------------|-----------|---------------------------------------------------|
| `mean`      | probability     | sum       | softmax: B/(B−1) · (mean − 1/B), unbiased; bce: mean |
| `min`       | probability     | min       | as reduced                                        |
| `median`    | probability     | median    | as reduced                                        |
| `logit_sum` | logit           | sum       | as reduced                                        |
| `log_mean`  | log probability | sum       | mean log probability (product of experts)         |

Under softmax `logit_sum` ranks as `log_mean`: they differ by the query's log normalisers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.mach.decode import Reduction
from bench.nn.losses import LossKind

BucketScore = Literal["probability", "logit", "log_probability"]


@dataclass(frozen=True)
class Estimator:
    """A row of the module's table."""

    bucket_score: BucketScore
    reduction: Reduction


ESTIMATORS: dict[str, Estimator] = {
    "mean": Estimator("probability", "sum"),
    "min": Estimator("probability", "min"),
    "median": Estimator("probability", "median"),
    "logit_sum": Estimator("logit", "sum"),
    "log_mean": Estimator("log_probability", "sum"),
}


def bucket_scores(logits: Tensor, loss: LossKind, estimator: str) -> Tensor:
    """Scores `(N, R, B)` float32 that `estimator` reduces over worlds.

    Args:
        logits: `(N, R, B)` float.
        loss: what the worlds were trained with: `softmax` normalises over the B buckets, `bce`
            takes each bucket's sigmoid.
        estimator: a key of `ESTIMATORS`.

    Raises:
        ValueError: an unknown estimator or loss.
    """
    wanted = _find(estimator).bucket_score
    logits = logits.float()
    if loss not in ("softmax", "bce"):
        raise ValueError(f"loss is {loss!r}; expected 'softmax' or 'bce'")
    if wanted == "logit":
        return logits
    if loss == "softmax":
        return logits.softmax(-1) if wanted == "probability" else logits.log_softmax(-1)
    return logits.sigmoid() if wanted == "probability" else F.logsigmoid(logits)


def reduction(estimator: str) -> Reduction:
    """How `estimator` combines a label's R bucket scores, for `decode.top_k`.

    Raises:
        ValueError: an unknown estimator.
    """
    return _find(estimator).reduction


def label_scores(
    reduced: Tensor, num_worlds: int, num_buckets: int, estimator: str, loss: LossKind
) -> Tensor:
    """Final label scores from reduced ones, in the same order and of the same shape.

    With `mean` and `softmax` this is the unbiased estimate of the label's probability, which may
    be negative; its variance is Σ_{k≠i} p_k² / (R(B − 1)) for 3-wise independent hashes and exact
    bucket probabilities. It supposes a random hash: not `identity`, nor B = 1 (mean returned).

    Args:
        reduced: any shape, a label's scores reduced over worlds.
        num_worlds: R, the number of scores reduced.
        num_buckets: B.
        estimator: a key of `ESTIMATORS`.
        loss: `softmax` or `bce`.

    Source: Medini et al. 2019, theorem 1 (`PAPER.md` sections 2 and 3).

    Raises:
        ValueError: an unknown estimator.
    """
    _find(estimator)
    if estimator not in ("mean", "log_mean"):
        return reduced
    mean = reduced / num_worlds
    if estimator == "mean" and loss == "softmax" and num_buckets > 1:
        return (mean - 1 / num_buckets) * (num_buckets / (num_buckets - 1))
    return mean


def quadratic_scores(
    reduced: Tensor, num_worlds: int, num_buckets: int, labels_per_point: float
) -> Tensor:
    """Multi-label probabilities from summed bucket probabilities; no estimator uses it by default.

    p̂ = ½ [−M + √(M² − 4V + (4B/R) Σ_j P^j)] with M = B − V − 1 and V labels a point: corrects the
    mean for other labels in the bucket. It ranks as the mean does while V is constant.

    Args:
        reduced: any shape, Σ_j P^j of a label.
        num_worlds: R.
        num_buckets: B, above V + 1.
        labels_per_point: V, mean number of labels of a point.

    Source: the 2020 draft's theorem 6 (`PAPER.md` section 3.6).

    Raises:
        ValueError: B ≤ V + 1.
    """
    spare = num_buckets - labels_per_point - 1
    if spare <= 0:
        raise ValueError(
            f"num_buckets is {num_buckets}; expected more than labels_per_point + 1 = "
            f"{labels_per_point + 1}"
        )
    inside = spare**2 - 4 * labels_per_point + 4 * num_buckets / num_worlds * reduced
    # Below zero only where the mean is under what V labels alone put into a bucket.
    return (torch.sqrt(inside.clamp_min(0)) - spare) / 2


def _find(estimator: str) -> Estimator:
    if estimator not in ESTIMATORS:
        raise ValueError(f"estimator is {estimator!r}; expected one of {', '.join(ESTIMATORS)}")
    return ESTIMATORS[estimator]
