"""The k best labels of dense scores, equal scores by smaller label: one rule for every method.

NaN has no rank among numbers: whichever label has it, and however low it might stand, a ranking is
refused (:class:`UnrankableError`) by every method and every decode alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from bench.nn.tiles import ranked_columns
from bench.store.kernels import njit

# Insertion into k slots is the faster way while k is small.
_MOST_INSERTED = 128


class UnrankableError(FloatingPointError, ValueError):
    """Scores that no order can be given to."""

    @classmethod
    def of_labels(cls) -> UnrankableError:
        """Of scores of labels."""
        return cls("a label's score is NaN; expected numbers (a smaller learning rate?)")


def check_k(k: int, num_labels: int) -> None:
    """Refuse a number of labels that cannot be had.

    Raises:
        ValueError: k is not in 1 … L.
    """
    if not 1 <= k <= num_labels:
        raise ValueError(f"k is {k}; expected 1 to L = {num_labels}")


def exact_top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest scores of each point and their labels, equal scores by smaller label.

    Args:
        scores: `(N, L)`.
        k: labels wanted.

    Returns:
        Scores `(N, k)` and labels `(N, k)` int64, best first.

    Raises:
        UnrankableError: a score is NaN.
        ValueError: k is not in 1 … L.

    >>> exact_top_k(torch.tensor([[0.5, 2.0, 0.5, 2.0]]), 3)[1]
    tensor([[1, 3, 0]])
    """
    check_k(k, scores.shape[1])
    scores = scores.detach()
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or k > _MOST_INSERTED:
        return _selected(scores, k)
    top_scores = scores.new_empty(scores.shape[0], k)
    top_labels = torch.empty(scores.shape[0], k, dtype=torch.int64)
    scan = _scan_single if scores.shape[0] == 1 else _scan
    best = top_scores.numpy()
    scan(scores.numpy(), best, top_labels.numpy())
    if np.isnan(best[:, 0]).any():
        raise UnrankableError.of_labels()
    return top_scores, top_labels


