"""Hash families: which bucket a label falls into, in each world.

A family is its parameters, not its table: any label's bucket can be recomputed from a seed and the
world's number. Worlds are named by number in [0, R) and drawn independently of each other, so that
a subset of worlds, hashed anywhere, equals the same rows of the full table.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from bench.mach.arithmetic import bucket_item_bytes
from bench.settings import derive_seed

MERSENNE_PRIME = 2**31 - 1
ODP_PRIME = 105943
_MAX_LABELS = 2**31 - 1
# Labels hashed at a time: the int64 intermediates stay in cache at any L.
_CHUNK = 1 << 16
_UINT32 = 0xFFFFFFFF


@dataclass(frozen=True, kw_only=True)
class HashFamily(ABC):
    """R hash functions from L labels to B buckets; a family adds `_hash`.

    Attributes:
        num_labels: L.
        num_buckets: B.
        worlds: numbers of the R worlds; row r of every table belongs to `worlds[r]`.
        seed: of the draws.
    """

    family: ClassVar[str]
    num_labels: int
    num_buckets: int
    worlds: tuple[int, ...]
    seed: int = field(default=0)

    def __post_init__(self) -> None:
        if not 1 <= self.num_labels <= _MAX_LABELS:
            raise ValueError(f"num_labels is {self.num_labels}; expected 1 to 2^31 - 1")
        if not 1 <= self.num_buckets <= _MAX_LABELS:
            raise ValueError(f"num_buckets is {self.num_buckets}; expected 1 to 2^31 - 1")
        if not self.worlds or min(self.worlds) < 0 or len(set(self.worlds)) != len(self.worlds):
            raise ValueError(f"worlds are {self.worlds}; expected distinct numbers of at least 0")

    @abstractmethod
    def _hash(self, world: int, labels: Tensor) -> Tensor:
        """Int64 buckets of int64 `labels` in one world, on their device."""

    @property
    def num_worlds(self) -> int:
        """R."""
        return len(self.worlds)

    def bucket_ids(
        self, labels: Tensor | None = None, worlds: Sequence[int] | None = None
    ) -> Tensor:
        """`(R, len(labels))` int64 buckets, on the labels' device.

        Args:
            labels: `(M,)` integers in [0, L); None means all labels, in order.
            worlds: numbers of the worlds wanted, by default all of this hash.

        Raises:
            ValueError: a label or a world that is not of this hash.
        """
        rows = self if worlds is None else self.subset(worlds)
        if labels is None:
            return rows.table().long()
        if labels.numel():
            lowest, highest = (int(value) for value in torch.aminmax(labels))
            if lowest < 0 or highest >= self.num_labels:
                raise ValueError(
                    f"labels span {lowest} to {highest}; expected 0 to {self.num_labels - 1}"
                )
        return torch.stack([rows._hash(world, labels.long()) for world in rows.worlds])

    def table(self) -> Tensor:
        """`(R, L)` buckets of all labels: uint8 if B ≤ 2⁸, int16 if B ≤ 2¹⁵, else int32."""
        buckets = self.empty_table()
        for start in range(0, self.num_labels, _CHUNK):
            labels = torch.arange(start, min(start + _CHUNK, self.num_labels))
            for row, world in enumerate(self.worlds):
                buckets[row, start : start + _CHUNK] = self._hash(world, labels)
        return buckets

    def empty_table(self) -> Tensor:
        """A table with nothing in it yet; on the `meta` device, the shape and type of one."""
        dtype = {1: torch.uint8, 2: torch.int16, 4: torch.int32}[
            bucket_item_bytes(self.num_buckets)
        ]
        return torch.empty(self.num_worlds, self.num_labels, dtype=dtype)

    def subset(self, worlds: Sequence[int]) -> Self:
        """The same hash with only these worlds, by number and in this order.

        Raises:
            ValueError: a world that is not of this hash, or one named twice.
        """
        missing = sorted(set(worlds) - set(self.worlds))
        if missing:
            raise ValueError(f"worlds {missing} are not among {self.worlds}")
        return replace(self, worlds=tuple(worlds))

    def to_dict(self) -> dict[str, Any]:
        """Family, sizes, world numbers and seed: all that determines the buckets."""
        return {"family": self.family, **asdict(self), "worlds": list(self.worlds)}


@dataclass(frozen=True, kw_only=True)
class UniversalHash(HashFamily):
    """((a·x + b) mod p) mod B with p = 2³¹ − 1: 2-universal, collisions at most about 1/B.

    Only pairs are independent: labels in arithmetic progression (i, i + d, i + 2d) collide together
    more often than at random, which leaves the mean of MACH's estimator alone but raises its
    variance where heavy labels have neighbouring ids. `balanced` and `murmur3` have no such trait.

    Source: Carter, Wegman 1979. a·x + b < 2⁶² fits int64, so that the arithmetic is exact.
    """

    family: ClassVar[str] = "universal"

    def coefficients(self) -> Tensor:
        """`(R, 2)` int64, each world's a and b."""
        return torch.tensor([self._coefficients(world) for world in self.worlds])

    def _coefficients(self, world: int) -> tuple[int, int]:
        generator = np.random.default_rng(derive_seed("hash", self.seed, world))
        a = int(generator.integers(1, MERSENNE_PRIME))
        return a, int(generator.integers(0, MERSENNE_PRIME))

    def _hash(self, world: int, labels: Tensor) -> Tensor:
        a, b = self._coefficients(world)
        return (labels * a + b) % MERSENNE_PRIME % self.num_buckets


