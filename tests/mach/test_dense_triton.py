import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings

from bench.mach.decode import top_k_reference
from bench.mach.hashing import build_hash
from tests.mach.problems import Drawn, assert_same, drawn_problems

pytest.importorskip("triton", reason="triton is not installed")
from bench.mach.decode import dense, dense_triton

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@given(
    problem=drawn_problems(
        num_queries=[1, 3, dense_triton.TILE + 1],
        most_worlds=5,
        most_buckets=40,
        most_k=20,
        reductions=("sum", "min"),
    )
)
@settings(max_examples=25, deadline=None)
def test_fused_kernel_equals_reference(problem: Drawn) -> None:
    scores, table = problem.build()
    table = table.int()
    found = dense_triton.top_k(scores.to(DEVICE), table.to(DEVICE), problem.k, problem.reduction)
    assert_same((found[0].cpu(), found[1].cpu()), problem.expected())


@pytest.mark.parametrize(("reduction", "k"), [("sum", 5), ("min", 5), ("median", 5), ("sum", 200)])
def test_dense_on_a_device_equals_reference_whether_the_kernel_covers_it_or_not(reduction, k):
    scores = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(0))
    table = build_hash("balanced", 900, 50, 4, 0).table()
    found = dense.top_k_fused(scores.to(DEVICE), table.to(DEVICE), k, reduction)
    expected = top_k_reference(scores, table, k, reduction=reduction)
    assert_same((found[0].cpu(), found[1].cpu()), expected)


def test_spans_of_several_blocks_and_programs_are_merged(monkeypatch):
    monkeypatch.setattr(dense_triton, "_PROGRAMS", 2)
    scores = torch.randn(2, 3, 30, generator=torch.Generator().manual_seed(2))
    table = build_hash("balanced", 1500, 30, 3, 0).table()
    found = dense_triton.top_k(scores.to(DEVICE), table.to(DEVICE), 40, "sum")
    expected = top_k_reference(scores, table, 40)
    assert_same((found[0].cpu(), found[1].cpu()), expected)


def test_what_it_cannot_do_is_refused_by_name():
    scores, table = torch.zeros(1, 2, 3), torch.zeros(2, 5, dtype=torch.uint8)
    with pytest.raises(ValueError, match="reduction is 'median'"):
        dense_triton.top_k(scores, table, 1, "median")
    with pytest.raises(ValueError, match="outside 0 to B - 1 = 2"):
        dense_triton.top_k(scores, table + 3, 1, "sum")


# What a Hopper GPU would be given; the interpreter of the tests above does not compile.
COMPILING = """
import sys, warnings
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from bench.mach.decode.dense_triton import TILE, _scan

warnings.simplefilter("ignore")
for table, is_sum in (("*u8", True), ("*i16", True), ("*i32", False)):
    sizes = {name: "i32" for name in ("num_labels", "num_worlds", "num_buckets", "span", "k")}
    fixed = {"TILE": TILE, "BLOCK": 256, "SLOTS": 8, "IS_SUM": is_sum}
    signature = {"scores": "*fp32", "table": table, "best_keys": "*i64"} | sizes
    source = ASTSource(_scan, signature | dict.fromkeys(fixed, "constexpr"), fixed)
    print(len(compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]) > 1000)
"""


def test_the_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    found = subprocess.run(
        [sys.executable, "-c", COMPILING],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.stdout.split() == ["True"] * 3, found.stderr
