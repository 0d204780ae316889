"""Decode: R × B bucket scores of a query → its exact k best labels.

A label's score reduces the scores of its R buckets (sum, min or median over worlds). The `(N, L)`
matrix of label scores exists in `top_k_reference` only. `dense`, `pruned` and `auto` return its
labels and scores bit by bit. For sums this is why; each line rests on the test that it names, in
`tests/mach/`:

1. Score: s(l) = ((x₀ + x₁) + x₂) + … in float32, where x_r is the score of l's bucket in world r;
   every method adds in this order (`test_sums_are_float32_in_world_order`).
2. Order: l ranks above m where s(l) > s(m), or s(l) = s(m) and l < m. A heap keeps the k best in
   whatever order they come (`test_a_heap_keeps_the_k_best_in_any_order`). Its worst score t never
   falls, so that a label may be left out where bound ≥ s(l) and bound < t; or bound ≤ t where all
   labels of the heap are smaller ones.
3. Monotone rounding: x_r ≤ y_r in every world gives s(x) ≤ s(y), as each addition is rounded
   monotonically (`test_a_rounded_sum_never_falls_where_its_addends_rise`).
4. `dense` scores every label, or bounds it by bytes: s(l) ≤ base + step · Σ level(x_r)
   (`test_no_score_exceeds_the_bound_by_its_levels`). Labels come in ascending order, and those
   below the least sum of levels have a bound ≤ t (`test_sums_of_levels_below_the_least_lose`).
5. `pruned` reads each world's buckets from the best one down to nexts[r], the best one not read. A
   label in no read bucket has x_r ≤ nexts[r], so that by 3. s(l) ≤ the rounded sum of nexts; where
   that is below t all such labels are out. A tie is not: its label may be the smaller one
   (`test_a_label_that_may_tie_is_still_looked_for`).
6. A label in one read bucket only, of value v, has s(l) ≤ v + Σ nexts of the others + rounding
   (`test_no_label_encountered_once_exceeds_its_bound`); nor does a score exceed the sum of its
   first worlds and what the others add at most (`test_no_score_left_half_way_could_have_won`).
   Stopping rule: 5. holds, and all labels encountered are scored or bound below t
   (`test_search_equals_reference`).
7. A search that gives up is answered by `dense`
   (`test_search_that_gives_up_says_so_and_top_k_is_exact`), and `auto` takes either
   (`test_labels_are_those_of_the_reference_whichever_way_is_taken`).

Minima and medians are scanned by `dense`, which scores every label.
"""

from __future__ import annotations

from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from bench.mach.arithmetic import INDEXED as INDEXED
from bench.mach.hashing import UniversalHash
from bench.methods.cards import resolve
from bench.nn.ranking import UnrankableError

#: Decode methods: a new one is one file, with `top_k` and `prepare`, and one line.
METHODS: dict[str, str] = {
    "dense": "bench.mach.decode.dense:top_k",
    "pruned": "bench.mach.decode.pruned:top_k",
    "auto": "bench.mach.decode.auto:top_k",
}
#: Fastest without an index, and near the fastest with one on scores that are not peaked.
DEFAULT = "dense"

Reduction = Literal["sum", "min", "median"]
REDUCTIONS: tuple[Reduction, ...] = ("sum", "min", "median")

_TABLE_DTYPES = (torch.uint8, torch.int16, torch.int32)
_LARGEST_FLOAT = torch.finfo(torch.float32).max


class DecodeMethod(Protocol):
    """A way to the k best labels; arguments are checked, float32, on one device and contiguous."""

    def __call__(
        self, bucket_scores: Tensor, table: Tensor | UniversalHash, k: int, reduction: Reduction
    ) -> tuple[Tensor, Tensor]:
        """`(N, k)` float32 scores, best first, and `(N, k)` int64 labels."""
        ...


