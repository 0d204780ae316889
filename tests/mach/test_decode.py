import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bench.mach import decode
from bench.mach.decode import (
    METHODS,
    REDUCTIONS,
    Reduction,
    coarse_kernel,
    dense,
    dense_kernel,
    kernels,
    label_scores_block,
    pruned_kernel,
    top_k,
    top_k_reference,
)
from bench.mach.decode.coarse_kernel import COARSE_TILE
from bench.mach.decode.dense import top_k_blocked
from bench.mach.decode.dense_kernel import TILE, median_network
from bench.mach.hashing import UniversalHash, build_hash
from tests.mach.problems import (
    FURTHER_KINDS,
    KINDS,
    Drawn,
    assert_same,
    draw_scores,
    drawn_problems,
)


@given(
    problem=drawn_problems(
        num_queries=[1, 2, 5, TILE, TILE + 1, 3 * TILE + 2], most_worlds=9, most_buckets=40
    )
)
@settings(max_examples=80, deadline=None)
def test_dense_equals_reference(problem: Drawn) -> None:
    scores, table = problem.build()
    table = table.to(torch.uint8)
    k, reduction = problem.k, problem.reduction
    assert_same(top_k(scores, table, k, reduction=reduction), problem.expected())
    blocked = top_k_blocked(scores, table, k, reduction, block_elements=97 * problem.num_queries)
    assert_same(blocked, problem.expected())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_queries", [1, TILE + 3])
