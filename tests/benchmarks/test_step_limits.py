from pathlib import Path

import pytest
import torch

from bench.measure.experiment import Context
from bench.methods.arithmetic import Product
from bench.settings import DataSpec
from bench.studies import mlp
from tests.benchmarks.step_limits import builds, limit, measure, ratio, table

D, L, H = 200, 50, 6


def test_limits_are_of_the_products_and_of_what_is_moved(tmp_path: Path) -> None:
    sizes = {"num_train_points": 600, "num_test_points": 20, "num_features": D, "num_labels": L}
    data = DataSpec(source="planted", name="planted", options=sizes, num_validation_points=20)
    rows = {
        "full": mlp("full_softmax", H),
        "sampled": mlp("sampled_softmax", H, num_samples=8),
        "MACH": mlp("mach", H, num_buckets=16, num_worlds=3),
    }
    context = Context(data_dir=tmp_path, cache_dir=tmp_path)
    found = {each["row"]: each for each in measure(rows, data, context, 2)}
    assert list(found) == list(rows)
    assert found["full"]["flops"] == 6 * 256 * H * L
    assert found["MACH"]["flops"] == 6 * 256 * H * 16 * 3
    # A batch holds most of the 50 labels.
    assert 0.6 * 6 * 256 * H * L < found["sampled"]["flops"] <= 6 * 256 * H * L
    # All 200 features are in every batch: 9 floats of their rows, 7 of what is dense.
    assert found["full"]["bytes"] == pytest.approx(4 * (9 * D * H + 7 * (H + L * H + L)), rel=0.05)
    for each in found.values():
        assert len(each["steps"]) == len(each["products"]) == len(each["copies"])
        assert ratio(each) == min(each["steps"]) / sum(limit(each))
    assert table(list(found.values())).count("\n") == 2 + len(rows)


def test_a_products_flops_are_those_of_three_matrix_products() -> None:
    product = Product(1, 32, 5, 7)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        builds(product)()
    assert counter.get_total_flops() == product.flops