def top_k(
    bucket_scores: Tensor,
    table: Tensor | UniversalHash,
    k: int,
    *,
    reduction: Reduction = "sum",
    method: str = DEFAULT,
) -> tuple[Tensor, Tensor]:
    """The exact k best labels of each query, and their reduced scores.

    Args:
        bucket_scores: `(N, R, B)` float, finite or −inf as float32, larger is better.
        table: `(R, L)` bucket of each label in each world, as `HashFamily.table` gives it (uint8,
            int16 or int32); other integer types are copied to int32. Or a universal hash itself:
            `dense` then computes its buckets anew for each block of labels and stores nothing of
            size L.
        k: labels wanted, 1 to L.
        reduction: `sum`, `min`, or `median` (numpy's: of an even number of worlds the mean of the
            two middle scores).
        method: a key of `METHODS`.

    Returns:
        Scores `(N, k)` float32, best first, and labels `(N, k)` int64; equal scores by ascending
        label id.

    Raises:
        UnrankableError: a score is NaN or +inf as float32, or so large that a label's may overflow.
        ValueError: k is not in 1 … L, shapes disagree, the reduction or method is unknown, a bucket
            of the table is outside 0 … B − 1, or a hash is given to another method than `dense`.
        TypeError: the table is neither a tensor nor a universal hash.

    >>> scores = torch.tensor([[[0.9, 0.1], [0.2, 0.8]]])
    >>> table = torch.tensor([[0, 0, 1], [0, 1, 1]], dtype=torch.uint8)
    >>> top_k(scores, table, 2)[1]
    tensor([[1, 0]])
    """
    _check(bucket_scores, table, k, reduction)
    if method not in METHODS:
        raise ValueError(f"decode method is {method!r}; expected one of {', '.join(METHODS)}")
    if not isinstance(table, Tensor) and method != "dense":
        raise ValueError(f"decode method is {method!r}; expected 'dense' with a hash for a table")
    bucket_scores = bucket_scores.detach().float()
    if bucket_scores.shape[0] == 0:
        device = bucket_scores.device
        return torch.empty(0, k, device=device), torch.empty(0, k, dtype=torch.int64, device=device)
    check_scores(bucket_scores, reduction)
    if isinstance(table, Tensor):
        if table.dtype not in _TABLE_DTYPES:
            check_buckets(table.to(torch.int64), bucket_scores.shape[2])
            table = table.to(torch.int32)
        table = table.to(bucket_scores.device).contiguous()
    decode = cast(DecodeMethod, resolve(METHODS[method]))
    return decode(bucket_scores.contiguous(), table, k, reduction)


def prepare(
    table: Tensor, num_buckets: int, k: int, *, reduction: Reduction = "sum", method: str = DEFAULT
) -> None:
    """Do now what :func:`top_k` would do at its first use: compile kernels, build an index.

    Afterwards no call with such a table, k and reduction compiles or builds, however many queries
    it has and whatever their scores.

    Args:
        table: `(R, L)` uint8, int16 or int32.
        num_buckets: B.
        k: labels wanted, 1 to L.
        reduction: `sum`, `min` or `median`.
        method: a key of `METHODS`.
    """
    module = METHODS[method].partition(":")[0]
    resolve(f"{module}:prepare")(table, num_buckets, k, reduction)


def top_k_reference(
    bucket_scores: Tensor, table: Tensor, k: int, *, reduction: Reduction = "sum"
) -> tuple[Tensor, Tensor]:
    """What `top_k` must return, read off the full `(N, L)` matrix; for tests and small sizes."""
    _check(bucket_scores, table, k, reduction)
    bucket_scores = bucket_scores.detach().float()
    check_scores(bucket_scores, reduction)
    scores = label_scores_block(bucket_scores, table, reduction)
    ranked, labels = scores.sort(dim=1, descending=True, stable=True)
    return ranked[:, :k], labels[:, :k]