def test_dense_equals_reference_over_several_threads_and_blocks(
    kind: str, reduction: Reduction, num_queries: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = draw_scores(kind, (num_queries, 6, 200), generator)
    table = build_hash("universal", 9001, 200, 6).table()
    expected = top_k_reference(scores, table, 50, reduction=reduction)
    assert_same(top_k(scores, table, 50, reduction=reduction), expected)


def watch_coarse_scans(monkeypatch: pytest.MonkeyPatch, name: str = "_coarse") -> list[bool]:
    """Whether each coarse scan from now on was carried through."""
    seen: list[bool] = []
    scan = getattr(dense._Scan, name)

    def watching(self: Any, *queries: int) -> Any:
        found = scan(self, *queries)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(dense._Scan, name, watching)
    return seen


@given(
    problem=drawn_problems(
        num_queries=[1, COARSE_TILE, COARSE_TILE + 1, 2 * COARSE_TILE + 9],
        most_worlds=9,
        most_buckets=40,
        kinds=(*KINDS, *FURTHER_KINDS),
        reductions=("sum",),
    )
)
@settings(max_examples=80, deadline=None)
def test_coarse_scan_equals_reference(problem: Drawn) -> None:
    scores, table = problem.build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_MIN_COARSE_LABELS", 0)
        patch.setattr(dense, "_MIN_COARSE_QUERIES", 1)
        patch.setattr(dense, "_LABELS_PER_EXACT_SCORE", 1)  # never gives up
        seen = watch_coarse_scans(patch)
        assert_same(top_k(scores, table.int(), problem.k), problem.expected())
    assert seen
    assert all(seen)


@given(
    problem=drawn_problems(
        num_queries=[1, 2],
        most_worlds=9,
        most_buckets=256,
        kinds=(*KINDS, *FURTHER_KINDS),
        reductions=("sum",),
    ),
    table_dtype=st.sampled_from([torch.uint8, torch.int16]),
)
@settings(max_examples=120, deadline=None)
def test_coarse_scan_of_a_query_equals_reference(problem: Drawn, table_dtype: torch.dtype) -> None:
    scores, table = problem.build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_MIN_COARSE_LABELS", 0)
        patch.setattr(dense, "_MIN_COARSE_LOOKUPS", 0)
        patch.setattr(dense, "_LABELS_PER_EXACT_SCORE", 1)  # never gives up
        seen = watch_coarse_scans(patch, "_coarse_single")
        assert_same(top_k(scores, table.to(table_dtype), problem.k), problem.expected())
    assert seen == [True] * problem.num_queries


@pytest.mark.parametrize("kind", [*KINDS, *FURTHER_KINDS])
@pytest.mark.parametrize("num_buckets", [16, 100, 256, 300])
def test_coarse_scan_of_a_query_over_threads_and_blocks(
    kind: str, num_buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_coarse_scans(monkeypatch, "_coarse_single")
    generator = torch.Generator().manual_seed(16)
    scores = draw_scores(kind, (1, 16, num_buckets), generator)
    table = build_hash("universal", 70_011, num_buckets, 16).table()
    assert_same(top_k(scores, table, 5), top_k_reference(scores, table, 5))
    # Of the infinite ones hardly a label has a score.
    assert seen == [kind not in ("constant", "signed_zero", "infinite")]


@pytest.mark.parametrize("place", [0, 31, 32, 69_999, 70_010])
@pytest.mark.parametrize("num_buckets", [20, 200])
def test_coarse_scan_of_a_query_refuses_a_bad_bucket_wherever_it_is(
    place: int, num_buckets: int
) -> None:
    table = build_hash("universal", 70_011, num_buckets, 16).table()
    table[7, place] = num_buckets
    with pytest.raises(ValueError, match="a bucket of the table is outside"):
        top_k(torch.zeros(1, 16, num_buckets), table, 5)


@pytest.mark.parametrize("num_queries", [1, COARSE_TILE])
def test_largest_sum_of_levels_is_not_taken_for_none(num_queries: int) -> None:
    # 256 worlds' highest levels add up to 65,280 of 65,535.
    table = torch.randint(2, (256, 5000), generator=torch.Generator().manual_seed(17))
    table[:, 4321] = 0
    scores = torch.tensor([1.0, 0.0]).expand(num_queries, 256, 2)
    found = top_k(scores, table.to(torch.uint8), 3)
    assert_same(found, top_k_reference(scores, table, 3))
    assert found[1][:, 0].tolist() == [4321] * num_queries


@pytest.mark.parametrize("kind", [*KINDS, *FURTHER_KINDS])
def test_coarse_scan_over_threads_and_blocks_gives_up_where_it_cannot_tell(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_coarse_scans(monkeypatch)
    generator = torch.Generator().manual_seed(9)
    scores = draw_scores(kind, (COARSE_TILE + 40, 16, 500), generator)
    table = build_hash("universal", 30_011, 500, 16).table()
    assert_same(top_k(scores, table, 5), top_k_reference(scores, table, 5))
    assert seen
    # Of the infinite ones hardly a label has a score.
    assert all(seen) == (kind not in ("constant", "signed_zero", "infinite"))


def test_coarse_scan_refuses_no_label_that_float32_rounds_up() -> None:
    # Sums of 16 equal scores of which float32 makes more than they are.
    generator = torch.Generator().manual_seed(10)
    scores = 1e6 + torch.rand(COARSE_TILE, 16, 500, generator=generator)
    table = build_hash("balanced", 20_000, 500, 16).table()
    assert_same(top_k(scores, table, 5), top_k_reference(scores, table, 5))


@pytest.mark.parametrize("num_queries", [1, 5, TILE + 3, COARSE_TILE])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_buckets", [1, 7, 4096, 30_000])
def test_recomputed_hash_decodes_as_its_table(
    num_queries: int, reduction: Reduction, num_buckets: int
) -> None:
    hashes = UniversalHash(num_labels=9001, num_buckets=num_buckets, worlds=(0, 3, 5), seed=2)
    generator = torch.Generator().manual_seed(11)
    scores = torch.randn(num_queries, 3, num_buckets, generator=generator)
    expected = top_k(scores, hashes.table(), 6, reduction=reduction)
    assert_same(top_k(scores, hashes, 6, reduction=reduction), expected)
    blocked = top_k_blocked(scores, hashes, 6, reduction, block_elements=1 << 15)
    assert_same(blocked, expected)


def test_recomputed_hash_is_right_at_the_largest_labels() -> None:
    hashes = UniversalHash(num_labels=2**31 - 1, num_buckets=9973, worlds=(0, 1), seed=5)
    for start in (0, 2**30 - 50, 2**31 - 101):
        for world in range(2):
            ids = np.empty(100, dtype=np.int32)
            hash_block = dense_kernel.hash_block
            hash_block(hashes.coefficients().numpy(), world, start, ids, 9973)
            expected = hashes.bucket_ids(torch.arange(start, start + 100))[world]
            assert ids.tolist() == expected.tolist()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_method_gives_the_labels_of_the_reference(method: str, reduction: Reduction) -> None:
    scores = torch.randn(70, 6, 60, generator=torch.Generator().manual_seed(12)).round(decimals=1)
    table = build_hash("balanced", 2500, 60, 6).table()
    found = top_k(scores, table, 9, reduction=reduction, method=method)
    assert_same(found, top_k_reference(scores, table, 9, reduction=reduction))


def test_hash_of_other_sizes_or_for_another_method_is_refused() -> None:
    hashes = UniversalHash(num_labels=50, num_buckets=3, worlds=(0, 1), seed=0)
    with pytest.raises(ValueError, match=r"hash has R = 2, B = 3; expected .* R = 2, B = 4"):
        top_k(torch.zeros(1, 2, 4), hashes, 1)
    with pytest.raises(ValueError, match="expected 'dense' with a hash"):
        top_k(torch.zeros(1, 2, 3), hashes, 1, method="pruned")
    with pytest.raises(TypeError, match="table is of type BalancedHash; expected an"):
        top_k(torch.zeros(1, 2, 3), build_hash("balanced", 50, 3, 2), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
@pytest.mark.parametrize("num_queries", [1, 20])
def test_wider_tables_decode_alike(dtype: torch.dtype, num_queries: int) -> None:
    scores = torch.randn(num_queries, 3, 100, generator=torch.Generator().manual_seed(4))
    table = build_hash("balanced", 500, 100, 3).table()
    assert_same(top_k(scores, table.to(dtype), 7), top_k(scores, table, 7))


@pytest.mark.parametrize("num_queries", [1, 40])
def test_ascending_and_descending_scores_decode_alike(num_queries: int) -> None:
    # Every label, or none after the first k, displaces another.
    table = torch.arange(6000, dtype=torch.int16).unsqueeze(0)
    for scores in (torch.arange(6000.0), -torch.arange(6000.0)):
        bucket_scores = scores.expand(num_queries, 1, -1)
        assert_same(top_k(bucket_scores, table, 10), top_k_reference(bucket_scores, table, 10))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_every_label_can_be_ranked(reduction: Reduction) -> None:
    scores = torch.randn(5, 4, 30, generator=torch.Generator().manual_seed(5)).round()
    table = build_hash("murmur3", 5000, 30, 4).table()
    assert_same(
        top_k(scores, table, 5000, reduction=reduction),
        top_k_reference(scores, table, 5000, reduction=reduction),
    )


def test_fewer_labels_than_buckets_and_empty_buckets() -> None:
    scores = torch.randn(3, 2, 1000, generator=torch.Generator().manual_seed(6))
    table = build_hash("universal", 7, 1000, 2).table()
    assert_same(top_k(scores, table, 7), top_k_reference(scores, table, 7))


def test_sums_are_float32_in_world_order() -> None:
    # (1 + 2⁻²⁴) + 2⁻²⁴ rounds to 1 twice; any other order gives more.
    scores = torch.tensor([1.0, 2.0**-24, 2.0**-24]).view(1, 3, 1)
    table = torch.zeros(3, 1, dtype=torch.uint8)
    for num_queries in (1, TILE):
        assert float(top_k(scores.expand(num_queries, -1, -1), table, 1)[0][0]) == 1.0


def test_median_of_an_even_number_of_worlds_is_the_mean_of_the_middle_two() -> None:
    scores = torch.tensor([1.0, 10.0, 2.0, 4.0]).view(1, 4, 1)
    table = torch.zeros(4, 1, dtype=torch.uint8)
    assert float(top_k(scores, table, 1, reduction="median")[0]) == 3.0


@given(
    addends=st.lists(
        st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=30
    ),
    rises=st.lists(
        st.floats(0, 2.0**100, width=32, allow_subnormal=False), min_size=30, max_size=30
    ),
)
@settings(max_examples=300, deadline=None)
def test_a_rounded_sum_never_falls_where_its_addends_rise(
    addends: list[float], rises: list[float]
) -> None:
    lower = np.float32(addends)
    higher = lower + np.float32(rises[: len(addends)])
    assert pruned_kernel.bound(higher) >= pruned_kernel.bound(lower)


@given(
    scores=st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 2.5]), min_size=1, max_size=40),
    k=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=100, deadline=None)
def test_a_heap_keeps_the_k_best_in_any_order(scores: list[float], k: int, seed: int) -> None:
    heap = np.empty(k, np.float32), np.empty(k, np.int32)
    kernels.clear_heap(*heap)
    for label in np.random.default_rng(seed).permutation(len(scores)):
        kernels.offer(*heap, np.float32(scores[label]), label)
    kernels.sort_heap(*heap)
    ranked = sorted(range(len(scores)), key=lambda label: (-scores[label], label))[:k]
    assert heap[1].tolist() == ranked + [kernels.NO_LABEL] * (k - len(ranked))
    assert heap[0].tolist() == [scores[label] for label in ranked] + [-np.inf] * (k - len(ranked))


@pytest.mark.parametrize("kind", [*KINDS, *FURTHER_KINDS])
@pytest.mark.parametrize("num_worlds", [1, 16, 256])
def test_no_score_exceeds_the_bound_by_its_levels(kind: str, num_worlds: int) -> None:
    generator = torch.Generator().manual_seed(19)
    if kind == "far_apart" and num_worlds > 30:
        pytest.skip("beyond float32")
    scores = draw_scores(kind, (3, num_worlds, 50), generator)
    table = torch.randint(50, (num_worlds, 4000), generator=generator)
    floors, steps, bases = dense.levels_of(scores.numpy())
    every = label_scores_block(scores, table, "sum").double().numpy()
    for query in range(3):
        levels = coarse_kernel.levels_of_query(scores[query].numpy(), floors[query], steps[query])
        sums = np.take_along_axis(levels.astype(np.int64), table.numpy(), 1).sum(0)
        assert (every[query] <= bases[query] + np.float64(steps[query]) * sums).all()


@given(
    threshold=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
    base=st.floats(-1e6, 1e6, allow_subnormal=False),
    step=st.floats(2.0**-20, 100, width=32),
)
@settings(max_examples=300, deadline=None)
def test_sums_of_levels_below_the_least_lose(threshold: float, base: float, step: float) -> None:
    least = int(coarse_kernel.least_sum(threshold, base, np.float32(step)))
    assert least == 0 or base + step * (least - 1) <= threshold
    assert int(coarse_kernel.least_sum(-np.inf, base, np.float32(step))) == 0


def test_every_test_that_the_exactness_argument_rests_on_exists() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", decode.__doc__ or "")
    assert len(named) == 11
    assert [name for name in named if f"def {name}(" not in tests] == []


@pytest.mark.parametrize("num_rows", range(1, 70))
def test_network_brings_the_median_to_its_place(num_rows: int) -> None:
    values = np.random.default_rng(num_rows).integers(0, 20, (num_rows, 50))
    ranked = np.sort(values, axis=0)
    for low, high in median_network(num_rows):
        assert low < high
        pair = np.sort(values[[low, high]], axis=0)
        values[low], values[high] = pair
    for middle in ((num_rows - 1) // 2, num_rows // 2):
        assert (values[middle] == ranked[middle]).all()


def test_scores_of_other_types_layouts_and_with_gradients_are_accepted() -> None:
    scores = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(7)).transpose(1, 2)
    table = build_hash("universal", 100, 9, 4).table()
    expected = top_k_reference(scores, table, 5)
    assert_same(top_k(scores.double().requires_grad_(), table, 5), expected)
    assert_same(top_k(scores, table.T.contiguous().T, 5), expected)


def test_no_queries_give_no_answers() -> None:
    found, labels = top_k(torch.empty(0, 2, 3), torch.zeros(2, 4, dtype=torch.uint8), 3)
    assert found.shape == labels.shape == (0, 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("num_queries", [2, 20])
def test_unrankable_score_is_refused_by_place_and_value(value: float, num_queries: int) -> None:
    scores = torch.zeros(num_queries, 3, 4)
    scores[1, 2, 3] = value
    with pytest.raises(ValueError, match=f"query 1, world 2, bucket 3 is {value}"):
        top_k(scores, torch.zeros(3, 5, dtype=torch.uint8), 1)


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (1e39, {}, "query 1, world 2, bucket 3 is inf in float32"),
        (1.2e38, {}, r"largest bucket score is 1.2\d*e\+38; expected at most 1.134e\+38: a sum"),
        (1.8e38, {"reduction": "median"}, r"expected at most 1.701e\+38: a median adds up 2"),
    ],
)
def test_scores_that_overflow_float32_are_refused(
    score: float, options: dict[str, Any], message: str
) -> None:
    scores = torch.zeros(2, 3, 4, dtype=torch.float64)
    scores[1, 2, 3] = score
    with pytest.raises(ValueError, match=message):
        top_k(scores, torch.zeros(3, 5, dtype=torch.uint8), 1, **options)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("num_queries", [1, COARSE_TILE])