@dataclass(frozen=True, kw_only=True)
class Murmur3Hash(HashFamily):
    """The authors' multi-label hash: signed MurmurHash3 of the int32 label, floor-modulo B.

    The hash's own seed is the world's number, as in their code; with a `seed` other than 0 it is
    drawn from both.

    Source: Appleby, MurmurHash3_x86_32; Tharun24/MACH preprocessing (`PAPER.md` section 2).
    """

    family: ClassVar[str] = "murmur3"

    def _hash(self, world: int, labels: Tensor) -> Tensor:
        own = derive_seed("hash", self.seed, world) & _UINT32 if self.seed else world
        return murmur3_int32(labels, own) % self.num_buckets


@dataclass(frozen=True, kw_only=True)
class BalancedHash(HashFamily):
    """Bucket π(x) mod B for a pseudo-random permutation π of the labels: sizes differ by ≤ 1.

    π is a Feistel network over pairs of numbers below ⌈√L⌉, applied again until it lands in
    [0, L): a permutation whatever the round function, with no table to store.

    Source: Luby, Rackoff 1988; Black, Rogaway 2002 (generalised Feistel, cycle walking).
    """

    family: ClassVar[str] = "balanced"
    num_rounds: ClassVar[int] = 6

    def _hash(self, world: int, labels: Tensor) -> Tensor:
        generator = np.random.default_rng(derive_seed("hash", self.seed, world))
        keys = generator.integers(0, 2**32, size=self.num_rounds).tolist()
        side = math.isqrt(self.num_labels - 1) + 1
        permuted = _feistel(labels, keys, side)
        outside = (permuted >= self.num_labels).nonzero()[:, 0]
        while outside.numel():
            permuted[outside] = _feistel(permuted[outside], keys, side)
            outside = outside[permuted[outside] >= self.num_labels]
        return permuted % self.num_buckets


@dataclass(frozen=True, kw_only=True)
class IdentityHash(HashFamily):
    """Every label its own bucket, in every world: MACH without hashing, for proofs by identity."""

    family: ClassVar[str] = "identity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_buckets < self.num_labels:
            raise ValueError(
                f"num_buckets is {self.num_buckets}; identity needs at least {self.num_labels}"
            )

    def _hash(self, world: int, labels: Tensor) -> Tensor:
        return labels