def label_scores_block(bucket_scores: Tensor, table: Tensor, reduction: Reduction) -> Tensor:
    """Reduced scores `(N, l)` of the `l` labels that are the columns of `table` `(R, l)`."""
    num_worlds = table.shape[0]
    columns = (
        bucket_scores[:, world].index_select(1, table[world].long()) for world in range(num_worlds)
    )
    if reduction == "median":
        ranked = torch.stack(list(columns)).sort(dim=0).values
        lower, upper = ranked[(num_worlds - 1) // 2], ranked[num_worlds // 2]
        return lower if num_worlds % 2 else (lower + upper) * 0.5
    total = next(columns)
    for column in columns:
        total = total + column if reduction == "sum" else torch.minimum(total, column)
    return total


def bad_table(num_buckets: int) -> ValueError:
    """What every method raises for a bucket that is none."""
    return ValueError(f"a bucket of the table is outside 0 to B - 1 = {num_buckets - 1}")


def check_buckets(table: Tensor, num_buckets: int) -> None:
    """Refuse a table with a bucket that is none."""
    lowest, highest = (int(value) for value in torch.aminmax(table))
    if lowest < 0 or highest >= num_buckets:
        raise bad_table(num_buckets)


def ranking_keys(scores: Tensor, labels: Tensor) -> Tensor:
    """Int64 keys in the order of scores, equal ones by falling label: to be ranked by any top-k."""
    # Adding 0.0 turns -0.0 into 0.0: equal scores need equal bits.
    bits = (scores + 0.0).view(torch.int32)
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (order << 32) | (0xFFFFFFFF - labels)


def scores_and_labels(keys: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`ranking_keys` were made of."""
    order = (keys >> 32).int()
    scores = torch.where(order < 0, order ^ 0x7FFFFFFF, order).view(torch.float32)
    return scores, 0xFFFFFFFF - (keys & 0xFFFFFFFF)


def _check(bucket_scores: Tensor, table: Tensor | UniversalHash, k: int, reduction: str) -> None:
    if bucket_scores.ndim != 3 or not bucket_scores.is_floating_point():
        raise ValueError(
            f"bucket scores have shape {tuple(bucket_scores.shape)} and type "
            f"{bucket_scores.dtype}; expected (N, R, B) floats"
        )
    _, num_worlds, num_buckets = bucket_scores.shape
    if isinstance(table, Tensor):
        if table.ndim != 2 or table.is_floating_point() or table.shape[0] != num_worlds:
            raise ValueError(
                f"table has shape {tuple(table.shape)} and type {table.dtype}; expected (R, L) "
                f"integers with R = {num_worlds} as in the bucket scores"
            )
        num_labels = table.shape[1]
    elif not isinstance(table, UniversalHash):
        raise TypeError(
            f"table is of type {type(table).__name__}; expected an (R, L) tensor of buckets, such "
            "as HashFamily.table() gives, or a UniversalHash"
        )
    else:
        if (table.num_worlds, table.num_buckets) != (num_worlds, num_buckets):
            raise ValueError(
                f"hash has R = {table.num_worlds}, B = {table.num_buckets}; expected those of the "
                f"bucket scores, R = {num_worlds}, B = {num_buckets}"
            )
        num_labels = table.num_labels
    if num_worlds == 0 or num_buckets == 0:
        raise ValueError(f"bucket scores have R = {num_worlds}, B = {num_buckets}; expected 1 up")
    if not 1 <= k <= num_labels:
        raise ValueError(f"k is {k}; expected 1 to L = {num_labels}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction is {reduction!r}; expected one of {', '.join(REDUCTIONS)}")


def check_scores(bucket_scores: Tensor, reduction: str) -> None:
    """Refuses what cannot be ranked, and scores that labels' scores may overflow with."""
    if bucket_scores.shape[0] == 0:
        return
    # One pass without a mask in memory: max propagates NaN.
    largest = float(bucket_scores.max())
    if not largest < float("inf"):
        at = (~(bucket_scores < float("inf"))).nonzero()[0].tolist()
        raise UnrankableError(
            f"bucket score of query {at[0]}, world {at[1]}, bucket {at[2]} is "
            f"{float(bucket_scores[tuple(at)])} in float32; expected finite or -inf "
            "(a smaller learning rate?)"
        )
    addends = {"sum": bucket_scores.shape[1], "median": 2}.get(reduction, 1)
    if largest * addends > _LARGEST_FLOAT:
        raise UnrankableError(
            f"largest bucket score is {largest}; expected at most {_LARGEST_FLOAT / addends:.4g}: "
            f"a {reduction} adds up {addends} and must stay within float32 (a smaller learning "
            "rate?)"
        )