def test_scores_almost_too_large_and_too_small_are_ranked(method: str, num_queries: int) -> None:
    scores = torch.randn(num_queries, 3, 40, generator=torch.Generator().manual_seed(18))
    scores = scores.clamp(-2.9, 0.9) * 1e38
    table = build_hash("balanced", 3000, 40, 3).table()
    assert_same(top_k(scores, table, 5, method=method), top_k_reference(scores, table, 5))


@pytest.mark.parametrize("bucket", [-1, 4, 2**32 + 3])
def test_bucket_beyond_int32_is_not_taken_for_another(bucket: int) -> None:
    table = torch.zeros(2, 50, dtype=torch.int64)
    table[1, 49] = bucket
    with pytest.raises(ValueError, match="outside 0 to B - 1 = 3"):
        top_k(torch.zeros(1, 2, 4), table, 1)


@pytest.mark.parametrize("num_queries", [1, 20])
@pytest.mark.parametrize("bucket", [-1, 4])
def test_bucket_outside_the_scores_is_refused(num_queries: int, bucket: int) -> None:
    table = torch.zeros(2, 5000, dtype=torch.int16)
    table[1, 4999] = bucket
    scores = torch.zeros(num_queries, 2, 4)
    for ranked in (lambda: top_k(scores, table, 1), lambda: top_k_blocked(scores, table, 1, "sum")):
        with pytest.raises(ValueError, match="outside 0 to B - 1 = 3"):
            ranked()


