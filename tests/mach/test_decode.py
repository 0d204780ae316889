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
    SUMS,
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


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tables(family: str, num_labels: int, num_buckets: int, num_worlds: int) -> Tensor:
    return build_hash(family, num_labels, num_buckets, num_worlds).table()


#: Scores of a query, a table, k.
HARD = {
    "ties": (random(6, 60).round(decimals=1), tables("balanced", 2500, 60, 6), 9),
    "every label": (random(4, 30).round(), tables("murmur3", 5000, 30, 4), 5000),
    "fewer labels than buckets": (random(2, 1000), tables("universal", 7, 1000, 2), 7),
    # Every label, or none after the first k, displaces another.
    "ascending": (torch.arange(6000.0)[None], torch.arange(6000, dtype=torch.int16)[None], 10),
    "descending": (-torch.arange(6000.0)[None], torch.arange(6000, dtype=torch.int16)[None], 10),
    "almost too large": (random(3, 40).clamp(-2.9, 0.9) * 1e38, tables("balanced", 3000, 40, 3), 5),
    # Sums of 16 equal scores of which float32 makes more than they are.
    "rounded up": (1e6 + random(16, 500).sigmoid(), tables("balanced", 20_000, 500, 16), 5),
    # 256 worlds' highest levels add up to 65,280 of 65,535.
    "largest levels": (
        torch.tensor([1.0, 0.0]).expand(256, 2),
        (random(256, 5000) > 0).to(torch.uint8).index_fill(1, torch.tensor([4321]), 0),
        3,
    ),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("num_queries", [1, 20, COARSE_TILE])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_labels_of_the_reference(
    name: str, num_queries: int, method: str
) -> None:
    scores, table, k = HARD[name]
    scores = scores.expand(num_queries, -1, -1)
    for reduction in REDUCTIONS:
        found = top_k(scores, table, k, reduction=reduction, method=method)
        assert_same(found, top_k_reference(scores, table, k, reduction=reduction))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_queries", [1, TILE + 3])
def test_dense_equals_reference_over_several_threads_and_blocks(
    kind: str, reduction: Reduction, num_queries: int
) -> None:
    generator = torch.Generator().manual_seed(3)
    scores = draw_scores(kind, (num_queries, 6, 200), generator)
    table = tables("universal", 9001, 200, 6)
    expected = top_k_reference(scores, table, 50, reduction=reduction)
    assert_same(top_k(scores, table, 50, reduction=reduction), expected)
    for dtype in (torch.int16, torch.int32, torch.int64):
        assert_same(top_k(scores, table.to(dtype), 50, reduction=reduction), expected)


def watch_coarse_scans(monkeypatch: pytest.MonkeyPatch, way: str) -> list[bool]:
    """Whether each coarse scan from now on was carried through."""
    seen: list[bool] = []
    scan = getattr(dense._Scan, way)

    def watching(self: Any, *queries: int) -> Any:
        found = scan(self, *queries)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(dense._Scan, way, watching)
    return seen


def drawn_sums(num_queries: list[int], most_buckets: int) -> st.SearchStrategy[Drawn]:
    sizes = {"most_worlds": 9, "most_buckets": most_buckets}
    return drawn_problems(num_queries=num_queries, **sizes, **SUMS)


@given(
    case=st.one_of(
        st.tuples(
            st.just("_coarse"),
            drawn_sums([1, COARSE_TILE, COARSE_TILE + 1, 2 * COARSE_TILE + 9], 40),
            st.just(torch.int32),
        ),
        st.tuples(
            st.just("_coarse_single"),
            drawn_sums([1, 2], 256),
            st.sampled_from([torch.uint8, torch.int16]),
        ),
    )
)
@settings(max_examples=200, deadline=None)
def test_coarse_scans_equal_the_reference(case: tuple[str, Drawn, torch.dtype]) -> None:
    way, problem, dtype = case
    scores, table = problem.build()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "_MIN_COARSE_LABELS", 0)
        patch.setattr(dense, "_LABELS_PER_EXACT_SCORE", 1)  # never gives up
        if way == "_coarse":
            patch.setattr(dense, "_MIN_COARSE_QUERIES", 1)
        else:
            patch.setattr(dense, "_MIN_COARSE_LOOKUPS", 0)
        seen = watch_coarse_scans(patch, way)
        assert_same(top_k(scores, table.to(dtype), problem.k), problem.expected())
    assert seen
    assert all(seen)