def top_k_of_product(hidden: Tensor, weight: Tensor, bias: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """:func:`exact_top_k` of an output layer's logits, which never all exist for a large batch.

    Args:
        hidden: `(N, H)`.
        weight: `(L, H)`, of the type of `hidden` or a narrower one.
        bias: `(L,)`.
        k: labels wanted.

    Raises:
        UnrankableError: a score is NaN.
        ValueError: k is not in 1 … L.
    """
    num_points, num_labels = hidden.shape[0], weight.shape[0]
    check_k(k, num_labels)
    if num_points == 1 and _has_kernel(hidden, weight):
        return exact_top_k(_single_product(hidden, weight, bias), k)
    best_scores, best_labels = [], []
    for start, tile in _tiles(hidden, weight, bias):
        scores, labels = exact_top_k(tile, min(k, tile.shape[1]))
        best_scores.append(scores)
        best_labels.append(labels + start)
    if len(best_scores) == 1:
        return best_scores[0], best_labels[0]
    # Equal scores stand in the order of their labels, in a tile and from tile to tile.
    scores, columns = exact_top_k(torch.cat(best_scores, dim=1), k)
    return scores, torch.cat(best_labels, dim=1).gather(1, columns)


def shares_of_product(hidden: Tensor, weight: Tensor, bias: Tensor, scores: Tensor) -> Tensor:
    """Softmax over all L labels at some of them: exp(score − log Σ exp(logits)), each row's.

    Args:
        hidden: `(N, H)`.
        weight: `(L, H)`.
        bias: `(L,)`.
        scores: `(N, k)` logits of the labels that are asked for.
    """
    parts = [tile.logsumexp(1) for _, tile in _tiles(hidden, weight, bias)]
    return (scores - torch.stack(parts).logsumexp(0).unsqueeze(1)).exp()


def _tiles(hidden: Tensor, weight: Tensor, bias: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Logits `(N, W)` of some labels after others, each with its first label."""
    width = ranked_columns(hidden.shape[0], hidden.device.type)
    for start in range(0, weight.shape[0], width):
        part = weight[start : start + width].to(hidden.dtype)
        yield start, torch.addmm(bias[start : start + width], hidden, part.t())


def _has_kernel(hidden: Tensor, weight: Tensor) -> bool:
    is_float = hidden.dtype == weight.dtype == torch.float32
    return is_float and weight.device.type == "cpu" and weight.is_contiguous()


def _single_product(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Logits `(1, L)` of one hidden vector, at the speed of memory.

    The BLAS of torch reads a row-wise weight by one thread for one query; a transposed copy of the
    weight would be as fast as this, and as large as the model.
    """
    logits = hidden.new_empty(1, weight.shape[0])
    _dot_rows(
        weight.detach().numpy(),
        bias.detach().numpy(),
        hidden.detach().contiguous()[0].numpy(),
        logits[0].numpy(),
        numba.get_num_threads(),
    )
    return logits


def compile_top_k() -> None:
    """Compile what ranking on a CPU compiles on first use."""
    zeros = torch.zeros(2, 2, device="cpu")
    exact_top_k(zeros, 1)
    top_k_of_product(zeros[:1], zeros, zeros[0], 1)


def _selected(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """By torch's selection, which leaves the order of equal scores open, and what sets it right."""
    num_labels = scores.shape[1]
    values, labels = scores.topk(min(k + 1, num_labels), dim=1)
    if bool(values[:, 0].isnan().any()):  # which torch takes for the largest
        raise UnrankableError.of_labels()
    if k < num_labels:
        is_tied = values[:, k] == values[:, k - 1]  # equal scores were left out
        values, labels = values[:, :k], labels[:, :k]
    else:
        is_tied = torch.zeros(scores.shape[0], dtype=torch.bool, device=scores.device)
    labels = labels.sort(dim=1).values
    values, order = scores.gather(1, labels).sort(dim=1, descending=True, stable=True)
    labels = labels.gather(1, order)
    if bool(is_tied.any()):
        ranked, ids = scores[is_tied].sort(dim=1, descending=True, stable=True)
        values[is_tied], labels[is_tied] = ranked[:, :k], ids[:, :k]
    return values, labels


@njit(nogil=True, inline="always")
def _insert(
    scores: Any, first: int, stop: int, filled: int, top_scores: Any, top_labels: Any
) -> int:
    """Take labels `first` to `stop` into the k best so far; returns how many these are, −1 at NaN.

    NaN is then the best score.
    """
    k = top_scores.shape[0]
    for label in range(first, stop):
        score = scores[label]
        if filled == k and score <= top_scores[k - 1]:
            continue
        if score != score:
            top_scores[0] = score
            return -1
        slot = filled if filled < k else k - 1
        while slot > 0 and top_scores[slot - 1] < score:
            top_scores[slot] = top_scores[slot - 1]
            top_labels[slot] = top_labels[slot - 1]
            slot -= 1
        top_scores[slot] = score
        top_labels[slot] = label
        filled = min(filled + 1, k)
    return filled


# Labels passed over at once if none of them is better than the k-th best so far.
_BLOCK = 128


# Additions in any order make the count a vector's. NaN must stay comparable: no other licence.
@njit(nogil=True, fastmath={"reassoc"})
def _scan_row(scores: Any, top_scores: Any, top_labels: Any) -> None:
    num_labels, k = scores.shape[0], top_scores.shape[0]
    filled = 0
    for first in range(0, num_labels, _BLOCK):
        stop = min(first + _BLOCK, num_labels)
        if filled == k:
            least = top_scores[k - 1]
            num_better = np.float32(0.0)  # of the scores' own width; NaN counts as one
            for label in range(first, stop):
                num_better += np.float32(0.0) if scores[label] <= least else np.float32(1.0)
            if num_better == np.float32(0.0):
                continue
        filled = _insert(scores, first, stop, filled, top_scores, top_labels)
        if filled < 0:
            return


@njit(cache=True, nogil=True)
def _scan_single(scores: Any, top_scores: Any, top_labels: Any) -> None:
    _scan_row(scores[0], top_scores[0], top_labels[0])


@njit(parallel=True, cache=True, nogil=True)
def _scan(scores: Any, top_scores: Any, top_labels: Any) -> None:
    for point in numba.prange(scores.shape[0]):
        _scan_row(scores[point], top_scores[point], top_labels[point])


# Sums of products may be taken in any order, as a BLAS does; NaN and infinity stay what they are.
@njit(parallel=True, cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _dot_rows(weight: Any, bias: Any, hidden: Any, logits: Any, num_parts: int) -> None:
    num_labels, width = weight.shape
    for part in numba.prange(num_parts):
        for label in range(part * num_labels // num_parts, (part + 1) * num_labels // num_parts):
            total = np.float32(0.0)
            for column in range(width):
                total += weight[label, column] * hidden[column]
            logits[label] = total + bias[label]