@dataclass(frozen=True, kw_only=True)
class OdpHash(HashFamily):
    """The authors' multiclass hash: ((a·x + b) mod 105943) mod B, drawn by Python's `random`.

    World after world draws a, then b, from one generator; a pair is redrawn if its a or b was used
    before or if it leaves a bucket empty. The authors seed it with 0.

    Source: tinytinyeye/MACH `hash_util.py` as described in `PAPER.md` section 2, whose first six
    pairs this reproduces; none is redrawn at the published sizes.
    """

    family: ClassVar[str] = "odp"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.num_buckets <= self.num_labels <= ODP_PRIME:
            raise ValueError(
                f"odp hashes B = {self.num_buckets} to {ODP_PRIME} labels, so that no bucket is "
                f"empty; num_labels is {self.num_labels}"
            )

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(a, b) of worlds 0 up to the last of this hash."""
        num_pairs = max(self.worlds) + 1
        generator = random.Random(self.seed)
        labels = torch.arange(self.num_labels)
        found: list[tuple[int, int]] = []
        used: tuple[set[int], set[int]] = (set(), set())
        for _ in range(1000 + 2 * num_pairs):
            if len(found) == num_pairs:
                return tuple(found)
            a, b = (generator.randint(1, ODP_PRIME - 1) for _ in range(2))
            if a in used[0] or b in used[1]:
                continue
            if bool(torch.bincount(self._buckets(a, b, labels), minlength=self.num_buckets).all()):
                found.append((a, b))
                used[0].add(a)
                used[1].add(b)
        raise ValueError(
            f"no {num_pairs} odp pairs were found that leave none of {self.num_buckets} buckets "
            f"empty with {self.num_labels} labels"
        )

    def _buckets(self, a: int, b: int, labels: Tensor) -> Tensor:
        return (labels * a + b) % ODP_PRIME % self.num_buckets

    def _hash(self, world: int, labels: Tensor) -> Tensor:
        return self._buckets(*self.pairs[world], labels)


FAMILIES: dict[str, type[HashFamily]] = {
    cls.family: cls for cls in (UniversalHash, Murmur3Hash, BalancedHash, IdentityHash, OdpHash)
}


def build_hash(
    family: str, num_labels: int, num_buckets: int, num_worlds: int, seed: int = 0
) -> HashFamily:
    """Hash of a named family with worlds 0 … R − 1.

    Args:
        family: a key of `FAMILIES`.
        num_labels: L, below 2³¹.
        num_buckets: B.
        num_worlds: R.
        seed: of the draws, 0 or more; with 0 `murmur3` and `odp` are the authors' functions.
            `identity` draws nothing.

    Raises:
        ValueError: an unknown family or a size that the family cannot hash.
    """
    if family not in FAMILIES:
        raise ValueError(f"hash family is {family!r}; expected one of {', '.join(FAMILIES)}")
    if num_worlds < 1:
        raise ValueError(f"num_worlds is {num_worlds}; expected at least 1")
    return FAMILIES[family](
        num_labels=num_labels, num_buckets=num_buckets, worlds=tuple(range(num_worlds)), seed=seed
    )


def murmur3_int32(keys: Tensor, seed: int) -> Tensor:
    """MurmurHash3_x86_32 of each key's four bytes: a signed 32-bit integer, held in int64.

    Args:
        keys: integers in [−2³¹, 2³²).
        seed: in [0, 2³²).

    >>> murmur3_int32(torch.tensor([0, 1]), 0)
    tensor([593689054, -68075478])
    """
    # Products wrap modulo 2⁶⁴, which leaves their low 32 bits right.
    mixed = _rotate_left((keys.long() * 0xCC9E2D51) & _UINT32, 15) * 0x1B873593 & _UINT32
    state = (_rotate_left(mixed ^ seed, 13) * 5 + 0xE6546B64) & _UINT32
    state = _avalanche(state ^ 4)
    return state - ((state >> 31) << 32)


def _rotate_left(words: Tensor, num_bits: int) -> Tensor:
    return ((words << num_bits) | (words >> (32 - num_bits))) & _UINT32


def _avalanche(state: Tensor) -> Tensor:
    """MurmurHash3's finaliser on 32-bit words: every input bit reaches every output bit."""
    state = ((state ^ (state >> 16)) * 0x85EBCA6B) & _UINT32
    state = ((state ^ (state >> 13)) * 0xC2B2AE35) & _UINT32
    return state ^ (state >> 16)


def _feistel(values: Tensor, keys: Sequence[int], side: int) -> Tensor:
    """Permutation of [0, side²), one Feistel round a key."""
    left, right = values // side, values % side
    for key in keys:
        left, right = right, (left + _avalanche(((right * 0x9E3779B1) & _UINT32) ^ key)) % side
    return left * side + right