@pytest.mark.parametrize("kind", [*KINDS, *FURTHER_KINDS])
@pytest.mark.parametrize(
    ("way", "num_queries", "num_buckets"),
    [
        ("_coarse", COARSE_TILE + 40, 500),
        *(("_coarse_single", 1, num_buckets) for num_buckets in (16, 100, 256, 300)),
    ],
)
def test_coarse_scans_over_threads_and_blocks_give_up_where_they_cannot_tell(
    kind: str, way: str, num_queries: int, num_buckets: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = watch_coarse_scans(monkeypatch, way)
    generator = torch.Generator().manual_seed(16)
    scores = draw_scores(kind, (num_queries, 16, num_buckets), generator)
    table = tables("universal", 70_011, num_buckets, 16)
    assert_same(top_k(scores, table, 5), top_k_reference(scores, table, 5))
    assert seen
    # Of the infinite ones hardly a label has a score.
    assert all(seen) == (kind not in ("constant", "signed_zero", "infinite"))


@pytest.mark.parametrize("num_queries", [1, 5, TILE + 3, COARSE_TILE])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("num_buckets", [1, 7, 4096, 30_000])
def test_recomputed_hash_decodes_as_its_table(
    num_queries: int, reduction: Reduction, num_buckets: int
) -> None:
    hashes = UniversalHash(num_labels=9001, num_buckets=num_buckets, worlds=(0, 3, 5), seed=2)
    scores = random(num_queries, 3, num_buckets)
    expected = top_k(scores, hashes.table(), 6, reduction=reduction)
    assert_same(top_k(scores, hashes, 6, reduction=reduction), expected)
    blocked = top_k_blocked(scores, hashes, 6, reduction, block_elements=1 << 15)
    assert_same(blocked, expected)


def test_recomputed_hash_is_right_at_the_largest_labels() -> None:
    hashes = UniversalHash(num_labels=2**31 - 1, num_buckets=9973, worlds=(0, 1), seed=5)
    coefficients = hashes.coefficients().numpy()
    for start in (0, 2**30 - 50, 2**31 - 101):
        for world in range(2):
            ids = np.empty(100, dtype=np.int32)
            dense_kernel.hash_block(coefficients, world, start, ids, 9973)
            expected = hashes.bucket_ids(torch.arange(start, start + 100))[world]
            assert ids.tolist() == expected.tolist()


def test_sums_are_float32_in_world_order() -> None:
    # (1 + 2⁻²⁴) + 2⁻²⁴ rounds to 1 twice; any other order gives more.
    scores = torch.tensor([1.0, 2.0**-24, 2.0**-24]).view(1, 3, 1)
    table = torch.zeros(3, 1, dtype=torch.uint8)
    for method in METHODS:
        for num_queries in (1, TILE):
            found = top_k(scores.expand(num_queries, -1, -1), table, 1, method=method)
            assert found[0].tolist() == [[1.0]] * num_queries


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
    scores = random(2, 9, 4).transpose(1, 2)
    table = tables("universal", 100, 9, 4)
    expected = top_k_reference(scores, table, 5)
    assert_same(top_k(scores.double().requires_grad_(), table, 5), expected)
    assert_same(top_k(scores, table.T.contiguous().T, 5), expected)


def test_no_queries_give_no_answers() -> None:
    found, labels = top_k(torch.empty(0, 2, 3), torch.zeros(2, 4, dtype=torch.uint8), 3)
    assert found.shape == labels.shape == (0, 3)


@pytest.mark.parametrize("num_queries", [2, 20])
@pytest.mark.parametrize(
    ("score", "reduction", "message"),
    [
        (float("nan"), "sum", "query 1, world 2, bucket 3 is nan in float32"),
        (float("inf"), "sum", "query 1, world 2, bucket 3 is inf in float32"),
        (1e39, "sum", "query 1, world 2, bucket 3 is inf in float32"),
        (1.2e38, "sum", r"largest bucket score is 1.2\d*e\+38; expected at most 1.134e\+38: a sum"),
        (1.8e38, "median", r"expected at most 1.701e\+38: a median adds up 2"),
    ],
)
def test_scores_that_cannot_be_ranked_or_overflow_float32_are_refused(
    num_queries: int, score: float, reduction: Reduction, message: str
) -> None:
    scores = torch.zeros(num_queries, 3, 4, dtype=torch.float64)
    scores[1, 2, 3] = score
    with pytest.raises(ValueError, match=message):
        top_k(scores, torch.zeros(3, 5, dtype=torch.uint8), 1, reduction=reduction)


@pytest.mark.parametrize("bucket", [-1, 4, 2**32 + 3])
@pytest.mark.parametrize("place", [0, 31, 32, 69_999, 70_010])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_bucket_outside_the_scores_is_refused_wherever_it_is(
    bucket: int, place: int, dtype: torch.dtype
) -> None:
    if not torch.iinfo(dtype).min <= bucket <= torch.iinfo(dtype).max:
        pytest.skip("not a number of this type")
    table = torch.zeros(16, 70_011, dtype=dtype)
    table[7, place] = bucket
    for num_queries in (1, 20):
        scores = torch.zeros(num_queries, 16, 4)
        with pytest.raises(ValueError, match="a bucket of the table is outside 0 to B - 1 = 3"):
            top_k(scores, table, 5)
    if dtype == torch.int16:
        with pytest.raises(ValueError, match="outside 0 to B - 1 = 3"):
            top_k_blocked(scores, table, 1, "sum")


TABLE = torch.zeros(2, 4, dtype=torch.uint8)
HASH = UniversalHash(num_labels=50, num_buckets=3, worlds=(0, 1), seed=0)


@pytest.mark.parametrize(
    ("shape", "table", "options", "message"),
    [
        ((1, 2, 3), TABLE, {"k": 5}, "k is 5"),
        ((1, 2, 3), TABLE, {"k": 0}, "k is 0"),
        ((2, 3), TABLE, {}, "bucket scores have"),
        ((1, 2, 3), torch.zeros(3, 4, dtype=torch.uint8), {}, "with R = 2"),
        ((1, 2, 3), torch.zeros(2, 4), {}, "table has shape"),
        ((1, 0, 3), torch.zeros(0, 4, dtype=torch.uint8), {}, "R = 0"),
        ((1, 2, 3), TABLE, {"reduction": "max"}, "reduction is 'max'"),
        ((1, 2, 3), TABLE, {"method": "faiss"}, "decode method is 'faiss'; expected one of dense"),
        ((1, 2, 4), HASH, {}, r"hash has R = 2, B = 3; expected .* R = 2, B = 4"),
        ((1, 2, 3), HASH, {"method": "pruned"}, "expected 'dense' with a hash"),
        ((1, 2, 3), build_hash("balanced", 50, 3, 2), {}, "table is of type BalancedHash"),
    ],
)
def test_impossible_request_is_refused(
    shape: tuple[int, ...], table: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        top_k(torch.zeros(shape), table, **({"k": 1} | options))


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