@pytest.mark.parametrize(
    ("scores", "table", "k", "options", "message"),
    [
        (torch.zeros(1, 2, 3), torch.zeros(2, 4, dtype=torch.uint8), 5, {}, "k is 5"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 4, dtype=torch.uint8), 0, {}, "k is 0"),
        (torch.zeros(2, 3), torch.zeros(2, 4, dtype=torch.uint8), 1, {}, "bucket scores have"),
        (torch.zeros(1, 2, 3), torch.zeros(3, 4, dtype=torch.uint8), 1, {}, "with R = 2"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 4), 1, {}, "table has shape"),
        (torch.zeros(1, 0, 3), torch.zeros(0, 4, dtype=torch.uint8), 1, {}, "R = 0"),
        (
            torch.zeros(1, 2, 3),
            torch.zeros(2, 4, dtype=torch.uint8),
            1,
            {"reduction": "max"},
            "reduction is 'max'",
        ),
        (
            torch.zeros(1, 2, 3),
            torch.zeros(2, 4, dtype=torch.uint8),
            1,
            {"method": "faiss"},
            "decode method is 'faiss'; expected one of dense",
        ),
    ],
)
def test_impossible_request_is_refused(
    scores: Tensor, table: Tensor, k: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        top_k(scores, table, k, **options)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_device_decode_equals_reference(reduction: Reduction) -> None:
    scores = torch.randn(20, 5, 50, generator=torch.Generator().manual_seed(8)).round()
    table = build_hash("universal", 9000, 50, 5).table()
    found = top_k(scores.cuda(), table.cuda(), 30, reduction=reduction)
    expected = top_k_reference(scores, table, 30, reduction=reduction)
    assert_same((found[0].cpu(), found[1].cpu()), expected)


def test_fused_kernel_is_taken_where_it_covers_the_case_and_is_installed(monkeypatch):
    scores = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0))
    table = build_hash("balanced", 400, 20, 3, 0).table()
    asked = []

    class Kernel:
        @staticmethod
        def top_k(scores, table, k, reduction):
            asked.append((reduction, k))
            return top_k_reference(scores, table, k, reduction=reduction)

    monkeypatch.setattr(decode, "dense_triton", Kernel, raising=False)
    for has_triton in (True, False):
        monkeypatch.setattr(dense, "_has_triton", lambda has_triton=has_triton: has_triton)
        for reduction, k in (("sum", 5), ("min", 128), ("median", 5), ("sum", 129)):
            found = dense.top_k_fused(scores, table, k, reduction)
            assert_same(found, top_k_reference(scores, table, k, reduction=reduction))
    assert asked == [("sum", 5), ("min", 128)]
