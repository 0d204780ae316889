import numpy as np
import pytest
import torch

from bench.mach.arithmetic import index_bytes
from bench.mach.decode.index import IndexCache, build_index
from bench.mach.hashing import build_hash


@pytest.mark.parametrize(("num_labels", "num_buckets"), [(1, 1), (1, 7), (5000, 3), (9001, 300)])
@pytest.mark.parametrize("family", ["balanced", "universal"])
def test_lists_hold_each_label_once_under_its_bucket_in_ascending_order(
    family, num_labels, num_buckets
):
    table = build_hash(family, num_labels, num_buckets, 3, 1).table()
    index = build_index(table, num_buckets)
    assert np.array_equal(index.rows, table.numpy().T)
    for world in range(3):
        buckets = table[world].numpy()
        for bucket in range(num_buckets):
            start, stop = index.offsets[world, bucket : bucket + 2]
            expected = np.flatnonzero(buckets == bucket)
            assert np.array_equal(index.lists[world, start:stop], expected)


def test_types_are_the_narrowest_and_rows_start_cache_lines():
    for num_buckets, dtype in ((256, np.uint8), (257, np.uint16), (70_000, np.uint32)):
        table = torch.zeros(2, 10, dtype=torch.int32)
        index = build_index(table, num_buckets)
        assert index.rows.dtype == dtype
        assert index.rows.ctypes.data % 64 == 0
        assert index.num_bytes == 2 * 10 * (4 + index.rows.itemsize) + 2 * 8 * (num_buckets + 1)
        assert index_bytes(10, 2, num_buckets) == index.num_bytes


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (torch.zeros(3, dtype=torch.int32), "expected \\(R, L\\) integers"),
        (torch.zeros(1, 3), "expected \\(R, L\\) integers"),
        (torch.zeros(1, 0, dtype=torch.int32), "expected \\(R, L\\) integers"),
        (torch.tensor([[0, 2]]), "a bucket of the table is outside 0 to B - 1 = 1"),
        (torch.tensor([[-1, 0]]), "outside 0 to B - 1"),
    ],
)
def test_bad_table_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        build_index(table, 2)


def test_cache_builds_once_and_again_after_a_write():
    cache = IndexCache()
    table = torch.zeros(2, 5, dtype=torch.int32)
    first = cache.get(table, 3)
    assert cache.get(table, 3) is first
    assert cache.get(table, 4) is not first
    table[0, 0] = 2
    assert cache.get(table, 3).rows[0, 0] == 2
