"""Decode problems drawn for property tests: hard kinds of scores over any sizes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from bench.mach.decode import REDUCTIONS, Reduction, top_k_reference

KINDS = ("random", "tied", "constant", "one_hot", "infinite", "signed_zero")
#: Harder on methods that bound what a label can score.
FURTHER_KINDS = ("peaked", "outlier", "far_apart")


#: What sums are drawn from.
SUMS: dict[str, Any] = {"kinds": (*KINDS, *FURTHER_KINDS), "reductions": ("sum",)}


@dataclass(frozen=True)
class Drawn:
    """A problem; its repr is what a failing test needs to build it again."""

    num_queries: int
    num_worlds: int
    num_buckets: int
    num_labels: int
    k: int
    kind: str
    reduction: Reduction
    seed: int

    def build(self) -> tuple[Tensor, Tensor]:
        """Scores `(N, R, B)` and an int64 table `(R, L)`."""
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.num_queries, self.num_worlds, self.num_buckets)
        scores = draw_scores(self.kind, shape, generator)
        size = (self.num_worlds, self.num_labels)
        return scores, torch.randint(self.num_buckets, size, generator=generator)

    def expected(self) -> tuple[Tensor, Tensor]:
        """What every exact method must answer."""
        scores, table = self.build()
        return top_k_reference(scores, table, self.k, reduction=self.reduction)


def drawn_problems(
    *,
    num_queries: Sequence[int],
    most_worlds: int,
    most_buckets: int,
    most_labels: int = 700,
    most_k: int = 700,
    kinds: Sequence[str] = KINDS,
    reductions: Sequence[Reduction] = REDUCTIONS,
) -> st.SearchStrategy[Drawn]:
    """Problems up to these sizes, fewer labels than k or B among them."""

    @st.composite
    def draw_problem(draw: st.DrawFn) -> Drawn:
        num_labels = draw(st.integers(1, most_labels))
        return Drawn(
            num_queries=draw(st.sampled_from(num_queries)),
            num_worlds=draw(st.integers(1, most_worlds)),
            num_buckets=draw(st.integers(1, most_buckets)),
            num_labels=num_labels,
            k=min(draw(st.integers(1, most_k)), num_labels),
            kind=draw(st.sampled_from(kinds)),
            reduction=draw(st.sampled_from(reductions)),
            seed=draw(st.integers(0, 2**31)),
        )

    return draw_problem()


def draw_scores(kind: str, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    scores = torch.randn(shape, generator=generator)
    if kind == "tied":
        return scores.round()
    if kind == "constant":
        return torch.full(shape, 0.1)
    if kind == "one_hot":
        return torch.nn.functional.one_hot(scores.argmax(-1), shape[2]).float()
    if kind == "infinite":
        return scores.masked_fill(scores < 0.3, float("-inf"))
    if kind == "signed_zero":
        return torch.where(scores < 0, -0.0, 0.0)
    if kind == "peaked":
        return torch.log_softmax(6 * scores, -1)
    if kind == "outlier":
        scores[:, :, 0] = -1e30
        return scores
    if kind == "far_apart":  # worlds on scales of their own, and rounding that matters
        worlds = torch.arange(shape[1], dtype=torch.float32).unsqueeze(1)
        return scores * 10**worlds - 1e5 * worlds
    return scores


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[0], expected[0])
