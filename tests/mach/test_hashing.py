import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.mach.hashing import FAMILIES, MERSENNE_PRIME, OdpHash, build_hash, murmur3_int32
from bench.settings import derive_seed

RANDOM = ("universal", "murmur3", "balanced", "odp")


@pytest.mark.parametrize(
    ("seed", "hashes", "buckets"),
    [
        (
            0,
            [593689054, -68075478, 1085422463, 847579505, 1889779975, 236698494],
            [1054, 522, 463, 1505, 1975, 494],
        ),
        (
            1,
            [2028806445, 1578231156, -610632052, -814954327, 1445381879, 1808298432],
            [445, 1156, 1948, 1673, 1879, 432],
        ),
    ],
)
def test_murmur3_agrees_with_the_authors_tables(
    seed: int, hashes: list[int], buckets: list[int]
) -> None:
    keys = torch.arange(6)
    assert murmur3_int32(keys, seed).tolist() == hashes
    assert build_hash("murmur3", 6, 2000, 2).bucket_ids(worlds=[seed]).tolist() == [buckets]


def test_murmur3_loads_agree_with_the_authors_wiki10_table() -> None:
    loads = torch.bincount(build_hash("murmur3", 30938, 2000, 1).table()[0].long())
    assert (int(loads.min()), int(loads.max())) == (4, 29)


def test_odp_pairs_agree_with_the_authors() -> None:
    hashed = build_hash("odp", 105033, 32, 6)
    assert isinstance(hashed, OdpHash)
    assert [a for a, _ in hashed.pairs] == [50495, 55126, 33937, 63692, 102735, 62469]
    assert [b for _, b in hashed.pairs] == [99347, 5307, 67014, 53076, 39756, 46931]
    assert int(hashed.bucket_ids(torch.tensor([2]))[0, 0]) == (50495 * 2 + 99347) % 105943 % 32


def test_universal_is_exact_at_the_largest_label() -> None:
    label = 2**31 - 2
    hashed = build_hash("universal", 2**31 - 1, 10_000, 3, seed=5)
    for world in range(3):
        generator = np.random.default_rng(derive_seed("hash", 5, world))
        a, b = int(generator.integers(1, MERSENNE_PRIME)), int(generator.integers(MERSENNE_PRIME))
        expected = (a * label + b) % MERSENNE_PRIME % 10_000
        assert int(hashed.bucket_ids(torch.tensor([label]), [world])) == expected


@pytest.mark.parametrize("family", RANDOM)
@pytest.mark.parametrize(
    ("num_buckets", "dtype"),
    [(2, torch.uint8), (256, torch.uint8), (257, torch.int16), (32768, torch.int16)],
)
def test_table_equals_recomputed_buckets_in_the_narrowest_type(
    family: str, num_buckets: int, dtype: torch.dtype
) -> None:
    num_labels = 90_000 if num_buckets > 300 and family != "odp" else 70_001
    num_buckets = min(num_buckets, 2000) if family == "odp" else num_buckets
    hashed = build_hash(family, num_labels, num_buckets, 2, seed=1)
    table = hashed.table()
    assert table.dtype == dtype
    labels = torch.tensor([num_labels - 1, 0, 65_536, 65_535])
    assert torch.equal(hashed.bucket_ids(labels), table[:, labels].long())
    assert int(table.min()) >= 0
    assert int(table.max()) < num_buckets


def test_many_buckets_need_int32() -> None:
    assert build_hash("universal", 10, 32769, 1).table().dtype == torch.int32


@given(num_labels=st.integers(1, 300), num_buckets=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_balanced_bucket_sizes_differ_by_at_most_one(
    num_labels: int, num_buckets: int, seed: int
) -> None:
    table = build_hash("balanced", num_labels, num_buckets, 2, seed).table()
    for row in table:
        loads = torch.bincount(row.long(), minlength=num_buckets)
        assert int(loads.max() - loads.min()) <= 1


def test_balanced_permutation_is_uniform_over_small_domains() -> None:
    # Bucket = π(label): each of the 5 × 5 (label, place) cells is Binomial(2000, 1/5). The sum of
    # squared deviations is chi-square with 16 degrees of freedom; 45.9 is its 99.99 % point.
    places = build_hash("balanced", 5, 5, 2000, seed=3).table().long()
    counts = torch.stack([torch.bincount(places[:, label], minlength=5) for label in range(5)])
    chi_square = float(((counts - 400.0) ** 2 / 400).sum())
    assert chi_square < 45.9


@pytest.mark.parametrize("family", ["universal", "murmur3", "balanced"])
def test_two_labels_collide_with_probability_one_in_b(family: str) -> None:
    # 2000 worlds: the standard deviation of a share of 1/8 is 0.0074; five of them are allowed.
    table = build_hash(family, 500, 8, 2000, seed=2).table()
    for first, second in ((0, 1), (3, 400), (7, 14)):
        share = float((table[:, first] == table[:, second]).double().mean())
        assert abs(share - 1 / 8) < 5 * math.sqrt(1 / 8 * 7 / 8 / 2000)


@pytest.mark.parametrize("family", RANDOM)
def test_subset_of_worlds_is_those_rows_of_the_whole(family: str) -> None:
    whole = build_hash(family, 500, 7, 6, seed=4)
    part = whole.subset([4, 1])
    assert part.worlds == (4, 1)
    assert torch.equal(part.table(), whole.table()[[4, 1]])
    assert torch.equal(part.bucket_ids(worlds=[1]), whole.bucket_ids(worlds=[1]))
    with pytest.raises(ValueError, match="worlds \\[0\\] are not among"):
        part.subset([0])


@pytest.mark.parametrize("family", RANDOM)
def test_seeds_and_worlds_draw_different_tables(family: str) -> None:
    first, second = (build_hash(family, 200, 10, 2, seed).table() for seed in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first, build_hash(family, 200, 10, 2, 0).table())


def test_identity_gives_every_label_its_own_bucket() -> None:
    assert torch.equal(build_hash("identity", 5, 8, 2).bucket_ids(), torch.arange(5).expand(2, -1))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_description_is_json_and_rebuilds_the_hash(family: str) -> None:
    hashed = build_hash(family, 50, 50 if family == "identity" else 5, 3, seed=9).subset([2, 0])
    words = json.loads(json.dumps(hashed.to_dict()))
    rebuilt = FAMILIES[words.pop("family")](**{**words, "worlds": tuple(words["worlds"])})
    assert rebuilt == hashed
    assert torch.equal(rebuilt.table(), hashed.table())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sha1", 10, 2, 1), "hash family is 'sha1'; expected one of universal"),
        (("universal", 0, 2, 1), "num_labels is 0"),
        (("universal", 10, 0, 1), "num_buckets is 0"),
        (("universal", 10, 2, 0), "num_worlds is 0"),
        (("identity", 10, 9, 1), "identity needs at least 10"),
        (("odp", 105944, 32, 1), "num_labels is 105944"),
        (("odp", 5, 32, 1), "num_labels is 5"),
    ],
)
def test_impossible_hash_is_refused(arguments: tuple[str, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_hash(*arguments)


def test_label_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="labels span -1 to 3; expected 0 to 9"):
        build_hash("universal", 10, 2, 1).bucket_ids(torch.tensor([3, -1]))
