"""Labels that no world tells apart: how many pairs real hashes leave, and what the bounds need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bench.mach.decode import top_k_reference
from bench.mach.hashing import build_hash
from bench.settings import Trial, derive_seed
from bench.theory.moments import INDEPENDENT
from bench.theory.outcome import Outcome, mean_and_error, read_options

_LARGEST_CODE = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One family of hashes at one size.

    Attributes:
        num_labels: L.
        hash_family: of `bench.mach.hashing`, or `independent`.
        num_buckets: B.
        num_worlds: pairs are counted for 1 … R worlds.
        num_draws: independent draws of R hashes.
    """

    num_labels: int
    hash_family: str
    num_buckets: int
    num_worlds: int
    num_draws: int

    def __post_init__(self) -> None:
        if self.num_buckets**self.num_worlds > _LARGEST_CODE:
            raise ValueError(
                f"num_buckets is {self.num_buckets} and num_worlds {self.num_worlds}; "
                "B to the power of R must stay below 2^62"
            )
        if self.num_draws < 2:
            raise ValueError(f"num_draws is {self.num_draws}; expected at least 2")


def measure(trial: Trial, seed: int) -> Outcome:
    """Number of indistinguishable pairs, and share of draws with any, for each R.

    Args:
        trial: its options are those of :class:`Pairs`.
        seed: of the hashes.
    """
    setting = read_options(Pairs, trial)
    counts = []
    for draw in range(setting.num_draws):
        table = _table(setting, derive_seed("pairs", seed, draw))
        counts.append(count_pairs(table, setting.num_buckets))
    worlds = range(1, setting.num_worlds + 1)
    pairs = [mean_and_error([float(count[r - 1]) for count in counts]) for r in worlds]
    shares = [mean_and_error([float(count[r - 1] > 0) for count in counts]) for r in worlds]
    named = {f"pairs, R = {r}": found for r, found in zip(worlds, pairs, strict=True)}
    named |= {f"share with a pair, R = {r}": s for r, s in zip(worlds, shares, strict=True)}
    return Outcome(
        test={name: value for name, (value, _) in named.items()},
        standard_errors={name: error for name, (_, error) in named.items()},
        curves={
            "pairs": {
                "num_worlds": list(worlds),
                "pairs": [value for value, _ in pairs],
                "share": [value for value, _ in shares],
            }
        },
        facts={"num_labels": setting.num_labels},
    )


def _table(setting: Pairs, seed: int) -> Tensor:
    shape = (setting.num_worlds, setting.num_labels)
    if setting.hash_family == INDEPENDENT:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(setting.num_buckets, shape, generator=generator)
    sizes = (setting.num_labels, setting.num_buckets, setting.num_worlds)
    return build_hash(setting.hash_family, *sizes, seed).table().long()


def count_pairs(table: Tensor, num_buckets: int) -> list[int]:
    """Pairs of labels that share their bucket in each of the first r worlds, for r = 1 … R.

    Args:
        table: `(R, L)` int64 buckets.
        num_buckets: B, with B^R below 2⁶³.
    """
    codes = torch.zeros_like(table[0])
    found = []
    for buckets in table:
        codes = codes * num_buckets + buckets
        sizes = codes.unique(return_counts=True)[1]
        found.append(int((sizes * (sizes - 1) // 2).sum()))
    return found


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Every outcome that R worlds of B buckets can spell.

    Attributes:
        num_buckets: B.
        num_worlds: R.
    """

    num_buckets: int
    num_worlds: int


def measure_outcomes(trial: Trial, seed: int) -> Outcome:
    """How many outcomes the decode tells apart, by how many outputs.

    Each of B^R outcomes is given a code of its own, its worlds are sure of their buckets, and it
    counts if it alone scores highest.

    Args:
        trial: its options are those of :class:`Outcomes`.
        seed: unused; nothing is drawn.
    """
    setting = read_options(Outcomes, trial)
    B, R = setting.num_buckets, setting.num_worlds
    outcomes = torch.arange(B**R)
    codes = torch.stack([outcomes // B**world % B for world in range(R)])
    scores = torch.nn.functional.one_hot(codes.t(), B).float()
    best, labels = top_k_reference(scores, codes.to(torch.uint8), min(2, B**R))
    is_alone = (best[:, 0] > best[:, -1]) | torch.tensor(B**R == 1)
    told = int((is_alone & (labels[:, 0] == outcomes)).sum())
    return Outcome(
        test={"outputs": float(scores[0].numel()), "outcomes told apart": float(told)},
        curves={"outcomes": {"outputs": scores[0].numel(), "outcomes": told}},
    )
